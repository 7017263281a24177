"""Enhance one photo or a folder of photos; the same as `basicsr enhance`."""
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this checkout, whatever else is installed

from basicsr.commands.enhance import main

if __name__ == '__main__':
    sys.exit(main())
