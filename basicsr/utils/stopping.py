"""The signals that end a process from outside: as an exception at once, or as a wish that is asked for at a good moment."""
from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# of terminals (Ctrl-C, closed), of kill, docker and Slurm, and of Slurm's `--signal` before a time limit; Windows has two
_NAMES = ('SIGINT', 'SIGHUP', 'SIGTERM', 'SIGUSR1')
_wish: int | None = None


def end_on_signals() -> None:
    """Let SIGTERM, and SIGHUP of a terminal that is closed, unwind as Ctrl-C does. The exit code is 128 + n."""
    for number in _numbers('SIGTERM', 'SIGHUP'):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores it, which stays
            signal.signal(number, _end)


def ignore_signals() -> None:
    """In a process that helps another one, which is told by the terminal or the launcher as well, and ends it."""
    for number in _numbers(*_NAMES):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_wait(insist: bool = True) -> Iterator[None]:
    """Within, a signal that would end the process is a wish, see `wish`. `insist`: a second Ctrl-C ends it at once.

    Outside of the main thread, which alone gets signals, this does nothing.
    """
    global _wish
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _wish = None

    def note(number: int, frame: Any) -> None:
        global _wish
        if insist and number == _wish == signal.SIGINT:
            raise KeyboardInterrupt
        _wish = number
        if insist and number == signal.SIGINT:
            os.write(2, b'\nstops after this iteration; Ctrl-C again ends at once\n')  # a stream may be in use

    before = {number: signal.getsignal(number) for number in _numbers(*_NAMES)}
    ours = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in ours:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        _wish = None


def wish() -> int | None:
    """The number of the signal by which this process was asked to end while `signals_wait`."""
    return _wish


class Interrupted(Exception):
    """What was being done was left, as a signal came while `signals_wait`; on every process, whichever got it."""

    def __init__(self, number: int):
        super().__init__(f'interrupted by {spell(number)}')
        self.number = number


def spell(number: int) -> str:
    return signal.Signals(number).name


def _numbers(*names: str) -> list[int]:
    return [number for number in (getattr(signal, name, None) for name in names) if number is not None]


def _end(number: int, frame: Any) -> None:
    sys.exit(128 + number)
