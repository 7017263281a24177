"""Going on: every network and average, the schedule of the options as they are now, and what is said of changes."""
from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from basicsr.engine.schedule import CosineAnnealingRestartLR
from basicsr.train import main as train
from basicsr.training.position import Order, other_order, resumed_at

SMALL = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}


@pytest.fixture
def start(tiny_options, tmp_path):
    """Trains; returns exit code and the run's folder. Overrides as on the command line."""

    def inner(name: str, *overrides: str, **changes) -> tuple[int, Path]:
        options = tiny_options(name, network_g=SMALL, logger={'save_checkpoint_freq': 2}, **changes)
        return train([str(options), *overrides]), tmp_path / 'experiments' / name

    return inner


def state_of(run: Path, iteration: int) -> dict:
    return torch.load(run / 'training_states' / f'{iteration}.state', weights_only=False)


def weights(run: Path, name: str = 'net_g_latest', entry: str = 'params') -> dict[str, torch.Tensor]:
    return torch.load(run / 'models' / f'{name}.pth', weights_only=True)[entry]


def rates(run: Path) -> dict[int, float]:
    with (run / 'losses.csv').open() as file:
        return {int(row['iter']): float(row['lr']) for row in csv.DictReader(file)}


def equal(one, two) -> bool:
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(v, two[k]) for k, v in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(equal, one, two))
    return torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two


TWO = {
    'model_type': 'TwoNetworksModel', 'model_files': [str(ROOT / 'tests' / 'third_party' / 'two_networks_model.py')],
    'train': {'ema_decay': 0.9}
}


def as_basicsr_writes_it(run: Path, iteration: int) -> None:
    """A state with nothing but positions, moments and schedules; weights are in the files beside it."""
    state = state_of(run, iteration)
    torch.save({k: state[k] for k in ('epoch', 'iter', 'optimizers', 'schedulers')},
               run / 'training_states' / f'{iteration}.state')
    (run / 'options.json').unlink()


def test_a_model_of_two_networks_goes_on_bit_for_bit(start):
    assert start('parts', **TWO)[0] == 0
    code, parts = start('parts', 'train.total_iter=6', '--auto_resume', **TWO)
    assert code == 0
    code, whole = start('whole', 'train.total_iter=6', **TWO)
    assert code == 0
    one, two = state_of(parts, 6), state_of(whole, 6)
    assert set(two['networks']) == {'net_d', 'net_d_ema'
                                    } and not equal(two['networks']['net_d'], two['networks']['net_d_ema'])
    for key in ('params', 'params_ema', 'networks', 'optimizers', 'schedulers', 'rng', 'iter', 'epoch'):
        assert equal(one[key], two[key]), key
    for name in ('net_g_latest', 'net_d_latest'):
        assert equal(weights(parts, name), weights(whole, name))


def test_a_run_of_basicsr_goes_on_with_every_network_that_has_a_file(start, messages):
    code, run = start('parts', **TWO)
    assert code == 0
    discriminator = weights(run, 'net_d_4')
    as_basicsr_writes_it(run, 4)
    content = torch.load(run / 'models' / 'net_g_4.pth', weights_only=True)
    content['params_ema'] = {k: v + 1 for k, v in content['params_ema'].items()}
    torch.save({k: content[k] for k in ('params', 'params_ema')}, run / 'models' / 'net_g_4.pth')
    assert start('parts', 'train.total_iter=5', '--auto_resume', **TWO)[0] == 0
    told = [m for m in messages if 'not resumed' in m]
    assert len(
        told) == 1 and 'the average of net_d, which begins with its weights' in told[0] and 'net_g' not in told[0]
    for key, value in weights(run, entry='params_ema').items():
        torch.testing.assert_close(value, 0.9 * content['params_ema'][key] + 0.1 * weights(run)[key])
    moved = max(
        (v - discriminator[k]).abs().max().item() for k, v in weights(run, 'net_d_latest').items() if 'weight' in k)
    assert 0 < moved < 0.02  # one step of AdamW from there
    for file in ('net_d_4.pth', 'net_d_5.pth', 'net_d_latest.pth'):
        (run / 'models' / file).unlink(missing_ok=True)
    shutil.rmtree(run / 'training_states' / '5.state', ignore_errors=True)
    (run / 'training_states' / '5.state').unlink(missing_ok=True)
    assert start('parts', 'train.total_iter=5', '--auto_resume', **TWO)[0] == 0
    assert any('not resumed: net_d, which stays as it was made' in m for m in messages)


