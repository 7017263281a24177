"""Where the Restormer family keeps its losses: `basicsr.models.losses.x` is `basicsr.losses.x` itself."""
from __future__ import annotations

import sys

from basicsr.losses.losses import CharbonnierLoss, L1Loss, MSELoss, PSNRLoss
from basicsr.utils.imports import Aliases

__all__ = ['CharbonnierLoss', 'L1Loss', 'MSELoss', 'PSNRLoss']
__path__ = []  # its modules are found by name

sys.meta_path.append(Aliases(__name__, 'basicsr.losses'))
