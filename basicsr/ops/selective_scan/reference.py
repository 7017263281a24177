"""The selective scan as its definition reads: one Python step per position. Test oracle only."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_scan_reference(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
                             delta_bias: Tensor | None = None, delta_softplus: bool = True,
                             return_last_state: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """See `basicsr.ops.selective_scan.selective_scan`; B and C (batch, groups, states, length).

    Differentiable by autograd, in the dtype of its inputs.
    """
    batch, channels = u.shape[:2]
    groups, states = B.shape[1], B.shape[2]
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = F.softplus(delta)  # linear above 20
    per_channel = channels // groups
    B, C = (x.repeat_interleave(per_channel, dim=1) for x in (B, C))  # (batch, channels, states, length)
    h = u.new_zeros(batch, channels, states)
    out = []
    # unbind, not select: its backward writes each gradient once instead of a full tensor per step
    for u_t, delta_t, B_t, C_t in zip(*(x.unbind(-1) for x in (u, delta, B, C))):
        h = torch.exp(delta_t[..., None] * A) * h + (delta_t * u_t)[..., None] * B_t
        out.append((h * C_t).sum(-1))
    y = torch.stack(out, dim=-1)
    y = y if D is None else y + D[:, None] * u
    return (y, h) if return_last_state else y
