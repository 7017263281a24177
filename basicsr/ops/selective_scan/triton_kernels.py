r"""Triton kernels of the selective scan; the sequence scan and the four-direction scan are both made of three kernels.

A *scan* is one pass over `length` positions of one batch element, in one direction of an image or for one group of a
sequence. Memory is channels-last, so a warp reads neighbouring channels, and each lane owns one channel with all of its
states: nothing crosses lanes but the sums over channels in the gradients of B and C. Scans are cut into chunks:

    sweep_kernel     one chunk position by position, the states in registers: its end state, its output, or the states at
                     the tile boundaries inside; also the adjoint, from the last position to the first
    carry_kernel     from chunk ends to chunk starts
    gradient_kernel  (triton_gradient.py) all gradients of one tile of positions from the states at its two ends

What changes with the image (sizes, direction, chunk) is a runtime argument that nothing is specialised on: there is one
compiled kernel for each number of states, rank and type, and an image of another size never compiles.

Layouts (contiguous): value, delta, grad (batch, length, row_width); rows (batch, length, per_batch, RANK + 2 STATES)
with the low-rank step, B and C; rate (per_batch, STATES, channels), A in units of log2(e); weight (per_batch, RANK,
channels); bias, direct (per_batch, channels); states (scans, chunks or tiles, STATES, channels). Positions are read as
they come, or with IMAGE in direction k of `basicsr.ops.ss2d.traversal`. Offsets are 64 bit where a batch multiplies.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


def kernel(function: Callable) -> Any:
    """`triton.jit`, but nothing is specialised on the value or the alignment of a runtime argument (lower-case names)."""
    names = [name for name in inspect.signature(function).parameters if not name.isupper()]
    return triton.jit(function, do_not_specialize=names, do_not_specialize_on_alignment=names)


@triton.jit
def _softplus(x):
    """(softplus, its derivative); the first is x to the last bit above 20, by rounding."""
    small = tl.exp2(-tl.abs(x) * LOG2E)
    # log1p(small) / small on [0, 1], to 5e-9: log(1 + small) would lose the small steps, and needs libdevice
    p = -0.003318420145660639 * small + 0.020204348489642143
    p = p * small - 0.05766400322318077
    p = p * small + 0.10680510848760605
    p = p * small - 0.15355369448661804
    p = p * small + 0.1969539225101471
    p = p * small - 0.2495858520269394
    p = p * small + 0.33330512046813965
    p = p * small - 0.4999993145465851
    p = p * small + 1.0
    inverse = 1.0 / (1.0 + small)
    return tl.maximum(x, 0.0) + small * p, tl.where(x >= 0, inverse, small * inverse)


@triton.jit
def _after(a_first, h_first, a_second, h_second):
    """Two stretches h -> a h + b, one after the other."""
    return a_first * a_second, a_second * h_first + h_second


@triton.jit
def _order(direction, height, width, length, IMAGE: tl.constexpr):
    """(reversed, span, stride): rank q in the order is pixel (q % span) * stride + q // span."""
    columns = (direction % 2 == 1) & IMAGE
    return (direction >= 2) & IMAGE, tl.where(columns, height, length), tl.where(columns, width, 1)


@triton.jit
def _split(pid, blocks, parts, count, first, BLOCK: tl.constexpr):
    """Program index to (channels, part of the scan, batch, scan of the batch, scan of the launch)."""
    channel = (pid % blocks) * BLOCK + tl.arange(0, BLOCK)
    scan = pid // blocks // parts
    return channel, pid // blocks % parts, (scan // count).to(tl.int64), first + scan % count, scan


@triton.jit
def _flags(e, mask, is_first, is_last):
    """Masks of the channels e: whether there is a total already, whether it goes on, whether this is the end.

    Flags are compared as vectors: a scalar among masks is beyond some versions of Triton.
    """
    return mask & (e * 0 + is_first == 0), mask & (e * 0 + is_last == 0), mask & (e * 0 + is_last != 0)


