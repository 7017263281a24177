"""Where the Restormer family keeps its networks: `basicsr.models.archs.x_arch` is `basicsr.archs.x_arch` itself."""
from __future__ import annotations

import sys

from basicsr.archs import build_network
from basicsr.utils.imports import Aliases

__all__ = ['build_network', 'define_network']
__path__ = []  # its modules are found by name

define_network = build_network
sys.meta_path.append(Aliases(__name__, 'basicsr.archs'))
