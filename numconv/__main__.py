"""`python -m numconv` is `numconv`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
