"""Validation of data sets whose items have tasks: every task is measured, and all count alike."""
from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from basicsr.test import main as run_test
from basicsr.train import main as train

COUNTS = {'derain': 3, 'dehaze': 1}
METRICS = {'psnr': {'type': 'calculate_psnr'}, 'ssim': {'type': 'calculate_ssim', 'protocol': 'all-in-one'}}


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline='') as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def options(task_options):
    return task_options(COUNTS, val={'metrics': METRICS, 'val_freq': 2, 'save_img': True},
                        logger={'use_tb_logger': True})


def test_tasks_are_columns_and_the_mean_of_tasks_chooses_the_best(options, tmp_path):
    assert train([str(options)]) == 0
    run = tmp_path / 'experiments' / 'tiny'
    rows = rows_of(run / 'metrics.csv')
    assert list(rows[0]) == [
        'iter', 'mixed/psnr', 'mixed/ssim', 'mixed/dehaze/psnr', 'mixed/dehaze/ssim', 'mixed/derain/psnr',
        'mixed/derain/ssim'
    ]
    assert [row['iter'] for row in rows] == ['2', '4']
    for row in rows:
        for metric in METRICS:
            mean = (float(row[f'mixed/dehaze/{metric}']) + float(row[f'mixed/derain/{metric}'])) / 2
            assert float(row[f'mixed/{metric}']) == pytest.approx(mean, abs=1e-12)
    best = json.loads((run / 'best' / 'best.json').read_text())
    assert best['value'] == max(float(row['mixed/psnr']) for row in rows)
    log = next(run.glob('train_*.log')).read_text()
    assert f"# psnr: {float(rows[0]['mixed/psnr']):.4f} (basicsr)" in log
    assert f"dehaze: {float(rows[0]['mixed/dehaze/psnr']):.4f}" in log
    assert (run / 'visualization' / 'derain' / '2' / '2_4.png').is_file()

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(next((tmp_path / 'experiments' / 'tb_logger' / 'tiny').glob('events*'))))
    tags = events.Reload().Tags()['scalars']
    assert {'metrics/mixed/psnr', 'metrics/mixed/derain/psnr', 'metrics/mixed/dehaze/ssim'} <= set(tags)
    # every image of both tasks, although their names are equal
    assert len(list((run / 'visualization').rglob('*_4.png'))) == 4


def test_test_py_reports_each_image_with_its_task(options, tmp_path):
    assert train([str(options)]) == 0
    best = tmp_path / 'experiments' / 'tiny' / 'best' / 'net_g_best.pth'
    assert run_test([str(options), f'path.pretrain_network_g={best}']) == 0
    results = tmp_path / 'results' / 'tiny'
    rows = rows_of(results / 'mixed.csv')
    found = [(row['task'], row['image']) for row in rows]
    assert found == [('dehaze', '0'), ('derain', '0'), ('derain', '1'), ('derain', '2')]
    values = defaultdict(list)
    for row in rows:
        values[row['task']].append(float(row['ssim']))
    found = json.loads((results / 'mixed.json').read_text())['metrics']['ssim']
    assert found['tasks'] == pytest.approx({task: np.mean(v) for task, v in values.items()}, abs=1e-6)
    assert found['mean'] == pytest.approx(np.mean(list(found['tasks'].values())), abs=1e-12)
    assert (results / 'visualization' / 'mixed' / 'derain' / '2_tiny.png').is_file()
