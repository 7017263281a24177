"""What a resume makes of options, images and processes that are not as they were, and what it says of them."""
from __future__ import annotations

import json

import pytest
import torch
from test_resume import LOOSE, as_basicsr_writes_it, equal, rates, state_of, weights

from basicsr.engine.schedule import CosineAnnealingRestartLR
from basicsr.training.position import Order, other_order, resumed_at


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
    assert any('the state says no more of its run than epoch' in m for m in messages)
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
    assert resumed_at(of_basicsr, then) == (3, 0)
    assert [sentence.partition(':')[0] for sentence in other_order(of_basicsr, then._replace(**order))
            ] == ['the state says no more of its run than epoch 3 and iteration 9']


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
