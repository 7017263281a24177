"""Models of others that override how they are validated, in training and in `basicsr test`, alone and in two processes."""
from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_python

from basicsr.utils.img import imwrite

MODELS = (ROOT / 'tests' / 'third_party' / 'measuring_models.py').read_text(encoding='utf-8')
OPTIONS = """\
name: measured
num_gpu: 0
manual_seed: 3
dist_params: {backend: gloo}
model_files: [own.py]
datasets:
  train: {name: a, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: lq, gt_size: 16, batch_size_per_gpu: 1}
  val: {name: b, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: lq}
  val_2: {name: c, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: gt}
network_g: {type: MSRResNet, num_feat: 4, num_block: 1, upscale: 1}
train:
  total_iter: 2
  optim_g: {type: Adam, lr: 1e-4}
  scheduler: {type: MultiStepLR, milestones: [5]}
  pixel_opt: {type: L1Loss}
val: {val_freq: 1, metrics: {psnr: {type: calculate_psnr}}}
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    here = tmp_path_factory.mktemp('measured')
    rng = np.random.default_rng(0)
    for i in range(3):
        for side in ('gt', 'lq'):
            imwrite(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8), here / side / f'{i}.png')
    (here / 'own.py').write_text(MODELS)
    (here / 'o.yml').write_text(OPTIONS)
    return here


def train(folder: Path, model: str, processes: int = 1) -> tuple[str, Path]:
    name = f'{model}{processes}'
    start = [str(ROOT / 'basicsr/train.py')] if processes == 1 else [
        '-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}',
        str(ROOT / 'basicsr/train.py'), '--launcher', 'pytorch'
    ]
    done = run_python(*start, '--opt', 'o.yml', f'model_type={model}', f'name={name}',
                      f'path.experiments_root={folder / "exp"}', cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr, folder / 'exp' / name


def columns(run: Path) -> dict[str, list[float]]:
    with open(run / 'metrics.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in rows] for key in rows[0] if key != 'iter'}


@pytest.fixture(scope='module')
def ours(folder) -> dict[str, list[float]]:
    found = columns(train(folder, 'SRModel')[1])
    assert list(found) == ['b/psnr', 'c/psnr'] and len(found['b/psnr']) == 2
    return found


@pytest.mark.parametrize('model', ['LoopsModel', 'WrapsModel', 'LogsModel', 'KeepsBestModel'])
def test_what_they_find_is_what_the_toolbox_finds(folder, ours, model):
    log, run = train(folder, model)
    assert columns(run) == {key: pytest.approx(values, abs=1e-6) for key, values in ours.items()}
    assert json.loads((run / 'best' / 'best.json').read_text())['value'] == pytest.approx(max(ours['b/psnr']), abs=1e-6)
    assert ('mine: ' in log) == (model in ('WrapsModel', 'LogsModel'))
    assert log.count('Validation b') == 2


def test_what_they_return_and_what_they_leave_is_taken(folder):
    assert columns(train(folder, 'ReturnsModel')[1]) == {'b/psnr': [8, 8], 'c/psnr': [8, 8]}
    assert columns(train(folder, 'FirstOnlyModel')[1]) == {'b/psnr': [5, 5]}  # nothing of b is taken for c


@pytest.mark.skipif(sys.platform == 'win32', reason='gloo')
@pytest.mark.parametrize('model', ['LoopsModel', 'WrapsModel'])
def test_in_two_processes_their_loops_see_all_images(folder, model):
    one, two = (columns(train(folder, m, processes)[1]) for m, processes in ((model, 2), ('SRModel', 2)))
    assert one == {key: pytest.approx(values, abs=1e-6) for key, values in two.items()}


@pytest.mark.parametrize('model', ['LoopsModel', 'WrapsModel'])
def test_testing_them(folder, ours, model):
    weights = train(folder, 'SRModel')[1] / 'models' / 'net_g_latest.pth'
    done = run_python(str(ROOT / 'basicsr/test.py'), '--opt', 'o.yml', f'model_type={model}', f'name={model}',
                      f'path.results_root={folder / "res"}', f'path.pretrain_network_g={weights}', cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"psnr: {ours['b/psnr'][-1]:.4f}" in done.stderr
    assert (folder / 'res' / model / 'b.csv').is_file() == (model == 'WrapsModel')  # the other tells means alone
