"""Compiling kernels side by side, with a line that says how far it is."""
from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from basicsr.utils.logger import get_root_logger

QUIET_SECONDS = 1.5  # what is in the cache on disk is there in less; nobody needs to be told


def compile_all(jobs: Sequence[Callable[[], object]]) -> int:
    """Run all, in threads: most of a compilation holds no lock of Python. Returns their number; the first error is raised."""
    logger, started, told = get_root_logger(), time.monotonic(), False
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        left = {pool.submit(job) for job in jobs}
        while left:
            ended, left = wait(left, None if told else QUIET_SECONDS, FIRST_COMPLETED)
            for job in ended:
                job.result()
            if left and time.monotonic() - started >= QUIET_SECONDS:
                told = True
                logger.info(f'compiling the scan for this GPU, {len(jobs) - len(left)} of {len(jobs)}')
    if told:
        logger.info(f'compiled in {time.monotonic() - started:.0f} s; the next start finds the kernels on disk')
    return len(jobs)
