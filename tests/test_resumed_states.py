"""States that a run cannot go on from are told before anything is renamed, and weights come from beside their state."""
from __future__ import annotations

import shutil

import pytest
import torch
from conftest import ROOT
from test_resume import TWO, as_basicsr_writes_it, equal, state_of, weights

from basicsr.config import load_options
from basicsr.engine.checkpoint import read_state
from basicsr.models import build_model
from basicsr.training.launch import start_run
from basicsr.utils.errors import UserError


def first_moments(state, optimizer=0):
    return next(iter(state['optimizers'][optimizer]['state'].values()))


def changed(key, value):
    return lambda state: state.update({key: value})


WRONG = [
    (changed('iter', '4'), "iter must be a whole number, not '4'"),
    (changed('iter', -4), 'iter must be greater than or equal to 0, not -4'),
    (changed('epoch', True), 'epoch must be a whole number, not true'),
    (changed('optimizers', [{}]), 'optimizers[0].state is missing'),
    (lambda state: state['optimizers'][0].update(param_groups=[]), 'optimizers[0].param_groups needs at least 1 value'),
    (lambda state: state['optimizers'][0]['param_groups'][0].pop('params'), 'param_groups[0].params is missing'),
    (changed('schedulers', [5]), 'schedulers[0] must be a mapping (key: value), not 5'),
    (changed('rng', [5]), 'rng[0] must be a mapping (key: value), not 5'),
    (changed('best', 5), 'best must be a mapping (key: value), not 5'),
    (changed('best', {'toy': {'psnr': {'val': 'x', 'iter': 2}}}), "best.toy.psnr.val must be a number, not 'x'"),
    (changed('options', 5), 'options must be a mapping (key: value), not 5'),
    (changed('options', {'train': 5}), 'options.train must be a mapping (key: value), not 5'),
    (changed('params', 5), 'params must be a mapping (key: value), not 5'),
    (changed('networks', {'net_d': {'w': 5}}), 'networks.net_d.w'),
    (changed('parameters', [[5]]), 'parameters[0][0]'),
    (changed('run_state', {'epoch': 'x'}), "run_state.epoch must be a whole number, not 'x'"),
    (changed('run_state', {'early_stop': {}}), 'run_state.early_stop.best is missing'),
]


