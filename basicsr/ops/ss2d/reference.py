"""The four-direction scan as its definition reads: permute, scan each direction, permute back, add. Test oracle only."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from basicsr.ops.selective_scan.reference import selective_scan_reference
from basicsr.ops.ss2d.traversal import traversals


def ss2d_reference(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor) -> Tensor:
    """See `basicsr.ops.ss2d.ss2d_scan`; differentiable by autograd, in the dtype of its inputs."""
    height, width, channels = x.shape[1:]
    rank, states = dt_w.shape[2], A.shape[1]
    order = traversals(height, width, x.device)
    y = torch.zeros_like(x).flatten(1, 2)
    for k in (0, 2, 1, 3):
        rows = slice(k * channels, (k + 1) * channels)
        u = x.flatten(1, 2)[:, order[k]].transpose(1, 2)
        dt, B, C = x_dbl.flatten(1, 2)[:, order[k], k].split([rank, states, states], dim=-1)
        delta = torch.einsum('blr,er->bel', dt, dt_w[k])
        B, C = (t.transpose(1, 2)[:, None] for t in (B, C))
        out: Any = selective_scan_reference(u, delta, A[rows], B, C, D[rows], dt_b.reshape(4, channels)[k])
        y = y.index_add(1, order[k], out.transpose(1, 2))
    return y.view_as(x)
