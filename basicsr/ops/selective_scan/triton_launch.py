"""Host side of the Triton scan kernels: sizes, launches, and the buffers between them."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from basicsr.ops.selective_scan.triton_gradient import gradient_kernel
from basicsr.ops.selective_scan.triton_kernels import LOG2E, carry_kernel, sweep_kernel

# Positions of a chunk: the longest that still makes enough programs. Each costs a state of (states, channels) of memory
# traffic, 4 times; at 128 that is small beside the 128 reads of the values.
CHUNKS, PROGRAMS = (128, 64, 32), 2048
# Channels of a program of the sweep and the gradients: one for each lane of a warp.
BLOCK = 32
# States of a thread in the sweep, at most: with more of them, more warps share a program.
SWEEP_STATES = 32
# Registers of the sweep, 16 warps on a multiprocessor, up to this many states + rank; ptxas is free to choose above.
# Said aloud because ptxas, left alone, spills one register to fit another warp.
SWEEP_REGISTERS, SWEEP_SMALL = 128, 24
# The pass over chunks: chunks read at a time, (state, channel) pairs of a program, warps.
CARRY_STEPS, CARRY_BLOCK, CARRY_WARPS = 16, 128, 4
# The gradients: positions of a tile, and registers of a thread, for 10 warps on a multiprocessor. 168, for 12 warps, spill on
# some architectures.
TILE, GRADIENT_REGISTERS = 8, 200


def chunk_size(batch: int, channels: int, length: int) -> int:
    """Positions of a chunk, from sizes alone: what the forward saves for the backward depends on it."""
    for size in CHUNKS[:-1]:
        if batch * -(-length // size) * channels >= 16 * PROGRAMS:
            return size
    return CHUNKS[-1]


def saved_states(batch: int, per_batch: int, channels: int, length: int, states: int) -> int:
    """Floats that the forward saves for the backward: the states at the start of each chunk."""
    return batch * per_batch * -(-length // chunk_size(batch, channels, length)) * channels * states


@dataclass
class Launch:
    """One start of a kernel: `tensors` and `arguments` by name, `options` of the compiler."""
    kernel: Any
    programs: int
    tensors: dict[str, Tensor]
    arguments: dict[str, Any]
    options: dict[str, Any]

    @property
    def identity(self) -> tuple:
        """What decides which compiled kernel it needs; sizes are no part of it."""
        constants = tuple((k, v) for k, v in self.arguments.items() if k.isupper())
        return (self.kernel.fn.__name__, tuple(t.dtype
                                               for t in self.tensors.values()), constants, tuple(self.options.items()))


_recording: ContextVar[list[Launch] | None] = ContextVar('recording', default=None)


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Inside, launches are noted and not started."""
    found: list[Launch] = []
    token = _recording.set(found)
    try:
        yield found
    finally:
        _recording.reset(token)


def launch(kernel: Any, programs: int, tensors: dict[str, Tensor], warps: int, registers: int | None = None,
           **arguments: Any) -> None:
    """Start a kernel; all programs in the first grid dimension, the only one that may exceed 65535."""
    options = {'num_warps': warps, 'maxnreg': registers, 'enable_fp_fusion': True}
    recording = _recording.get()
    if recording is not None:
        recording.append(Launch(kernel, programs, tensors, arguments, options))
    elif programs:
        first = next(iter(tensors.values()))
        with torch.cuda.device(first.device) if first.is_cuda else nullcontext():
            kernel[(programs, )](**tensors, **arguments, **options)


@dataclass
class Gradients:
    """Of one launch, the scans from `first` on of each batch element; positions in the order of memory.

    d_step: (batch, length, row_width), before softplus. d_rows: (batch, scans, length, 2 states), of B and C.
    d_rate: (scans, states, channels), of A.
    """
    first: int
    d_step: Tensor
    d_rows: Tensor
    d_rate: Tensor


