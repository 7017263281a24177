"""Threads that soon sleep while they wait, as the commands have it, against threads that spin; alone, and beside other work.

python benchmarks/waiting.py    on a machine that does nothing else, with two threads or more
"""
from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from common import ROOT, report
from scan import row

TURNS, REPEATS = 5, 3
# seconds of one forward or training step, the median of a process
TIMED = """
import statistics, sys, time
sys.path.insert(0, '.')
from basicsr.utils.threads import wait_asleep
if sys.argv[3] == 'asleep':
    wait_asleep()  # before PyTorch is there
import torch
from basicsr.archs import build_network
torch.manual_seed(0)
net = build_network({'type': 'RetinexMamba', 'n_feat': 16, 'num_blocks': [1, 1, 1], 'd_state': 4})
def forward():
    with torch.no_grad():
        net(photo)
def step():
    net.zero_grad()
    (net(batch) - batch).abs().mean().backward()
photo, batch = torch.rand(1, 3, 400, 600), torch.rand(4, 3, 64, 64)
run = {'forward': forward, 'step': step}[sys.argv[1]]
run()
times = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    run()
    times.append(time.perf_counter() - start)
print(statistics.median(times))
"""
VARIABLES = ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')


def seconds(what: str, asleep: bool) -> float:
    env = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    command = [sys.executable, '-c', TIMED, what, str(REPEATS), 'asleep' if asleep else 'spinning']
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


@contextmanager
def other_work(processes: int) -> Iterator[None]:
    """Processes that keep a core busy each."""
    running = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def compare(title: str, what: str, processes: int) -> dict:
    """Asleep and spinning by turns; the ratio is a cost alone, and a speed-up beside other work."""
    times: dict[bool, list[float]] = {True: [], False: []}
    with other_work(processes):
        for _ in range(TURNS):
            for asleep in times:
                times[asleep].append(seconds(what, asleep))
    asleep, spinning = (statistics.median(times[k]) for k in (True, False))
    if processes:
        return row(f'{title}, beside {processes} busy process', asleep, spinning, spinning / asleep, at_least=3)
    return row(f'{title}, alone', asleep, spinning, asleep / spinning, at_most=1.05)


def main() -> None:
    rows = [
        compare(title, what, processes) for processes in (0, 1)
        for title, what in (('forward 1x400x600', 'forward'), ('training step 4x64x64', 'step'))
    ]
    report('threads asleep / spinning while they wait', rows, threads=torch.get_num_threads())


if __name__ == '__main__':
    main()
