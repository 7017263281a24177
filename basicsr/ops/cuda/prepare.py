"""Compiling the CUDA kernels before they are needed, side by side, with a line that says how far it is."""
from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed

import torch

from basicsr.ops.cuda.driver import architecture
from basicsr.ops.cuda.plans import Kind, choose, machine_code
from basicsr.utils.logger import get_root_logger

QUIET_SECONDS = 1.5  # what is in the cache on disk is there in less; nobody needs to be told


def compile_kinds(kinds: Iterable[Kind], device: torch.device) -> int:
    """Compile the kernels of these kinds for a device. Returns the number of programs, those in the cache included."""
    arch, started, told = architecture(device), time.monotonic(), False
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a compilation does not hold the lock of Python
        jobs = [pool.submit(machine_code, kind, choose(kind, arch), arch) for kind in dict.fromkeys(kinds)]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            if time.monotonic() - started > QUIET_SECONDS or told:
                get_root_logger().info(f'compiling the scan for this GPU, {done} of {len(jobs)}')
                told = True
    return len(jobs)
