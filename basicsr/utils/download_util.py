"""The module name of BasicSR for `basicsr.utils.download`."""
from basicsr.utils.download import load_file_from_url

__all__ = ['load_file_from_url']
