"""python -m spx_cli."""

from spx_cli.cli import main

if __name__ == "__main__":
    main()
