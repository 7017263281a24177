"""The module name of BasicSR for `basicsr.utils.storage`."""
from basicsr.utils.storage import FileClient

__all__ = ['FileClient']
