"""Option file, weights and training state that an earlier version wrote (tests/earlier): they load, and the run goes on."""
from __future__ import annotations

import csv
import shutil

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT

from basicsr.train import main as train
from basicsr.utils.restricted_unpickling import read_file
from basicsr.weights.network import load_network

EARLIER = ROOT / 'tests' / 'earlier'


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of its run after four of eight iterations."""
    rng = np.random.RandomState(0)
    for name in ('1', '2', '3', '10'):
        target = rng.randint(60, 256, (24, 28, 3), np.uint8)
        for side, img in (('input', target // 4), ('target', target)):
            (tmp_path / 'data' / side).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / 'data' / side / f'{name}.png'), img)
    folder = tmp_path / 'runs' / 'earlier'
    for file, place in (('net_g_4.pth', 'models'), ('4.state', 'training_states'), ('metrics.csv', '')):
        (folder / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(EARLIER / file, folder / place)
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_run_goes_on_as_the_earlier_version_did(run):
    assert train(['--opt', str(EARLIER / 'earlier.yml'), '--auto_resume']) == 0
    ours, theirs = read_file(run / 'models' / 'net_g_8.pth'), read_file(EARLIER / 'net_g_8.pth')
    for key in ('params', 'params_ema'):
        assert ours[key].keys() == theirs[key].keys()
        for name, value in theirs[key].items():  # fused optimizers round otherwise
            torch.testing.assert_close(ours[key][name], value, rtol=1e-4, atol=1e-5)
    with (EARLIER / 'metrics.csv').open() as before, (run / 'metrics.csv').open() as now:
        for row, again in zip(csv.DictReader(before), csv.DictReader(now), strict=True):
            assert row['iter'] == again['iter'] and float(row['toy/psnr']) == pytest.approx(float(again['toy/psnr']))
    before, now = (read_file(path)['best'] for path in (EARLIER / '4.state', run / 'training_states' / '8.state'))
    assert before['toy']['psnr'][
        'iter'] == 2 and now['toy']['psnr']['iter'] == 6  # a state is written before its validation


def test_weights_say_which_network_they_belong_to(run):
    net = load_network(run / 'models' / 'net_g_4.pth')
    average = read_file(EARLIER / 'net_g_4.pth')['params_ema']
    assert type(net).__name__ == 'MSRResNet' and all(torch.equal(net.state_dict()[k], v) for k, v in average.items())
