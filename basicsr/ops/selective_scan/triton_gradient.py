"""The gradient kernel of the selective scan in Triton; layouts as in `triton_kernels`."""
from __future__ import annotations

import triton
import triton.language as tl

from basicsr.ops.selective_scan.triton_kernels import LN2, _flags, _order, _softplus, _split, kernel


@triton.jit
def _row(x, j, i):
    """Row i of x, (rows, columns), for constant i: a lane holds whole columns, so this is one of its registers.

    As integers, because adding zeros vanishes when compiled, which a sum of floats (-0.0 + 0.0) may not.
    tl.associative_scan would do for time, but its reverse shuffles whole warps about.
    """
    bits = x.to(tl.int32, bitcast=True)
    return tl.sum(tl.where((j == i)[:, None], bits, 0), 0).to(tl.float32, bitcast=True)


@triton.jit
def _raw_step(delta, row, weight, bias, offset, k, channels, e, mask, both, RANK: tl.constexpr, DELTA: tl.constexpr):
    """Step of a tile before softplus, (positions, channels)."""
    dt = tl.zeros(both.shape, tl.float32) + tl.load(bias + k * channels + e, mask=mask, other=0.0)[None, :]
    if DELTA:
        dt += tl.load(delta + offset, mask=both, other=0.0).to(tl.float32)
    for q in range(RANK):
        w = tl.load(weight + (k * RANK + q) * channels + e, mask=mask, other=0.0)
        dt += tl.load(row + q).to(tl.float32)[:, None] * w[None, :]
    return dt


@triton.jit
def _over_channels(x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Sum over columns (at least 8).

    Halved in pairs, after which a warp holds no row twice; a tree of shuffles over whole rows, as tl.sum makes, would
    be half of the instructions of this kernel.
    """
    x, other = tl.split(tl.reshape(x, [ROWS, COLUMNS // 2, 2]))
    x, other = tl.split(tl.reshape(x + other, [ROWS, COLUMNS // 4, 2]))
    x, other = tl.split(tl.reshape(x + other, [ROWS, COLUMNS // 8, 2]))
    return tl.sum(x + other, 1)


@kernel
def gradient_kernel(value, grad, delta, rows, weight, bias, rate, direct, states, adjoints, total, out, d_step, d_rows,
                    d_rate, length, height, width, channels, row_width, group_step, per_batch, blocks, tiles, slots,
                    scans, first, count, is_first, is_last, STATES: tl.constexpr, RANK: tl.constexpr,
                    BLOCK: tl.constexpr, TILE: tl.constexpr, DELTA: tl.constexpr, IMAGE: tl.constexpr,
                    SOFTPLUS: tl.constexpr):
    """Gradients of one tile of positions, state after state, each lane scanning its channel in both directions of time.

    `states` and `adjoints` (scans, slots, STATES, channels): state before the tile, adjoint arriving from after it.
    Writes the gradient of value like `sweep_kernel` its output; d_step (batch, length, row_width), before softplus;
    d_rows (blocks, scans, 2 STATES, length), of B and C in the order of the scan, to be summed over blocks; d_rate
    (scans, tiles, STATES, channels), of A, to be summed over tiles.
    """
    e, tile, batch, k, scan = _split(tl.program_id(0), blocks, tiles, count, first, BLOCK)
    mask = e < channels
    later, going, done = _flags(e, mask, is_first, is_last)
    j = tl.arange(0, TILE)
    time = tile * TILE + j
    inside = time < length
    backward, span, stride = _order(k, height, width, length, IMAGE)
    rank = tl.minimum(time, length - 1)
    rank = tl.where(backward, length - 1 - rank, rank)
    position = ((rank % span) * stride + rank // span).to(tl.int64)
    both = inside[:, None] & mask[None, :]
    base = batch * length * row_width + k * group_step
    value += base
    grad += base
    delta += base
    total += base
    out += base
    d_step += base
    offset = (position * row_width)[:, None] + e[None, :]
    row = position * (per_batch * (RANK + 2 * STATES))
    rows += batch * length * (per_batch * (RANK + 2 * STATES)) + k * (RANK + 2 * STATES)
    v = tl.load(value + offset, mask=both, other=0.0).to(tl.float32)
    dy = tl.load(grad + offset, mask=both, other=0.0).to(tl.float32)
    dt = _raw_step(delta, rows + row, weight, bias, offset, k, channels, e, mask, both, RANK, DELTA)
    if SOFTPLUS:
        dt, slope = _softplus(dt)
    dt = tl.where(both, dt, 0.0)  # positions after the end change nothing
    v_step = dt * v
    by_input = tl.zeros([TILE, BLOCK], tl.float32)
    by_decay = tl.zeros([TILE, BLOCK], tl.float32)
    state = (scan.to(tl.int64) * slots + tile) * STATES * channels
    partial = (scan.to(tl.int64) * tiles + tile) * STATES * channels
    d_rows += ((tl.program_id(0) % blocks).to(tl.int64) * scans + scan) * (2 * STATES) * length
    for s in range(STATES):
        a_rate = tl.load(rate + (k * STATES + s) * channels + e, mask=mask, other=0.0)
        b = tl.load(rows + (RANK + s) + row).to(tl.float32)[:, None]
        c = tl.load(rows + (RANK + STATES + s) + row).to(tl.float32)[:, None]
        decay = tl.exp2(dt * a_rate[None, :])
        start = tl.load(states + state + s * channels + e, mask=mask, other=0.0)
        arriving = tl.load(adjoints + state + s * channels + e, mask=mask, other=0.0)
        new = v_step * b
        h, g = new, dy * c
        before, after = start, arriving
        for i in tl.static_range(TILE):
            before = _row(decay, j, i) * before + _row(new, j, i)
            h = tl.where((j == i)[:, None], before[None, :], h)
        for i in tl.static_range(TILE):
            after += _row(g, j, TILE - 1 - i)
            g = tl.where((j == TILE - 1 - i)[:, None], after[None, :], g)
            after *= _row(decay, j, TILE - 1 - i)
        kept = g * (h - new)  # adjoint times what is left of the state before
        by_input += g * b
        by_decay += kept * a_rate[None, :]
        tl.store(d_rate + partial + s * channels + e, tl.sum(kept * dt, 0), mask=mask)
        tl.store(d_rows + s * length + time, _over_channels(g * v_step, TILE, BLOCK), mask=inside)
        tl.store(d_rows + (STATES + s) * length + time, _over_channels(h * dy, TILE, BLOCK), mask=inside)
    step = by_decay * LN2 + v * by_input
    if SOFTPLUS:
        step *= slope
    tl.store(d_step + offset, step, mask=both)
    d = tl.load(direct + k * channels + e, mask=mask, other=0.0)
    result = dt * by_input + d[None, :] * dy
    result += tl.load(total + offset, mask=inside[:, None] & later[None, :], other=0.0)
    tl.store(total + offset, result, mask=inside[:, None] & going[None, :])
    tl.store(out + offset, result.to(out.dtype.element_ty), mask=inside[:, None] & done[None, :])
