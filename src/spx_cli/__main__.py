"""python -m spx_cli."""

from spx_cli.cli import main

main()
