"""The block around the two-dimensional selective scan (VMamba, Liu et al. 2024)."""
from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.norm import ChannelLayerNorm
from basicsr.archs.layers.pointwise import PointwiseLinear, pointwise
from basicsr.archs.layers.strips import in_strips, lines_of_strip
from basicsr.ops.ss2d import scans_parts, ss2d_part, ss2d_scan
from basicsr.utils.precision import at_least_float32


class SS2D(nn.Module):
    """Two-dimensional selective scan: four traversals of the pixel grid (VMamba, Liu et al. 2024), gated by SiLU(z).

    Args:
        d_model: channels in and out; the scan runs on `int(expand * d_model)`.
        d_state: state size N per channel. dt_rank 'auto' is ceil(d_model / 16).
        dt_min, dt_max: range of the initial step size.
    """

    casts = ('x_proj_weight', )  # under autocast, see basicsr/engine/casting.py

    directions = 4

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 3, expand: float = 2,
                 dt_rank: int | Literal['auto'] = 'auto', dt_min: float = 1e-3, dt_max: float = 0.1,
                 dt_init_floor: float = 1e-4):
        super().__init__()
        self.d_inner, self.d_state = int(expand * d_model), d_state
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == 'auto' else dt_rank
        inner, rank = self.d_inner, self.dt_rank
        bound = inner**-0.5  # PyTorch's default for a bias-free linear layer
        count = self.directions
        self.x_proj_weight = nn.Parameter(torch.empty(count, rank + 2 * d_state, inner).uniform_(-bound, bound))
        self.dt_projs_weight = nn.Parameter(torch.empty(count, inner, rank).uniform_(-rank**-0.5, rank**-0.5))
        dt = torch.exp(torch.rand(count, inner) * math.log(dt_max / dt_min) + math.log(dt_min)).clamp(min=dt_init_floor)
        self.dt_projs_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        self.A_logs = nn.Parameter(torch.arange(1, d_state + 1).float().log().repeat(count * inner, 1))
        self.Ds = nn.Parameter(torch.ones(count * inner))
        self.in_proj = PointwiseLinear(d_model, inner * 2, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, d_conv, padding=(d_conv - 1) // 2, groups=inner)
        self.out_norm = ChannelLayerNorm(inner)
        self.out_proj = PointwiseLinear(inner, d_model, bias=False)

    @property
    def scan_kind(self) -> tuple[int, int, int]:
        """(states, rank, channels): what decides which kernels the scan needs (see `basicsr.ops.prepare`)."""
        return self.d_state, self.dt_rank, self.d_inner

    def forward(self, x: Tensor) -> Tensor:
        """(B, d_model, H, W), channels-last in memory, to the same."""
        if x.is_cuda and torch.is_grad_enabled():
            return self.joined(x)
        inputs, gate = self.in_proj.weight.chunk(2)
        y = self.traverse(
            in_strips(lambda t: F.silu(self.conv2d(pointwise(t, inputs))), x, channels=self.d_inner, halo=1))

        def finish(x: Tensor, y: Tensor) -> Tensor:
            return self.out_proj(self.out_norm(y) * F.silu(pointwise(x, gate)))

        return in_strips(finish, x, y, channels=self.d_inner)

    def joined(self, x: Tensor) -> Tensor:
        """The same with one product for both halves of `in_proj`: fewer kernels, but rows with gaps, slow on a CPU."""
        first, z = self.in_proj(x).chunk(2, dim=1)
        u = F.silu(self.conv2d(first.contiguous(memory_format=torch.channels_last)))  # else it copies, also backwards
        return self.out_proj(self.out_norm(self.traverse(u)) * F.silu(z))

    def traverse(self, u: Tensor) -> Tensor:
        """The scan of (B, E, H, W) with steps, B and C that are linear in it."""
        channels = 2 * self.d_inner + self.x_proj_weight.shape[1]
        rows, columns = (lines_of_strip(u, channels, dim) for dim in (2, 3))
        if u.device.type == 'cpu' and rows < u.shape[2] and scans_parts(u.permute(0, 2, 3, 1), self.A_logs):
            return self._in_strips(u, rows, columns)
        return self.whole(u)

    def whole(self, u: Tensor) -> Tensor:
        """`traverse` of the image at once."""
        projection = self.x_proj_weight.flatten(0, 1)
        wide = max(self.d_inner, len(projection))
        x_dbl = in_strips(lambda t: pointwise(t, projection), u, channels=wide)
        y = self.scan(u.permute(0, 2, 3, 1), x_dbl.permute(0, 2, 3, 1).unflatten(-1, (self.directions, -1)))
        return y.permute(0, 3, 1, 2)

    def scan(self, u: Tensor, x_dbl: Tensor) -> Tensor:
        """(B, H, W, E) and, for each direction, step, B and C (B, H, W, K, R + 2N) to the sum over directions."""
        return ss2d_scan(u, x_dbl, self.dt_projs_weight, self.dt_projs_bias, self.rates(), self.Ds)

    def rates(self) -> Tensor:
        """A (K E, N), at least in float32."""
        return -torch.exp(self.A_logs.to(at_least_float32(self.A_logs.dtype)))

    def _in_strips(self, u: Tensor, rows: int, columns: int) -> Tensor:
        """`traverse` in strips of so many rows, then columns: step, B and C of the whole image never lie in memory.

        A direction and its reverse go along together, from both ends of the image.
        """
        x = u.permute(0, 2, 3, 1).to(at_least_float32(u.dtype)).contiguous()
        y = torch.zeros_like(x)
        by_direction = [t.unflatten(0, (self.directions, -1)) for t in (self.rates(), self.Ds)]
        all_of_them = self.x_proj_weight, self.dt_projs_weight, self.dt_projs_bias, *by_direction
        for first, (dim, lines) in enumerate(((1, rows), (2, columns))):
            projection, dt_w, dt_b, A, D = (t[first::2].to(x.dtype) for t in all_of_them)
            state = x.new_zeros(2, len(x), self.d_inner, self.d_state)
            for start in range(0, x.shape[dim], lines):
                count = min(lines, x.shape[dim] - start)
                sides = [x.narrow(dim, i, count) for i in (start, x.shape[dim] - start - count)]
                x_dbl = x.new_empty(2, *sides[0].shape[:3], projection.shape[1])
                for side, weight, out in zip(sides, projection, x_dbl):
                    torch.mm(side.reshape(-1, self.d_inner), weight.t(), out=out.flatten(0, 2))
                ss2d_part(x, x_dbl, dt_w, dt_b, A.flatten(0, 1), D.flatten(), first == 1, start, state, y)
        return y.permute(0, 3, 1, 2).to(u.dtype)
