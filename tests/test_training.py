"""Whole training runs: files, logs, resuming, failures."""
from __future__ import annotations

import csv
import re
import resource
import signal
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, run_python
from loss_inputs import vgg_file

from basicsr.test import main as run_test
from basicsr.train import main as train

STRAIGHT = {'total_iter': 20, 'ema_decay': 0.9, 'mixing_augs': {'mixup': True, 'use_identity': True}}


def losses(run: Path) -> list[dict[str, str]]:
    with (run / 'losses.csv').open() as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_the_files_that_basicsr_users_expect(tiny_options, tmp_path, capsys):
    assert train([str(tiny_options(logger={'use_tb_logger': True}, val={'save_img': True}))]) == 0
    run = tmp_path / 'experiments' / 'tiny'
    assert {p.name for p in (run / 'models').iterdir()} == {'net_g_4.pth', 'net_g_latest.pth'}
    assert {p.name for p in (run / 'training_states').iterdir()} == {'4.state'}
    assert {p.name for p in (run / 'best').iterdir()} == {'net_g_best.pth', 'best.json'}
    assert (run / 'visualization' / '10' / '10_4.png').is_file()
    assert (run / 'curves.png').stat().st_size > 5000
    assert list((tmp_path / 'experiments' / 'tb_logger' / 'tiny').glob('events*'))
    assert (run / 'tiny.yml').read_text().startswith('# GENERATE TIME:')
    log = next(run.glob('train_tiny_*.log')).read_text()
    line = r'\[tiny\.\.\]\[epoch:  0, iter:       1, lr:\(1\.000e-03,\)\] \[eta: \d:\d\d:\d\d, '
    assert re.search(line + r'time \(data\): [\d.]+ \([\d.]+\)\] l_pix: \d\.\d{4}e-\d\d', log)
    assert re.search(r'# psnr: \d+\.\d{4} \(basicsr\)\tBest: \d+\.\d{4} @ 4 iter', log)
    assert 'network_g:[' in log and "network 'RetinexMamba' from basicsr/archs/retinexmamba_arch.py" in log
    content = torch.load(run / 'models' / 'net_g_4.pth', weights_only=True)
    assert set(content) == {'params', 'network_g', 'name'} and content['network_g']['n_feat'] == 4


def test_two_runs_are_equal_and_the_first_is_archived(tiny_options, tmp_path):
    rows = []
    for workers in (0, 2):
        options = tiny_options(datasets={'train': {'num_worker_per_gpu': workers}})
        assert train([str(options)]) == 0
        rows.append(losses(tmp_path / 'experiments' / 'tiny'))
    assert len(rows[0]) == 4 and rows[0] == rows[1]
    assert len(list((tmp_path / 'experiments').glob('tiny_archived_*'))) == 1


@pytest.mark.parametrize('key', ['train', 'val'])
def test_data_of_other_channels_than_the_network_are_told_before_anything_is_archived(
        tiny_options, tmp_path, capsys, key):
    assert train([str(tiny_options())]) == 0
    assert train([str(tiny_options(datasets={key: {'color': 'y'}}))]) == 2
    error = capsys.readouterr().err
    assert f"error: datasets.{key}: images have 1 channels ('" in error and 'but network_g (RetinexMamba) takes 3' in error
    assert not list((tmp_path / 'experiments').glob('*archived*'))


def test_another_seed_gives_another_run(tiny_options, tmp_path):
    rows = []
    for seed in (1, 2):
        assert train([str(tiny_options()), f'manual_seed={seed}']) == 0
        rows.append(losses(tmp_path / 'experiments' / 'tiny'))
    assert rows[0] != rows[1]


KILLED = """
import os, signal, sys
from basicsr.config import load_options
from basicsr.training.run import train

class Killer:

    def on_validation(self, iteration, results):
        if iteration > 10:
            os.killpg(0, signal.SIGKILL)

train(load_options(sys.argv[1], is_train=True), 'none', [Killer()])
"""


