"""How `gpu.py` runs a section: in a process of its own, task by task, so that a crash, a hang or a kill costs one task.

A section is a module with `tasks(context)`: a list of (label, function that yields rows). Rows travel to the parent as
soon as they are there. When the process dies or hangs in a task, another one starts with the task after it.
"""
from __future__ import annotations

import ctypes
import importlib
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

Row = dict[str, Any]
Task = tuple[str, Callable[[], Iterable[Row]]]
TASK_SECONDS, START_SECONDS = 55, 8  # of a task at most; what is too short for another process to start and do something


@dataclass
class Context:
    """What sections are told.

    Attributes:
        device: 'cuda', or 'cpu' for a rehearsal with tiny shapes.
        options: paths by name (golden, mamba), where they were given.
        ends: when the section is over, by time.time().
        rows: of this section so far, also those of a process that died.
        begun: labels of tasks that are not begun again.
    """
    device: str
    options: dict[str, str]
    ends: float = 0
    rows: list[Row] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)

    @property
    def tiny(self) -> bool:
        return self.device == 'cpu'

    @property
    def left(self) -> float:
        return self.ends - time.time()


def die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it ends, however that does."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def run_section(module: str, context: Context, add: Callable[[Row], None], say: Callable[[str], None]) -> list[str]:
    """Run the tasks of a section until they or the time are over; every row goes to `add` at once.

    Returns what was not reached, or cut off.
    """
    plan: list[str] = []
    cut = None
    while True:
        known = len(context.begun)
        outcome = _listen(module, context, add, plan)
        if outcome == 'end':
            break
        begun = context.begun[known:]
        if context.left <= 0:
            cut = begun[-1] if begun else 'the start'
            say(f'cut off: {cut}')
            break
        add({'what': begun[-1] if begun else module, 'failed': outcome})
        if not begun or context.left < START_SECONDS:  # what cannot even start is not tried for ever
            break
    missing = [label for label in plan if label not in context.begun]
    if missing:
        say(f'not reached: {"; ".join(missing)}')
    return [cut, *missing] if cut else missing


def task_seconds(context: Context) -> float:
    """How long the task that was begun last may take for its next row."""
    return TASK_SECONDS


def _listen(module: str, context: Context, add: Callable[[Row], None], plan: list[str]) -> str:
    """What became of one process: 'end', or why it ended early."""
    here, there = get_context('spawn').Pipe(duplex=False)
    process = get_context('spawn').Process(target=_work, args=(module, context, there))
    process.start()
    there.close()
    since, planned = time.time(), False
    try:
        while True:
            # a process may take its time to start and to plan, a task may not
            patience = task_seconds(context)
            wait_for = min(context.left, since + patience - time.time() if planned else context.left)
            if not here.poll(max(wait_for, 0)):
                return 'the time of the section was over' if context.left <= 0 else f'no row in {patience} s'
            what, value = here.recv()
            if what == 'plan':
                plan[:], planned = value, True
            elif what == 'begin':
                context.begun.append(value)
            elif what == 'row':
                context.rows.append(value)
                add(value)
            else:
                return what
            since = time.time()
    except EOFError:
        process.join(5)
        return f'the process died ({process.exitcode})'
    finally:
        process.kill()
        process.join()
        here.close()


def _work(module: str, context: Context, there: Any) -> None:
    """The process: tasks that were not begun, one after the other."""
    die_with_parent()
    tasks = importlib.import_module(module).tasks(context)
    there.send(('plan', [label for label, _ in tasks]))
    for label, task in tasks:
        if label in context.begun:
            continue
        there.send(('begin', label))
        try:
            for row in task():
                context.rows.append(row)
                there.send(('row', row))
        except Exception as error:
            traceback.print_exc()
            failed = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
            there.send(('row', {'what': label, 'failed': failed}))
            if not _healthy(context.device):  # an illegal address spoils everything that comes after it in this process
                os._exit(1)
    there.send(('end', ''))


def _healthy(device: str) -> bool:
    if device == 'cuda':
        import torch
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            return bool(torch.ones(1, device='cuda').item())
        except Exception:
            return False
    return True


class Compilers:
    """Processes that fill the cache of kernels on disk ahead of their use; without a GPU there are none."""

    def __init__(self, device: str):
        workers = max(1, (os.cpu_count() or 2) - 2)
        self.pool = ProcessPoolExecutor(workers, get_context('spawn'), die_with_parent) if device == 'cuda' else None
        self.jobs: dict[Any, Future] = {}

    def submit(self, kind: Any, plan: Any = None) -> Future | None:
        """Compile the scan of a kind by a plan; by the one that is chosen now, if none is given."""
        if self.pool is None:
            return None
        import torch

        from basicsr.ops.cuda.driver import architecture
        from basicsr.ops.cuda.plans import choose, machine_code
        arch = architecture(torch.device('cuda'))
        what = kind, plan or choose(kind, arch), arch
        if what not in self.jobs:
            self.jobs[what] = self.pool.submit(_only_on_disk, machine_code, *what)
        return self.jobs[what]

    def ready(self, kind: Any, plan: Any = None, seconds: float = TASK_SECONDS / 2) -> None:
        """Wait for it; what fails, fails again where it is used."""
        job = self.submit(kind, plan)
        if job:
            wait([job], seconds)


def _only_on_disk(compile_it: Callable[..., bytes], *arguments: Any) -> None:
    compile_it(*arguments)
