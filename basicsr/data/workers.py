"""The processes that read samples: deaf to signals, which are the trainer's, and named when they die or stand still."""
from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.sharedctypes import RawArray
from typing import Any, NamedTuple

from torch.utils.data import get_worker_info

from basicsr.utils.errors import UserError
from basicsr.utils.stopping import ignore_signals

# what PyTorch, Python and the system say of too little shared memory, and of too many open files
_NO_ROOM = ('shared memory', 'No space left on device', 'Bus error')
_NO_FILES = ('Too many open files', 'received 0 items of ancdata')


class Reading(NamedTuple):
    """A worker that is at a sample.

    Attributes:
        worker: its number. pid: of its process. sample: its index.
    """
    worker: int
    pid: int
    sample: int


class Workers:
    """What the workers of a loader are at; shared with them.

    Args:
        count: of workers. name: what messages call their data set, `datasets.train`.
    """

    def __init__(self, count: int, name: str):
        self.count, self.name = count, name
        self._pids, self._at = RawArray('q', count), RawArray('q', [-1] * count)
        self._processes: list[Any] = []

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Around what starts them."""
        before = set(multiprocessing.active_children())
        yield
        self._processes = [
            each for each in (*self._processes, *set(multiprocessing.active_children()) - before) if each.is_alive()
        ]

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {'_processes': []}  # on its way to a worker, where processes are not forked

    def start(self, worker: int) -> None:
        """In a worker, before its first sample."""
        ignore_signals()
        self._pids[worker] = os.getpid()

    @contextmanager
    def at(self, index: int) -> Iterator[None]:
        """Around the reading of a sample; outside of a worker nothing."""
        info = get_worker_info()
        if info is not None:
            self._at[info.id] = index
        yield
        if info is not None:  # an error, or an end in the middle, leaves it
            self._at[info.id] = -1

    def reading(self) -> list[Reading]:
        return [Reading(*each) for each in zip(range(self.count), self._pids, self._at) if each[2] >= 0]

    def end(self) -> None:
        """End those that are left, by force, as one that stands still hears nothing; for the end of a run."""
        left, of_children = [child for child in self._processes if child.is_alive()], getattr(signal, 'SIGCHLD', None)
        if left and of_children is not None and threading.current_thread() is threading.main_thread():
            signal.signal(of_children, signal.SIG_DFL)  # PyTorch's handler would tell of a worker that has died
        for child in left:
            child.kill()
            child.join(5)  # one that waits for a disk that hangs does not even hear this

    def explained(self, error: Exception, timeout: float, files: Callable[[int], str]) -> UserError | None:
        """The sentence for what PyTorch's loader raised, None where it is none of the workers.

        Args:
            timeout: seconds that a batch may take. files: from an index to the words for the sample's file.
        """
        said = str(error)
        ours = f'{self.name}.num_worker_per_gpu: {self.count}'
        if any(words in said for words in _NO_FILES):
            return UserError(f'the workers of {self.name} hand over more open files than the system allows; use fewer'
                             f' ({ours}), or raise the limit: ulimit -n 65536')
        if any(words in said for words in _NO_ROOM):
            return UserError(f'there is too little shared memory ({_room()}) for the batches of {ours}; use fewer'
                             ' workers, num_worker_per_gpu=0 for none, or give a container more: docker run'
                             ' --shm-size=8g')
        if 'timed out' in said:
            who = _named(self.reading(), 'is', files)
            return UserError(f'no batch of {self.name} for {timeout:g} seconds ({ours}){who}; a disk or a network may'
                             f' hang. {self.name}.worker_timeout says how long to wait')
        if 'exited unexpectedly' in said or 'killed by signal' in said:
            alive = {child.pid for child in self._processes if child.is_alive()}
            who = _named([each for each in self.reading() if each.pid not in alive], 'was', files)
            return UserError(
                f'a worker of {self.name} has died ({ours}){who}. Most often the system ends one for want of'
                ' memory; use fewer')
        return None


def _named(readings: Sequence[Reading], verb: str, files: Callable[[int], str]) -> str:
    return ''.join(f', worker {worker} (process {pid}) {verb} at {files(sample)}' for worker, pid, sample in readings)


def _room() -> str:
    try:
        room = shutil.disk_usage('/dev/shm')
    except OSError:  # of Linux alone
        return 'of this system'
    return f'/dev/shm: {room.total / 1e6:,.1f} MB, {room.free / 1e6:,.1f} free'
