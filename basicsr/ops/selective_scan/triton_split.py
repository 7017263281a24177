"""A gradient kernel of the selective scan whose warps share a tile of positions, each with states of its own; layouts as in
`triton_kernels`."""
from __future__ import annotations

import triton
import triton.language as tl

from basicsr.ops.selective_scan.triton_gradient import _raw_step
from basicsr.ops.selective_scan.triton_kernels import LN2, _flags, _order, _softplus, _split, kernel
from basicsr.ops.selective_scan.triton_walk import _add_both, _at, _channel_sums, _put


@triton.jit
def _state_of(rate, states, adjoints, row, s, e, mask, channels, STATES: tl.constexpr, RANK: tl.constexpr):
    """What the states s need of memory: rate, state before the tile, adjoint after it, B and C."""
    real = s < STATES
    at, both = s[:, None] * channels + e[None, :], real[:, None] & mask[None, :]
    a_rate = tl.load(rate + at, mask=both, other=0.0)
    start = tl.load(states + at, mask=both, other=0.0)
    arriving = tl.load(adjoints + at, mask=both, other=0.0)
    b = tl.load(row[:, None] + (RANK + s)[None, :], mask=real[None, :], other=0.0).to(tl.float32)
    c = tl.load(row[:, None] + (RANK + STATES + s)[None, :], mask=real[None, :], other=0.0).to(tl.float32)
    return a_rate, start, arriving, b, c


@kernel
def split_kernel(value, grad, delta, rows, weight, bias, rate, direct, states, adjoints, total, out, d_step, d_rows, d_rate,
                 length, height, width, channels, row_width, group_step, per_batch, blocks, tiles, slots, scans, first,
                 count, is_first, is_last, STATES: tl.constexpr, RANK: tl.constexpr, SHARE: tl.constexpr,
                 BLOCK: tl.constexpr, TILE: tl.constexpr, DELTA: tl.constexpr, IMAGE: tl.constexpr,
                 SOFTPLUS: tl.constexpr):  # yapf: disable
    """`gradient_kernel` with SHARE states at a time, spread over the warps; the next ones are read before these are worked
    on."""
    e, tile, batch, k, scan = _split(tl.program_id(0), blocks, tiles, count, first, BLOCK)
    mask = e < channels
    later, going, done = _flags(e, mask, is_first, is_last)
    j, share = tl.arange(0, TILE), tl.arange(0, SHARE)
    time = tile * TILE + j
    inside = time < length
    backward, span, stride = _order(k, height, width, length, IMAGE)
    rank = tl.minimum(time, length - 1)
    rank = tl.where(backward, length - 1 - rank, rank)
    position = ((rank % span) * stride + rank // span).to(tl.int64)
    both = inside[:, None] & mask[None, :]
    offset = batch * length * row_width + k * group_step + (position * row_width)[:, None] + e[None, :]
    row_step = per_batch * (RANK + 2 * STATES)
    row = rows + batch * length * row_step + k * (RANK + 2 * STATES) + position * row_step
    v = tl.load(value + offset, mask=both, other=0.0).to(tl.float32)
    dy = tl.load(grad + offset, mask=both, other=0.0).to(tl.float32)
    dt = _raw_step(delta, row, weight, bias, offset, k, channels, e, mask, both, RANK, DELTA)
    slope = dt
    if SOFTPLUS:
        dt, slope = _softplus(dt)
    dt = tl.where(both, dt, 0.0)  # positions after the end change nothing
    v_step = (dt * v)[:, None, :]
    by_input = tl.zeros([TILE, SHARE, BLOCK], tl.float32)
    by_decay = tl.zeros([TILE, SHARE, BLOCK], tl.float32)
    rate += k * STATES * channels
    states += (scan.to(tl.int64) * slots + tile) * STATES * channels
    adjoints += (scan.to(tl.int64) * slots + tile) * STATES * channels
    d_rate += (scan.to(tl.int64) * tiles + tile) * STATES * channels
    d_rows += ((tl.program_id(0) % blocks).to(tl.int64) * scans + scan) * (2 * STATES) * length
    a_rate, start, arriving, b, c = _state_of(rate, states, adjoints, row, share, e, mask, channels, STATES, RANK)
    for s0 in range(0, STATES, SHARE):
        s = s0 + share
        a_next, start_next, arriving_next, b_next, c_next = _state_of(rate, states, adjoints, row, s + SHARE, e, mask,
                                                                      channels, STATES, RANK)  # yapf: disable
        decay = tl.exp2(dt[:, None, :] * a_rate[None, :, :])
        new, g = v_step * b[:, :, None], dy[:, None, :] * c[:, :, None]
        left = tl.zeros([TILE, SHARE, BLOCK], tl.float32)  # what is left of the state before
        before, after = start, arriving
        for i in tl.static_range(TILE):
            before = _at(decay, j, i) * before
            left = _put(left, j, i, before)
            before += _at(new, j, i)
        for i in tl.static_range(TILE):
            after += _at(g, j, TILE - 1 - i)
            g = _put(g, j, TILE - 1 - i, after)
            after *= _at(decay, j, TILE - 1 - i)
        kept = g * left
        by_input += g * b[:, :, None]
        by_decay += kept * a_rate[None, :, :]
        real = s < STATES
        tl.store(d_rate + s[:, None] * channels + e[None, :], tl.sum(kept * dt[:, None, :], 0),
                 mask=real[:, None] & mask[None, :])  # yapf: disable
        row_at, row_mask = d_rows + (s * length)[None, :] + time[:, None], inside[:, None] & real[None, :]
        tl.store(row_at, _channel_sums(g * v_step, TILE, SHARE, BLOCK), mask=row_mask)
        tl.store(
            row_at + STATES * length, _channel_sums((left + new) * dy[:, None, :], TILE, SHARE, BLOCK), mask=row_mask)
        a_rate, start, arriving, b, c = a_next, start_next, arriving_next, b_next, c_next
    by_input, by_decay = tl.reduce((by_input, by_decay), 1, _add_both)
    step = by_decay * LN2 + v * by_input
    if SOFTPLUS:
        step *= slope
    tl.store(d_step + offset, step, mask=both)
    d = tl.load(direct + k * channels + e, mask=mask, other=0.0)
    result = dt * by_input + d[None, :] * dy
    result += tl.load(total + offset, mask=inside[:, None] & later[None, :], other=0.0)
    tl.store(total + offset, result, mask=inside[:, None] & going[None, :])
    tl.store(out + offset, result.to(out.dtype.element_ty), mask=inside[:, None] & done[None, :])
