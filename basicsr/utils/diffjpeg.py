"""JPEG compression of image batches with gradients (baseline, 4:2:0; ITU-T T.81, tables of its annex K)."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LUMA = [[16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
         [14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
         [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]]
_CHROMA_CORNER = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]  # 99 elsewhere
# JFIF: RGB to Y, Cb, Cr, all in [0, 255], chroma centred
_TO_YCBCR = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
_TO_RGB = [[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]


def _cosines() -> Tensor:
    """The orthonormal DCT-II of 8 values, (8, 8)."""
    rows = [[math.cos((2 * x + 1) * u * math.pi / 16) * (math.sqrt(1 / 8) if u == 0 else 0.5) for x in range(8)]
            for u in range(8)]
    return torch.tensor(rows)


def quality_factor(quality: Tensor) -> Tensor:
    """What tables are multiplied by, for qualities in [1, 100], as libjpeg does."""
    return torch.where(quality < 50, 50 / quality, 2 - quality / 50)


def smooth_round(x: Tensor) -> Tensor:
    """Rounding whose gradient is 3 (x - round(x))^2 and not 0 (Shin and Song 2017)."""
    whole = x.round().detach()
    return whole + (x - whole)**3


class DiffJPEG(nn.Module):
    """Compress and decompress RGB batches.

    Args:
        differentiable: round with a gradient; the values then are not exactly those of JPEG.
    """
    dct: Tensor
    luma: Tensor
    chroma: Tensor
    to_ycbcr: Tensor
    to_rgb: Tensor

    def __init__(self, differentiable: bool = True):
        super().__init__()
        self.differentiable = differentiable
        chroma = torch.full((8, 8), 99.)
        chroma[:4, :4] = torch.tensor(_CHROMA_CORNER)
        for name, value in (('dct', _cosines()), ('luma', torch.tensor(_LUMA)), ('chroma', chroma),
                            ('to_ycbcr', torch.tensor(_TO_YCBCR)), ('to_rgb', torch.tensor(_TO_RGB))):
            self.register_buffer(name, value.float(), persistent=False)

    def forward(self, x: Tensor, quality: float | Tensor) -> Tensor:
        """`x`: (B, 3, H, W) in [0, 1]. `quality`: in [1, 100], one number or one for each image (B,)."""
        h, w = x.shape[-2:]
        factor = quality_factor(torch.as_tensor(quality, dtype=x.dtype, device=x.device)).expand(len(x))
        padded = F.pad(x, (0, -w % 16, 0, -h % 16), mode='replicate')
        ycc = torch.einsum('dc,bchw->bdhw', self.to_ycbcr.to(x), padded * 255)
        luma = self._coded(ycc[:, :1] - 128, self.luma, factor) + 128
        chroma = self._coded(F.avg_pool2d(ycc[:, 1:], 2), self.chroma, factor)
        ycc = torch.cat([luma, F.interpolate(chroma, scale_factor=2)], dim=1)
        rgb = torch.einsum('dc,bchw->bdhw', self.to_rgb.to(x), ycc)
        return (rgb / 255).clamp(0, 1)[..., :h, :w]

    def _coded(self, plane: Tensor, table: Tensor, factor: Tensor) -> Tensor:
        """Planes (B, C, H, W) after their 8x8 blocks' coefficients were quantised."""
        blocks = plane.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)  # (B, C, rows, columns, 8, 8)
        dct, steps = self.dct.to(plane), table.to(plane) * factor.view(-1, 1, 1, 1, 1, 1)
        rounded = (smooth_round if self.differentiable else torch.round)(dct @ blocks @ dct.T / steps)
        blocks = dct.T @ (rounded * steps) @ dct
        return blocks.transpose(-3, -2).flatten(-4, -3).flatten(-2)