def test_kill_and_resume_equals_a_straight_run(tiny_options, tmp_path):
    """20 iterations = 14, killed by -9, the rest from 10 on: every loss and the final weights are the same, bit for bit."""
    common = {
        'logger': {'save_checkpoint_freq': 10}, 'val': {'val_freq': 7},
        'datasets': {'train': {'num_worker_per_gpu': 2}}, 'train': STRAIGHT
    }
    assert train([str(tiny_options('straight', **common))]) == 0
    options = tiny_options('killed', **common)
    done = run_python('-c', KILLED, options, cwd=ROOT, start_new_session=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    states = [p.name for p in (tmp_path / 'experiments' / 'killed' / 'training_states').glob('*.state')]
    assert states == ['10.state'] and len(losses(tmp_path / 'experiments' / 'killed')) == 14
    assert train(['--opt', str(options), '--auto_resume']) == 0
    runs = [tmp_path / 'experiments' / name for name in ('straight', 'killed')]
    rows = [losses(run) for run in runs]
    assert [r['iter'] for r in rows[1]] == [str(i) for i in range(1, 21)]
    assert rows[0] == rows[1]
    weights = [torch.load(run / 'models' / 'net_g_latest.pth', weights_only=True) for run in runs]
    for entry in ('params', 'params_ema'):
        assert all(torch.equal(v, weights[1][entry][k]) for k, v in weights[0][entry].items())
    assert (runs[0] / 'metrics.csv').read_text() == (runs[1] / 'metrics.csv').read_text()


def test_a_resume_warns_of_nothing(tiny_options, tmp_path):
    """Fresh interpreters, since Python shows a warning once."""
    options = str(tiny_options(train={'time_limit': 1e-9}))
    for _ in range(3):
        done = run_python(ROOT / 'basicsr' / 'train.py', '--opt', options, '--auto_resume')
        assert done.returncode == 0 and 'Warning' not in done.stderr, done.stderr


def test_resume_from_a_state_without_weights(tiny_options, tmp_path):
    """As BasicSR writes it: optimizers, schedulers, epoch and iter; the weights lie beside it."""
    options = str(tiny_options(train={'total_iter': 8}))
    assert train([options]) == 0
    run = tmp_path / 'experiments' / 'tiny'
    reference = losses(run)
    state = torch.load(run / 'training_states' / '4.state', weights_only=True)
    bare = {k: state[k] for k in ('epoch', 'iter', 'optimizers', 'schedulers')}
    torch.save(bare, run / 'training_states' / '4.state')
    (run / 'training_states' / '8.state').unlink()
    (run / 'training_states' / 'notes.state').write_text('not a number')
    assert train([options, '--auto_resume']) == 0
    rows = losses(run)
    assert rows[:4] == reference[:4] and [r['iter'] for r in rows] == [str(i) for i in range(1, 9)]
    assert [r['lr'] for r in rows] == [r['lr'] for r in reference]


@pytest.mark.parametrize('every', [2, 3, 5000])
def test_nothing_left_to_resume_is_said(tiny_options, capsys, every):
    options = str(tiny_options(logger={'save_checkpoint_freq': every}))
    assert train([options]) == 0
    assert train([options, '--auto_resume']) == 0  # as it was asked for, and no mistake
    said = capsys.readouterr().err
    assert 'nothing is left to do' in said and "'tiny' is finished" in said and 'error' not in said


def test_a_finished_run_goes_on_when_it_shall_be_longer(tiny_options, tmp_path, capsys):
    options = {'logger': {'save_checkpoint_freq': 5000}, 'train': STRAIGHT}
    assert train([str(tiny_options('whole', **options)), 'train.total_iter=6']) == 0
    assert train([str(tiny_options('longer', **options)), 'train.total_iter=3']) == 0
    assert train([str(tiny_options('longer', **options)), 'train.total_iter=6', '--auto_resume']) == 0
    whole, longer = (tmp_path / 'experiments' / name for name in ('whole', 'longer'))
    assert losses(whole) == losses(longer) and len(losses(longer)) == 6
    a, b = (torch.load(run / 'models' / 'net_g_latest.pth', weights_only=True)['params'] for run in (whole, longer))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_non_finite_loss_stops_and_names_the_files(tiny_options, tmp_path, capsys):
    loss = tmp_path / 'bad_loss.py'
    loss.write_text("""
from torch import nn
from basicsr.utils.registry import LOSS_REGISTRY

@LOSS_REGISTRY.register()
class ExplodingLoss(nn.Module):
    calls = 0
    def forward(self, pred, target):
        ExplodingLoss.calls += 1
        return (pred - target).abs().mean() / (1 if ExplodingLoss.calls < 3 else 0)
""")
    options = tiny_options(loss_files=[str(loss)], train={'pixel_opt': {'type': 'ExplodingLoss'}})
    assert train([str(options)]) == 2
    error = capsys.readouterr().err
    assert 'l_pix is not finite at iteration 3' in error and error.count('.png') == 2
    assert len(losses(tmp_path / 'experiments' / 'tiny')) == 2


def test_a_start_that_fails_leaves_the_earlier_run_alone(tiny_options, tmp_path, capsys):
    options = str(tiny_options())
    assert train([options]) == 0
    weights = tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_4.pth'
    assert train([options, f'path.pretrain_network_g={weights}', 'network_g.n_feat=8']) == 2
    error = capsys.readouterr().err
    assert 'keys of another shape' in error and 'look like RetinexMamba (n_feat: 4' in error
    assert weights.is_file() and not list((tmp_path / 'experiments').glob('*archived*'))


def test_dataset_smaller_than_a_batch_trains_to_the_end(tiny_options, tmp_path):
    options = tiny_options(datasets={'train': {'batch_size_per_gpu': 7, 'dataset_enlarge_ratio': 1}})
    assert train([str(options), 'train.total_iter=3']) == 0
    assert len(losses(tmp_path / 'experiments' / 'tiny')) == 3


def test_debug_shortens_intervals(tiny_options, tmp_path):
    assert train([str(tiny_options()), '--debug', 'train.total_iter=9']) == 0
    run = tmp_path / 'experiments' / 'debug_tiny'
    assert (run / 'models' / 'net_g_8.pth').is_file() and len(losses(run)) == 9


@pytest.mark.parametrize('train_options', [
    {'amp': 'bf16'},
    {'amp': 'fp16', 'grad_clip_norm': 1.},
    {'channels_last': True},
    {'warmup_iter': 3},
    {'compile': True},
])
def test_training_switches(tiny_options, tmp_path, train_options):
    """Each switch trains, and stays close to plain float32 training at the first iteration."""
    network = {'type': 'MSRResNet', 'num_feat': 8, 'num_block': 1, 'upscale': 1}
    first = []
    for name, extra in (('plain', {}), ('switched', train_options)):
        assert train([str(tiny_options(name, network_g=network, train={'total_iter': 3, **extra}))]) == 0
        rows = losses(tmp_path / 'experiments' / name)
        assert len(rows) == 3
        first.append(float(rows[0]['l_pix']))
    assert first[1] == pytest.approx(first[0], rel=0.02)
    if 'warmup_iter' in train_options:
        assert [float(r['lr']) for r in rows] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3], rel=1e-2)


