"""Attention between channels, over all pixels (Restormer, Zamir et al. 2022, eq. 1): linear in the number of pixels.

Tensors are (B, H, W, C), slices of a wider last axis included; one image is never copied. Splitting that axis, not the
second one of (B, C, H, W), also keeps gradients in channels-last memory. Both halves avoid tensors of the size of the
image that the textbook form materialises: the L2 norms divide the small logits instead of q and k, and an output
projection W is applied as (W A) v instead of W (A v).

In half precision q and k side by side are multiplied with themselves, [q k]^T [q k]: one product on tensor cores, summed
in float32, has the inner products and, on its diagonal, the norms; one product gives the gradients of both.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.strips import row_strips
from basicsr.archs.layers.whole_image import in_parts, over_image

Products = tuple[Tensor, ...]  # (B, heads, d, d) inner products of q and k; (B, 2 C) |q|^2 and |k|^2
_SMALLEST = 1e-24  # of a squared norm
_PIXELS = 1024  # that one block of a GPU sums at least
_BLOCKS = 256  # that keep a GPU busy


def channel_affinity(q: Tensor, k: Tensor, scale: Tensor) -> Tensor:
    """softmax_j(scale * cos(q_i, k_j)) over the channels j of each head; the cosine runs over all pixels.

    Args:
        q, k: (B, H, W, C). scale: (heads, 1, 1). Heads are contiguous groups of C / heads channels.

    Returns:
        (B, heads, C / heads, C / heads), at least float32: norms over a large image overflow half precision.
    """
    if _is_half(q) and not in_parts():
        return paired_affinity(torch.cat((q, k), dim=-1), scale)
    with torch.autocast(q.device.type, enabled=False):
        return affinity_of(over_image(lambda q, k: channel_products(q, k, len(scale)), q, k), scale)


def paired_affinity(qk: Tensor, scale: Tensor) -> Tensor:
    """The same for q and k side by side, (B, H, W, 2 C)."""
    if not _is_half(qk) or in_parts():
        q, k = qk.chunk(2, dim=-1)
        return channel_affinity(q, k, scale)
    with torch.autocast(qk.device.type, enabled=False):
        qk = qk.flatten(1, 2)
        if torch.is_grad_enabled() and not torch.jit.is_tracing():
            return _PairedAffinity.apply(qk, scale)
        return affinity_of(_paired_products(qk, len(scale)), scale)


def channel_products(q: Tensor, k: Tensor, heads: int) -> Products:
    """Sums over the pixels of (B, H, W, C), at least float32; those of parts of an image can be added."""
    if _is_half(q):
        return _paired_products(torch.cat((q, k), dim=-1).flatten(1, 2), heads)
    squares = torch.cat([t.square().sum(dim=(1, 2)) for t in (q, k)], dim=1)
    b, (q, k) = len(q), (_by_head(t, heads) for t in (q, k))
    return torch.bmm(q.transpose(1, 2), k).unflatten(0, (b, heads)), squares


def affinity_of(products: Products, scale: Tensor) -> Tensor:
    """What `channel_affinity` makes of the products over the whole image."""
    return (_cosines(*products)[0] * scale.to(products[0].dtype)).softmax(dim=-1)


def affinity_in_strips(x: Tensor, attended: Callable[[slice, slice], tuple[Tensor, ...]], scale: Tensor, channels: int,
                       halo: int = 0) -> tuple[Tensor, Tensor]:
    """Values (B, C, H, W) of the whole image, and how their channels are mixed, without q and k of all of it at once.

    Args:
        attended: from rows of `x` (B, C, H, W) to read, and those of them to keep (see `row_strips`), to q and k, each
            (B, h, W, C) or side by side, and values (B, C, h, W).
        channels: width of the widest hidden tensor. halo: rows that `attended` looks beyond its own.
    """
    values, products = [], []
    for read, keep in row_strips(x, channels, halo):
        *qk, v = attended(read, keep)
        if read == slice(0, x.shape[2]):
            return v, paired_affinity(qk[0], scale) if len(qk) == 1 else channel_affinity(qk[0], qk[1], scale)
        values.append(v)
        q, k = qk if len(qk) == 2 else qk[0].chunk(2, dim=-1)
        with torch.autocast(x.device.type, enabled=False):
            products.append(channel_products(q, k, len(scale)))
    with torch.autocast(x.device.type, enabled=False):
        sums = tuple(torch.stack(parts).sum(0) for parts in zip(*products))
        return torch.cat(values, dim=2), affinity_of(sums, scale)


def attend(affinity: Tensor, v: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
           residual: Tensor | None = None) -> Tensor:
    """out_i = sum_j affinity_ij v_j in each head, then the projection `weight` (O, C), `bias` (O) where given.

    (B, H, W, C) to the same, or to (B, H, W, O). `residual` (B, H, W, O) is added.
    """
    matrix = _block_diagonal(affinity, v.dtype)  # all heads in one product, channels in their places
    matrix = matrix if weight is None else matrix @ weight.to(v.dtype).t()
    if bias is not None:  # to a residual first: that makes room for the sum, which the product then adds to
        bias = bias.to(v.dtype)
        if residual is not None:
            return _add_product(residual + bias, v, matrix)
    out = (v.flatten(1, 2) @ matrix).unflatten(1, v.shape[1:3])
    out = out if bias is None else out + bias
    return out if residual is None else residual + out


class AttendedLinear(nn.Linear):
    """A projection of attended values: called with affinity, values and, where there is one, residual; see `attend`."""

    casts = ('weight', 'bias')  # under autocast, see basicsr/engine/casting.py

    # its parameters alone are the base's
    def forward(  # type: ignore[override]
            self, affinity: Tensor, v: Tensor, residual: Tensor | None = None) -> Tensor:
        return attend(affinity, v, self.weight, self.bias, residual)


class AttendedConv2d(PointwiseConv2d):
    """The same, with its parameters as those of a 1x1 convolution."""

    casts = ('weight', 'bias')  # under autocast, see basicsr/engine/casting.py

    # its parameters alone are the base's
    def forward(  # type: ignore[override]
            self, affinity: Tensor, v: Tensor, residual: Tensor | None = None) -> Tensor:
        return attend(affinity, v, self.weight.flatten(1), self.bias, residual)


def _add_product(x: Tensor, v: Tensor, matrix: Tensor) -> Tensor:
    """x (B, H, W, O) + v (B, H, W, C) times `matrix` (B, C, O), where possible in the memory of x and in one kernel."""
    eager = not torch.compiler.is_compiling() and not torch.jit.is_tracing()
    if eager and x.dtype == v.dtype and x.is_contiguous():
        return _AddProduct.apply(x, v, matrix) if torch.is_grad_enabled() else _AddProduct.forward(None, x, v, matrix)
    return x + (v.flatten(1, 2) @ matrix).unflatten(1, v.shape[1:3])


def _is_half(x: Tensor) -> bool:
    return x.dtype in (torch.float16, torch.bfloat16)


def _by_head(x: Tensor, heads: int) -> Tensor:
    """(B, H, W, C) to (B * heads, pixels, d); heads stay slices of the pixels' rows."""
    return x.flatten(1, 2).unflatten(2, (heads, -1)).transpose(1, 2).flatten(0, 1)


