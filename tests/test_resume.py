"""Going on: every network and average, the schedule of the options as they are now, and what is said of changes."""
from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT

SMALL = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}


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


def test_a_state_beyond_the_end_is_told(start, capsys):
    code, run = start('a')
    assert code == 0
    (run / 'models' / 'net_g_latest.pth').unlink()  # as if it had been killed before
    assert start('a', 'train.total_iter=3', '--auto_resume')[0] == 2
    assert "4.state' is from iteration 4; train.total_iter is 3, so nothing is left to do" in capsys.readouterr().err
    assert not (run / 'models' / 'net_g_latest.pth').exists()
    assert start('a', '--auto_resume')[0] == 0 and (run / 'models' / 'net_g_latest.pth').exists()
