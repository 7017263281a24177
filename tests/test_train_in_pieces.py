"""Training on a machine reached by files alone: two roots here stand for two machines."""
import json
import shutil
import sys

import pytest
import torch
from conftest import ROOT, run_python

from basicsr.train import main as train

SCRIPT = ROOT / 'scripts' / 'train_in_pieces.py'


def call(*args, code: int = 0, bare: bool = False) -> str:
    """What the script prints; `bare`: no installed package is there."""
    done = run_python(*(['-S', '-I'] if bare else []), SCRIPT, *map(str, args))
    assert done.returncode == code, done.stderr[-2000:]
    return done.stderr if code else done.stdout


@pytest.fixture
def carried(tiny_options, pairs, tmp_path):
    """An option file whose data have been carried to `there`, and are gone from where they were."""
    options = tiny_options('run', datasets={'train': {'cache': 'device'}})
    straight = tiny_options('straight', datasets={'train': {'cache': 'device'}})
    assert train([str(straight)]) == 0
    text = call('pack', '--opt', options, '--root', tmp_path / 'here', '--to', tmp_path / 'up', '--part_mib', 0.005)
    parts = sorted((tmp_path / 'up').glob('*.part'))
    assert f'data: {len(parts)} of {len(parts)} parts' in text and len(parts) > 2
    shutil.move(parts[1], tmp_path / 'late.part')
    assert f'still missing: {parts[1].name}' in call('unpack', tmp_path / 'up', '--root', tmp_path / 'there', bare=True)
    shutil.rmtree(tmp_path / 'up')
    (tmp_path / 'up').mkdir()
    shutil.move(tmp_path / 'late.part', parts[1])
    assert 'data: complete, 9 files' in call('unpack', tmp_path / 'up', '--root', tmp_path / 'there', bare=True)
    shutil.move(pairs, tmp_path / 'elsewhere')
    return options


def test_a_run_in_pieces_ends_as_one_without_interruption(carried, tmp_path):
    here, there = ['--opt', carried, '--root', tmp_path / 'here'], ['--opt', carried, '--root', tmp_path / 'there']
    assert 'iteration 1 of 4; not ended yet' in call('train', *there, '--minutes', 1e-9)
    while True:  # brought back two parts at a time, into a folder that is emptied in between
        text = call('state', *there, '--to', tmp_path / 'down', '--part_mib', 0.1, '--at_most', 2)
        assert len(list((tmp_path / 'down').glob('*.part'))) <= 2
        arrived = call('unpack', tmp_path / 'down', '--root', tmp_path / 'here', bare=True)
        shutil.rmtree(tmp_path / 'down')
        if 'left for the next call' not in text:
            break
        assert 'still missing' in arrived
    assert 'run_1: complete' in arrived
    shutil.rmtree(tmp_path / 'there' / 'experiments')  # another bare machine
    call('state', *here, '--to', tmp_path / 'up2')
    call('unpack', tmp_path / 'up2', '--root', tmp_path / 'there', bare=True)
    assert 'the run has ended' in call('train', *there, '--minutes', 5)
    assert 'nothing is left to do' in call('train', *there, '--minutes', 5)
    straight, pieces = (torch.load(tmp_path / folder / 'models' / 'net_g_latest.pth')['params']
                        for folder in ('experiments/straight', 'there/experiments/run'))  # yapf: disable
    assert all(torch.equal(straight[key], pieces[key]) for key in straight)
    losses = [(tmp_path / folder / 'losses.csv').read_text()
              for folder in ('experiments/straight', 'there/experiments/run')]
    assert losses[0] == losses[1]


def test_report_measures_and_the_schedule_shrinks(carried, tmp_path):
    there = ['--opt', carried, '--root', tmp_path / 'there']
    text = call('report', *there, '--minutes', 2, '--iterations', 2, '--candidates', 'bf16,float32', 'manual_seed=4')
    assert 'float32' in text and 'bf16' in text and 'fastest: ' in text
    content = json.loads((tmp_path / 'there' / 'throughput.json').read_text())
    speeds = {s['name']: s for s in content['speeds']}
    assert set(speeds) == {'float32', 'bf16'} and all(s['iterations'] > 0 for s in speeds.values())
    best = max(speeds.values(), key=lambda s: s['iterations'])
    assert content['overrides'] == ({'train.amp': 'bf16'} if best['name'] == 'bf16' else {})
    assert not (tmp_path / 'there' / 'experiments').exists()
    text = call('train', *there, '--minutes', 5, '--total_iter', 2, '--fastest')
    assert '2 iterations instead of 4, schedules in proportion' in text and 'the run has ended' in text
    log = next((tmp_path / 'there' / 'experiments' / 'run').glob('train_*.log')).read_text()
    assert 'periods: [50]' in log and ('amp: bf16' in log) == (best['name'] == 'bf16')


def test_probe_needs_nothing_and_wheels_takes_what_is_missing(tmp_path):
    found = json.loads(call('probe', '--json', tmp_path / 'probe.json', bare=True))
    assert {'torch', 'numpy', 'natsort', 'pydantic'} <= set(found['missing'])
    assert found['python'] == '.'.join(map(str, sys.version_info[:2]))
    assert json.loads((tmp_path / 'probe.json').read_text()) == found | {'installed': []}
    assert json.loads(call('probe'))['missing'] == []
    wheels = ['wheels', '--root', tmp_path / 'here', '--to', tmp_path / 'up', '--probe', tmp_path / 'probe.json']
    assert 'no PyTorch' in call(*wheels, code=2)
    (tmp_path / 'probe.json').write_text(json.dumps(found | {'missing': []}))
    assert 'nothing is missing there' in call(*wheels)


def test_wrong_calls(tiny_options, tmp_path):
    options = tiny_options()
    assert 'there is no training state' in call('state', '--opt', options, '--root', tmp_path, '--to', tmp_path, code=2)
    assert 'is not a folder' in call('unpack', tmp_path / 'none', '--root', tmp_path, code=2)
    assert 'there is no file' in call(
        'train', '--opt', options, '--root', tmp_path, '--minutes', 1, '--fastest', code=2)
    assert not (tmp_path / 'experiments').exists()
