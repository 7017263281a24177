r"""Kernels of the selective scan that work on tiles of positions and all states at once; layouts as in `triton_kernels`.

Values are tensors (TILE, PAD, BLOCK): positions in the registers of a thread, states over warps (and lanes, where BLOCK is
below 32), channels over lanes. What a tile needs of memory is asked for at once, so a program waits once in TILE positions.

    pass_kernel  one chunk, tile by tile: its end state, or its output; also the adjoint, from the last tile to the first
    walk_kernel  all gradients of one chunk: forward for the state before each tile, which it keeps in a scratch of its own,
                 then backward with the adjoint and the gradients of A, the step projection, its bias and D in registers
"""
from __future__ import annotations

import triton
import triton.language as tl

from basicsr.ops.selective_scan.triton_kernels import LN2, _flags, _order, _softplus, _split, kernel


@triton.jit
def _at(x, j, i):
    """Plane i of x, (positions, states, channels), for constant i: one register of each thread (see `_row`)."""
    bits = x.to(tl.int32, bitcast=True)
    return tl.sum(tl.where((j == i)[:, None, None], bits, 0), 0).to(tl.float32, bitcast=True)


@triton.jit
def _put(x, j, i, plane):
    return tl.where((j == i)[:, None, None], plane[None, :, :], x)


@triton.jit
def _add_both(a, b, c, d):
    return a + c, b + d


