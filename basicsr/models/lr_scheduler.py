"""The module name of BasicSR for `basicsr.engine.schedule`."""
from bisect import bisect_left
from collections.abc import Sequence

from basicsr.engine.schedule import (
    CosineAnnealingRestartCyclicLR,
    CosineAnnealingRestartLR,
    LinearLR,
    MultiStepRestartLR,
    VibrateLR,
)

__all__ = [
    'CosineAnnealingRestartCyclicLR', 'CosineAnnealingRestartLR', 'LinearLR', 'MultiStepRestartLR', 'VibrateLR',
    'get_position_from_periods'
]


def get_position_from_periods(iteration: int, cumulative_period: Sequence[int]) -> int:
    """The index of the period that an iteration belongs to, given their ends; an end belongs to the period before it."""
    return bisect_left(cumulative_period, iteration)
