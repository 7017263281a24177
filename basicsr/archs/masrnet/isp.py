"""Three steps of an image signal processor, controlled for each pixel (MASR-Net). RGB (B, 3, H, W) to the same, float32."""
from __future__ import annotations

import torch
from torch import Tensor


def correct_colour(rgb: Tensor, delta: Tensor) -> Tensor:
    """The row vector (R, G, B) times the matrix I + delta / 2, whose elements are clamped to [-3, 3].

    Args:
        delta: (B, 9, H, W), row by row.

    Returns:
        values in [1e-5, 1]; where the product is not finite, those of `rgb`.
    """
    identity = torch.eye(3, dtype=delta.dtype, device=delta.device).view(1, 3, 3, 1, 1)
    matrix = (identity + 0.5 * delta.unflatten(1, (3, 3))).clamp(-3, 3)
    out = (rgb.unsqueeze(2) * matrix).sum(dim=1)
    return torch.where(out.isfinite(), out, rgb).clamp(1e-5, 1.)


def correct_gamma(rgb: Tensor, gamma: Tensor) -> Tensor:
    """rgb to the power of `gamma` (B, 1, H, W); values in [1e-5, 1]."""
    return (rgb + 1e-5).pow(gamma).clamp(1e-5, 1.)


def correct_saturation(rgb: Tensor, factor: Tensor) -> Tensor:
    """Multiply the saturation of HSV by `factor` (B, 1, H, W), at most to 1; hue and value stay. Values in [1e-8, 1].

    With the value v and the saturation s, the colour of channel c is v - v s (v - c) / (max - min).
    """
    value = rgb.amax(dim=1, keepdim=True)
    spread = value - rgb.amin(dim=1, keepdim=True)
    saturation = (spread / (value + 1e-8) * factor).clamp(0, 1)
    spread = torch.where(spread == 0, torch.ones_like(spread), spread)
    return (value - value * saturation * (value - rgb) / spread).clamp(1e-8, 1.)
