"""Less memory in training: what is cheap to compute is computed again in the backward pass instead of being kept."""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class _State(threading.local):  # the backward pass of a GPU runs in a thread of its own
    inside = False
    again = False


_state = _State()
_PLAIN: dict[str, Any] = {'use_reentrant': False, 'preserve_rng_state': False}
# up to PyTorch 2.8 a compiled backward pass repeats updates of buffers, too, so that batch statistics count a batch twice
_REPEATS_UPDATES = tuple(map(int, torch.__version__.split('.')[:2])) < (2, 9)


def recompute(function: Callable[..., Tensor], *args: Any) -> Tensor:
    """`function(*args)`, keeping only `args` for the backward pass; for element-wise work in front of a product.

    A compiler decides about such things itself, and inside `checkpointed` there is nothing to keep.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or _state.inside or not torch.is_grad_enabled():
        return function(*args)
    return checkpoint(function, *args, **_PLAIN)


def checkpointed(enabled: bool, function: Callable[..., Tensor], *args: Any, draws: bool = False) -> Tensor:
    """`function(*args)`; when `enabled`, a whole block is computed again in the backward pass.

    `draws` says that it draws random numbers, which are then the same again. Compiled before PyTorch 2.9, it is kept.
    """
    if not enabled or not torch.is_grad_enabled() or torch.jit.is_tracing():
        return function(*args)
    options = {**_PLAIN, 'preserve_rng_state': draws}
    if torch.compiler.is_compiling():
        return function(*args) if _REPEATS_UPDATES else checkpoint(function, *args, **options)
    return checkpoint(function, *args, context_fn=lambda: (_inside(), _inside(again=True)), **options)


@contextmanager
def _inside(again: bool = False) -> Iterator[None]:
    before = _state.inside, _state.again
    _state.inside, _state.again = True, again
    try:
        yield
    finally:
        _state.inside, _state.again = before


class Blocks(nn.Sequential):
    """Blocks in sequence, each of them checkpointed on its own when `checkpoint` is set; all get the same `guides`."""

    def __init__(self, *blocks: nn.Module, checkpoint: bool = False):
        super().__init__(*blocks)
        self.checkpoint = checkpoint

    def forward(self, x: Tensor, *guides: Any) -> Tensor:
        for block in self:
            x = checkpointed(self.checkpoint, block, x, *guides)
        return x


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that trains with one value per channel, and counts a batch once under `checkpointed`.

    One image on a 1x1 map has no variance; PyTorch raises, this uses the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.running_mean, self.running_var
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)
        if self.training and not torch.compiler.is_compiling() and _state.again:
            return F.batch_norm(x, mean.clone(), var.clone(), self.weight, self.bias, True, self.momentum, self.eps)
        return super().forward(x)
