"""A page in the browser for photos; the same as `basicsr app`."""
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this checkout, whatever else is installed

from basicsr.commands.app import main

if __name__ == '__main__':
    sys.exit(main())
