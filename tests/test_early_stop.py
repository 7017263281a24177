"""Ending a run that no longer improves: when, with what files, and the same after a resume; the best weights."""
import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import option_error as message

from basicsr.engine.best import improves
from basicsr.registry import METRIC_REGISTRY
from basicsr.train import main as train
from basicsr.training.early_stop import EarlyStop, Stop


def stopper(**changes):
    metrics = {'psnr': {'type': 'calculate_psnr'}, 'loss': {'type': 'x', 'better': 'lower'}}
    block = {'metric': 'psnr', 'patience': 2, **changes}
    return EarlyStop({'train': {'early_stop': block}, 'val': {'metrics': metrics, 'best_metric': 'loss'}})


def feed(stop: EarlyStop, values: list[float]) -> int | None:
    """The validation at which it stops; other data sets and metrics do not matter."""
    for i, value in enumerate(values):
        try:
            stop.on_validation(10 * i, {'a': {'psnr': value, 'loss': -value}, 'b': {'psnr': i, 'loss': -i}})
        except Stop:
            return i
    return None


@pytest.mark.parametrize(('changes', 'values', 'expected'), [
    ({}, [1, 2, 3, 4, 5], None),
    ({}, [1, 3, 2, 2.9, 9], 3),
    ({}, [1, 3, 3, 3], 3),
    ({}, [1, 0, 2, 1, 3, 2], None),
    ({'patience': 1}, [1, 1], 1),
    ({'metric': None}, [1, 3, 2, 2, 9], 3),
    ({'metric': 'loss'}, [5, 6, 4, 4, 4], 3),
    ({'min_delta': 0.5}, [1, 1.4, 1.6, 1.9, 2.0], 4),
    ({}, [float('nan'), 1, float('nan'), 2, float('nan'), float('nan')], 5),
])
def test_it_stops_after_patience_validations_without_improvement(changes, values, expected):
    assert feed(stopper(**changes), values) == expected


def test_the_state_carries_the_counter_over():
    first = stopper()
    assert feed(first, [3, 2]) is None and first.state == {'best': 3, 'iter': 0, 'waited': 1}
    again = EarlyStop(
        {
            'train': {'early_stop': {'metric': 'psnr', 'patience': 2}},
            'val': {'metrics': {'psnr': {'type': 'calculate_psnr'}}}
        }, first.state)
    assert feed(again, [2]) == 0 and first.state['waited'] == 1


@pytest.mark.parametrize(('better', 'value', 'best', 'expected'), [
    ('higher', 2., 1., True),
    ('higher', 1., 1., False),
    ('lower', 1., 2., True),
    ('lower', 2., 1., False),
    ('lower', 2., None, True),
    ('higher', float('nan'), None, False),
    ('higher', 2., float('nan'), True),
])
def test_what_improves(better, value, best, expected):
    assert improves(value, best, better) is expected


# ------------------------------------------------------------------------------------------------ whole runs


@pytest.fixture(scope='module')
def scripted(tmp_path_factory):
    """A metric whose k-th validation of four images gives the k-th value of a list: (options, set_values)."""
    folder = tmp_path_factory.mktemp('scripted')
    metric, values, count = folder / 'scripted_metric.py', folder / 'values.json', folder / 'count'
    metric.write_text(f"""
import json
from pathlib import Path
from basicsr.utils.registry import METRIC_REGISTRY

@METRIC_REGISTRY.register()
def calculate_scripted(img, img2, **kwargs):
    '''What the file says.'''
    count = Path({str(count)!r})
    done = int(count.read_text())
    count.write_text(str(done + 1))
    return json.loads(Path({str(values)!r}).read_text())[done // 4]
""")

    def set_values(given: list[float], done: int = 0) -> None:
        values.write_text(json.dumps(given))
        count.write_text(str(4 * done - 2))  # it is tried twice before a run starts

    yield {'metric_files': [str(metric)]}, set_values
    METRIC_REGISTRY._extra = [f for f in METRIC_REGISTRY._extra if f != metric]
    METRIC_REGISTRY._objects.pop('calculate_scripted', None)
    METRIC_REGISTRY._index = None


def options_for(tiny_options, scripted, name='tiny', better='higher', **stop):
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
    metrics = {'psnr': {'type': 'calculate_scripted', 'better': better}}
    train = {'total_iter': 12, 'early_stop': {'patience': 2, **stop}}
    return str(
        tiny_options(name, **scripted[0], network_g=network, train=train, val={'val_freq': 2, 'metrics': metrics},
                     logger={'save_checkpoint_freq': 2}))


def rows(run: Path, table: str) -> list[dict[str, str]]:
    with (run / table).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize('better', ['higher', 'lower'])
def test_a_run_stops_with_its_last_and_its_best_weights(tiny_options, scripted, tmp_path, better):
    sign = 1 if better == 'higher' else -1
    scripted[1]([sign * v for v in (1., 3., 2., 2.5, 9., 9.)])
    assert train([options_for(tiny_options, scripted, better=better)]) == 0
    run = tmp_path / 'experiments' / 'tiny'
    assert [r['iter'] for r in rows(run, 'metrics.csv')] == ['2', '4', '6', '8']
    assert len(rows(run, 'losses.csv')) == 8 and (run / 'curves.png').is_file()
    log = next(run.glob('*.log')).read_text()
    assert 'Training stops at iteration 8: psnr has not improved for 2 validations; best' in log
    names = ('models/net_g_latest.pth', 'models/net_g_8.pth', 'models/net_g_4.pth', 'best/net_g_best.pth')
    read = {n: torch.load(run / n, weights_only=True)['params'] for n in names}
    for a, b in (('models/net_g_latest.pth', 'models/net_g_8.pth'), ('best/net_g_best.pth', 'models/net_g_4.pth')):
        assert all(torch.equal(read[a][k], read[b][k]) for k in read[a])
    best = json.loads((run / 'best' / 'best.json').read_text())
    assert best['iter'] == 4 and best['value'] == sign * 3


