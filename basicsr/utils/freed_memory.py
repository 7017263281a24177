"""What tensors on the CPU have freed, kept for the next ones: each training step asks for the same memory again."""
from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of glibc's mallopt, see malloc.h
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536}
_KEPT = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}


@contextmanager
def freed_memory_is_kept() -> Iterator[None]:
    """Within, glibc gives no memory back to the operating system, which would hand it out again page by page, zeroed.

    That takes up to a fifth of a training step with large batches. It costs some percent of memory, in gaps. Nothing
    happens where there is another C library, or where environment variables say how it allocates.
    """
    libc = None if _user_says() else _glibc()
    if libc is None:
        yield
        return
    _say(libc, _KEPT)
    try:
        yield
    finally:
        _say(libc, _DEFAULTS)
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
