"""`python -m neurobrick` is `neurobrick`."""

from neurobrick.cli import main

main()
