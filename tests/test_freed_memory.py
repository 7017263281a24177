"""Memory that is freed is kept within a training on a CPU, and given back behind it."""
from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='glibc alone keeps it')
# new pages of a tensor that takes the place of one as large: before, within, and after, where it is kept for another device.
# The least of some turns, as older glibc look for aligned memory behind what was freed until there is enough of it
CODE = """
import resource
from contextlib import contextmanager, nullcontext
import torch
from basicsr.utils.freed_memory import freed_memory_is_kept

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

@contextmanager
def nested():
    with freed_memory_is_kept():
        with freed_memory_is_kept():
            pass
        yield

for context in (nullcontext(), nested(), freed_memory_is_kept('cuda')):
    with context:
        print(min(new_pages() for _ in range(30)))
"""


def new_pages(**variables: str) -> list[int]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(('MALLOC_', 'GLIBC_TUNABLES'))} | variables
    done = subprocess.run([sys.executable, '-c', CODE], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.splitlines()]


def test_the_same_pages_are_used_again_within():
    before, within, after = new_pages()
    assert within < 100 < before and after > 100  # 64 MiB are 16384 pages, or 32 large ones beside the rest


def test_what_the_user_says_is_left_alone():
    before, within, after = new_pages(MALLOC_ARENA_MAX='2')
    assert min(before, within, after) > 100


def test_training_on_a_cpu_keeps_it(tiny_options, monkeypatch):
    from basicsr.train import main as train
    from basicsr.training import run
    calls = []
    real = run.freed_memory_is_kept
    monkeypatch.setattr(run, 'freed_memory_is_kept', lambda device: calls.append(device) or real(device))
    assert train(['--opt', str(tiny_options())]) == 0 and calls == ['cpu']
