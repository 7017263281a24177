"""Losses that look past the brightness of a result, as far as it is nearly right."""
from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from basicsr.losses.loss_util import full_precision
from basicsr.losses.mixed_loss import MixedLoss
from basicsr.utils.registry import LOSS_REGISTRY
from basicsr.utils.values import NonNegative, Positive

_LEAST = 1e-4  # mean brightness below which none is told apart


@LOSS_REGISTRY.register()
class GTMeanLoss(nn.Module):
    """Compares the result, and the result scaled to the brightness of the ground truth (Liao et al., GT-Mean Loss, 2025).

    Of each image p with ground truth t, L the sum of `terms`::

        w L(p, t) + (1 - w) L(p b / a, t)        a, b = mean of p, of t        w = min(1, D)
        D = (a - b)**2 / (4 s**2 (a**2 + b**2)) + log((a**2 + b**2) / (2 a b)) / 2

    D is Bhattacharyya's distance of two normal distributions around a and b whose standard deviations are s a and s b.
    A result of the wrong brightness is drawn to the right one (w is 1); of one that is nearly right, all else counts.

    Args:
        terms: losses, as in `MixedLoss`; None is `L1Loss` alone.
        spread: s, the part of a brightness by which it may be off; 0.1 as in the paper.
        loss_weight: factor of the sum.
    """

    def __init__(self, terms: Annotated[dict[str, dict[str, Any]], MinLen(1)]
                 | Annotated[list[dict[str, Any]], MinLen(1)] | None = None, spread: Positive = 0.1,
                 loss_weight: NonNegative = 1.0):
        super().__init__()
        self.terms = MixedLoss([{'type': 'L1Loss'}] if terms is None else terms)
        self.spread, self.loss_weight = spread, loss_weight

    @full_precision
    def forward(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Images (B, C, H, W) in [0, 1]. Name of each term to its value, the mean over the images; the loss is their sum."""
        ours, theirs = (x.mean(dim=(1, 2, 3), keepdim=True).clamp(min=_LEAST) for x in (pred, target))
        weights = self.share_of_brightness(ours.detach(), theirs).flatten()
        scaled = pred * (theirs / ours)
        out: dict[str, Tensor] = {}
        for i, weight in enumerate(weights * (self.loss_weight / len(weights))):
            rest = self.loss_weight / len(weights) - weight
            plain, bright = self.terms(pred[i:i + 1], target[i:i + 1]), self.terms(scaled[i:i + 1], target[i:i + 1])
            for name in plain:
                out[name] = out.get(name, 0) + weight * plain[name] + rest * bright[name]
        return out

    def share_of_brightness(self, a: Tensor, b: Tensor) -> Tensor:
        """w of mean brightnesses, of any shape, above 0."""
        squares = a**2 + b**2
        distance = (a - b)**2 / (4 * self.spread**2 * squares) + torch.log(squares / (2 * a * b)) / 2
        return distance.clamp(max=1)