@pytest.mark.parametrize(('value', 'mode'), [('true', None), ('reduce-overhead', 'reduce-overhead')])
def test_the_mode_of_compilation_reaches_the_network(tiny_options, monkeypatch, value, mode):
    modes = []
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self, mode=None: modes.append(mode))
    assert train([str(tiny_options()), f'train.compile={value}', 'train.total_iter=1']) == 0
    assert modes == [mode]


@pytest.mark.parametrize(('loss', 'rate'), [
    ('{type: L1Loss}', 0.1),
    ('{type: MSELoss, reduction: sum}', 1e-5),
    ('{type: MixedLoss, terms: [{type: L1Loss, reduction: sum, loss_weight: 1e-3}, {type: MSELoss}]}', 1e-2),
])
def test_accumulated_parts_give_the_same_update(tiny_options, tmp_path, loss, rate):
    weights, rows = [], []
    for name, parts in (('whole', 1), ('parts', 2)):
        changes = [f'train.accumulate={parts}', f'train.optim_g={{type: SGD, lr: {rate}}}', f'train.pixel_opt={loss}']
        assert train([str(tiny_options(name, train={'pixel_opt': None})), *changes]) == 0
        run = tmp_path / 'experiments' / name
        weights.append(torch.load(run / 'models' / 'net_g_4.pth', weights_only=True)['params'])
        rows.append(losses(run))
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-4, atol=1e-6)
    for whole, part in zip(*rows):
        assert {k: float(v) for k, v in part.items()} == pytest.approx({k: float(v) for k, v in whole.items()},
                                                                       rel=1e-4)


def test_losses_of_a_whole_batch_are_named_where_it_is_split(tiny_options, tmp_path, capsys):
    perceptual = f"{{type: PerceptualLoss, criterion: fro, layer_weights: {{conv1_1: 1}}, weights: {vgg_file(tmp_path / 'v')}}}"
    for option, loss in (('pixel_opt={type: PSNRHingeLoss}', 'PSNRHingeLoss'), (f'perceptual_opt={perceptual}',
                                                                                'PerceptualLoss')):
        assert train([str(tiny_options()), 'train.accumulate=2', f'train.{option}', 'train.total_iter=1']) == 2
        assert f'train.accumulate: {loss} looks at a batch as a whole' in capsys.readouterr().err