@pytest.fixture(scope='module')
def good_state(tmp_path_factory):
    """A state as runs write it, without a run."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    return {
        'epoch': 1, 'iter': 4, 'optimizers': [torch.optim.Adam([parameter]).state_dict()],
        'schedulers': [{'last_epoch': 3}], 'params': {'w': torch.zeros(2)}, 'best': {}, 'options': {'train': {}}
    }


@pytest.mark.parametrize('change, message', WRONG)
def test_parts_of_a_wrong_type_or_out_of_range_are_named(good_state, tmp_path, change, message):
    file = tmp_path / '4.state'
    torch.save(good_state, file)
    assert read_state(file)['iter'] == 4
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)
    with pytest.raises(UserError) as told:
        read_state(file)
    assert f"'{file}'" in str(told.value) and message in str(told.value)


def test_numbers_of_numpy_are_numbers(good_state, tmp_path):
    import numpy as np
    torch.save(good_state | {'iter': np.int64(4), 'best': {'v': {'psnr': {'val': float('nan'), 'iter': 4}}}},
               tmp_path / 's')
    assert read_state(tmp_path / 's')['iter'] == 4
    read_state(ROOT / 'tests' / 'earlier' / '4.state')


MISFITS = [
    (lambda s: s.update(schedulers=[]), 'is of a model with 0 schedules, TwoNetworksModel has 2'),
    (lambda s: s['schedulers'].pop(), 'is of a model with 1 schedule, TwoNetworksModel has 2'),
    (lambda s: s['optimizers'].reverse(), 'optimizers[0]: groups of'),
    (lambda s: s['optimizers'][1]['param_groups'][0]['params'].pop(), 'optimizers[1]: groups of'),
    (lambda s: first_moments(s).update(exp_avg=torch.zeros(3, 7)),
     'exp_avg of parameter 0 is 3x7, and the parameter 4x3x3x3'),
    (lambda s: first_moments(s, 1).update(exp_avg=torch.tensor(1.)),
     'optimizers[1]: exp_avg of parameter 0 is one number'),
    (lambda s: first_moments(s).update(exp_avg='x'), 'exp_avg of parameter 0 is no tensor'),
    (lambda s: first_moments(s).update(step='x'), 'step of parameter 0 is no number'),
    (lambda s: first_moments(s).pop('exp_avg_sq'), 'exp_avg_sq of parameter 0 is missing'),
    (lambda s: s['schedulers'][1].pop('last_epoch'),
     'schedulers[1]: last_epoch must be the number of steps, and is missing'),
    (lambda s: s['schedulers'][0].update(last_epoch='q'),
     "schedulers[0]: last_epoch must be the number of steps, not 'q'"),
    (lambda s: s.update(rng=[{}]), 'rng[0] is no state of generators'),
]


def test_states_that_do_not_fit_are_told_before_an_earlier_run_is_renamed(start, tmp_path, capsys):
    code, run = start('mine', **TWO)
    assert code == 0
    for number, (change, message) in enumerate(MISFITS):
        file = tmp_path / f'{number}.state'
        state = state_of(run, 4)
        change(state)
        torch.save(state, file)
        assert start('mine', f'path.resume_state={file}', 'train.total_iter=6', **TWO)[0] == 2, message
        error = capsys.readouterr().err
        assert f"'{file}'" in error and message in error, error
    assert [folder.name for folder in (tmp_path / 'experiments').iterdir()] == ['mine']


def resumed_model(options, file):
    """A model with the networks of a state, as a run has them before its first step."""
    model = build_model(start_run(load_options(options, is_train=True)))
    model.load_resumed_networks(file, read_state(file))
    return model


def test_weights_come_from_beside_the_state_and_not_from_a_run_of_the_name(start, tiny_options, tmp_path):
    code, theirs = start('theirs')
    assert code == 0
    as_basicsr_writes_it(theirs, 4)
    mine = shutil.copytree(theirs, tmp_path / 'experiments' / 'mine')
    expected = weights(theirs, 'net_g_4')
    torch.save({'params': {k: v + 1 for k, v in expected.items()}}, mine / 'models' / 'net_g_4.pth')
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
    options = tiny_options('mine', network_g=network)
    state = 'training_states/4.state'
    assert equal(dict(resumed_model(options, theirs / state).net_g.state_dict()), expected)
    own = resumed_model(options, mine / state).net_g.state_dict()
    assert equal(dict(own), {k: v + 1 for k, v in expected.items()})
    (theirs / 'models' / 'net_g_4.pth').unlink()
    with pytest.raises(UserError,
                       match=r"theirs/training_states/4.state' holds no weights, and there is no '.*theirs/models"):
        resumed_model(options, theirs / state)


@pytest.mark.parametrize('form', [
    lambda w: w, lambda w: {'module.' + k: v for k, v in w.items()},
    lambda w: {'params': {'module.' + k: v for k, v in w.items()}}, lambda w: {'state_dict': w}
])
@pytest.mark.parametrize('name', ['net_g', 'net_d'])
def test_weights_beside_a_state_may_have_every_form(start, tiny_options, name, form):
    code, run = start('parts', **TWO)
    assert code == 0
    as_basicsr_writes_it(run, 4)
    file = run / 'models' / f'{name}_4.pth'
    expected = {k: v + 1 for k, v in weights(run, f'{name}_4').items()}
    torch.save(form(expected), file)
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
    model = resumed_model(tiny_options('parts', network_g=network, **TWO), run / 'training_states' / '4.state')
    for net in (name, f'{name}_ema'):  # an average that no file holds begins with its network
        assert equal(dict(getattr(model, net).state_dict()), expected), net


def test_a_file_beside_a_state_that_holds_no_weights_is_named(start, tiny_options):
    _, run = start('parts', **TWO)
    as_basicsr_writes_it(run, 4)
    torch.save({'params': {}}, run / 'models' / 'net_d_4.pth')
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
    options = tiny_options('parts', network_g=network, **TWO)
    with pytest.raises(UserError, match=r"net_d_4\.pth"):
        resumed_model(options, run / 'training_states' / '4.state')
