"""GELU on CPUs, where PyTorch's own is slow: in training by the C kernels, in inference inside of oneDNN's convolutions."""
from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.ops.gelu import gelu

__all__ = ['GELU', 'convolved_gelu', 'convolves_with_gelu', 'gelu']


class GELU(nn.GELU):
    """`nn.GELU()`, exact, by `basicsr.ops.gelu`."""

    def __init__(self):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)


@cache
def _has_kernel() -> bool:
    """oneDNN's convolution with GELU, which PyTorch's compiler uses; it is no part of builds without oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_convolution_pointwise')


def convolves_with_gelu(x: Tensor) -> bool:
    """Whether `convolved_gelu` saves anything for such an image: on a CPU, in float32, without gradients."""
    eager = not torch.compiler.is_compiling() and not torch.jit.is_tracing() and not torch.is_autocast_enabled('cpu')
    return x.device.type == 'cpu' and x.dtype == torch.float32 and not torch.is_grad_enabled(
    ) and eager and _has_kernel()


def convolved_gelu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """GELU of the convolution of (B, C, H, W) with `weight` (O, I, k, k) of odd k, zeros around it; C / I groups."""
    padding, groups = weight.shape[-1] // 2, x.shape[1] // weight.shape[1]
    if not convolves_with_gelu(x):
        return gelu(F.conv2d(x, weight, bias, padding=padding, groups=groups))
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, [padding] * 2, [1, 1], [1, 1], groups, 'gelu', [],
                                                   'none')
