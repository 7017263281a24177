"""Mixed precision: autocast to bf16 or fp16, loss scaling for fp16, gradient clipping after unscaling."""
from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from basicsr.engine.optimizer import masked_step

_TYPES: dict[str | None, torch.dtype] = {'bf16': torch.bfloat16, 'fp16': torch.float16}


class Precision:
    """Args: `amp` 'bf16', 'fp16' or None for float32; `device` where the network runs."""

    def __init__(self, amp: str | None, device: torch.device):
        self.device, self.dtype = device.type, _TYPES.get(amp)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == 'fp16')

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.dtype is not None)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def clip(self, optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter],
             clip_norm: float | None) -> Tensor:
        """Unscale, and clip where `clip_norm` is given. Returns the gradient norm before clipping."""
        self.scaler.unscale_(optimizer)
        norm_of = getattr(nn.utils, 'get_total_norm', None)  # of a late PyTorch
        if clip_norm is None and norm_of:
            return norm_of([p.grad for p in parameters if p.grad is not None])
        return nn.utils.clip_grad_norm_(parameters, math.inf if clip_norm is None else clip_norm)

    def update(self, optimizer: torch.optim.Optimizer, skip: Tensor | None = None) -> None:
        """One update after `clip`, left out on the device where `skip` is 1; see `masked_step`.

        With loss scaling, gradients that overflowed lower the scale; without `skip`, they are looked for by the host.
        """
        if skip is not None:
            masked_step(optimizer, skip)
        else:
            self.scaler.step(optimizer)
        self.scaler.update()

    def start_over(self) -> None:
        """Forget that gradients were unscaled, when the update after it never came."""
        if self.scaler.is_enabled():
            state = self.scaler.state_dict()
            self.scaler = torch.amp.GradScaler(self.device)
            self.scaler.load_state_dict(state)