def test_weights_that_are_not_to_be_resumed_stay(start, messages):
    assert start('parts', **TWO)[0] == 0
    code, run = start('parts', 'train.total_iter=5', '--auto_resume', 'path.ignore_resume_networks=network_d', **TWO)
    moved = weights(run, 'net_d_4')['0.weight'] - weights(run, 'net_d_latest')['0.weight']
    assert code == 0 and moved.abs().max() > 0.03
    assert not any('not resumed' in m for m in messages)


def test_an_average_that_begins_or_ends_with_a_resume_is_told(start, messages):
    assert start('a')[0] == 0
    assert start('a', 'train.total_iter=6', '--auto_resume', 'train.ema_decay=0.5')[0] == 0
    assert any('not resumed: the average of net_g, which begins with its weights' in m for m in messages)
    assert any('train.ema_decay was 0 and is 0.5' in m for m in messages)
    code, run = start('a', 'train.total_iter=8', '--auto_resume')
    assert code == 0 and 'params_ema' not in torch.load(run / 'models' / 'net_g_latest.pth', weights_only=True)
    assert any('not resumed: net_g_ema of the state, which this run does not have' in m for m in messages)


def expected(periods: list[int], lr: float, iterations: range) -> list[float]:
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=lr)
    schedule = CosineAnnealingRestartLR(optimizer, periods, eta_min=1e-5)
    return [schedule.rate(i - 1, lr) for i in iterations]


def test_the_schedule_is_that_of_the_options_as_they_are_now(start, messages):
    schedule = {'train': {'scheduler': {'periods': [4], 'eta_min': 1e-5}}}
    assert start('longer', **schedule)[0] == 0
    code, run = start('longer', 'train.total_iter=8', 'train.scheduler.periods.0=8', 'train.optim_g.lr=5e-4',
                      'train.optim_g.betas=[0.8, 0.9]', 'datasets.train.gt_size=12', '--auto_resume', **schedule)
    assert code == 0
    found = rates(run)
    assert [found[i] for i in range(1, 5)] == pytest.approx(expected([4], 1e-3, range(1, 5)), rel=1e-9)
    assert [found[i] for i in range(5, 9)] == pytest.approx(expected([8], 5e-4, range(5, 9)), rel=1e-9)
    told = next(m for m in messages if 'options changed since' in m)
    assert told.startswith("5 options changed since '4.state', iteration 4 (in force from here on): ") and all(
        f'{line} and is ' in told or line in told
        for line in ('train.total_iter was 4 and is 8', 'train.scheduler.periods was [4] and is [8]',
                     'train.optim_g.lr was 0.001 and is 0.0005', 'train.optim_g.betas was not given and is [0.8, 0.9]',
                     'datasets.train.gt_size was 16 and is 12'))
    noted = json.loads((run / 'options.json').read_text())['train']
    assert noted['scheduler']['periods'] == [8] and noted['optim_g']['lr'] == 5e-4
    group = state_of(run, 8)['optimizers'][0]['param_groups'][0]
    assert group['initial_lr'] == 5e-4 and tuple(group['betas']) == (0.8, 0.9)


def test_new_milestones_of_a_run_of_basicsr(start, messages):
    schedule = {'train': {'scheduler': {'type': 'MultiStepLR', 'milestones': [100], 'gamma': 0.5, 'periods': None}}}
    schedule['train']['scheduler'].pop('periods')
    steps = 'train.scheduler={type: MultiStepLR, milestones: [%s], gamma: 0.5}'
    code, run = start('steps', steps % '100')
    assert code == 0
    as_basicsr_writes_it(run, 4)
    assert start('steps', steps % '2, 6', 'train.total_iter=8', 'train.optim_g.lr=2e-3', '--auto_resume')[0] == 0
    assert [rates(run)[i] for i in range(5, 9)] == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4])
    told = next(m for m in messages if 'options changed since' in m)
    assert 'train.scheduler.milestones was [100] and is [2, 6]' in told and 'train.optim_g.lr was 0.001 and is 0.002' in told


