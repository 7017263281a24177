"""Experts of MoCE-IR, each of another width and reach, and the router that chooses one for an image."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.experts import mixture
from basicsr.archs.layers.full_precision import exact, widened
from basicsr.archs.layers.norm import BodyLayerNorm
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.transient import Transient
from basicsr.archs.layers.whole_image import ImageMean
from basicsr.utils.precision import at_least_float32

Rank = Literal['constant', 'lin', 'double', 'exp', 'fact', 'spread']


def ranks_of(kind: str, rank: int, experts: int, width: int) -> list[int]:
    """Width of each expert; 'spread' ends with that of the image."""
    rules = {
        'constant': lambda e: rank, 'lin': lambda e: rank + e, 'double': lambda e: rank + 2 * e,
        'exp': lambda e: rank**(e + 1), 'fact': lambda e: math.factorial(rank + e),
        'spread': lambda e: width >> experts - 1 - e
    }
    return [rules[kind](e) for e in range(experts)]


class PatchFourierAttention(nn.Module):
    """v times what the circular convolution of q and k gives, patch by patch.

    Args:
        dim: channels. patch: side of the patches, which begin at the top left corner.
    """

    def __init__(self, dim: int, patch: int):
        super().__init__()
        self.patch = patch
        self.q = PointwiseConv2d(dim, dim, bias=False)
        self.q_dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.kv = PointwiseConv2d(dim, 2 * dim, bias=False)
        self.kv_dwconv = nn.Conv2d(2 * dim, 2 * dim, 7, padding=3, groups=2 * dim)
        self.norm = BodyLayerNorm(dim)
        self.proj_out = PointwiseConv2d(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        k, v = self.kv_dwconv(self.kv(x)).chunk(2, 1)
        convolved = self._convolved(self.q_dwconv(self.q(x)), k).to(v.dtype)
        return self.proj_out(self.norm(convolved) * v)

    def _convolved(self, q: Tensor, k: Tensor) -> Tensor:
        h, w = q.shape[-2:]
        with exact(q):  # there are no transforms in bfloat16
            spectra = [torch.fft.rfft2(self._patches(x.to(at_least_float32(x.dtype)))) for x in (q, k)]
            patches = torch.fft.irfft2(spectra[0] * spectra[1], s=(self.patch, self.patch))
        return patches.transpose(3, 4).flatten(4, 5).flatten(2, 3)[..., :h, :w]

    def _patches(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, rows, columns, patch, patch); zeros at the bottom and on the right."""
        h, w = x.shape[-2:]
        x = F.pad(x, (0, -w % self.patch, 0, -h % self.patch))
        return x.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch)).transpose(3, 4)


class Expert(nn.Module):
    """Low-rank attention of the image, gated by what all experts share."""

    def __init__(self, dim: int, rank: int, patch: int):
        super().__init__()
        self.proj = nn.ModuleList([
            PointwiseConv2d(dim, rank, bias=False),
            PointwiseConv2d(dim, rank, bias=False),
            PointwiseConv2d(rank, dim, bias=False)
        ])
        self.body = PatchFourierAttention(rank, patch)

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        return x + self.proj[2](self.body(self.proj[0](x)) * F.silu(self.proj[1](shared)))


class Router(Transient):
    """The `topk` most probable experts for an image, by its means and by the features that all routers share.

    Args:
        dim: channels of the image. features: number of the shared features. parameters: of each expert.
        with_complexity: large experts weigh more in the balance loss. scale: unit of the buffer `complexity`, the 'max' or
            'min' of them, or 'count'.
    """

    transient = ('balance', )
    complexity: Tensor

    def __init__(self, dim: int, features: int, parameters: Sequence[int], topk: int, with_complexity: bool,
                 scale: str):
        super().__init__()
        self.topk, self.with_complexity = topk, with_complexity
        self.sigma = 1 / len(parameters)  # of the noise
        counts = torch.tensor(parameters, dtype=torch.float32)  # published code has plain counts as int64
        self.register_buffer('complexity', counts if scale == 'count' else counts / getattr(counts, scale)())
        self.gate = nn.Sequential(ImageMean(), nn.Flatten(), nn.Linear(dim, len(parameters), bias=False))
        self.freq_gate = nn.Linear(features, len(parameters), bias=False)
        self.balance: Tensor | None = None  # of the last pass in training

    def forward(self, x: Tensor, features: Tensor, noisy: bool) -> tuple[Tensor, Tensor]:
        """Gates (B, experts), zero but for the chosen, which do not sum to 1, and the numbers of the chosen (B, topk)."""
        with exact(x):
            wide = at_least_float32(x.dtype)
            logits = widened(self.gate, x.to(wide)) + widened(self.freq_gate, features.to(wide))
            drawn = logits + torch.randn_like(logits) * self.sigma if noisy else logits
            probabilities = drawn.softmax(1)
            chosen = probabilities.topk(self.topk, dim=1).indices
            self.balance = self._balance(logits, drawn) if self.training else None
            return torch.zeros_like(logits).scatter(1, chosen, probabilities.gather(1, chosen)), chosen

    def _balance(self, logits: Tensor, drawn: Tensor) -> Tensor:
        """Half the variation of the experts' importance, and half that of their load (Shazeer et al. 2017)."""
        importance = logits.softmax(1).sum(0)
        if self.with_complexity:
            importance = importance * self.complexity
        last = drawn.topk(self.topk, dim=1).values[:, -1:]  # what an expert has to exceed
        load = 0.5 * torch.erfc((last - logits) / (self.sigma * math.sqrt(2)))
        return (_squared_variation(importance) + _squared_variation(load.mean(0))) / 2


def _squared_variation(x: Tensor) -> Tensor:
    return (x.std() / (x.mean() + 1e-8))**2


class Adapter(nn.Module):
    """What the chosen experts make of an image.

    Args:
        dim, features: channels of the image, and of the features that routers share.
        ranks: width of each expert; their patches are 4, 8, 16 ... pixels wide.
        topk, with_complexity, scale: see `Router`. published_eval: evaluate with noise, and mix the choices of a batch.
    """

    def __init__(self, dim: int, features: int, ranks: Sequence[int], topk: int, with_complexity: bool, scale: str,
                 published_eval: bool):
        super().__init__()
        self.published_eval = published_eval
        self.experts = nn.ModuleList(nn.Sequential(Expert(dim, rank, 4 << i)) for i, rank in enumerate(ranks))
        self.proj_out = PointwiseConv2d(dim, dim, bias=False)
        parameters = [sum(p.numel() for p in expert.parameters()) for expert in self.experts]
        self.routing = Router(dim, features, parameters, topk, with_complexity, scale)

    def forward(self, x: Tensor, features: Tensor, shared: Tensor) -> Tensor:
        gates, chosen = self.routing(x, features, self.training or self.published_eval)
        if self.published_eval and not self.training and len(x) > 1:  # all that anyone chose, by each one's own gate
            counts = F.one_hot(chosen.flatten(), gates.shape[1]).sum(0)
            gates, chosen = gates.sum(1, keepdim=True) * counts, chosen.flatten().expand(len(x), -1)
        experts: Any = self.experts
        return self.proj_out(mixture([expert[0] for expert in experts], gates, chosen, x, shared))
