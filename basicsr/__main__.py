"""`python -m basicsr COMMAND ...` does what the console script `basicsr` does, also where none is installed."""
import sys

from basicsr.cli import main

if __name__ == '__main__':
    sys.exit(main())
