"""Multi-head attention between all pixels of an image, in memory linear in their number.

The scores of a 400x600 image would take 1.7 TiB (8 heads, float32). PyTorch's fused kernels never hold them. Where it
has none, which is dropout on a CPU and double precision on a GPU, they are made block by block, and again in the backward.
"""
from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry, register_flop_formula

from basicsr.utils.precision import at_least_float32

_CPU_BYTES = 512 << 10  # of one block of scores; a few of them stay in the cache
_GPU_BYTES = 256 << 20  # large enough to keep a GPU busy


class PixelAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` (parameters, their names and initial values) that never holds the scores.

    PyTorch's own forward does, in evaluation. `dropout` is the rate at which attention weights are dropped in training.
    """

    casts = ('in_proj_weight', 'in_proj_bias')  # under autocast, see basicsr/engine/casting.py

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.):
        super().__init__(dim, num_heads, dropout, batch_first=True)

    # its parameters alone are the base's
    def forward(  # type: ignore[override]
            self, x: Tensor, context: Tensor, weights: Tensor | None = None) -> Tensor:
        """Queries from `x` (B, L, C), keys and values from `context` (B, M, C); returns (B, L, C).

        `weights` (B, M): how many pixels each of the context stands for.
        """
        c = x.shape[-1]
        q = F.linear(x, self.in_proj_weight[:c], self.in_proj_bias[:c])
        k, v = F.linear(context, self.in_proj_weight[c:], self.in_proj_bias[c:]).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        if weights is not None:
            q, k, v = _weighted(q, k, v, weights)
        out = pixel_attention(q, k, v, self.dropout if self.training else 0.)[..., :c // self.num_heads]
        return self.out_proj(out.transpose(1, 2).flatten(2))


def pixel_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.) -> Tensor:
    """dropout(softmax(q k^T / sqrt(D))) v.

    Args:
        q: (B, heads, L, D). k, v: (B, heads, M, D). dropout: rate; what is dropped is drawn from PyTorch's generator.

    Returns:
        (B, heads, L, D) of the same dtype. Memory is linear in L and M, in the backward too.
    """
    d = q.shape[-1]
    if q.device.type == 'cuda':  # kernels want aligned rows; zeros change no product
        q, k, v = (F.pad(t, (0, -d % 8)) for t in (q, k, v))
    if _fused(q, k, v, dropout):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=d**-0.5)[..., :d]
    with torch.autocast(q.device.type, enabled=False):
        exact = at_least_float32(q.dtype)
        flat = (t[..., :d].flatten(0, 1).to(exact) for t in (q, k, v))
        seed = torch.randint(2**62, (), device='cpu')
        out, _ = attention_operator(*flat, seed, dropout)
    return out.unflatten(0, q.shape[:2]).to(q.dtype)


def _weighted(q: Tensor, k: Tensor, v: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With one more number in each, from which the scores of a key get the logarithm of its weight (B, M)."""
    d = q.shape[-1]
    logarithm = weights.log().to(k.dtype)[:, None, :, None].expand(*k.shape[:-1], 1)
    q = F.pad(q * ((d + 1) / d)**0.5, (0, 1), value=(d + 1)**0.5)
    return q, torch.cat([k, logarithm], dim=-1), F.pad(v, (0, 1))


def _fused(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> bool:
    """Whether PyTorch computes this with a kernel that holds no scores."""
    if q.device.type == 'cuda':
        params = torch.backends.cuda.SDPAParams(q, k, v, None, dropout, False, False)
        return (torch.backends.cuda.can_use_flash_attention(params)
                or torch.backends.cuda.can_use_efficient_attention(params))
    return q.device.type == 'cpu' and dropout == 0


@torch.library.custom_op('basicsr::pixel_attention', mutates_args=())
def attention_operator(q: Tensor, k: Tensor, v: Tensor, seed: Tensor, dropout: float) -> tuple[Tensor, Tensor]:
    """(N, L, D) attended values, and (N, L) the logarithm of each row's sum of exponentials."""
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    logsum = q.new_empty(q.shape[:2])
    for index, (n, rows) in enumerate(_blocks(q, k)):
        scores = _scores(q[n, rows], k[n])
        logsum[n, rows] = scores.logsumexp(dim=-1)
        weights = scores.sub_(logsum[n, rows].unsqueeze(-1)).exp_()
        if dropout:
            weights *= _mask(weights, seed, index, dropout)
        out[n, rows] = weights @ v[n]
    return out, logsum


@torch.library.custom_op('basicsr::pixel_attention_backward', mutates_args=())
def attention_backward_operator(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logsum: Tensor,
                                seed: Tensor, dropout: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v. With P the softmax and D the mask: dS = P * (D * (dO v^T) - sum(dO * O))."""
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    scale = q.shape[-1]**-0.5
    mean = (grad * out).sum(dim=-1, keepdim=True)
    for index, (n, rows) in enumerate(_blocks(q, k)):
        weights = _scores(q[n, rows], k[n]).sub_(logsum[n, rows].unsqueeze(-1)).exp_()
        slope = grad[n, rows] @ v[n].transpose(1, 2)
        if dropout:
            mask = _mask(weights, seed, index, dropout)
            slope *= mask
            dv[n] += (weights * mask).transpose(1, 2) @ grad[n, rows]
        else:
            dv[n] += weights.transpose(1, 2) @ grad[n, rows]
        slope.sub_(mean[n, rows]).mul_(weights).mul_(scale)
        dq[n, rows] = slope @ k[n]
        dk[n] += slope.transpose(1, 2) @ q[n, rows]
    return dq, dk, dv


@attention_operator.register_fake
def _(q, k, v, seed, dropout):
    return torch.empty_like(q, memory_format=torch.contiguous_format), q.new_empty(q.shape[:2])


@attention_backward_operator.register_fake
def _(grad, q, k, v, out, logsum, seed, dropout):
    return tuple(torch.empty_like(t) for t in (q, k, v))


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3], *output, inputs[3])
    ctx.dropout = inputs[4]
    ctx.mark_non_differentiable(output[1])


def _backward(ctx, grad, _):
    return *attention_backward_operator(grad, *ctx.saved_tensors, ctx.dropout), None, None


attention_operator.register_autograd(_backward, setup_context=_setup_context)


def _forward_flops(q, k, *args, out_shape=None, **kwargs) -> int:
    return 2 * 2 * math.prod(q) * k[-2]  # the scores and the attended values


def _backward_flops(grad, q, k, *args, out_shape=None, **kwargs) -> int:
    return 5 * 2 * math.prod(q) * k[-2]  # the scores once more, then two products for each of the forward's


# PyTorch's counter knows its own kernels for GPUs; whether it knows the one for CPUs depends on its version
for _forward, _gradient in ((torch.ops.basicsr.pixel_attention, torch.ops.basicsr.pixel_attention_backward),
                            (torch.ops.aten._scaled_dot_product_flash_attention_for_cpu,
                             torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward)):
    for _operator, _formula in ((_forward, _forward_flops), (_gradient, _backward_flops)):
        if _operator not in flop_registry:
            register_flop_formula(_operator)(_formula)


def _blocks(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """(heads, queries) of blocks whose scores fit into a fixed size: several heads, or a part of one."""
    size = (_CPU_BYTES if q.device.type == 'cpu' else _GPU_BYTES) // q.element_size()
    heads, rows = max(1, size // (q.shape[1] * k.shape[1])), max(1, size // k.shape[1])
    for first in range(0, q.shape[0], heads):
        for row in range(0, q.shape[1], rows):
            yield slice(first, first + heads), slice(row, row + rows)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return (q * q.shape[-1]**-0.5) @ k.transpose(1, 2)


def _mask(weights: Tensor, seed: Tensor, index: int, dropout: float) -> Tensor:
    """0 at the rate `dropout`, else 1 / (1 - dropout); the same for the same seed and block."""
    generator = torch.Generator(weights.device).manual_seed(int(seed) + index)
    uniform = torch.rand(weights.shape, generator=generator, dtype=weights.dtype, device=weights.device)
    return uniform.lt_(1 - dropout).div_(1 - dropout)  # `bernoulli_` takes more than twice as long