def _cosines(products: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines, their factor 1 / |q| |k|, and the squares, clamped before the root, whose slope at 0 is infinite."""
    squares = squares.clamp(min=_SMALLEST)  # PyTorch 2.6 cannot convert `clamp_min` of a number to ONNX
    q, k = squares.rsqrt().unflatten(1, (2, products.shape[1], -1)).unbind(dim=1)
    factor = q.unsqueeze(-1) * k.unsqueeze(-2)
    return products * factor, factor, squares


def _gram(x: Tensor) -> Tensor:
    """x^T x of (B, P, C) in half precision: (B, C, C) in float32, without rounding in between."""
    if not x.is_cuda or 'dtype' not in torch.ops.aten.bmm.overloads():
        x = x.float()
        return torch.bmm(x.transpose(1, 2), x)
    b, pixels, _ = x.shape
    parts = 1  # few channels are few blocks, so the pixels are shared out among more
    while pixels % (2 * parts) == 0 and pixels // (2 * parts) >= _PIXELS and 2 * b * parts <= _BLOCKS:
        parts *= 2
    x = x.unflatten(1, (parts, -1)).flatten(0, 1)
    gram = torch.bmm(x.transpose(1, 2), x, out_dtype=torch.float32)
    return gram if parts == 1 else gram.unflatten(0, (b, parts)).sum(dim=1)


def _blocks_of(matrix: Tensor, heads: int) -> Tensor:
    """(B, heads, d, d), a view: the blocks on the diagonal of (B, C, C)."""
    d = matrix.shape[1] // heads
    return matrix.unflatten(2, (heads, d)).unflatten(1, (heads, d)).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)


def _paired_products(qk: Tensor, heads: int) -> Products:
    return _parts_of(_gram(qk), heads)


def _pairs_of(gram: Tensor, heads: int) -> Tensor:
    """(B, 2, heads, d, d), a view: the blocks of q with k, and those of k with q, from (B, 2 C, 2 C)."""
    n = gram.shape[-1]
    d = n // 2 // heads
    return gram.as_strided((len(gram), 2, heads, d, d), (n * n, n // 2 * (n - 1), d * (n + 1), n, 1), n // 2)


def _parts_of(gram: Tensor, heads: int) -> Products:
    return _pairs_of(gram, heads)[:, 0], gram.diagonal(dim1=1, dim2=2)


class _PairedAffinity(torch.autograd.Function):
    """The gradient of |x|^-1 needs x itself: both matrices of gradients, symmetric, and the norms' share on the diagonal."""

    @staticmethod
    def forward(ctx: Any, qk: Tensor, scale: Tensor) -> Tensor:
        gram = _gram(qk)
        cosines, factor, squares = _cosines(*_parts_of(gram, len(scale)))
        affinity = (cosines * scale.float()).softmax(dim=-1)
        ctx.save_for_backward(qk, scale, gram, squares, factor, affinity)
        return affinity

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        qk, scale, gram, squares, factor, affinity = ctx.saved_tensors
        heads = len(scale)
        slope = torch._softmax_backward_data(grad, affinity, -1, affinity.dtype) * factor
        d_scale = (slope * _pairs_of(gram, heads)[:, 0]).sum(dim=(0, 2, 3)).view_as(scale).to(scale.dtype)
        # float16 cannot hold 1 / |x|^2 of a large image: there both factors 1 / |x| stay outside
        unit = squares.rsqrt().unsqueeze(1) if qk.dtype == torch.float16 else None
        matrix = torch.zeros_like(gram, dtype=qk.dtype if unit is None else gram.dtype)
        pairs = _pairs_of(matrix, heads)
        pairs[:, 0].addcmul_(slope, scale)
        pairs[:, 1].addcmul_(slope.transpose(-1, -2), scale)
        # from what is rounded already, so that the gradient stays at a right angle to x
        length = (pairs * _pairs_of(gram, heads)).sum(dim=-1)  # what a longer q_i or k_j would change
        matrix.diagonal(dim1=1, dim2=2).addcdiv_(length.flatten(1), squares, value=-1)
        if unit is None:
            return torch.bmm(qk, matrix), d_scale
        matrix = (matrix / (unit * unit.transpose(1, 2))).to(qk.dtype)
        return (torch.bmm((qk * unit).to(qk.dtype), matrix) * unit).to(qk.dtype), d_scale


def _block_diagonal(affinity: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, heads, d, d) to (B, C, C) of another type, transposed, zeros between heads."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # graphs for other programs have no writing into views
        b, heads, d, _ = affinity.shape
        eye = torch.eye(heads, dtype=dtype, device=affinity.device).view(heads, 1, heads, 1)
        return (affinity.to(dtype).transpose(-1, -2).unsqueeze(3) * eye).reshape(b, heads * d, heads * d)
    if torch.is_grad_enabled():
        return _BlockDiagonal.apply(affinity, dtype)
    return _BlockDiagonal.forward(None, affinity, dtype)


class _AddProduct(torch.autograd.Function):
    """By hand, because autograd follows writing into a view with copies of the whole image."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor, matrix: Tensor) -> Tensor:
        if ctx is not None:
            ctx.save_for_backward(v, matrix)
            ctx.mark_dirty(x)
        x.flatten(1, 2).baddbmm_(v.flatten(1, 2), matrix)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        v, matrix = ctx.saved_tensors
        rows = grad.flatten(1, 2)
        d_v = torch.bmm(rows, matrix.transpose(1, 2)).unflatten(1, v.shape[1:3])
        return grad, d_v, torch.bmm(v.flatten(1, 2).transpose(1, 2), rows)


class _BlockDiagonal(torch.autograd.Function):
    """By hand, because autograd would copy the matrix twice to clear the blocks."""

    @staticmethod
    def forward(ctx: Any, affinity: Tensor, dtype: torch.dtype) -> Tensor:
        b, heads, d, _ = affinity.shape
        if ctx is not None:
            ctx.heads, ctx.dtype = heads, affinity.dtype
        turned = affinity.transpose(-1, -2)
        if heads == 1:
            return turned.squeeze(1).to(dtype, memory_format=torch.contiguous_format, copy=True)
        matrix = affinity.new_zeros(b, heads * d, heads * d, dtype=dtype)
        _blocks_of(matrix, heads).copy_(turned)
        return matrix

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        blocks = _blocks_of(grad, ctx.heads).transpose(-1, -2)
        return blocks.to(ctx.dtype, memory_format=torch.contiguous_format, copy=True), None
