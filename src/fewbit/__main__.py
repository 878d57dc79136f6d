"""`python -m fewbit` is `fewbit`."""

import sys

from fewbit.cli import main

if __name__ == "__main__":
    sys.exit(main())
