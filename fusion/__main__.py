"""`python -m fusion` is `medgraft`."""

from fusion.cli import main

main()
