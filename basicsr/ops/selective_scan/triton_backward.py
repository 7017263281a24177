"""Host side of the gradient kernels: buffers, launches, and what is left to sum afterwards."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from basicsr.ops.selective_scan.triton_candidates import Candidate
from basicsr.ops.selective_scan.triton_gradient import gradient_kernel
from basicsr.ops.selective_scan.triton_launch import Scans, launch
from basicsr.ops.selective_scan.triton_split import split_kernel
from basicsr.ops.selective_scan.triton_walk import walk_kernel


@dataclass
class Gradients:
    """Of one launch, the scans first .. first + count of each batch element.

    d_step: (batch, length, row_width), before softplus, in the order of memory. d_rows: (batch, count, length, 2 states),
    of B and C, in the order of memory. d_rate: (count, states, channels), of A. d_direct: (count, channels), of D; in an
    image it is the same for all directions, and comes with the first.
    """
    first: int
    count: int
    d_step: Tensor
    d_rows: Tensor
    d_rate: Tensor
    d_direct: Tensor | None


def gradients(scans: Scans, dy: Tensor, starts: Tensor, d_value: Tensor) -> Iterator[Gradients]:
    """Runs the backward launch by launch; `d_value` (like value) is complete when all are drawn.

    `starts`: what `Scans.starts` gave, or its flattened form.
    """
    arriving, _ = scans.starts(dy, adjoint=True)
    run = _walk if scans.gradient.kernel == 'walk' else _tiles
    total = scans.total_of(d_value)
    for turn in scans.turns():
        yield run(scans, dy, starts, arriving, turn, total, d_value)


def _walk(scans: Scans, dy: Tensor, starts: Tensor, arriving: Tensor, turn: tuple, total: Tensor,
          d_value: Tensor) -> Gradients:  # yapf: disable
    candidate, new = scans.gradient, scans.rate.new_empty
    (first, count, *_), batch, states, channels = turn, scans.batch, scans.states, scans.channels
    tensors, rest = scans.common(candidate, scans.value, *turn)
    there = resident(candidate, candidate.warps(scans.pad), scans.value.device)
    # as few shares of the channels as keep the GPU busy: each needs its own sums over channels
    shares = max(1, min(rest['blocks'], -(-2 * there // max(scans.chunks * batch * count, 1))))
    of_share = -(-rest['blocks'] // shares)
    shares = -(-rest['blocks'] // of_share)  # none is empty
    items = shares * scans.chunks * batch * count
    walkers = min(items, there)
    d_step = torch.empty_like(scans.value, dtype=torch.float32)
    d_rows = new(shares, batch, count, scans.length, 2 * states)
    partial = new(batch, count, scans.chunks, states + 1, channels)
    scratch = new(walkers, scans.chunk // candidate.tile, scans.pad, candidate.block)
    tensors |= {'grad': dy, 'starts': starts, 'arriving': arriving, 'scratch': scratch, 'total': total, 'out': d_value,
                'd_step': d_step, 'd_rows': d_rows, 'partial': partial}  # yapf: disable
    launch(walk_kernel, walkers, tensors, candidate.warps(scans.pad), candidate.registers, **rest, chunks=scans.chunks,
           chunk=scans.chunk, scans=batch * count, shares=shares, of_share=of_share, items=items,
           walkers=walkers, PAD=scans.pad, TILE=candidate.tile)  # yapf: disable
    d_rate, d_direct = partial.sum((0, 2)).split([states, 1], dim=1)
    return Gradients(first, count, d_step, d_rows.sum(0), d_rate, d_direct[:, 0])


def _tiles(scans: Scans, dy: Tensor, starts: Tensor, arriving: Tensor, turn: tuple, total: Tensor,
           d_value: Tensor) -> Gradients:  # yapf: disable
    """Kernels that take the states at both ends of each tile from memory."""
    candidate, new = scans.gradient, scans.rate.new_empty
    (first, count, *_), batch, states, channels, tile = turn, scans.batch, scans.states, scans.channels, candidate.tile
    tensors, rest = scans.common(candidate, scans.value, *turn)
    tiles = -(-scans.length // tile)
    d_step = torch.empty_like(scans.value, dtype=torch.float32)
    d_rows = new(rest['blocks'], batch, count, 2 * states, scans.length)
    d_rate = new(batch, count, tiles, states, channels)
    tensors |= {'grad': dy, 'states': scans.tile_states(scans.value, turn, tile, starts),
                'adjoints': scans.tile_states(dy, turn, tile, arriving, adjoint=True), 'total': total,
                'out': d_value, 'd_step': d_step, 'd_rows': d_rows, 'd_rate': d_rate}  # yapf: disable
    rest |= {'tiles': tiles, 'slots': scans.chunks * (scans.chunk // tile), 'scans': batch * count, 'TILE': tile}
    programs, warps = rest['blocks'] * tiles * batch * count, candidate.warps(scans.pad)
    if candidate.kernel == 'split':
        launch(split_kernel, programs, tensors, warps, candidate.registers, **rest, SHARE=candidate.states(scans.pad))
    else:
        launch(gradient_kernel, programs, tensors, warps, candidate.registers, **rest)
    rows = d_rows.sum(0).transpose(2, 3)
    rows = _to_pixels(rows, first, scans.height, scans.width) if scans.image else rows
    d_direct = (dy.float() * scans.value).sum((0, 1)).view(count, channels) if first == 0 else None
    return Gradients(first, count, d_step, rows, d_rate.sum((0, 2)), d_direct)


def _to_pixels(rows: Tensor, direction: int, height: int, width: int) -> Tensor:
    """(batch, 1, length, n) in the order of a direction to the order of memory."""
    rows = rows.flip(2) if direction >= 2 else rows
    return rows.unflatten(2, (width, height)).transpose(2, 3).flatten(2, 3) if direction % 2 else rows


def resident(candidate: Candidate, warps: int, device: torch.device) -> int:
    """Programs of the walk that run at once, by their registers: with no more of them, their scratch stays in the cache."""
    registers = candidate.registers or (204 if candidate.tile <= 4 else 255)
    count = torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else 132
    return count * max(1, 65536 // (32 * warps * registers))
