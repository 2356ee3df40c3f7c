"""``python -m rendezvous.cli``: the same as ``rendezvous``."""

from rendezvous.cli import main

main()
