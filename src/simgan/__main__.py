"""`python -m simgan` is the command `simgan`; so torchrun starts it: torchrun --nproc-per-node 2 -m simgan -- train …

The two dashes keep `--run` from torchrun, which has options of that beginning.
"""

from simgan.cli import main

main()
