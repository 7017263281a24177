"""The four-direction scan in plain PyTorch: all directions advance together, chunk by chunk; no permuted copy is made."""
from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from basicsr.ops.selective_scan.chunked import Chunks, chunk_size, in_float32, rate_by_group, softplus
from basicsr.ops.ss2d.traversal import traversals


def state_count(batch: int, height: int, width: int, channels: int, states: int) -> int:
    """Elements that the forward saves for the backward: the states at the start of each chunk."""
    size = chunk_size((batch, 4, states, channels), height * width)
    return -(-height * width // size) * batch * 4 * states * channels


class _Image:
    """Chunks of positions of all four directions: (time, batch, 4, ...) tensors read from and added to images."""

    def __init__(self, x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, states: int):
        self.batch, self.height, self.width, self.channels = x.shape
        self.length, self.rank, self.states = self.height * self.width, dt_w.shape[2], states
        # (pixel, batch, ...): gathering whole rows of memory by pixel
        self.x = x.reshape(self.batch, self.length, -1).transpose(0, 1)
        self.x_dbl = x_dbl.reshape(self.batch, self.length, 4, -1).transpose(0, 1)
        self.weight, self.bias = dt_w.transpose(1, 2), dt_b.reshape(4, 1, self.channels)
        self.order = traversals(self.height, self.width, x.device)
        self.shape = (self.batch, 4, states, self.channels)

    def gather(self, image: Tensor, part: slice) -> Tensor:
        """Pixels of a chunk in each direction's order: (pixel, batch, width) to (time, batch, 4, width)."""
        return torch.stack([image[index[part]] for index in self.order], dim=2)

    def scatter_add(self, image: Tensor, part: slice, values: Tensor) -> None:
        for k, index in enumerate(self.order):
            image.index_add_(0, index[part], values[:, :, k])

    def projections(self, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Low-rank step, B and C of a chunk: (time, batch, 4, rank | states)."""
        rows = torch.stack([self.x_dbl[index[part], :, k] for k, index in enumerate(self.order)], dim=2)
        return rows.split([self.rank, self.states, self.states], dim=-1)

    def raw_step(self, dt_low: Tensor) -> Tensor:
        """Step before softplus: (time, batch, 4, rank) to (time, batch, 4, channels)."""
        steps = dt_low.shape[0] * self.batch
        by_direction = dt_low.permute(2, 0, 1, 3).reshape(4, steps, self.rank)
        raw = torch.baddbmm(self.bias, by_direction, self.weight)
        return raw.view(4, -1, self.batch, self.channels).permute(1, 2, 0, 3).contiguous()


def forward(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor,
            save: bool) -> tuple[Tensor, Tensor]:
    """See `ss2d_scan`; also returns the saved states (empty unless `save`)."""
    dtype = x.dtype
    x, x_dbl = in_float32(x, x_dbl)
    image = _Image(x, x_dbl, dt_w, dt_b, A.shape[1])
    chunks = Chunks(x, image.shape, image.length, rate_by_group(A, 4))
    h, direct = x.new_zeros(image.shape), D.view(4, -1)
    y = x.new_zeros(image.length, image.batch, image.channels)
    starts = x.new_empty(len(chunks.parts) if save else 0, *image.shape)
    for i, part in enumerate(chunks.parts):
        if save:
            starts[i] = h
        u = image.gather(image.x, part)
        dt_low, B, C = image.projections(part)
        read, h = chunks.forward(softplus(image.raw_step(dt_low)), u, B, C, h)
        image.scatter_add(y, part, read.addcmul_(u, direct))
    return y.transpose(0, 1).reshape(x.shape).to(dtype), starts.flatten()


def part(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor, columns: bool, start: int,
         state: Tensor, y: Tensor) -> None:
    """See `basicsr.ops.ss2d.ss2d_part`."""
    channels, rank, states = x.shape[3], dt_w.shape[2], A.shape[1]
    dim = 2 if columns else 1
    count = x_dbl.shape[1 + dim]
    first = start, x.shape[dim] - start - count  # lines of the two sides

    def in_order(sides: Iterable[Tensor]) -> Tensor:
        """Pixels (batch, height, width, n) of the two sides in the order of their scans, (time, batch, 2, n)."""
        there, back = ((t.transpose(1, 2) if columns else t).flatten(1, 2) for t in sides)
        return torch.stack([there, back.flip(1)], dim=2).transpose(0, 1)

    u, rows = in_order(x.narrow(dim, i, count) for i in first), in_order(x_dbl)
    chunks = Chunks(x, (len(x), 2, states, channels), len(u), rate_by_group(A, 2))
    weight, bias, direct = dt_w.transpose(1, 2), dt_b.view(2, channels), D.view(2, channels)
    out, h = torch.empty_like(u), state.permute(1, 0, 3, 2)
    for span in chunks.parts:
        low, B, C = rows[span].split([rank, states, states], dim=-1)
        step = softplus(torch.einsum('tbkr,kre->tbke', low, weight) + bias)
        read, h = chunks.forward(step, u[span], B, C, h)
        out[span] = read.addcmul_(u[span], direct)
    state.copy_(h.permute(1, 0, 3, 2))
    there, back = out.permute(2, 1, 0, 3)
    for i, sequence in zip(first, (there, back.flip(1))):
        target = y.narrow(dim, i, count)
        target = target.transpose(1, 2) if columns else target
        target += sequence.view(target.shape)


def backward(dy: Tensor, x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor,
             starts: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the six inputs."""
    dtypes = x.dtype, x_dbl.dtype
    dy, x, x_dbl = in_float32(dy, x, x_dbl)
    image = _Image(x, x_dbl, dt_w, dt_b, A.shape[1])
    chunks = Chunks(x, image.shape, image.length, rate_by_group(A, 4), backward=True)
    starts, direct = starts.view(-1, *image.shape), D.view(4, -1)
    dy = dy.reshape(image.batch, image.length, -1).transpose(0, 1)
    dx = x.new_zeros(image.length, image.batch, image.channels)
    dx_dbl = x_dbl.new_empty(image.length, image.batch, 4, image.rank + 2 * image.states)
    d_rate, carry = torch.zeros_like(chunks.rate), x.new_zeros(image.shape)
    d_weight, d_bias = torch.zeros_like(image.weight), torch.zeros_like(image.bias[:, 0])
    d_direct = torch.zeros_like(direct)
    for i, part in reversed(list(enumerate(chunks.parts))):
        u, dy_t = image.gather(image.x, part), image.gather(dy, part)
        dt_low, B, C = image.projections(part)
        raw = image.raw_step(dt_low)
        d_dt, d_u, dB, dC, d_r, carry = chunks.backward(softplus(raw), u, B, C, dy_t, starts[i], carry)
        d_rate += d_r
        d_direct += (dy_t * u).sum((0, 1))
        image.scatter_add(dx, part, d_u.addcmul_(dy_t, direct))
        d_raw = d_dt.mul_(torch.sigmoid(raw))
        d_bias += d_raw.sum((0, 1))
        by_direction = d_raw.permute(2, 0, 1, 3).reshape(4, -1, image.channels)
        low = dt_low.permute(2, 0, 1, 3).reshape(4, -1, image.rank)
        d_weight += low.transpose(1, 2) @ by_direction
        d_low = (by_direction @ image.weight.transpose(1, 2)).view(4, -1, image.batch, image.rank).permute(1, 2, 0, 3)
        rows = torch.cat([d_low, dB, dC], dim=-1)
        for k, index in enumerate(image.order):
            dx_dbl[index[part], :, k] = rows[:, :, k]
    dx, dx_dbl = dx.transpose(0, 1).reshape(x.shape), dx_dbl.transpose(0, 1).reshape(x_dbl.shape)
    return (dx.to(dtypes[0]), dx_dbl.to(dtypes[1]), d_weight.transpose(1, 2).contiguous(), d_bias.reshape(dt_b.shape),
            d_rate.transpose(1, 2).reshape(A.shape), d_direct.reshape(D.shape))
