"""`python -m flowgression`: the command line, where the command itself is not on the path."""

import sys

from flowgression.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
