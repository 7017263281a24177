"""Signals that end a training: the step is finished, everything is saved, nobody is left behind."""
from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT

from basicsr.evaluation import evaluate as evaluation
from basicsr.train import main as train
from basicsr.training.trainer import Trainer
from basicsr.utils.stopping import signals_wait, wish

SMALL = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
CODES = {'SIGTERM': 143, 'SIGINT': 130, 'SIGUSR1': 138, 'SIGHUP': 129}


@pytest.fixture(autouse=True)
def _heard():
    """Whatever runs these tests may ignore signals, in the background or under nohup; so would the runs."""
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in CODES}
    for number in before:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def sent_at(monkeypatch, iteration: int, *names: str) -> None:
    """Send this process signals, one after the other, while it is at an iteration."""
    log = Trainer._log

    def logged(self, *args):
        if self.iteration == iteration:
            for name in names:
                os.kill(os.getpid(), getattr(signal, name))
        log(self, *args)

    monkeypatch.setattr(Trainer, '_log', logged)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / 'models' / 'net_g_latest.pth')['params']


@pytest.mark.parametrize('name', CODES)
def test_a_signal_saves_what_is_there_and_the_run_goes_on_bit_for_bit(tiny_options, tmp_path, monkeypatch, messages,
                                                                      name):
    before = signal.getsignal(getattr(signal, name))
    changes = {'network_g': SMALL, 'logger': {'save_checkpoint_freq': 100}, 'val': {'val_freq': 2}}
    assert train([str(tiny_options('whole', **changes))]) == 0
    options = str(tiny_options('pieces', **changes))
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        sent_at(patch, 2, name)
        train([options])
    whole, pieces = (tmp_path / 'experiments' / each for each in ('whole', 'pieces'))
    assert end.value.code == CODES[name]
    assert f'Training pauses at iteration 2 of 4: {name}; --auto_resume goes on from here' in messages
    assert [p.name for p in (pieces / 'training_states').iterdir()] == ['2.state']
    assert signal.getsignal(getattr(signal, name)) == before and wish() is None
    assert train([options, '--auto_resume']) == 0
    assert all(torch.equal(value, weights(pieces)[key]) for key, value in weights(whole).items())
    for table in ('losses.csv', 'metrics.csv'):
        assert (whole / table).read_text() == (pieces / table).read_text()


@pytest.mark.parametrize('at, freq', [(2, 2), (4, 100)])
def test_a_validation_is_left_and_comes_first_when_the_run_goes_on(tiny_options, tmp_path, monkeypatch, at, freq):
    changes = {'network_g': SMALL, 'logger': {'save_checkpoint_freq': 100}, 'val': {'val_freq': freq}}
    assert train([str(tiny_options('whole', **changes))]) == 0
    options, measure, measured = str(tiny_options('pieces', **changes)), evaluation.measure_all, []

    def signalling(*args):
        if (tmp_path / 'experiments/pieces/losses.csv').exists():  # no trial before the start
            measured.append(args)
            os.kill(os.getpid(), signal.SIGTERM)
        return measure(*args)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(evaluation, 'measure_all', signalling)
        train([options])
    whole, pieces = (tmp_path / 'experiments' / each for each in ('whole', 'pieces'))
    assert len(measured) == 1, 'the other images were measured'
    assert [p.name for p in (pieces / 'training_states').iterdir()] == [f'{at}.state']
    assert not (pieces / 'metrics.csv').exists()
    assert train([options, '--auto_resume']) == 0
    assert (whole / 'metrics.csv').read_text() == (pieces / 'metrics.csv').read_text()
    assert all(torch.equal(value, weights(pieces)[key]) for key, value in weights(whole).items())


def test_a_signal_in_the_last_iteration_changes_nothing(tiny_options, tmp_path, monkeypatch):
    sent_at(monkeypatch, 4, 'SIGTERM')
    file = tiny_options(network_g=SMALL)
    options = yaml.safe_load(file.read_text())
    del options['datasets']['val'], options['val']
    file.write_text(yaml.safe_dump(options))
    assert train([str(file)]) == 0 and (tmp_path / 'experiments/tiny/models/net_g_latest.pth').exists()


def test_a_second_ctrl_c_ends_at_once_and_of_several_processes_it_waits(tiny_options, tmp_path, monkeypatch, capsys):
    sent_at(monkeypatch, 2, 'SIGINT', 'SIGINT')
    assert train([str(tiny_options(network_g=SMALL))]) == 130
    assert capsys.readouterr().err.endswith('stopped.\n')
    assert not list((tmp_path / 'experiments/tiny/training_states').iterdir())
    with signals_wait(insist=False):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        assert wish() == signal.SIGINT


def test_what_is_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_wait():
            os.kill(os.getpid(), signal.SIGHUP)
            assert wish() is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize('name, to', [('SIGTERM', 'run'), ('SIGINT', 'all'), ('SIGTERM', 'all')])
@pytest.mark.parametrize('persistent', [False, True])
def test_no_worker_is_left_whoever_gets_the_signal(tiny_options, tmp_path, name, to, persistent):
    """As `kill` sends it, to the run alone, and as terminals and Slurm do, to all of its processes."""
    workers = {'num_worker_per_gpu': 2, 'persistent_workers': persistent}
    endless = {'total_iter': 100000, 'scheduler': {'periods': [100000]}}
    options = tiny_options(network_g=SMALL, train=endless, datasets={'train': workers}, val={'val_freq': None},
                           logger={'save_checkpoint_freq': 100000})
    run = subprocess.Popen([sys.executable, ROOT / 'basicsr/train.py', '--opt', options], stderr=subprocess.PIPE,
                           text=True, start_new_session=True)
    assert run.stderr
    before = ''
    for line in run.stderr:
        before += line
        if re.search(', iter: +3, lr', line):
            break
    else:
        pytest.fail(before)
    (os.killpg if to == 'all' else os.kill)(run.pid, getattr(signal, name))
    rest = run.stderr.read()  # ends with the last process that has it open
    assert run.wait() == CODES[name], rest[-2000:]
    assert 'Traceback' not in rest and f': {name};' in rest
    with pytest.raises(ProcessLookupError):
        os.killpg(run.pid, 0)
    at = int(re.findall(r'pauses at iteration (\d+)', rest)[0])
    assert [p.name for p in (tmp_path / 'experiments/tiny/training_states').iterdir()] == [f'{at}.state']
    assert multiprocessing.active_children() == []
