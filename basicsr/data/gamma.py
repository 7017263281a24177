"""Inputs raised to a power: other curves of brightness than those of the data set (CIDNet)."""
from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from basicsr.utils.seed import batch_random
from basicsr.utils.values import GammaAugs


def draw_gamma(options: GammaAugs) -> float:
    """The exponent of the next sample's input, by Python's `random`; 1 for the input as it is."""
    rng: Any = batch_random() if options.per == 'batch' else random
    if rng.random() >= options.probability:
        return 1.
    lowest, highest = options.gamma
    return lowest + options.step * rng.randint(0, int((highest - lowest) / options.step + 1e-9))


def raise_(inputs: Sequence[Tensor] | Tensor, gammas: Sequence[float]) -> None:
    """Raise each input, values in [0, 1], to its own power, in place."""
    if isinstance(inputs, Tensor) and len(set(gammas)) == 1:  # one operation for the whole batch
        inputs, gammas = [inputs], gammas[:1]
    for x, gamma in zip(inputs, gammas):
        if gamma != 1:
            x.pow_(gamma)
