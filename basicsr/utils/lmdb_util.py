"""The module name of BasicSR for `basicsr.data.packing`."""
from basicsr.data.packing import LmdbMaker, make_lmdb_from_imgs

__all__ = ['LmdbMaker', 'make_lmdb_from_imgs']
