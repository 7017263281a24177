"""The module name of BasicSR for `basicsr.engine.schedule`."""
from basicsr.engine.schedule import CosineAnnealingRestartCyclicLR, CosineAnnealingRestartLR, MultiStepRestartLR

__all__ = ['CosineAnnealingRestartCyclicLR', 'CosineAnnealingRestartLR', 'MultiStepRestartLR']
