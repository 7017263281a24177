"""The signals that end a process from outside, as an exception, so that nothing is left behind."""
from __future__ import annotations

import signal
import sys
from typing import Any


def end_on_signals() -> None:
    """Let SIGTERM, and SIGHUP of a terminal that is closed, unwind as Ctrl-C does. The exit code is 128 + n."""
    for name in ('SIGTERM', 'SIGHUP'):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores it, which stays
            signal.signal(number, _end)


def _end(number: int, frame: Any) -> None:
    sys.exit(128 + number)
