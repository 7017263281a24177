"""Host side of the Triton scan kernels: sizes, buffers and launches of the forward; the backward is in `triton_backward`."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from basicsr.ops.selective_scan.triton_candidates import Candidate, choose
from basicsr.ops.selective_scan.triton_kernels import LOG2E, carry_kernel, sweep_kernel
from basicsr.ops.selective_scan.triton_walk import pass_kernel

# Positions of a chunk: the longest that still makes enough programs. Each costs a state of (states, channels) of memory
# traffic, 4 times; at 128 that is small beside the 128 reads of the values.
CHUNKS, PROGRAMS = (128, 64, 32), 2048
# The pass over chunks: chunks read at a time, (state, channel) pairs of a program.
CARRY_STEPS, CARRY_BLOCK = 16, 128
# Registers of the sweep, 16 warps on a multiprocessor, up to this many states + rank; ptxas is free to choose above.
# Said aloud because ptxas, left alone, spills one register to fit another warp.
SWEEP_REGISTERS, SWEEP_SMALL = 128, 24


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
        return (self.kernel.fn.__name__, tuple(t.dtype for t in self.tensors.values()), constants,
                tuple(self.options.items()))  # yapf: disable


_recording: ContextVar[tuple[torch.device, list[Launch]] | None] = ContextVar('recording', default=None)


@contextmanager
def recorded(device: torch.device) -> Iterator[list[Launch]]:
    """Inside, launches are noted and not started, as they would be on `device`, wherever the tensors are."""
    found: list[Launch] = []
    token = _recording.set((device, found))
    try:
        yield found
    finally:
        _recording.reset(token)


def launch(kernel: Any, programs: int, tensors: dict[str, Tensor], warps: int, registers: int | None = None,
           **arguments: Any) -> None:  # yapf: disable
    """Start a kernel; all programs in the first grid dimension, the only one that may exceed 65535."""
    options = {'num_warps': warps, 'maxnreg': registers, 'enable_fp_fusion': True}
    recording = _recording.get()
    if recording:
        recording[1].append(Launch(kernel, programs, tensors, arguments, options))
    elif programs:
        first = next(iter(tensors.values()))
        with torch.cuda.device(first.device) if first.is_cuda else nullcontext():
            kernel[(programs, )](**tensors, **arguments, **options)


@dataclass
class Scans:
    """Scans of one batch: `per_batch` directions of an image or groups of a sequence.

    value: (batch, length, row_width). delta: like value, or None where the step is low-rank. rows: (batch, length,
    per_batch, rank + 2 states). weight: (per_batch, rank, channels). bias, direct: (per_batch, channels).
    rate: (per_batch, states, channels). group_step: channels between the groups in a row of value, 0 in an image.
    All contiguous; the last four float32. forward, gradient: how to run them; None is what `triton_candidates` says.
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
    forward: Candidate | None = None
    gradient: Candidate | None = None

    def __post_init__(self):
        self.batch, self.length, self.row_width = self.value.shape
        self.per_batch, self.states, self.channels = self.rate.shape
        self.rank = 0 if self.weight is None else self.weight.shape[1]
        self.scaled_rate = self.rate * LOG2E.value
        self.chunk = chunk_size(self.batch, self.channels, self.length)
        self.chunks = -(-self.length // self.chunk)
        self.pad = triton.next_power_of_2(max(self.states, 1))
        recording = _recording.get()
        told = (self.states, self.rank, self.value.dtype, recording[0] if recording else self.value.device)
        self.forward = self.forward or choose('forward', *told)
        self.gradient = self.gradient or choose('gradient', *told)

    def blocks(self, candidate: Candidate) -> int:
        """Programs that share the channels of a scan."""
        return -(-self.channels // candidate.block)

    def common(self, candidate: Candidate, value: Tensor, first: int, count: int, is_first: bool,
               is_last: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:  # yapf: disable
        """Arguments that sweeps and gradient kernels share: tensors, and the rest."""
        tensors = {
            'value': value, 'delta': self.value if self.delta is None else self.delta, 'rows': self.rows,
            'weight': self.bias if self.weight is None else self.weight, 'bias': self.bias, 'rate': self.scaled_rate,
            'direct': self.direct,
        }  # yapf: disable
        rest = {
            'length': self.length, 'height': self.height, 'width': self.width, 'channels': self.channels,
            'row_width': self.row_width, 'group_step': self.group_step, 'per_batch': self.per_batch,
            'blocks': self.blocks(candidate), 'first': first, 'count': count, 'is_first': int(is_first),
            'is_last': int(is_last), 'STATES': self.states, 'RANK': self.rank, 'BLOCK': candidate.block,
            'DELTA': self.delta is not None, 'IMAGE': self.image, 'SOFTPLUS': self.softplus,
        }  # yapf: disable
        return tensors, rest

    def turns(self) -> list[tuple[int, int, bool, bool]]:
        """(first scan, count, first, last to write) of each launch: directions share pixels, groups do not."""
        if not self.image:
            return [(0, self.per_batch, True, True)]
        return [(k, 1, k == 0, k == self.per_batch - 1) for k in range(self.per_batch)]

    def starts(self, value: Tensor, adjoint: bool = False) -> tuple[Tensor, Tensor]:
        """States before each chunk (batch, per_batch, chunks, states, channels), and after the last.

        For the adjoint, `value` is dy, and before means after.
        """
        shape = (self.batch, self.per_batch, self.chunks, self.states, self.channels)
        ends, starts = self.rate.new_empty(shape), self.rate.new_empty(shape)
        sums = self.rate.new_empty(*shape[:3], self.channels)
        last = self.rate.new_zeros(*shape[:2], *shape[3:])
        self._run('ends', value, (0, self.per_batch, True, True), adjoint, states=ends, sums=sums)
        blocks = -(-self.states * self.channels // CARRY_BLOCK) if self.chunks else 0
        tensors = {'ends': ends, 'sums': sums, 'rate': self.scaled_rate, 'starts': starts, 'last': last}
        launch(carry_kernel, blocks * self.batch * self.per_batch, tensors, 4, chunks=self.chunks,
               channels=self.channels, per_batch=self.per_batch, blocks=blocks, states=self.states,
               is_reversed=int(adjoint), BLOCK=CARRY_BLOCK, STEPS=CARRY_STEPS)  # yapf: disable
        return starts, last

    def output(self, starts: Tensor) -> Tensor:
        """y like value; the directions of an image are summed in float32 before they are rounded."""
        out = torch.empty_like(self.value)
        total = self.total_of(out)
        for turn in self.turns():
            self._run('output', self.value, turn, starts=starts, total=total, out=out)
        return out

    def total_of(self, out: Tensor) -> Tensor:
        """Where the directions of an image are added up: float32."""
        return out if out.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)

    def tile_states(self, value: Tensor, turn: tuple[int, int, bool, bool], tile: int, starts: Tensor,
                    adjoint: bool = False) -> Tensor:  # yapf: disable
        """States before each `tile` positions (scans of the turn, chunks x tiles of a chunk, states, channels)."""
        states = self.rate.new_empty(self.batch * turn[1], self.chunks * (self.chunk // tile), self.states,
                                     self.channels)
        self._run('tiles', value, turn, adjoint, tile, starts=starts, states=states)
        return states

    def _run(self, mode: str, value: Tensor, turn: tuple[int, int, bool, bool], adjoint: bool = False,
             tile: int | None = None, **buffers: Tensor) -> None:  # yapf: disable
        """One launch of the forward kernel; 'tiles' is a mode of the sweep alone."""
        candidate = Candidate('sweep', tile=1, share=32) if mode == 'tiles' else self.forward
        tensors, rest = self.common(candidate, value, *turn)
        names = ('starts', 'states', 'sums', 'total', 'out')
        tensors |= {name: buffers.get(name, self.bias) for name in names}  # what the mode does not touch
        programs = rest['blocks'] * self.chunks * self.batch * turn[1]
        rest |= {'chunks': self.chunks, 'chunk': self.chunk, 'PAD': self.pad, 'ADJOINT': adjoint}
        warps, registers = candidate.warps(self.pad), candidate.registers
        if candidate.kernel == 'pass':
            launch(
                pass_kernel, programs, tensors, warps, registers, **rest, TILE=candidate.tile, OUTPUT=mode == 'output')
            return
        rank_pad = triton.next_power_of_2(max(self.rank, 1))
        if self.pad + rank_pad <= SWEEP_SMALL:
            registers = registers or SWEEP_REGISTERS
        launch(sweep_kernel, programs, tensors, warps, registers, **rest, tile=tile or self.chunk, RANK_PAD=rank_pad,
               MODE=mode)  # yapf: disable
