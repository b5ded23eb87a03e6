"""`python -m simgan` is the command `simgan`; so torchrun starts it: torchrun --nproc-per-node 2 -m simgan train …"""

from simgan.cli import main

main()
