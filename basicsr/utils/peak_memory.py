"""How much memory something takes at most."""
from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def peak_growth(function: Callable[[], Any]) -> int | None:
    """Bytes by which the memory of this process grew, at most, while `function` ran; meant for a fresh process.

    The system's high-water mark, because hooks of torch see nothing of what the C kernels and oneDNN allocate for
    themselves. VmHWM where there is one: the ru_maxrss of a child starts at that of its parent. None where the system tells
    neither (Windows).
    """
    gc.collect()
    with suppress(OSError, AttributeError,
                  TypeError):  # Linux: give free memory back, then lower the mark to what is in use
        ctypes.CDLL(None).malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')
    before = _high_water()
    function()
    after = _high_water()
    return None if before is None or after is None else after - before


def _high_water() -> int | None:
    status = Path('/proc/self/status')
    if status.is_file():
        return int(status.read_text().split('VmHWM:')[1].split()[0]) * 1024
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
