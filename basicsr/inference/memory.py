"""Running out of memory on the CPU as an error that can be answered, instead of the death of the process."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_SHARE = 0.9  # of what is free: others need some, too
_AT_LEAST = 0.5  # although memory that was promised to the process before may come to be used as well


def free_memory() -> int | None:
    """Bytes that can be taken without swapping, within the limit of a container (version 2 of control groups).

    None where the system does not say.
    """
    try:
        lines = Path('/proc/meminfo').read_text(encoding='ascii').splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvailable:'))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        group = Path('/sys/fs/cgroup')
        limit = int((group / 'memory.max').read_text(encoding='ascii'))
        return max(0, min(free, limit - int((group / 'memory.current').read_text(encoding='ascii'))))
    except (OSError, ValueError):  # no container, or no limit ('max')
        return free


@contextmanager
def bounded_memory(device: torch.device) -> Iterator[None]:
    """On a Linux CPU, allocations beyond what is free now raise an error (see `is_out_of_memory`) within this block.

    Linux hands out more memory than there is and kills the process when it is used; a GPU says so by itself. The limit is
    that of the whole process: for one thread at a time.
    """
    free = free_memory() if device.type == 'cpu' and sys.platform == 'linux' else None
    if free is None:
        yield
        return
    import resource
    before = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path('/proc/self/status').read_text(encoding='ascii')
    limit = int(max(_bytes(status, 'RssAnon') + _SHARE * free, _bytes(status, 'VmData') + _AT_LEAST * free))
    if before[0] != resource.RLIM_INFINITY:
        limit = min(limit, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch, one of its libraries or Python says that there was too little memory."""
    words = ("can't allocate memory", 'bad_alloc', 'could not create a memory')
    said = str(error)
    return (isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(word in said for word in words)
            or said.endswith('could not create a primitive'))  # a 'primitive descriptor' is something else


def _bytes(status: str, key: str) -> int:
    """Of this process: 'VmData' counts towards the limit, 'RssAnon' is the part of it that is in use."""
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f'{key}:'))