@pytest.mark.parametrize('last_state', [2, 4, 6, 8])
def test_a_resumed_run_stops_where_the_straight_one_does(tiny_options, scripted, tmp_path, last_state):
    """What lies beyond one state is taken away, as after a kill between two states."""
    values = [1., 3., 2., 2.5, 9., 9.]
    scripted[1](values)
    options = options_for(tiny_options, scripted)
    assert train([options]) == 0
    run = tmp_path / 'experiments' / 'tiny'
    shutil.copytree(run, tmp_path / 'straight')
    for state in (run / 'training_states').iterdir():
        if int(state.stem) > last_state:
            state.unlink()
    for file in ('models/net_g_latest.pth', 'best/net_g_best.pth', 'best/best.json'):
        (run / file).unlink()
    scripted[1](values, done=last_state // 2 - 1)
    assert train([options, '--auto_resume']) == 0
    for table in ('metrics.csv', 'losses.csv'):
        assert (run / table).read_text() == (tmp_path / 'straight' / table).read_text()
    state = [
        torch.load(folder / 'training_states' / '8.state', weights_only=True) for folder in (run, tmp_path / 'straight')
    ]
    assert state[0]['best'] == state[1]['best'] and state[0]['run_state'] == state[1]['run_state']
    weights = [
        torch.load(folder / 'models' / 'net_g_latest.pth', weights_only=True)['params']
        for folder in (run, tmp_path / 'straight')
    ]
    assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())
    assert (run / 'best' / 'best.json').is_file() is (last_state <= 4)  # the best was at 4


def test_the_last_validation_of_a_run_may_be_the_one_that_stops(tiny_options, scripted, tmp_path):
    scripted[1]([5., 4., 3., 2., 1., 0.])
    options = options_for(tiny_options, scripted, patience=3)
    assert train([options, 'train.total_iter=7']) == 0
    run = tmp_path / 'experiments' / 'tiny'
    assert [r['iter'] for r in rows(run, 'metrics.csv')] == ['2', '4', '6', '7']
    assert 'Training stops at iteration 7' in next(run.glob('*.log')).read_text()
    assert (run / 'models' / 'net_g_latest.pth').is_file()


# ------------------------------------------------------------------------------------------------ mistakes


def test_mistaken_options_are_reported(load, tiny_options):

    def error(**changes):
        return message(load, Path(tiny_options(**changes)).read_text())

    stop = {'early_stop': {'metric': 'psrn', 'patience': 3}}
    assert "train.early_stop.metric: 'psrn' is none of the metrics: psnr" in error(train=stop)
    assert 'train.early_stop.patience: is required' in error(train={'early_stop': {'metric': 'psnr'}})
    assert 'train.early_stop.patience: must be greater than 0' in error(train={'early_stop': {'patience': 0}})
    assert "unknown key 'patient'" in error(train={'early_stop': {'patient': 3, 'patience': 3}})
    stop = {'early_stop': {'patience': 3}}
    assert 'needs validations to look at' in error(train=stop, val={'val_freq': None})
    assert 'needs validations to look at' in error(train=stop, val={'metrics': None})


def test_a_set_without_ground_truth_is_named(tiny_options, pairs, capsys):
    single = {'type': 'SingleImageDataset', 'dataroot_lq': str(pairs / 'input'), 'name': 'photos'}
    options = tiny_options(datasets={'val': single}, train={'early_stop': {'patience': 1}})
    assert train([str(options)]) == 2
    assert ("train.early_stop: 'psnr' needs a ground truth, and datasets.val, the first validation set, has none"
            in capsys.readouterr().err)


def test_a_time_limit_pauses_the_run_and_it_resumes_bit_for_bit(tiny_options, tmp_path, messages):
    changes = {'train': {'early_stop': {'metric': 'psnr', 'patience': 9}}, 'val': {'val_freq': 2}}
    assert train([str(tiny_options('whole', **changes))]) == 0
    changes['train']['time_limit'] = 1e-9
    options = str(tiny_options('pieces', **changes))
    for done in (1, 2, 3):  # each start is over its limit after one iteration
        assert train([options, '--auto_resume']) == 0
        folder = tmp_path / 'experiments' / 'pieces'
        assert not (folder / 'models' / 'net_g_latest.pth').exists()
        assert f'Training pauses at iteration {done} of 4: 1e-09 minutes are over; --auto_resume goes on from here' in messages
    assert train([options, '--auto_resume']) == 0
    whole, pieces = (torch.load(tmp_path / 'experiments' / name / 'models' / 'net_g_latest.pth')['params']
                     for name in ('whole', 'pieces'))
    assert all(torch.equal(whole[key], pieces[key]) for key in whole)
    for table in ('losses.csv', 'metrics.csv'):
        assert (tmp_path / 'experiments/whole' / table).read_text() == (folder / table).read_text()


def test_a_paused_stage_does_not_start_the_next(tiny_options, tmp_path):
    stages = [{'name': 'a', 'train.time_limit': 1e-9}, {'name': 'b'}]
    assert train([str(tiny_options('staged', stages=stages))]) == 0
    assert not (tmp_path / 'experiments' / 'staged_b').exists()
    assert [p.name for p in (tmp_path / 'experiments/staged_a/training_states').iterdir()] == ['1.state']
