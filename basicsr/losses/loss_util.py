"""Helpers that BasicSR loss files import from here; same names and behaviour."""
from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor


def weight_reduce_loss(loss: Tensor, weight: Tensor | None = None, reduction: str = 'mean') -> Tensor:
    """Apply element weights and reduce: 'none', 'sum', or 'mean' (over the sum of weights where they are given)."""
    if weight is not None:
        loss = loss * weight
    if reduction == 'none':
        return loss
    if weight is None or reduction == 'sum':
        return loss.mean() if reduction == 'mean' else loss.sum()
    return loss.sum() / weight.expand_as(loss).sum()


def weighted_loss(loss_func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorator: an element-wise loss `f(pred, target, **kwargs)` also takes `weight` and `reduction`."""

    @functools.wraps(loss_func)
    def wrapper(pred: Tensor,
                target: Tensor,
                weight: Tensor | None = None,
                reduction: str = 'mean',
                **kwargs) -> Tensor:
        return weight_reduce_loss(loss_func(pred, target, **kwargs), weight, reduction)

    return wrapper
