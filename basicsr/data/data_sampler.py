"""The module name of BasicSR for `basicsr.data.samplers`."""
from basicsr.data.samplers import EnlargedSampler

__all__ = ['EnlargedSampler']