@dataclass
class Scans:
    """Scans of one batch: `per_batch` directions of an image or groups of a sequence.

    value: (batch, length, row_width). delta: like value, or None where the step is low-rank. rows: (batch, length,
    per_batch, rank + 2 states). weight: (per_batch, rank, channels). bias, direct: (per_batch, channels).
    rate: (per_batch, states, channels). group_step: channels between the groups in a row of value, 0 in an image.
    All contiguous; the last four float32.
    """
    value: Tensor
    delta: Tensor | None
    rows: Tensor
    weight: Tensor | None
    bias: Tensor
    rate: Tensor
    direct: Tensor
    height: int
    width: int
    group_step: int
    image: bool
    softplus: bool = True

    def __post_init__(self):
        self.batch, self.length, self.row_width = self.value.shape
        self.per_batch, self.states, self.channels = self.rate.shape
        self.rank = 0 if self.weight is None else self.weight.shape[1]
        self.scaled_rate = self.rate * LOG2E.value
        self.chunk = chunk_size(self.batch, self.channels, self.length)
        self.chunks = -(-self.length // self.chunk)
        self.blocks = -(-self.channels // BLOCK)

    def starts(self, value: Tensor, adjoint: bool = False) -> tuple[Tensor, Tensor]:
        """States before each chunk (batch, per_batch, chunks, states, channels), and after the last.

        For the adjoint, `value` is dy, and before means after.
        """
        shape = (self.batch, self.per_batch, self.chunks, self.states, self.channels)
        ends, starts = self.rate.new_empty(shape), self.rate.new_empty(shape)
        sums = self.rate.new_empty(*shape[:3], self.channels)
        last = self.rate.new_zeros(*shape[:2], *shape[3:])
        self._sweep('ends', value, 0, self.per_batch, adjoint, states=ends, sums=sums)
        blocks = -(-self.states * self.channels // CARRY_BLOCK) if self.chunks else 0
        tensors = {'ends': ends, 'sums': sums, 'rate': self.scaled_rate, 'starts': starts, 'last': last}
        launch(carry_kernel, blocks * self.batch * self.per_batch, tensors, CARRY_WARPS, chunks=self.chunks,
               channels=self.channels, per_batch=self.per_batch, blocks=blocks, states=self.states,
               is_reversed=int(adjoint), BLOCK=CARRY_BLOCK, STEPS=CARRY_STEPS)
        return starts, last

    def output(self, starts: Tensor) -> Tensor:
        """y like value; the directions of an image are summed in float32 before they are rounded."""
        out = torch.empty_like(self.value)
        total = self._total_of(out)
        for first, count in self._turns():
            self._sweep('output', self.value, first, count, starts=starts, total=total, out=out)
        return out

    def gradients(self, dy: Tensor, starts: Tensor, d_value: Tensor) -> Iterator[Gradients]:
        """Runs the backward launch by launch; `d_value` (like value) is complete when all are drawn.

        `starts`: what the forward's `starts` gave, or its flattened form.
        """
        arriving, _ = self.starts(dy, adjoint=True)
        total = self._total_of(d_value)
        for first, count in self._turns():
            yield self._gradients(dy, starts, arriving, first, count, total, d_value)

    def _gradients(self, dy: Tensor, starts: Tensor, arriving: Tensor, first: int, count: int, total: Tensor,
                   d_value: Tensor) -> Gradients:
        new, scans = self.rate.new_empty, self.batch * count
        tiles, slots = -(-self.length // TILE), self.chunks * (self.chunk // TILE)
        states, adjoints = (new(scans, slots, self.states, self.channels) for _ in range(2))
        self._sweep('tiles', self.value, first, count, starts=starts, states=states)
        self._sweep('tiles', dy, first, count, adjoint=True, starts=arriving, states=adjoints)
        d_step = torch.empty_like(self.value, dtype=torch.float32)
        d_rows = new(self.blocks, self.batch, count, 2 * self.states, self.length)
        d_rate = new(self.batch, count, tiles, self.states, self.channels)
        tensors, rest = self._common(self.value, first, count)
        tensors |= {
            'grad': dy, 'states': states, 'adjoints': adjoints, 'total': total, 'out': d_value, 'd_step': d_step,
            'd_rows': d_rows, 'd_rate': d_rate
        }
        launch(gradient_kernel, self.blocks * tiles * scans, tensors, 1, GRADIENT_REGISTERS, **rest, tiles=tiles,
               slots=slots, scans=scans, TILE=TILE)
        rows = d_rows.sum(0).transpose(2, 3)
        rows = _to_pixels(rows, first, self.height, self.width) if self.image else rows
        return Gradients(first, d_step, rows, d_rate.sum((0, 2)))

    def _turns(self) -> list[tuple[int, int]]:
        """(first scan, count) of each launch: directions share pixels and come one by one, groups do not."""
        return [(k, 1) for k in range(self.per_batch)] if self.image else [(0, self.per_batch)]

    def _total_of(self, out: Tensor) -> Tensor:
        """Where the directions of an image are added up: float32."""
        return out if out.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)

    def _sweep(self, mode: str, value: Tensor, first: int, count: int, adjoint: bool = False,
               **buffers: Tensor) -> None:
        """One launch of the sweep over the scans first .. first + count of each batch element."""
        tensors, rest = self._common(value, first, count)
        names = ('starts', 'states', 'sums', 'total', 'out')
        tensors |= {name: buffers.get(name, self.bias) for name in names}  # what the mode does not touch
        pad, rank_pad = (triton.next_power_of_2(max(n, 1)) for n in (self.states, self.rank))
        launch(sweep_kernel, self.blocks * self.chunks * self.batch * count, tensors, max(1, pad // SWEEP_STATES),
               SWEEP_REGISTERS if pad + rank_pad <= SWEEP_SMALL else None, **rest, chunks=self.chunks, chunk=self.chunk,
               tile=TILE if mode == 'tiles' else self.chunk, PAD=pad, RANK_PAD=rank_pad, MODE=mode, ADJOINT=adjoint)

    def _common(self, value: Tensor, first: int, count: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Arguments that the sweep and the gradient kernel share: tensors, and the rest."""
        tensors = {
            'value': value,
            'delta': self.value if self.delta is None else self.delta,
            'rows': self.rows,
            'weight': self.bias if self.weight is None else self.weight,
            'bias': self.bias,
            'rate': self.scaled_rate,
            'direct': self.direct,
        }
        rest = {
            'length': self.length,
            'height': self.height,
            'width': self.width,
            'channels': self.channels,
            'row_width': self.row_width,
            'group_step': self.group_step,
            'per_batch': self.per_batch,
            'blocks': self.blocks,
            'first': first,
            'count': count,
            'is_first': int(first == 0),
            'is_last': int(first + count == self.per_batch),
            'STATES': self.states,
            'RANK': self.rank,
            'BLOCK': BLOCK,
            'DELTA': self.delta is not None,
            'IMAGE': self.image,
            'SOFTPLUS': self.softplus,
        }
        return tensors, rest


def _to_pixels(rows: Tensor, direction: int, height: int, width: int) -> Tensor:
    """(batch, 1, length, n) in the order of a direction to the order of memory."""
    rows = rows.flip(2) if direction >= 2 else rows
    return rows.unflatten(2, (width, height)).transpose(2, 3).flatten(2, 3) if direction % 2 else rows