def test_nothing_is_said_where_nothing_changed(start, messages):
    code, run = start('same', 'val.val_freq=3', 'train.time_limit=9')
    state = run / 'training_states' / '2.state'
    again = start('other', f'path.resume_state={state}', 'datasets.train.num_worker_per_gpu=1', 'logger.print_freq=2')
    assert code == again[0] == 0
    assert not any('changed since' in m or 'not resumed' in m for m in messages)
    assert equal(weights(run), weights(again[1]))


def test_another_kind_of_optimizer_is_refused_before_anything_is_written(start, capsys):
    _, run = start('a')
    before = {p.name: p.stat().st_mtime_ns for p in run.rglob('*')}
    assert start('a', 'train.total_iter=6', 'train.optim_g.type=SGD', '--auto_resume')[0] == 2
    assert 'train.optim_g.type: ' in capsys.readouterr().err
    assert {p.name: p.stat().st_mtime_ns for p in run.rglob('*')} == before
    assert start('a', 'train.total_iter=6', 'train.optim_g.type=AdamW', '--auto_resume')[0] == 0


def test_a_network_of_another_width_is_refused(start, capsys):
    assert start('a')[0] == 0
    assert start('a', 'train.total_iter=6', 'network_g.num_feat=8', '--auto_resume')[0] == 2
    assert 'does not fit MSRResNet' in capsys.readouterr().err


def test_other_batches_and_seeds_are_told(start, messages):
    assert start('a', 'train.total_iter=4')[0] == 0
    assert start('a', 'train.total_iter=6', 'datasets.train.batch_size_per_gpu=3', 'manual_seed=9',
                 '--auto_resume')[0] == 0
    told = '\n'.join(messages)
    assert 'datasets.train.batch_size_per_gpu was 2 and is 3' in told and 'manual_seed was 3 and is 9' in told
    assert 'manual_seed orders the samples from here on; random numbers go on from the state' in told
    assert 'middle of an epoch with batches of 2; with batches of 3 this epoch begins again' in told


