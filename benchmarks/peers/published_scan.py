"""The selective scan as published networks run it without CUDA kernels, and SS2D around it as published.

Written from the definition, not optimised: this is the peer that the backends of `basicsr.ops` are measured against.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def _steps(delta: Tensor, delta_bias: Tensor | None, delta_softplus: bool) -> Tensor:
    delta = delta if delta_bias is None else delta + delta_bias[:, None]
    return F.softplus(delta) if delta_softplus else delta


def _per_channel(x: Tensor, channels: int) -> Tensor:
    """(batch, groups, states, length) repeated to (batch, channels, states, length)."""
    return x.repeat_interleave(channels // x.shape[1], dim=1)


def published_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
                   delta_bias: Tensor | None = None, delta_softplus: bool = True) -> Tensor:
    """The loop: two tensors of (batch, channels, length, states), then one Python step per position.

    Args:
        u, delta: (batch, channels, length). A: (channels, states).
        B, C: (batch, groups, states, length), channel e belongs to group e // (channels / groups).
        D, delta_bias: (channels).

    Returns:
        (batch, channels, length), float32.
    """
    u, delta = u.float(), _steps(delta.float(), delta_bias, delta_softplus)
    B, C = (_per_channel(t.float(), u.shape[1]) for t in (B, C))
    decay = torch.exp(torch.einsum('bel,en->beln', delta, A))
    update = torch.einsum('bel,benl,bel->beln', delta, B, u)
    h = u.new_zeros(u.shape[0], *A.shape)
    out = []
    for t in range(u.shape[2]):
        h = decay[:, :, t] * h + update[:, :, t]
        out.append(torch.einsum('ben,ben->be', h, C[:, :, :, t]))
    y = torch.stack(out, dim=2)
    return y if D is None else y + u * D[:, None]


def mambapy_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
                 delta_bias: Tensor | None = None, delta_softplus: bool = True) -> Tensor:
    """The same by the parallel scan of mambapy (pip install mambapy), a PyTorch-only Mamba.

    Raises:
        ImportError: without that package.
    """
    from mambapy.pscan import pscan  # optional, a benchmark must run without it
    groups = B.shape[1]
    u, delta = (t.transpose(1, 2).unflatten(2, (groups, -1))[..., None]
                for t in (u.float(), _steps(delta.float(), delta_bias, delta_softplus)))
    B, C = (t.float().permute(0, 3, 1, 2) for t in (B, C))  # (batch, length, groups, states)
    decay, update = torch.exp(delta * A.unflatten(0, (groups, -1))), delta * B[..., None, :] * u
    states = pscan(decay.flatten(2, 3), update.flatten(2, 3)).unflatten(2, (groups, -1))
    y = states @ C[..., None]
    y = y if D is None else y + u * D.view(groups, -1, 1)
    return y.flatten(2).transpose(1, 2)


def published_ss2d(x: Tensor, x_proj_weight: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor,
                   scan: Callable[..., Tensor] = published_scan) -> Tensor:
    """Four traversals of an image as VMamba and RetinexMamba publish them, with a permuted copy for each.

    Args:
        x: (batch, channels, height, width).
        x_proj_weight: (4, rank + 2 * states, channels), to low-rank step, B and C of each direction.
        dt_w: (4, channels, rank). dt_b: (4, channels). A: (4 * channels, states). D: (4 * channels).
        scan: `published_scan` or another of its signature.

    Returns:
        (batch, height, width, channels), the sum of the four.
    """
    batch, channels, height, width = x.shape
    length, states = height * width, A.shape[1]
    rows = x.reshape(batch, channels, length)
    columns = x.transpose(2, 3).contiguous().view(batch, channels, length)
    forth = torch.stack([rows, columns], dim=1)
    xs = torch.cat([forth, forth.flip(-1)], dim=1)  # (batch, 4, channels, length)

    projected = torch.einsum('bkel,kce->bkcl', xs, x_proj_weight)
    dt, B, C = projected.split([dt_w.shape[2], states, states], dim=2)
    dt = torch.einsum('bkrl,ker->bkel', dt, dt_w)
    y = scan(xs.float().reshape(batch, -1, length),
             dt.contiguous().float().view(batch, -1, length), A.float(),
             B.float().contiguous(),
             C.float().contiguous(), D.float(),
             dt_b.float().flatten(), delta_softplus=True).view(batch, 4, channels, length)

    back = y[:, 2:].flip(-1)  # of rows, of columns
    down, up = (t.reshape(batch, channels, width, height).transpose(2, 3).contiguous().view(batch, channels, length)
                for t in (y[:, 1], back[:, 1]))
    y = y[:, 0] + back[:, 0] + down + up
    return y.transpose(1, 2).contiguous().view(batch, height, width, channels)