@triton.jit
def _read(value, delta, row, position, row_width, row_step, e, mask, n, r, STATES: tl.constexpr, RANK: tl.constexpr,
          DELTA: tl.constexpr, COEFFICIENT: tl.constexpr, OUTPUT: tl.constexpr):
    """What one position needs: value, step or its low-rank form, B (or C), and C for the output."""
    offset = position.to(tl.int64) * row_width + e
    row += position.to(tl.int64) * row_step
    v = tl.load(value + offset, mask=mask, other=0.0).to(tl.float32)
    if DELTA:
        step = tl.load(delta + offset, mask=mask, other=0.0).to(tl.float32)
    else:
        step = tl.load(row + r, mask=r < RANK, other=0.0).to(tl.float32)
    coefficient = tl.load(row + COEFFICIENT + n, mask=n < STATES, other=0.0).to(tl.float32)
    if OUTPUT:
        c = tl.load(row + RANK + STATES + n, mask=n < STATES, other=0.0).to(tl.float32)
    else:
        c = coefficient
    return v, step, coefficient, c


@kernel
def sweep_kernel(value, delta, rows, weight, bias, rate, direct, starts, states, sums, total, out, length, height,
                 width, channels, row_width, group_step, per_batch, blocks, chunks, chunk, tile, first, count, is_first,
                 is_last, STATES: tl.constexpr, RANK: tl.constexpr, PAD: tl.constexpr, RANK_PAD: tl.constexpr,
                 BLOCK: tl.constexpr, MODE: tl.constexpr, ADJOINT: tl.constexpr, DELTA: tl.constexpr,
                 IMAGE: tl.constexpr, SOFTPLUS: tl.constexpr):
    """One chunk, position by position; `value` is u, or dy for the adjoint.

    MODE 'ends' starts from zero and writes the end state to `states`, the sum of steps to `sums`. The others start from
    `starts`. MODE 'tiles' writes the state before each `tile` positions. MODE 'output' adds the result to `total`, which
    the first of several scans over the same pixels only writes; the last one writes `out`.
    """
    e, part, batch, k, scan = _split(tl.program_id(0), blocks, chunks, count, first, BLOCK)
    mask = e < channels
    later, going, done = _flags(e, mask, is_first, is_last)
    n, r = tl.arange(0, PAD), tl.arange(0, RANK_PAD)
    state_mask = (n < STATES)[:, None] & mask[None, :]
    state_offset = n[:, None] * channels + e[None, :]
    a_rate = tl.load(rate + k * STATES * channels + state_offset, mask=state_mask, other=0.0)
    b_step = tl.load(bias + k * channels + e, mask=mask, other=0.0)
    if not DELTA:
        w = tl.load(weight + k * RANK * channels + r[:, None] * channels + e[None, :],
                    mask=(r < RANK)[:, None] & mask[None, :], other=0.0)
    row_step = per_batch * (RANK + 2 * STATES)
    value += batch * length * row_width + k * group_step
    delta += batch * length * row_width + k * group_step
    rows += batch * length * row_step + k * (RANK + 2 * STATES)
    if MODE == 'output':
        d = tl.load(direct + k * channels + e, mask=mask, other=0.0)
        total += batch * length * row_width + k * group_step
        out += batch * length * row_width + k * group_step
    if MODE == 'ends':
        h = tl.zeros([PAD, BLOCK], tl.float32)
    else:
        slot = (batch * per_batch + k) * chunks + part
        h = tl.load(starts + slot * STATES * channels + state_offset, mask=state_mask, other=0.0)
    sum_steps = tl.zeros([BLOCK], tl.float32)

    backward, span, stride = _order(k, height, width, length, IMAGE)
    begin = part * chunk
    time = tl.minimum(begin + chunk, length) - 1 if ADJOINT else begin
    rank = tl.where(backward, length - 1 - time, time)
    sign = tl.where(backward, -1, 1) * (-1 if ADJOINT else 1)
    minor = rank % span
    position = minor * stride + rank // span
    COEFFICIENT: tl.constexpr = RANK + STATES if ADJOINT else RANK
    v, step, b, c = _read(value, delta, rows, position, row_width, row_step, e, mask, n, r, STATES, RANK, DELTA,
                          COEFFICIENT, MODE == 'output')
    for i in range(chunk // tile):
        t = chunk // tile - 1 - i if ADJOINT else i
        if MODE == 'tiles':
            slot = (scan.to(tl.int64) * chunks + part) * (chunk // tile) + t
            tl.store(states + slot * STATES * channels + state_offset, h, mask=state_mask)
        for _ in range(tl.minimum(begin + (t + 1) * tile, length) - tl.minimum(begin + t * tile, length)):
            # the next position is read before this one is worked on, which hides the latency of memory
            minor += sign
            after = position + sign * stride
            after = tl.where(minor == span, after + 1 - span * stride, after)
            after = tl.where(minor < 0, after - 1 + span * stride, after)
            minor = tl.where(minor == span, 0, tl.where(minor < 0, span - 1, minor))
            after = tl.minimum(tl.maximum(after, 0), length - 1)
            v2, step2, b2, c2 = _read(value, delta, rows, after, row_width, row_step, e, mask, n, r, STATES, RANK,
                                      DELTA, COEFFICIENT, MODE == 'output')
            if DELTA:
                dt = step + b_step
            else:
                dt = b_step + tl.sum(w * step[:, None], 0)
            if SOFTPLUS:
                dt, _slope = _softplus(dt)
            decay = tl.exp2(a_rate * dt[None, :])
            if ADJOINT:
                h = decay * (h + v[None, :] * b[:, None])
            else:
                h = decay * h + (dt * v)[None, :] * b[:, None]
            if MODE == 'output':
                y = tl.sum(h * c[:, None], 0) + d * v
                offset = position.to(tl.int64) * row_width + e
                y += tl.load(total + offset, mask=later, other=0.0)
                tl.store(total + offset, y, mask=going)
                tl.store(out + offset, y.to(out.dtype.element_ty), mask=done)
            sum_steps += dt
            v, step, b, c, position = v2, step2, b2, c2, after
    if MODE == 'ends':
        slot = scan.to(tl.int64) * chunks + part
        tl.store(states + slot * STATES * channels + state_offset, h, mask=state_mask)
        tl.store(sums + slot * channels + e, sum_steps, mask=mask)


@kernel
def carry_kernel(ends, sums, rate, starts, last, chunks, channels, per_batch, blocks, states, is_reversed,
                 BLOCK: tl.constexpr, STEPS: tl.constexpr):
    """Chunk ends (each from zero) to chunk starts, and the state after the last; `is_reversed` for the adjoint.

    STEPS chunks are read at a time: one wait for memory each would dominate a long scan.
    """
    scan = tl.program_id(0) // blocks
    i = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)  # of (states, channels)
    size = states * channels
    mask = i < size
    a_rate = tl.load(rate + scan % per_batch * size + i, mask=mask, other=0.0)
    j = tl.arange(0, STEPS)
    h = tl.zeros([BLOCK], tl.float32)
    base = scan.to(tl.int64) * chunks
    tl.store(starts + (base + tl.where(is_reversed != 0, chunks - 1, 0)) * size + i, h, mask=mask)
    for c0 in range(0, chunks, STEPS):
        c = c0 + j
        slot = base + tl.where(is_reversed != 0, chunks - 1 - c, c)
        inside = (c < chunks)[:, None] & mask[None, :]
        decay = tl.load(sums + slot[:, None] * channels + (i % channels)[None, :], mask=inside, other=0.0)
        decay = tl.exp2(decay * a_rate[None, :])
        end = tl.load(ends + slot[:, None] * size + i[None, :], mask=inside, other=0.0)
        end += tl.where((j == 0)[:, None], decay * h[None, :], 0.0)
        _, after = tl.associative_scan((decay, end), 0, _after)
        following = slot + tl.where(is_reversed != 0, -1, 1)
        tl.store(starts + following[:, None] * size + i[None, :], after, mask=(c + 1 < chunks)[:, None] & mask[None, :])
        h = tl.sum(tl.where((j == STEPS - 1)[:, None], after, 0.0), 0)
    tl.store(last + scan.to(tl.int64) * size + i, h, mask=mask)
