"""Mixed precision: autocast to bf16 or fp16, loss scaling for fp16, gradient clipping after unscaling."""
from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

_TYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}


class Precision:
    """Args: `amp` 'bf16', 'fp16' or None for float32; `device` where the network runs."""

    def __init__(self, amp: str | None, device: torch.device):
        self.device, self.dtype = device.type, _TYPES.get(amp)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == 'fp16')

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.dtype is not None)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def step(self, optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter],
             clip_norm: float | None) -> Tensor | None:  # yapf: disable
        """Unscale, clip and update. Returns the gradient norm before clipping, when clipping is on.

        With loss scaling, an update whose gradients overflowed is skipped and the scale is lowered.
        """
        norm = None
        if clip_norm is not None:
            self.scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
        self.scaler.step(optimizer)
        self.scaler.update()
        return norm
