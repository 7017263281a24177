"""A search for options by several processes: the last trial, one database, a process that is killed."""
from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from conftest import ROOT

pytest.importorskip('optuna')

from searches import SPACE, database, files_of, scripted, states

from basicsr.commands.search import main as search
from basicsr.commands.search import parse, prepare
from basicsr.search import run as search_run
from basicsr.search import study as studies


@pytest.fixture
def files(tiny_options, tmp_path):
    return files_of(tiny_options, tmp_path)


def test_the_last_process_waits_for_trials_of_others(files, tmp_path, monkeypatch):
    monkeypatch.setattr(search_run, 'train', scripted({1: [1.], 2: [2.]}))
    mine, _ = prepare(parse(files(2)))
    other = database(tmp_path)
    theirs, waits = other.ask(), []

    def wait():
        waits.append(1)
        if len(waits) == 3:
            other.tell(theirs, 7.)

    mine.run(wait)
    assert len(waits) == 3 and states(tmp_path) == ['COMPLETE', 'COMPLETE'] and mine.study.best_value == 7


def test_two_processes_that_take_the_last_trial_at_once_leave_one(files, tmp_path, monkeypatch):
    """The other one comes between our look at the study and the start of our trial."""
    monkeypatch.setattr(search_run, 'train', scripted({0: [1.], 1: [1.]}))
    mine, _ = prepare(parse(files(1)))
    other, taken = database(tmp_path), []

    def late(study, before=None):
        if before is None and not taken:
            taken.append(other.ask())
            return 0
        return studies.taken(study, before)

    monkeypatch.setattr(search_run, 'taken', late)
    mine.run(lambda: other.tell(taken[0], 3.))
    assert states(tmp_path) == ['COMPLETE', 'FAIL'] and mine.finished() == 1


@pytest.fixture
def start():
    """Starts searches in processes of their own, which end with the test, however it ends."""
    started = []

    def inner(arguments: list[str]) -> subprocess.Popen:
        env = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
        started.append(
            subprocess.Popen([sys.executable, '-m', 'basicsr.cli', 'search', *arguments], env=env, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True))
        return started[-1]

    yield inner
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_two_processes_share_one_database(files, tmp_path, start):
    arguments = files(5, SPACE.replace('seed: 0', 'type: random'))
    processes = [start(arguments) for _ in range(2)]
    for process in processes:
        out, error = process.communicate()
        assert process.returncode == 0, error
        assert '5 of 5 trials are finished' in out
    trials = database(tmp_path).trials
    assert sum(t.state.name == 'COMPLETE' for t in trials) == 5
    assert len({t.params['train.optim_g.lr'] for t in trials if t.state.name == 'COMPLETE'}) == 5
    assert len(list((tmp_path / 'experiments').glob('tiny_trial*'))) == 5


def test_the_trial_of_a_killed_process_is_replaced(files, tmp_path, start):
    forever = 10**8  # however late this process sees that the other one trains
    process = start(
        files(2, SPACE.replace('total_iter: 4', f'total_iter: {forever}'), f'train.scheduler.periods=[{forever}]'))
    while not (tmp_path / 'experiments' / 'tiny_trial0' / 'losses.csv').exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert states(tmp_path) == ['RUNNING']
    with sqlite3.connect(tmp_path / 'experiments' / 'tiny_search' / 'study.db') as connection:
        changed = connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')").rowcount
    assert changed == 1
    study = database(tmp_path)
    study.set_user_attr(
        'identity', study.user_attrs['identity']
        | {'space file.trial_only.train.total_iter': 4, 'options.train.scheduler.periods': [100]})
    assert search(files(2)) == 0
    assert states(tmp_path) == ['FAIL', 'COMPLETE', 'COMPLETE']