@pytest.mark.parametrize('damage', ['cut', 'empty', 'folder', 'bit'])
def test_a_damaged_newest_state_is_named_and_the_one_before_it_taken(start, messages, damage):
    code, run = start('a')
    assert code == 0
    file = run / 'training_states' / '4.state'
    data = bytearray(file.read_bytes())
    file.unlink()
    if damage == 'folder':
        file.mkdir()
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes({'cut': data[:len(data) // 2], 'empty': b'', 'bit': data}[damage])
    (run / 'models' / 'net_g_latest.pth').unlink()
    assert start('a', '--auto_resume')[0] == 0
    assert any(f"'{file}'" in m and f"goes on from '{file.with_name('2.state')}' before it" in m for m in messages)
    assert (run / 'models' / 'net_g_latest.pth').is_file() and state_of(run, 4)['iter'] == 4
    assert len(list(file.parent.glob('4.state.damaged_*'))) == 1


def test_with_every_state_damaged_the_newest_is_named(start, capsys):
    code, run = start('a')
    assert code == 0
    for file in (run / 'training_states').iterdir():
        file.write_bytes(b'')
    assert start('a', 'train.total_iter=6', '--auto_resume')[0] == 2
    assert "4.state' is not a weights file" in capsys.readouterr().err


def test_with_the_state_of_another_run_a_new_run_begins(start, tmp_path):
    assert start('mine', 'train.total_iter=8')[0] == 0
    code, other = start('other')
    assert code == 0
    state = other / 'training_states' / '2.state'
    code, run = start('mine', f'path.resume_state={state}')
    assert code == 0 and {p.name for p in (run / 'training_states').iterdir()} == {'4.state'}
    earlier, = (tmp_path / 'experiments').glob('mine_archived_*')
    assert (earlier / 'training_states' / '8.state').is_file() and (other / 'training_states' / '4.state').is_file()


def test_from_an_earlier_state_of_its_own_the_later_ones_are_set_aside(start):
    code, run = start('a', 'train.total_iter=8')
    assert code == 0
    assert start('a', f"path.resume_state={run / 'training_states' / '4.state'}", 'train.total_iter=6')[0] == 0
    names = sorted(p.name.partition('_')[0] for p in (run / 'training_states').iterdir())
    assert names == ['2.state', '4.state', '6.state', '6.state.later', '8.state.later']


def test_best_values_that_were_measured_otherwise_begin_anew(start, messages):
    stop = {'train': {'early_stop': {'patience': 9}}, 'val': {'val_freq': 2}}
    assert start('a', **stop)[0] == 0
    code, run = start('a', 'train.total_iter=6', 'val.metrics.psnr.crop_border=2', '--auto_resume', **stop)
    assert code == 0 and any(m == 'the best values of psnr on toy begin anew: the images or the metric have changed'
                             for m in messages)
    assert state_of(run, 6)['best']['toy']['psnr']['iter'] >= 4
    messages.clear()
    assert start('a', 'train.total_iter=8', 'val.metrics.psnr.crop_border=2', '--auto_resume', **stop)[0] == 0
    assert not any('begin anew' in m for m in messages)


def test_moments_of_a_run_of_basicsr_are_of_its_optimizer(start, capsys):
    code, run = start('a')
    assert code == 0
    as_basicsr_writes_it(run, 4)
    sgd = 'train.optim_g={type: SGD, lr: 1e-3, momentum: 0.9}'
    assert start('a', 'train.total_iter=6', sgd, '--auto_resume')[0] == 2
    assert 'another kind of optimizer has gathered, one that has betas: SGD cannot go on' in capsys.readouterr().err


BY_HAND = """
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY

@MODEL_REGISTRY.register()
class RatesByHandModel(SRModel):
    def setup_schedulers(self):
        pass
"""


def test_rates_without_a_formula_are_those_of_the_state_and_that_is_said(start, messages, tmp_path):
    file = tmp_path / 'by_hand_model.py'
    file.write_text(BY_HAND)
    model = {'model_type': 'RatesByHandModel', 'model_files': [str(file)]}
    assert start('a', **model)[0] == 0
    code, run = start('a', 'train.total_iter=6', 'train.optim_g.lr=5e-4', '--auto_resume', **model)
    assert code == 0 and state_of(run, 6)['optimizers'][0]['param_groups'][0]['lr'] == 1e-3
    assert any('without effect, the state decides' in m and 'train.optim_g.lr was 0.001 and is 0.0005' in m
               for m in messages)


def test_other_images_and_the_place_in_an_epoch(start, pairs, messages, tmp_path):
    """Four images in batches of one, so that iteration 2 is the middle of an epoch and iteration 4 its end."""
    data = {'train': {'batch_size_per_gpu': 1, 'dataset_enlarge_ratio': 1}}
    code, run = start('a', **{'datasets': data})
    assert code == 0
    held = state_of(run, 2)['run_state']
    assert (held['images'], held['processes'], held['batch_size'], held['batches']) == (4, 1, 1, 4)
    fewer = 'datasets.train.pair_range=:3'
    code, other = start('b', fewer, f"path.resume_state={run / 'training_states' / '2.state'}", datasets=data)
    assert code == 0 and 'the training set had 4 images and has 3' in messages
    assert 'the state is from the middle of an epoch with 4 images; with 3 images this epoch begins again' in messages
    assert state_of(other, 4)['run_state']['epoch'] == 0 and state_of(other, 4)['run_state']['batches_done'] == 2
    messages.clear()
    code, other = start('c', fewer, 'train.total_iter=6', f"path.resume_state={run / 'training_states' / '4.state'}",
                        datasets=data)
    assert code == 0 and 'the training set had 4 images and has 3' in messages
    assert not any('this epoch begins again' in m for m in messages)
    assert state_of(other, 6)['run_state']['epoch'] == 1 and state_of(other, 6)['run_state']['batches_done'] == 2


@pytest.mark.parametrize('order, place, said', [
    ({}, (3, 5), []),
    ({'batches': 12}, (3, 5), []),
    ({'batches': 5}, (4, 0), []),
    ({'processes': 1, 'batch_size': 8}, (3, 5), [
        'the run had 2 processes and has 1: a step still takes 8 images, and rates are those of the options'
    ]),
    ({'processes': 4, 'batches': 5}, (3, 0), [
        'the run had 2 processes and has 4: a step took 8 and takes 16 images, and rates are those of the options',
        'the state is from the middle of an epoch with 2 processes; with 4 processes this epoch begins again'
    ]),
    ({'processes': 1, 'images': 90, 'batch_size': 3}, (3, 0), [
        'the training set had 80 images and has 90',
        'the run had 2 processes and has 1: a step took 8 and takes 3 images, and rates are those of the options',
        'the state is from the middle of an epoch with 80 images, 2 processes, batches of 4; with 90 images, 1 process,'
        ' batches of 3 this epoch begins again'
    ]),
], ids=str)  # yapf: disable
def test_what_becomes_of_an_epoch(order, place, said):
    then = Order(images=80, processes=2, batch_size=4, batches=10)
    state = {'epoch': 3, 'run_state': {'batches_done': 5, **then._asdict()}, 'rng': [0, 1]}
    assert resumed_at(state, then._replace(**order)) == place and other_order(state, then._replace(**order)) == said
    ended = {**state, 'run_state': {**state['run_state'], 'batches_done': 10}}
    assert resumed_at(ended, then._replace(**order)) == (4, 0)
    assert not any('middle' in sentence for sentence in other_order(ended, then._replace(**order)))
    of_basicsr = {'epoch': 3, 'iter': 9}
    assert resumed_at(of_basicsr, then) == (3, 0) and other_order(of_basicsr, then._replace(**order)) == []


LOOSE = {
    'model_type': 'LooseParametersModel',
    'model_files': [str(ROOT / 'tests' / 'third_party' / 'loose_parameters_model.py')]
}


def test_what_optimizers_train_beside_the_networks_goes_on_bit_for_bit(start):
    code, whole = start('whole', 'train.total_iter=6', **LOOSE)
    assert code == 0 and start('parts', **LOOSE)[0] == 0
    code, parts = start('parts', 'train.total_iter=6', '--auto_resume', **LOOSE)
    one, two = (state_of(run, 6) for run in (whole, parts))
    assert code == 0 and [len(some) for some in one['parameters']] == [0, 5]
    assert equal(one['parameters'], two['parameters']) and equal(one['optimizers'], two['optimizers'])


def test_what_a_state_lacks_of_them_is_told(start, messages):
    code, run = start('a', **LOOSE)
    state = state_of(run, 4)
    del state['parameters']
    torch.save(state, run / 'training_states' / '4.state')
    assert code == 0 and start('a', 'train.total_iter=6', '--auto_resume', **LOOSE)[0] == 0
    assert any('5 parameters of optimizer 2 that no net_* of the model holds, which stay as made' in m
               for m in messages)


def test_options_that_only_a_model_of_others_reads_are_compared(start, messages):
    assert start('a', x_weight=2, network_x={'type': 'Some', 'deep': 1}, **LOOSE)[0] == 0
    assert start('a', 'train.total_iter=6', '--auto_resume', x_weight=3, network_x={'type': 'Some', 'deep': 2},
                 **LOOSE)[0] == 0
    said, = [m for m in messages if 'changed since' in m]
    assert 'x_weight was 2 and is 3' in said and 'network_x.deep was 1 and is 2' in said


def test_what_takes_no_effect_is_noted_as_it_is_and_told_at_every_start(start, messages, tmp_path):
    file = tmp_path / 'by_hand_model.py'
    file.write_text(BY_HAND)
    model = {'model_type': 'RatesByHandModel', 'model_files': [str(file)]}
    assert start('a', **model)[0] == 0
    for total in (6, 8):
        messages.clear()
        code, run = start('a', f'train.total_iter={total}', 'train.optim_g.lr=5e-4', '--auto_resume', **model)
        assert code == 0
        assert any('without effect' in m and 'train.optim_g.lr was 0.001 and is 0.0005' in m for m in messages)
        for noted in (json.loads((run / 'options.json').read_text()), state_of(run, total)['options']):
            assert noted['train']['optim_g']['lr'] == 1e-3 and noted['train']['total_iter'] == total
