"""RetinexMamba toolbox. Importing this package loads nothing heavy: neither torch nor OpenCV."""

__version__ = '0.1.0'