def test_two_validation_sets_share_neither_folder_nor_name(tiny_options, tmp_path, capsys):
    block = yaml.safe_load(tiny_options().read_text())['datasets']['val']
    options = tiny_options(val={'save_img': True}, datasets={'val_2': block | {'name': 'other'}})
    assert train([str(options)]) == 0
    seen = tmp_path / 'experiments' / 'tiny' / 'visualization'
    assert {p.name for p in seen.iterdir()} == {'toy', 'other'}
    assert [len(list((seen / name).rglob('*_4.png')))
            for name in ('toy', 'other')] == [len(list(seen.rglob('*_4.png'))) // 2] * 2
    assert 'toy/psnr,other/psnr' in (tmp_path / 'experiments' / 'tiny' / 'metrics.csv').read_text()
    assert train([str(tiny_options(datasets={'val_2': block}))]) == 2
    assert "datasets.val_2.name: 'toy' is the name of datasets.val already" in capsys.readouterr().err


def test_ema_is_validated_and_saved(tiny_options, tmp_path):
    assert train([str(tiny_options(train={'ema_decay': 0.5}))]) == 0
    content = torch.load(tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_4.pth', weights_only=True)
    key = 'body.0.Restorer.mapping.weight'
    assert not torch.equal(content['params'][key], content['params_ema'][key])


def test_test_py_measures_the_best_weights_of_the_run(tiny_options, tmp_path, capsys):
    options = str(tiny_options(val={'save_img': True}))
    assert train([options]) == 0
    best = tmp_path / 'experiments' / 'tiny' / 'best' / 'net_g_best.pth'
    for command in (run_test, train):
        assert command([options, f'path.pretrain_network_g={best}', '--key', 'params_ema']) == 2
        assert "has no entry 'params_ema'" in capsys.readouterr().err
    assert run_test([options, f'path.pretrain_network_g={best}', '--key', 'params']) == 0
    results = tmp_path / 'results' / 'tiny'
    assert (results / 'visualization' / 'toy' / '10_tiny.png').is_file()
    rows = list(csv.DictReader((results / 'toy.csv').open()))
    assert [r['image'] for r in rows] == ['1', '10', '2', '3']
    mean = sum(float(r['psnr']) for r in rows) / 4
    best_value = float((tmp_path / 'experiments' / 'tiny' / 'metrics.csv').read_text().split(',')[-1])
    assert mean == pytest.approx(best_value, abs=1e-5)


def test_test_py_finds_the_weights_of_the_run_where_they_are(tiny_options, tmp_path, messages):
    options = str(tiny_options(path={'experiments_root': str(tmp_path / 'elsewhere')}))
    assert train([options]) == 0 and run_test([options]) == 0
    assert any(str(tmp_path / 'elsewhere' / 'tiny' / 'best' / 'net_g_best.pth') in m for m in messages)


def test_the_test_set_is_not_looked_at_in_training(tiny_options, pairs, tmp_path):
    for side in ('input', 'target'):  # what cannot be read would show
        (tmp_path / 'broken' / side).mkdir(parents=True)
        (tmp_path / 'broken' / side / '1.png').write_bytes((pairs / side / '1.png').read_bytes()[:100])
    block = {
        'type': 'PairedImageDataset', 'name': 'final', 'dataroot_lq': str(tmp_path / 'broken' / 'input'),
        'dataroot_gt': str(tmp_path / 'broken' / 'target')
    }
    options = str(tiny_options(datasets={'test': block}))
    assert train([options]) == 0
    assert (tmp_path / 'experiments' / 'tiny' / 'metrics.csv').read_text().splitlines()[0] == 'iter,toy/psnr'
    assert run_test([options]) == 2


def test_validation_that_never_happens_is_said(tiny_options, messages):
    options = yaml.safe_load(tiny_options().read_text())
    options['datasets']['test'] = options['datasets'].pop('val')
    file = tiny_options('tested_only')
    file.write_text(yaml.safe_dump(options))
    assert train([str(file)]) == 0
    assert any('there is no datasets.val, so nothing is validated in training (test sets are' in m for m in messages)


def test_test_py_without_weights_says_what_to_do(tiny_options, capsys):
    assert run_test([str(tiny_options('never_trained'))]) == 2
    assert 'give path.pretrain_network_g=FILE' in capsys.readouterr().err


def test_full_disk_keeps_what_was_saved(tiny_options, tmp_path):
    """A file-size limit stands in for a full disk: both fail in write(2)."""
    options = tiny_options()
    assert train([str(options)]) == 0
    run = tmp_path / 'experiments' / 'tiny'
    (run / 'training_states' / '4.state').rename(run / 'training_states' / '2.state')
    state = torch.load(run / 'training_states' / '2.state', weights_only=True)
    torch.save(state | {'iter': 2}, run / 'training_states' / '2.state')
    before = (run / 'models' / 'net_g_4.pth').read_bytes()
    done = run_python(
        ROOT / 'basicsr' / 'train.py', options, '--auto_resume',
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2)))
    assert done.returncode == 2
    assert 'exceed the allowed file size; what was already saved is kept' in done.stderr and 'Traceback' not in done.stderr
    assert (run / 'models' / 'net_g_4.pth').read_bytes() == before
    assert not list(run.rglob('*.tmp'))
