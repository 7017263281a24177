"""Training and evaluating the runs of a study, each in a process of its own: one per GPU, or one after the other."""
from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from basicsr.ablation.study import Run
from basicsr.registry import PACKAGE
from basicsr.utils.errors import UserError
from basicsr.utils.ownership import check_free

# commands of `basicsr` up to the first that fails; this checkout, whatever lies in the working directory
_COMMANDS = f'''
import json, sys
sys.path[0] = {str(PACKAGE.parent)!r}
from basicsr.cli import main
sys.exit(next((code for code in map(main, json.loads(sys.argv[1])) if code), 0))
'''


def choose_gpus(wanted: str) -> list[str]:
    """What the runs get as CUDA_VISIBLE_DEVICES: one process each. [''] is the CPU.

    Args:
        wanted: 'cpu', or 'cpu,cpu' for two at a time; GPUs such as '0,2'; or 'auto': those of CUDA_VISIBLE_DEVICES, else
            those whose memory is free.
    """
    if set(wanted.split(',')) == {'cpu'}:
        return [''] * len(wanted.split(','))
    given = os.environ.get('CUDA_VISIBLE_DEVICES') if wanted == 'auto' else wanted
    if given is not None:
        return [gpu.strip() for gpu in given.split(',') if gpu.strip()] or ['']
    query = ['nvidia-smi', '--query-gpu=index,memory.used,memory.total', '--format=csv,noheader,nounits']
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return ['']
    free = []
    for index, used, total in (line.split(', ') for line in lines):
        if not used.isdecimal() or int(used) < 0.1 * int(total):  # some devices do not tell
            free.append(index)
    if lines and not free:
        raise UserError('every GPU is in use; name those to share with --gpus 0,1, or give --gpus cpu')
    return free or ['']


def run_all(runs: Iterable[Run], gpus: list[str]) -> dict[str, str]:
    """Train and evaluate what is left to do. Returns why runs failed, by name; a failure does not stop the others."""
    runs = list(runs)
    left = [run for run in runs if not (run.weights.is_file() and _evaluated(run))]
    print(f'{len(runs)} runs, {len(runs) - len(left)} of them finished before; '
          f'{sum(_iterations(run) for run in left if not run.weights.is_file())} iterations to train, '
          f'{len(gpus)} at a time on {"the CPU" if set(gpus) == {""} else "GPU " + ", ".join(gpus)}')
    free: SimpleQueue[str] = SimpleQueue()
    for gpu in gpus:
        free.put(gpu)
    environment = dict(os.environ)
    if gpus.count('') > 1:  # each has its share of the cores, but where somebody has said how many
        environment.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // len(gpus))))
    progress = _Progress(left)
    children: set[subprocess.Popen] = set()

    def work(run: Run) -> str:
        gpu = free.get()
        try:
            return progress.follow(
                run, lambda: _train_and_evaluate(run, environment | {'CUDA_VISIBLE_DEVICES': gpu}, children))
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(len(gpus)) as pool:
        futures = {run.name: pool.submit(work, run) for run in left}
        try:
            reasons = {name: future.result() for name, future in futures.items()}
        except BaseException:  # Ctrl-C: what was trained so far is continued by the next start
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(children):
                child.terminate()
            raise
    return {name: reason for name, reason in reasons.items() if reason}


def _iterations(run: Run) -> int:
    return run.opt['train']['total_iter']


def _evaluated(run: Run) -> bool:
    return run.metrics.is_file() and run.metrics.stat().st_mtime >= run.weights.stat().st_mtime


def _train_and_evaluate(run: Run, environment: dict[str, str], children: set[subprocess.Popen]) -> str:
    """'' or the reason of the failure."""
    try:
        check_free(run.folder)
    except UserError as error:  # what an earlier start of the study has left, or a training; its log stays its own
        return str(error)
    run.start_record()
    options = ['--opt', str(run.file), *run.overrides]
    steps = [['evaluate', *options, '--weights', str(run.weights), '--output_dir', str(run.results), '--no_images']]
    if not run.weights.is_file():
        steps.insert(0, ['train', *options, '--auto_resume'])
    with run.log.open('wb') as file:
        child = subprocess.Popen([sys.executable, '-c', _COMMANDS, json.dumps(steps)], stdout=file,
                                 stderr=subprocess.STDOUT, env=environment)
        children.add(child)
        code = child.wait()
        children.discard(child)
    return f'exit status {code}: {_last_words(run.log)} (all of it: {run.log})' if code else ''


def _last_words(log: Path) -> str:
    """The error message at the end of a log: from its last line that is not indented."""
    lines = [line.rstrip() for line in log.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
    start = next((i for i in range(len(lines) - 1, -1, -1) if not lines[i].startswith(' ')), 0)
    return ' '.join(line.strip() for line in lines[start:])[:400] or 'nothing was printed'


class _Progress:
    """Lines on the terminal: what starts, what has ended, and how long the rest will take."""

    def __init__(self, runs: list[Run]):
        self.started, self.done = time.monotonic(), 0
        self.work = {run.name: _iterations(run) for run in runs}
        self.left, self.total = sum(self.work.values()), sum(self.work.values())

    def follow(self, run: Run, task) -> str:
        label, start = f'{run.variant}, seed {run.seed}', time.monotonic()
        print(f'  start   {label}', flush=True)
        reason = task()
        self.done += 1
        self.left -= self.work[run.name]
        passed = time.monotonic() - self.started
        rest = passed / max(1, self.total - self.left) * self.left
        state = f'FAILED  {label}: {reason}' if reason else f'done    {label} in {_clock(time.monotonic() - start)}'
        print(f'  {state}  [{self.done}/{len(self.work)}, about {_clock(rest)} left]', flush=True)
        return reason


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
