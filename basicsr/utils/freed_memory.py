"""What tensors on the CPU have freed, kept for the next ones: each training step asks for the same memory again."""
from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# parameters of glibc's mallopt, see malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEPT = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}
# where glibc's thresholds are after large memory was freed, from where on they move no more by themselves
_USUAL = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20, _MMAP_MAX: 65536}
_depth = 0


@contextmanager
def freed_memory_is_kept(device: str = 'cpu') -> Iterator[None]:
    """Within, glibc gives no memory back to the operating system, which would hand it out again page by page, zeroed.

    That takes up to a fifth of a training step with large batches, two fifths of a large photo. It costs some percent of
    memory, in gaps. Nothing happens for another type of device, where there is another C library, or where environment
    variables say how it allocates.
    """
    global _depth
    libc = None if device != 'cpu' or _user_says() else _glibc()
    if libc is None:
        yield
        return
    if not _depth:
        _say(libc, _KEPT)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _say(libc, _USUAL)
            libc.malloc_trim(0)


def _user_says() -> bool:
    return any(name.startswith('MALLOC_') or name == 'GLIBC_TUNABLES' for name in os.environ)


def _glibc() -> Any:
    """None on other systems."""
    try:
        libc = ctypes.CDLL(None)
        return libc if libc.gnu_get_libc_version and libc.mallopt else None
    except (OSError, AttributeError, TypeError):
        return None


def _say(libc: Any, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        libc.mallopt(parameter, value)
