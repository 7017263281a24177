"""Compiling the kernels of the scan before they are needed, side by side, with a line that says how far it is.

A training step would compile one kernel after the other, each when it is first started. What a scan needs depends only on
its states, rank, type and direction of work, so it is known when the network is built.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from triton.runtime.jit import MockTensor

from basicsr.ops.selective_scan.triton_launch import Launch, recorded
from basicsr.ops.side_by_side import compile_all


@dataclass(frozen=True)
class ScanKind:
    """What decides which kernels a four-direction scan needs.

    states: N. rank: R of the step. dtype: of the images. training: with gradients.
    """
    states: int
    rank: int
    dtype: torch.dtype = torch.float32
    training: bool = True


def launches(kind: ScanKind) -> list[Launch]:
    """Every launch of a scan of this kind, with tensors of one pixel that stand for the real ones."""
    from basicsr.ops.ss2d import triton_ss2d
    x, x_dbl = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 4, kind.rank + 2 * kind.states)
    rest = torch.zeros(4, 1, kind.rank), torch.zeros(4, 1), torch.zeros(4, kind.states), torch.zeros(4)
    inputs = x.to(kind.dtype), x_dbl.to(kind.dtype), *rest
    with recorded() as found:
        y, starts = triton_ss2d.forward(*inputs, kind.training)
        if kind.training:
            triton_ss2d.backward(y, *inputs, starts)
    return list({item.identity: item for item in found}.values())


def prepare(scans: Iterable[tuple[int, int, int, torch.dtype]], device: torch.device, training: bool) -> int:
    """The row's `prepare`; the number of channels does not matter."""
    return compile_scans([ScanKind(n, rank, dtype, training) for n, rank, _, dtype in scans], device)


def compile_scans(kinds: Iterable[ScanKind], device: torch.device) -> int:
    """Compile what the scans need on a CUDA device. Returns the number of kernels, those in the disk cache included."""
    found = {item.identity: item for kind in dict.fromkeys(kinds) for item in launches(kind)}
    return run_all(list(found.values()), device)


def run_all(work: list[Launch], device: torch.device) -> int:
    return compile_all([partial(compile_one, item, device) for item in work])


def compile_one(item: Launch, device: torch.device) -> Any:
    """As starting it would, without starting it."""
    tensors = {name: MockTensor(tensor.dtype) for name, tensor in item.tensors.items()}
    with torch.cuda.device(device):
        compiled = item.kernel.warmup(**tensors, **item.arguments, **item.options, grid=(1, ))
        if torch.cuda.is_available():
            _ = compiled.run  # some versions of Triton compile the code that starts it only when it is asked for
    return compiled
