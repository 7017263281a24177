"""RetinexMamba toolbox. Importing this package loads nothing heavy: neither torch nor OpenCV."""

__version__ = '0.1.0'

from basicsr.utils.absent import tell_absent_modules

tell_absent_modules()
