"""Host side of the Triton scan kernels: block sizes, buffers and launches, shared by both scan operators."""
from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from basicsr.ops.selective_scan.triton_gradient import gradient_kernel
from basicsr.ops.selective_scan.triton_kernels import LOG2E, carry_kernel, sweep_kernel

# Channels of a program: one warp, one channel a lane. A wider block would only need more registers a lane, and waste
# more of them where 32 does not divide the channels (80, 160, 320 in RetinexMamba).
BLOCK = 32
# Positions of a chunk. Each costs a state of (states, channels) of memory traffic, 4 times; at 128 that is small beside
# the 128 reads of the values, and an image of 128 x 128 still makes thousands of programs.
CHUNK = 128
# Positions of a gradient tile, all in the registers of a lane: 8 need about 170 registers, 16 more than there are.
TILE = 8
# States that one warp keeps without spilling (value, decay rate and two rows of coefficients each); above, more warps.
STATES_PER_WARP = 32
# Registers of the sweep, 16 warps on a multiprocessor, up to this many states + rank; ptxas is free to choose above.
# Said aloud because ptxas, left alone, spills one register to fit another warp.
SWEEP_REGISTERS, SWEEP_SMALL = 128, 24
GRADIENT_REGISTERS = 184  # 11 warps
# The pass over chunks: chunks read at a time, and (state, channel) pairs of a program.
CARRY_STEPS, CARRY_BLOCK = 16, 128


def chunk_count(length: int) -> int:
    return -(-length // CHUNK)


def launch(kernel: Any, programs: int, tensors: dict[str, Tensor], warps: int, registers: int | None = None,
           **arguments: Any) -> None:  # yapf: disable
    """Start a kernel; all programs in the first grid dimension, the only one that may exceed 65535."""
    if programs:
        first = next(iter(tensors.values()))
        with torch.cuda.device(first.device) if first.is_cuda else nullcontext():
            kernel[(programs, )](**tensors, **arguments, num_warps=warps, maxnreg=registers, enable_fp_fusion=True)


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
        self.chunks, self.blocks = chunk_count(self.length), -(-self.channels // BLOCK)
        self.pad = triton.next_power_of_2(max(self.states, 1))

    def _common(self, value: Tensor, first: int, count: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Arguments that the sweep and the gradient kernel share: tensors, and the rest."""
        tensors = {
            'value': value, 'delta': self.value if self.delta is None else self.delta, 'rows': self.rows,
            'weight': self.bias if self.weight is None else self.weight, 'bias': self.bias, 'rate': self.scaled_rate,
            'direct': self.direct,
        }  # yapf: disable
        rest = {
            'length': self.length, 'height': self.height, 'width': self.width, 'channels': self.channels,
            'row_width': self.row_width, 'group_step': self.group_step, 'per_batch': self.per_batch,
            'blocks': self.blocks, 'first': first, 'count': count, 'STATES': self.states, 'RANK': self.rank,
            'BLOCK': BLOCK, 'DELTA': self.delta is not None, 'IMAGE': self.image, 'SOFTPLUS': self.softplus,
        }  # yapf: disable
        return tensors, rest

    def _sweep(self, mode: str, value: Tensor, first: int, count: int, adjoint: bool, starts: Tensor | None = None,
               states: Tensor | None = None, sums: Tensor | None = None, total: Tensor | None = None,
               out: Tensor | None = None, is_first: bool = True, is_last: bool = True) -> None:  # yapf: disable
        tensors, rest = self._common(value, first, count)
        for name, tensor in {'starts': starts, 'states': states, 'sums': sums, 'total': total, 'out': out}.items():
            tensors[name] = self.bias if tensor is None else tensor  # what the mode does not touch
        rank_pad = triton.next_power_of_2(max(self.rank, 1))
        launch(sweep_kernel, self.blocks * self.chunks * self.batch * count, tensors, max(1, self.pad // STATES_PER_WARP),
               SWEEP_REGISTERS if self.pad + rank_pad <= SWEEP_SMALL else None, **rest, chunks=self.chunks, PAD=self.pad,
               RANK_PAD=rank_pad, CHUNK=CHUNK, TILE=TILE if mode == 'tiles' else CHUNK, MODE=mode, ADJOINT=adjoint,
               FIRST=is_first, LAST=is_last)  # yapf: disable

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
        launch(carry_kernel, blocks * self.batch * self.per_batch, tensors, 4, chunks=self.chunks,
               channels=self.channels, per_batch=self.per_batch, blocks=blocks, STATES=self.states, BLOCK=CARRY_BLOCK,
               STEPS=CARRY_STEPS, REVERSED=adjoint)  # yapf: disable
        return starts, last

    def output(self, starts: Tensor) -> Tensor:
        """y like value; the directions of an image are summed in float32 before they are rounded."""
        out = torch.empty_like(self.value)
        total = out if out.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)
        for first, count, ends in self._turns():
            self._sweep('output', self.value, first, count, False, starts, total=total, out=out, **ends)
        return out

    def _turns(self) -> list[tuple[int, int, dict[str, bool]]]:
        """(first scan, count, first or last to write) of each launch: directions share pixels, groups do not."""
        if not self.image:
            return [(0, self.per_batch, {'is_first': True, 'is_last': True})]
        return [(k, 1, {'is_first': k == 0, 'is_last': k == self.per_batch - 1}) for k in range(self.per_batch)]

    def gradients(self, dy: Tensor, starts: Tensor):
        """Yields per launch: its scans (first, count), d_step (batch, length, row_width) before softplus, d_rows (batch,
        count, 2 states, length) of B and C in the order of the scan, and d_rate (batch, count, states, channels).

        When all are drawn, `self.d_value` holds the gradient of value.
        """
        arriving, _ = self.starts(dy, adjoint=True)
        self.d_value = torch.empty_like(self.value)
        total = self.d_value
        if total.dtype != torch.float32:
            total = torch.empty_like(total, dtype=torch.float32)
        tiles, slots = -(-self.length // TILE), self.chunks * (CHUNK // TILE)
        new = self.rate.new_empty
        for first, count, ends in self._turns():
            scans = self.batch * count
            states, adjoints = (new(scans, slots, self.states, self.channels) for _ in range(2))
            self._sweep('tiles', self.value, first, count, False, starts, states)
            self._sweep('tiles', dy, first, count, True, arriving, adjoints)
            d_step = torch.empty_like(self.value, dtype=torch.float32)
            d_rows = new(self.blocks, self.batch, count, 2 * self.states, self.length)
            d_rate = new(self.batch, count, tiles, self.states, self.channels)
            tensors, rest = self._common(self.value, first, count)
            tensors |= {'grad': dy, 'states': states, 'adjoints': adjoints, 'total': total, 'out': self.d_value,
                        'd_step': d_step, 'd_rows': d_rows, 'd_rate': d_rate}  # yapf: disable
            launch(gradient_kernel, self.blocks * tiles * scans, tensors, 1, GRADIENT_REGISTERS, **rest, tiles=tiles,
                   slots=slots, scans=scans, TILE=TILE, FIRST=ends['is_first'],
                   LAST=ends['is_last'])  # yapf: disable
            del states, adjoints, tensors
            yield first, count, d_step, d_rows.sum(0), d_rate.sum(2)
