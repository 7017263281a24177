"""Restore a paired data set and print PSNR and SSIM; the same as `basicsr evaluate`."""
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this checkout, whatever else is installed

from basicsr.commands.evaluate import main

if __name__ == '__main__':
    sys.exit(main())
