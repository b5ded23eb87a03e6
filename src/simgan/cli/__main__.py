"""`python -m simgan.cli` is the command `simgan`."""

from simgan.cli import main

main()
