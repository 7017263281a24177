"""The module name of BasicSR for `basicsr.utils.dist`."""
from basicsr.utils.dist import get_dist_info, init_dist, master_only

__all__ = ['get_dist_info', 'init_dist', 'master_only']
