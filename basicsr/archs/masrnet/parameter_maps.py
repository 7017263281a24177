"""From one vector per window to smooth maps of parameters for each pixel (MASR-Net)."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.gelu import GELU

WINDOW = 8  # pixels; vectors hold the 8 x 8 values of a window


def map_decoder(dim: int, hidden: Sequence[int], out: int, dropout: float) -> nn.ModuleDict:
    """Linear layers from a token to the values of its window; keys `main` and `output`, to be applied in sequence."""
    layers: list[nn.Module] = []
    for i, o in zip((dim, *hidden), hidden):
        layers += [nn.Linear(i, o), GELU(), nn.Dropout(dropout)]
    return nn.ModuleDict({'main': nn.Sequential(*layers), 'output': nn.Linear(hidden[-1], out)})


def window_map(values: Tensor, grid: tuple[int, int], coarse_share: float = 0.9) -> Tensor:
    """One tenth the pixels' values, nine tenths the mean of their window, interpolated between windows.

    Args:
        values: (B, h * w, 64 * C), pixels row by row, channels fastest. grid: (h, w).
        coarse_share: the published nine tenths.

    Returns:
        (B, C, 8 h, 8 w).
    """
    pixels = values.unflatten(1, grid).unflatten(-1, (WINDOW, WINDOW, -1))
    fine = pixels.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
    coarse = pixels.mean(dim=(3, 4)).permute(0, 3, 1, 2)
    return coarse_share * F.interpolate(coarse, scale_factor=WINDOW, mode='bilinear') + (1 - coarse_share) * fine


class EnhancedFFN(nn.Module):
    """x + rho * (two linear layers with GELU in between) over the channels of (B, C, H, W)."""

    def __init__(self, channels: int, dropout: float):
        super().__init__()
        self.residual_weight = nn.Parameter(torch.tensor(0.1))
        first, second = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.net = nn.Sequential(first, GELU(), nn.Dropout(dropout), second, nn.Dropout(dropout))
        for layer in (first, second):
            xavier(layer, gain=0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual_weight * self.net(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LinearSmoother(nn.Module):
    """x + rho * fusion(convolutions of x side by side), twice, with reflected borders.

    All of it is linear, so one kernel, the sum of all, does the work of the branches.

    Args:
        kernels: name and (height, width) of each convolution; they start as means.
    """

    def __init__(self, channels: int, kernels: dict[str, tuple[int, int]]):
        super().__init__()
        self.residual_weight = nn.Parameter(torch.tensor(0.1))
        self.names = tuple(kernels)
        for name, size in kernels.items():
            self.add_module(name, nn.Conv2d(channels, channels, size, bias=False))
        self.fusion = nn.Conv2d(len(kernels) * channels, channels, 1)
        xavier(self.fusion, gain=0.1)

    def kernel(self) -> Tensor:
        """(C, C, k, k): the identity plus rho times the fused kernels."""
        weights = [self.weight(name) for name in self.names]
        size = max(w.shape[-1] for w in weights)
        side_by_side = torch.cat([_centred(w, size) for w in weights])
        # no product of matrices: PyTorch 2.6 would compile a view of the gradient that a convolution's memory cannot have
        fused = (self.fusion.weight.unsqueeze(-1) * side_by_side).sum(dim=1)
        identity = torch.eye(len(fused), dtype=fused.dtype, device=fused.device)
        return _centred(identity[..., None, None], size) + self.residual_weight * fused

    def weight(self, name: str) -> Tensor:
        """Of one of the kernels."""
        conv: Any = self.get_submodule(name)
        return conv.weight

    def forward(self, x: Tensor) -> Tensor:
        fusion: Any = self.fusion
        kernel, bias = self.kernel(), self.residual_weight * fusion.bias
        border = (kernel.shape[-1] // 2, ) * 4
        for _ in range(2):
            x = F.conv2d(F.pad(x, border, 'reflect'), kernel, bias)
        return x


class ParameterSmoother(LinearSmoother):
    """Smooths over 5 x 5 and 7 x 7 pixels."""

    def __init__(self, channels: int):
        super().__init__(channels, {'conv5': (5, 5), 'conv7': (7, 7)})
        nn.init.constant_(self.weight('conv5'), 1 / 25)
        nn.init.constant_(self.weight('conv7'), 1 / 49)


class AntiCheckerboard(LinearSmoother):
    """Smooths over 1 x 3, 3 x 1 and 3 x 3 pixels."""

    def __init__(self, channels: int):
        super().__init__(channels, {'horizontal': (1, 3), 'vertical': (3, 1), 'diagonal': (3, 3)})
        for name in self.names:
            weight = self.weight(name)
            nn.init.constant_(weight, 1 / weight[0].numel())


class BoundarySmoother(nn.Module):
    """x + rho * gate * (smoothed x - x), with a gate for each pixel from its 5 x 5 neighbourhood."""

    def __init__(self, channels: int):
        super().__init__()
        self.residual_weight = nn.Parameter(torch.tensor(0.1))
        self.edge_conv = nn.Conv2d(channels, channels, 3, padding=1, padding_mode='reflect', bias=False)
        self.smooth_conv = nn.Conv2d(channels, channels, 5, padding=2, padding_mode='reflect', bias=False)
        gate = nn.Conv2d(2 * channels, channels, 1)
        self.gate = nn.Sequential(gate, nn.Sigmoid())
        nn.init.xavier_uniform_(self.edge_conv.weight)
        nn.init.constant_(self.smooth_conv.weight, 1 / 25)
        xavier(gate, gain=0.1, bias=0.5)

    def forward(self, x: Tensor) -> Tensor:
        smooth = self.smooth_conv(x)
        gate = self.gate(torch.cat([self.edge_conv(x), smooth], dim=1))
        return x + self.residual_weight * gate * (smooth - x)


def xavier(layer: nn.Linear | nn.Conv2d, gain: float, bias: float = 0.) -> None:
    """Glorot's uniform initial values times `gain`, a constant bias."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)


def _centred(kernel: Tensor, size: int) -> Tensor:
    """Pad (O, I, h, w) with zeros to (O, I, size, size)."""
    y, x = ((size - side) // 2 for side in kernel.shape[-2:])
    return F.pad(kernel, (x, x, y, y))