@triton.jit
def _channel_sums(x, TILE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Sum over the channels of (TILE, ROWS, BLOCK), halved in pairs (see `_over_channels`)."""
    x, other = tl.split(tl.reshape(x, [TILE, ROWS, BLOCK // 2, 2]))
    x, other = tl.split(tl.reshape(x + other, [TILE, ROWS, BLOCK // 4, 2]))
    x, other = tl.split(tl.reshape(x + other, [TILE, ROWS, BLOCK // 8, 2]))
    return tl.sum(x + other, 2)


@triton.jit
def _positions(time, k, length, height, width, IMAGE: tl.constexpr):
    """Where the positions of a scan lie in memory; those after the end are sent to the last one."""
    backward, span, stride = _order(k, height, width, length, IMAGE)
    rank = tl.minimum(time, length - 1)
    rank = tl.where(backward, length - 1 - rank, rank)
    return ((rank % span) * stride + rank // span).to(tl.int64)


@triton.jit
def _steps(delta, row, weight, b_step, offset, mask, both, channels, e, RANK: tl.constexpr, DELTA: tl.constexpr,
           SOFTPLUS: tl.constexpr):  # yapf: disable
    """(step, its slope) of a tile, (positions, channels); 0 outside, where nothing changes."""
    dt = tl.zeros(both.shape, tl.float32) + b_step[None, :]
    if DELTA:
        dt += tl.load(delta + offset, mask=both, other=0.0).to(tl.float32)
    for q in range(RANK):
        w = tl.load(weight + q * channels + e, mask=mask, other=0.0)
        dt += tl.load(row + q).to(tl.float32)[:, None] * w[None, :]
    slope = dt
    if SOFTPLUS:
        dt, slope = _softplus(dt)
    return tl.where(both, dt, 0.0), slope


@kernel
def pass_kernel(value, delta, rows, weight, bias, rate, direct, starts, states, sums, total, out, length, height, width,
                channels, row_width, group_step, per_batch, blocks, chunks, chunk, first, count, is_first, is_last,
                STATES: tl.constexpr, RANK: tl.constexpr, PAD: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
                OUTPUT: tl.constexpr, ADJOINT: tl.constexpr, DELTA: tl.constexpr, IMAGE: tl.constexpr,
                SOFTPLUS: tl.constexpr):  # yapf: disable
    """One chunk, tile by tile; `value` is u, or dy for the adjoint.

    Without OUTPUT it starts from zero and writes the end state to `states`, the sum of steps to `sums`. With it, it starts
    from `starts` and adds the result to `total`, as `sweep_kernel` does.
    """
    e, part, batch, k, scan = _split(tl.program_id(0), blocks, chunks, count, first, BLOCK)
    mask = e < channels
    later, going, done = _flags(e, mask, is_first, is_last)
    n, j = tl.arange(0, PAD), tl.arange(0, TILE)
    real = n < STATES
    state_mask = real[:, None] & mask[None, :]
    state = n[:, None] * channels + e[None, :]
    a_rate = tl.load(rate + k * STATES * channels + state, mask=state_mask, other=0.0)
    b_step = tl.load(bias + k * channels + e, mask=mask, other=0.0)
    weight += k * RANK * channels
    row_step = per_batch * (RANK + 2 * STATES)
    rows += batch * length * row_step + k * (RANK + 2 * STATES)
    base = batch * length * row_width + k * group_step
    COEFFICIENT: tl.constexpr = RANK + STATES if ADJOINT else RANK
    if OUTPUT:
        d = tl.load(direct + k * channels + e, mask=mask, other=0.0)
        h = tl.load(starts + ((batch * per_batch + k) * chunks + part) * STATES * channels + state, mask=state_mask,
                    other=0.0)  # yapf: disable
    else:
        h = tl.zeros([PAD, BLOCK], tl.float32)
    sum_steps = tl.zeros([TILE, BLOCK], tl.float32)
    begin = part * chunk
    tiles = (tl.minimum(chunk, length - begin) + TILE - 1) // TILE
    for step in range(tiles):
        time = begin + (tiles - 1 - step if ADJOINT else step) * TILE + j
        position = _positions(time, k, length, height, width, IMAGE)
        inside = time < length
        both = inside[:, None] & mask[None, :]
        offset = base + (position * row_width)[:, None] + e[None, :]
        row = rows + position * row_step
        v = tl.load(value + offset, mask=both, other=0.0).to(tl.float32)
        b = tl.load(row[:, None] + (COEFFICIENT + n)[None, :], mask=real[None, :], other=0.0).to(tl.float32)
        dt, _slope = _steps(delta, row, weight, b_step, offset, mask, both, channels, e, RANK, DELTA, SOFTPLUS)
        decay = tl.exp2(dt[:, None, :] * a_rate[None, :, :])
        if ADJOINT:
            new = v[:, None, :] * b[:, :, None]
            for i in tl.static_range(TILE):
                h = _at(decay, j, TILE - 1 - i) * (h + _at(new, j, TILE - 1 - i))
        else:
            new = (dt * v)[:, None, :] * b[:, :, None]
            if OUTPUT:
                kept = tl.zeros([TILE, PAD, BLOCK], tl.float32)
            for i in tl.static_range(TILE):
                h = _at(decay, j, i) * h + _at(new, j, i)
                if OUTPUT:
                    kept = _put(kept, j, i, h)
        sum_steps += dt
        if OUTPUT:
            c = tl.load(row[:, None] + (RANK + STATES + n)[None, :], mask=real[None, :], other=0.0).to(tl.float32)
            y = tl.sum(kept * c[:, :, None], 1) + d[None, :] * v
            y += tl.load(total + offset, mask=inside[:, None] & later[None, :], other=0.0)
            tl.store(total + offset, y, mask=inside[:, None] & going[None, :])
            tl.store(out + offset, y.to(out.dtype.element_ty), mask=inside[:, None] & done[None, :])
    if not OUTPUT:
        slot = scan.to(tl.int64) * chunks + part
        tl.store(states + slot * STATES * channels + state, h, mask=state_mask)
        tl.store(sums + slot * channels + e, tl.sum(sum_steps, 0), mask=mask)


@kernel
def walk_kernel(value, grad, delta, rows, weight, bias, rate, direct, starts, arriving, scratch, total, out, d_step, d_rows,
                partial, length, height, width, channels, row_width, group_step, per_batch, blocks, chunks, chunk, scans,
                first, count, is_first, is_last, shares, of_share, items, walkers, STATES: tl.constexpr, RANK: tl.constexpr,
                PAD: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
                DELTA: tl.constexpr, IMAGE: tl.constexpr, SOFTPLUS: tl.constexpr):  # yapf: disable
    """Gradients of the items `program, program + walkers, ...` of `items`: a chunk and a share of its channel blocks.

    `starts`, `arriving`: state before each chunk, adjoint arriving from after it. `scratch` (walkers, chunk / TILE, PAD,
    BLOCK). Writes the gradient of value like `sweep_kernel` its output; d_step (batch, length, row_width), before softplus;
    d_rows (shares, scans, length, 2 STATES), of B and C in the order of memory, to be summed over shares; and `partial`
    (scans, chunks, STATES + 1, channels), of A and D, to be summed over batch and chunks.
    """
    n, j = tl.arange(0, PAD), tl.arange(0, TILE)
    real, lane = n < STATES, tl.arange(0, BLOCK)
    scratch += tl.program_id(0).to(tl.int64) * (chunk // TILE) * PAD * BLOCK
    kept_at = n[:, None] * BLOCK + lane[None, :]
    row_step = per_batch * (RANK + 2 * STATES)
    for item in range(tl.program_id(0), items, walkers):
        share, part, scan = item % shares, item // shares % chunks, item // shares // chunks
        batch, k = (scan // count).to(tl.int64), first + scan % count
        slot = (batch * per_batch + k) * chunks + part
        k_weight = weight + k * RANK * channels
        k_rows = rows + batch * length * row_step + k * (RANK + 2 * STATES)
        base = batch * length * row_width + k * group_step
        begin = part * chunk
        tiles = (tl.minimum(chunk, length - begin) + TILE - 1) // TILE
        sums_at = d_rows + (share.to(tl.int64) * scans + scan) * length * (2 * STATES)
        for block in range(share * of_share, tl.minimum((share + 1) * of_share, blocks)):
            e = block * BLOCK + lane
            mask = e < channels
            later, going, done = _flags(e, mask, is_first, is_last)
            state_mask = real[:, None] & mask[None, :]
            state = n[:, None] * channels + e[None, :]
            a_rate = tl.load(rate + k * STATES * channels + state, mask=state_mask, other=0.0)
            b_step = tl.load(bias + k * channels + e, mask=mask, other=0.0)
            d = tl.load(direct + k * channels + e, mask=mask, other=0.0)
            h = tl.load(starts + slot * STATES * channels + state, mask=state_mask, other=0.0)
            after = tl.load(arriving + slot * STATES * channels + state, mask=state_mask, other=0.0)
            for tile in range(tiles - 1):  # whole tiles: only the last one may be cut off
                tl.store(scratch + tile * PAD * BLOCK + kept_at, h)
                position = _positions(begin + tile * TILE + j, k, length, height, width, IMAGE)
                both = (j >= 0)[:, None] & mask[None, :]
                offset = base + (position * row_width)[:, None] + e[None, :]
                row = k_rows + position * row_step
                v = tl.load(value + offset, mask=both, other=0.0).to(tl.float32)
                b = tl.load(row[:, None] + (RANK + n)[None, :], mask=real[None, :], other=0.0).to(tl.float32)
                dt, _slope = _steps(delta, row, k_weight, b_step, offset, mask, both, channels, e, RANK, DELTA,
                                    SOFTPLUS)
                decay = tl.exp2(dt[:, None, :] * a_rate[None, :, :])
                new = (dt * v)[:, None, :] * b[:, :, None]
                for i in tl.static_range(TILE):
                    h = _at(decay, j, i) * h + _at(new, j, i)
            tl.store(scratch + (tiles - 1) * PAD * BLOCK + kept_at, h)
            tl.debug_barrier()

            d_rate = tl.zeros([PAD, BLOCK], tl.float32)
            d_direct = tl.zeros([TILE, BLOCK], tl.float32)
            for step in range(tiles):
                tile = tiles - 1 - step
                h = tl.load(scratch + tile * PAD * BLOCK + kept_at)
                time = begin + tile * TILE + j
                position = _positions(time, k, length, height, width, IMAGE)
                inside = time < length
                both = inside[:, None] & mask[None, :]
                offset = base + (position * row_width)[:, None] + e[None, :]
                row = k_rows + position * row_step
                v = tl.load(value + offset, mask=both, other=0.0).to(tl.float32)
                dy = tl.load(grad + offset, mask=both, other=0.0).to(tl.float32)
                b = tl.load(row[:, None] + (RANK + n)[None, :], mask=real[None, :], other=0.0).to(tl.float32)
                c = tl.load(row[:, None] + (RANK + STATES + n)[None, :], mask=real[None, :], other=0.0).to(tl.float32)
                # the sums over the channel blocks before this one
                row_at = sums_at + (position * (2 * STATES))[:, None] + n[None, :]
                row_mask = inside[:, None] & real[None, :]
                more = row_mask & (n * 0 + block > share * of_share)[None, :]
                d_b = tl.load(row_at, mask=more, other=0.0)
                d_c = tl.load(row_at + STATES, mask=more, other=0.0)
                dt, slope = _steps(delta, row, k_weight, b_step, offset, mask, both, channels, e, RANK, DELTA, SOFTPLUS)
                decay = tl.exp2(dt[:, None, :] * a_rate[None, :, :])
                v_step = (dt * v)[:, None, :]
                new = v_step * b[:, :, None]
                left = tl.zeros([TILE, PAD, BLOCK], tl.float32)  # what is left of the state before
                for i in tl.static_range(TILE):
                    h = _at(decay, j, i) * h
                    left = _put(left, j, i, h)
                    h += _at(new, j, i)
                g = dy[:, None, :] * c[:, :, None]
                for i in tl.static_range(TILE):
                    after += _at(g, j, TILE - 1 - i)
                    g = _put(g, j, TILE - 1 - i, after)
                    after *= _at(decay, j, TILE - 1 - i)
                kept = g * left
                d_rate += tl.sum(kept * dt[:, None, :], 0)
                by_input, by_decay = tl.reduce((g * b[:, :, None], kept * a_rate[None, :, :]), 1, _add_both)
                d_b += _channel_sums(g * v_step, TILE, PAD, BLOCK)
                d_c += _channel_sums((left + new) * dy[:, None, :], TILE, PAD, BLOCK)
                tl.store(row_at, d_b, mask=row_mask)
                tl.store(row_at + STATES, d_c, mask=row_mask)
                d_dt = by_decay * LN2 + v * by_input
                if SOFTPLUS:
                    d_dt *= slope
                tl.store(d_step + offset, d_dt, mask=both)
                d_direct += dy * v
                result = dt * by_input + d[None, :] * dy
                result += tl.load(total + offset, mask=inside[:, None] & later[None, :], other=0.0)
                tl.store(total + offset, result, mask=inside[:, None] & going[None, :])
                tl.store(out + offset, result.to(out.dtype.element_ty), mask=inside[:, None] & done[None, :])
            at = partial + (scan.to(tl.int64) * chunks + part) * (STATES + 1) * channels + e
            tl.store(at[None, :] + n[:, None] * channels, d_rate, mask=state_mask)
            tl.store(at + STATES * channels, tl.sum(d_direct, 0), mask=mask)
            tl.debug_barrier()  # the next block uses the scratch again, and the sums
