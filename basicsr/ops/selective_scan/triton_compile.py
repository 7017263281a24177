"""Compiling the kernels of the scan before they are needed, side by side, with a line that says how far it is.

A training step would compile one kernel after the other, each when it is first started. What a scan needs depends only on
its states, rank, type and direction of work, so it is known when the network is built.
"""
from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import torch
from triton.runtime.jit import MockTensor

from basicsr.ops.selective_scan.triton_launch import Launch, recorded
from basicsr.utils.logger import get_root_logger

QUIET_SECONDS = 1.5  # what is in the cache on disk is there in less; nobody needs to be told


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


def compile_scans(kinds: Iterable[ScanKind], device: torch.device) -> int:
    """Compile what the scans need on a CUDA device. Returns the number of kernels, those in the disk cache included."""
    found = {item.identity: item for kind in dict.fromkeys(kinds) for item in launches(kind)}
    return run_all(list(found.values()), device)


def run_all(work: list[Launch], device: torch.device, workers: int | None = None) -> int:
    logger, started, told = get_root_logger(), time.monotonic(), False
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:  # most of a compilation holds no lock of Python
        jobs = [pool.submit(compile_one, item, device) for item in work]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            if time.monotonic() - started > QUIET_SECONDS:
                told = True
                logger.info(f'compiling the scan for this GPU, {done} of {len(work)}')
    if told:
        logger.info(f'compiled in {time.monotonic() - started:.0f} s; the next start finds the kernels on disk')
    return len(work)


def compile_one(item: Launch, device: torch.device) -> Any:
    """As starting it would, without starting it."""
    tensors = {name: MockTensor(tensor.dtype) for name, tensor in item.tensors.items()}
    with torch.cuda.device(device):
        compiled = item.kernel.warmup(**tensors, **item.arguments, **item.options, grid=(1, ))
        if torch.cuda.is_available():
            _ = compiled.run  # some versions of Triton compile the code that starts it only when it is asked for
    return compiled
