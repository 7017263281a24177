"""Convolutional feed-forward blocks on (B, C, H, W)."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.gelu import GELU, convolved_gelu, convolves_with_gelu, gelu
from basicsr.archs.layers.norm import ChannelLayerNorm
from basicsr.archs.layers.pointwise import PointwiseConv2d, pointwise
from basicsr.archs.layers.recompute import recompute


class FeedForward(nn.Module):
    """1x1 to `hidden_dim` channels, 3x3 depthwise, 1x1 back, exact GELU between.

    Four times the width and no biases where nothing else is said (Retinexformer, MST++).
    """

    def __init__(self, dim: int, hidden_dim: int | None = None, bias: bool = False):
        super().__init__()
        hidden = dim * 4 if hidden_dim is None else hidden_dim
        self.net = nn.Sequential(
            PointwiseConv2d(dim, hidden, bias=bias),
            GELU(),
            nn.Conv2d(hidden, hidden, 3, 1, 1, bias=bias, groups=hidden),
            GELU(),
            PointwiseConv2d(hidden, dim, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        if convolves_with_gelu(x):
            convolutions: Any = self.net[0], self.net[2]
            for conv in convolutions:
                x = convolved_gelu(x, conv.weight, conv.bias)
            return self.net[4](x)
        # of the four wide tensors two are kept for the backward pass, their GELUs are computed again
        x = recompute(lambda y: self.net[2](self.net[1](y)), self.net[0](x))
        return recompute(lambda y: self.net[4](self.net[3](y)), x)


class PreNorm(nn.Module):
    """`fn(norm(x))`; `fn` is registered first, as published checkpoints order it."""

    def __init__(self, dim: int, fn: nn.Module):
        super().__init__()
        self.fn = fn
        self.norm = ChannelLayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class GatedFeedForward(nn.Module):
    """GDFN of Restormer (Zamir et al. 2022, eq. 2): 1x1 to two halves, 3x3 depthwise, GELU(a) * b, 1x1 back.

    `conv(in_channels, out_channels, bias=...)` makes the 1x1 convolutions.
    """

    def __init__(self, dim: int, ffn_expansion_factor: float = 2.66, bias: bool = False,
                 conv: Callable[..., nn.Module] = PointwiseConv2d):
        super().__init__()
        hidden = int(dim * ffn_expansion_factor)
        self.project_in = conv(dim, hidden * 2, bias=bias)
        self.dwconv = nn.Conv2d(hidden * 2, hidden * 2, 3, 1, 1, groups=hidden * 2, bias=bias)
        self.project_out = conv(hidden, dim, bias=bias)
        self.plain = isinstance(self.project_in, PointwiseConv2d) and isinstance(self.project_out, PointwiseConv2d)

    def forward(self, x: Tensor) -> Tensor:
        if self.plain and convolves_with_gelu(x):
            return self._by_halves(x)
        x = self.dwconv(self.project_in(x))
        if self.plain:
            return recompute(lambda y: self.project_out(_gate(y)), x)
        return self.project_out(recompute(_gate, x))

    def _by_halves(self, x: Tensor) -> Tensor:
        """The same; what is convolved to one half each needs no copy to be gated."""
        (wide, bias, taps, offset), second = zip(*(_halves(t) for conv in (self.project_in, self.dwconv)
                                                   for t in (conv.weight, conv.bias)))
        a = convolved_gelu(pointwise(x, wide.flatten(1), bias), taps, offset)
        wide, bias, taps, offset = second
        b = F.conv2d(pointwise(x, wide.flatten(1), bias), taps, offset, padding=1, groups=len(taps))
        return self.project_out(a.mul_(b))


def _halves(parameter: Any) -> tuple[Any, Any]:
    return (None, None) if parameter is None else parameter.chunk(2)


def _gate(x: Tensor) -> Tensor:
    if x.is_cuda and torch.is_grad_enabled() and not torch.compiler.is_compiling() and not torch.jit.is_tracing():
        return _Gate.apply(x)
    return _gelu_and_gate(x)[0]


def _gelu_and_gate(x: Tensor) -> tuple[Tensor, Tensor]:
    a, b = x.chunk(2, dim=1)
    # on CPU the copy pays for itself several times: GELU of rows with gaps leaves the vectorised path
    activated = gelu(a if x.is_cuda else a.contiguous(memory_format=torch.channels_last))
    return activated * b, activated


class _Gate(torch.autograd.Function):
    """GELU(a) * b of the halves of (B, 2 C, H, W). By hand on GPUs: autograd would join halves of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out, activated = _gelu_and_gate(x)
        ctx.save_for_backward(x, activated)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, activated = ctx.saved_tensors
        (a, b), out = x.chunk(2, dim=1), torch.empty_like(x)
        d_a, d_b = out.chunk(2, dim=1)
        torch.mul(grad, activated, out=d_b)
        torch.ops.aten.gelu_backward.grad_input(grad * b, a, grad_input=d_a)
        return out
