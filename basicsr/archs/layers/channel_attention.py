"""Attention between channels, over all pixels (Restormer, Zamir et al. 2022, eq. 1): linear in the number of pixels.

Tensors are (B, H, W, C), slices of a wider last axis included; one image is never copied. Splitting that axis, not the
second one of (B, C, H, W), also keeps gradients in channels-last memory. Both halves avoid tensors of the size of the
image that the textbook form materialises: the L2 norms divide the small logits instead of q and k, and an output
projection W is applied as (W A) v instead of W (A v).
"""
from __future__ import annotations

import torch
from torch import Tensor

from basicsr.archs.layers.recompute import recompute


def channel_affinity(q: Tensor, k: Tensor, scale: Tensor) -> Tensor:
    """softmax_j(scale * cos(q_i, k_j)) over the channels j of each head; the cosine runs over all pixels.

    Args:
        q, k: (B, H, W, C). scale: (heads, 1, 1). Heads are contiguous groups of C / heads channels.

    Returns:
        (B, heads, C / heads, C / heads), at least float32: norms over a large image overflow half precision.
    """
    b, heads = q.shape[0], scale.shape[0]
    with torch.autocast(q.device.type, enabled=False):
        exact = torch.promote_types(q.dtype, torch.float32)
        if q.dtype == exact:
            logits = _products(q, k, heads)
            logits = logits * _inverse_norm(q).view(b, heads, -1, 1) * _inverse_norm(k).view(b, heads, 1, -1)
        else:
            logits = _products(recompute(_unit, q), recompute(_unit, k), heads).to(exact)
        return (logits * scale.to(exact)).softmax(dim=-1)


def attend(affinity: Tensor, v: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """out_i = sum_j affinity_ij v_j in each head, then the projection `weight` (O, C), `bias` (O) where given.

    (B, H, W, C) to the same, or to (B, H, W, O).
    """
    b, heads, d, _ = affinity.shape
    affinity = affinity.to(v.dtype)
    if weight is None:  # block-diagonal: one product for all heads, channels in their places
        eye = torch.eye(heads, dtype=v.dtype, device=v.device)
        matrix = (affinity.unsqueeze(3) * eye.view(heads, 1, heads, 1)).reshape(b, heads * d, heads * d)
    else:
        matrix = torch.einsum('ohi,bhij->bohj', weight.view(-1, heads, d), affinity).reshape(b, -1, heads * d)
    out = v.flatten(1, 2) @ matrix.transpose(1, 2)
    out = out if bias is None else out + bias
    return out.unflatten(1, v.shape[1:3])


def _products(q: Tensor, k: Tensor, heads: int) -> Tensor:
    """(B, heads, d, d) inner products of the channels of q and k; heads stay slices of the pixels' rows."""
    b = q.shape[0]
    q, k = (t.flatten(1, 2).unflatten(2, (heads, -1)).transpose(1, 2).flatten(0, 1) for t in (q, k))
    return torch.bmm(q.transpose(1, 2), k).unflatten(0, (b, heads))


def _inverse_norm(x: Tensor) -> Tensor:
    """(B, C): 1 / max(|x|, 1e-12) over the pixels. The clamp comes before the root, whose slope at 0 is infinite."""
    return x.square().sum(dim=(1, 2)).clamp_min(1e-24).rsqrt()


def _unit(x: Tensor) -> Tensor:
    """x / |x| over the pixels, computed in float32, in the type of x."""
    y = x.float()
    return (y * y.square().sum(dim=(1, 2), keepdim=True).clamp_min(1e-24).rsqrt()).to(x.dtype)
