"""Training on a machine reached by files alone: two roots here stand for two machines."""
import json
import os
import shutil
import sys

import pytest
import torch
import yaml
from conftest import ROOT, run_python

from basicsr.train import main as train
from basicsr.utils.errors import UserError
from basicsr.utils.ownership import owned

sys.path.append(str(ROOT / 'scripts'))
from pieces import packages
from pieces.parts import cut

SCRIPT = ROOT / 'scripts' / 'train_in_pieces.py'


def call(*args, code: int = 0, bare: bool = False) -> str:
    """What the script prints; `bare`: no installed package is there."""
    done = run_python(*(['-S', '-I'] if bare else []), SCRIPT, *map(str, args))
    assert done.returncode == code, done.stderr[-2000:]
    return done.stderr if code == 2 else done.stdout


@pytest.fixture
def carried(tiny_options, pairs, tmp_path):
    """An option file whose data have been carried to `there`, and are gone from where they were."""
    options, straight = (tiny_options(name, datasets={'train': {'cache': 'device'}}) for name in ('run', 'straight'))
    assert train([str(straight)]) == 0
    pack = ['pack', '--opt', options, '--root', tmp_path / 'here', '--to', tmp_path / 'up', '--part_mib', 0.005]
    assert 'data: 2 of ' in (text := call(*pack, '--count', 2)) and '; the next: --first 2' in text
    unpack = ['unpack', tmp_path / 'up', '--root', tmp_path / 'there']
    assert 'data: still missing: data_002.part' in call(*unpack, code=1, bare=True)
    with pytest.raises(AssertionError, match=r'still missing: data_002\.part'):
        call('train', '--opt', options, '--root', tmp_path / 'there', '--minutes', 1)
    assert 'next' not in call(*pack, '--first', 2)
    assert 'data: complete, 9 files' in call(*unpack, bare=True)
    shutil.move(pairs, tmp_path / 'elsewhere')
    return options


def test_a_run_in_pieces_ends_as_one_without_interruption(carried, tmp_path):
    here, there = ['--opt', carried, '--root', tmp_path / 'here'], ['--opt', carried, '--root', tmp_path / 'there']
    assert 'iteration 1; the run has not ended yet' in call('train', *there, '--minutes', 1e-9)
    parts, first = [tmp_path / 'down', '--root', tmp_path / 'here'], 0
    while True:  # brought back two parts at a time
        text = call('state', *there, '--to', tmp_path / 'down', '--part_mib', 0.1, '--first', first, '--count', 2)
        assert len(list((tmp_path / 'down').glob('*.part'))) <= 2
        if 'the next: --first' not in text:
            break
        assert 'still missing' in call('unpack', *parts, code=1, bare=True)
        first += 2
    assert first and 'run_1: complete' in call('unpack', *parts, bare=True)
    shutil.rmtree(tmp_path / 'there' / 'experiments')  # another bare machine
    call('state', *here)
    call('unpack', tmp_path / 'here' / '.pieces' / 'outgoing', '--root', tmp_path / 'there', bare=True)
    assert 'the run has ended' in call('train', *there, '--minutes', 600)
    assert 'nothing is left to do' in call('train', *there, '--minutes', 600)
    straight, pieces = (torch.load(tmp_path / folder / 'models' / 'net_g_latest.pth')['params']
                        for folder in ('experiments/straight', 'there/experiments/run'))
    assert all(torch.equal(straight[key], pieces[key]) for key in straight)
    losses = [(tmp_path / folder / 'losses.csv').read_text()
              for folder in ('experiments/straight', 'there/experiments/run')]
    assert losses[0] == losses[1]


@pytest.mark.parametrize('label', ['run_4', 'data'])
def test_nothing_is_put_into_a_run_in_use(tmp_path, label):
    run = tmp_path / 'there' / 'experiments' / 'run'
    name = 'experiments/run/training_states/4.state' if label == 'run_4' else '.pieces/data/0/1.png'
    (tmp_path / 'new').write_text('new')
    cut({name: tmp_path / 'new'}, tmp_path / 'up', label, 1000)
    (tmp_path / 'there' / name).parent.mkdir(parents=True)
    (tmp_path / 'there' / name).write_text('old')
    unpack = ['unpack', tmp_path / 'up', '--root', tmp_path / 'there']
    with owned(run, archive=False):
        assert f"'{run}' is in use by process {os.getpid()}" in call(*unpack, code=2)
        assert (tmp_path / 'there' / name).read_text() == 'old'
    assert f'{label}: complete, 1 files' in call(*unpack) and (tmp_path / 'there' / name).read_text() == 'new'
    assert not (run / '.lock').exists()


def piece(tmp_path, files: dict[str, str], label: str, where: str = 'up') -> None:
    """Files, of these texts, in parts."""
    paths = {}
    for i, (name, text) in enumerate(files.items()):
        paths[name] = tmp_path / f'{label}_{i}'
        paths[name].write_text(text)
    cut(paths, tmp_path / where, label, 1000)


def state_at(tmp_path, iteration: int, *more: str, where: str = 'up') -> None:
    """A run at an iteration, in parts."""
    run = 'experiments/run'
    names = [f'{run}/training_states/{iteration}.state', f'{run}/losses.csv', f'{run}/options.json', '.pieces/run.json']
    piece(tmp_path, dict.fromkeys([*names, *more], f'at {iteration}'), f'run_{iteration}', where)


def below(folder) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('ended', [False, True])
def test_an_older_piece_leaves_a_newer_run_alone(tmp_path, ended):
    weights = ['experiments/run/models/net_g_latest.pth'] if ended else []
    state_at(tmp_path, 200, *weights)
    there = ['--root', tmp_path / 'there']
    assert 'run_200: complete' in call('unpack', tmp_path / 'up', *there)
    if ended:  # its states may have been removed to make room
        (tmp_path / 'there' / 'experiments' / 'run' / 'training_states' / '200.state').unlink()
    state_at(tmp_path, 100, where='old')
    before = below(tmp_path / 'there')
    said = call('unpack', tmp_path / 'old', *there)
    assert f"run_100: left out, as '{tmp_path}/there/experiments/run' " in said
    assert ('has ended' if ended else 'is at iteration 200') in said and 'to go back to iteration 100, rename' in said
    assert below(tmp_path / 'there') == before
    (tmp_path / 'there' / 'experiments' / 'run').rename(tmp_path / 'there' / 'experiments' / 'later')
    assert 'run_100: complete' in call('unpack', tmp_path / 'old', *there)
    assert (tmp_path / 'there' / 'experiments' / 'run' / 'losses.csv').read_text() == 'at 100'


def test_pieces_of_a_run_are_put_in_order_of_iteration(tmp_path):
    for iteration in (1000, 200, 30):
        state_at(tmp_path, iteration)
    said = call('unpack', tmp_path / 'up', '--root', tmp_path / 'there')
    assert [line.split(':')[0] for line in said.splitlines()] == ['run_30', 'run_200', 'run_1000']
    found = below(tmp_path / 'there')
    assert found['experiments/run/losses.csv'] == found['.pieces/run.json'] == 'at 1000'
    assert len(found) == 3 + 3  # and the states


def test_what_cannot_be_unpacked_is_in_nobodys_way_and_changes_nothing(tmp_path):
    piece(tmp_path, {'.pieces/data/0/1.png': 'old'}, 'data', 'first')
    assert 'data: complete' in call('unpack', tmp_path / 'first', '--root', tmp_path / 'there')
    before = below(tmp_path / 'there')
    piece(tmp_path, {'.pieces/data/0/1.png': 'new', '.pieces/../../outside': 'new'}, 'data')
    state_at(tmp_path, 4)
    said = call('unpack', tmp_path / 'up', '--root', tmp_path / 'there', code=2)
    assert said.startswith('error: the parts of ') and 'is no name of a file below' in said and 'Traceback' not in said
    after = below(tmp_path / 'there')
    assert {name: after[name] for name in before} == before
    assert after['experiments/run/losses.csv'] == 'at 4' and not (tmp_path / 'outside').exists()
    assert {name for name in after if name.startswith('.pieces/')} == {'.pieces/data/0/1.png', '.pieces/run.json'}


def test_a_lock_is_not_carried(carried, tmp_path):
    run = tmp_path / 'there' / 'experiments' / 'run'
    (run / 'training_states').mkdir(parents=True)
    (run / 'training_states' / '4.state').touch()
    (run / 'losses.csv').touch()
    with owned(run, archive=False):
        call('state', '--opt', carried, '--root', tmp_path / 'there', '--to', tmp_path / 'down')
    assert json.loads((tmp_path / 'down' / 'run_4.parts.json').read_text())['files'] == 2


def test_overrides_of_the_first_piece_may_be_repeated_and_the_name_has_to_be(carried, tmp_path, pairs):
    """Data that an override names are found in every piece, although later ones do not say it again."""
    there = ['--opt', carried, '--root', tmp_path / 'there', '--minutes', 1e-9]
    (tmp_path / 'elsewhere').rename(pairs)
    data = f'datasets.train.dataroot_lq={pairs / "other"}'
    shutil.copytree(pairs / 'input', pairs / 'other')
    call('pack', '--opt', carried, '--root', tmp_path / 'here', '--to', tmp_path / 'again', data)
    call('unpack', tmp_path / 'again', '--root', tmp_path / 'there')
    pairs.rename(tmp_path / 'elsewhere')
    assert 'iteration 1;' in call('train', *there, 'name=second', 'manual_seed=4', data)
    said = call('train', *there, 'name=second', 'manual_seed=5', code=2)
    assert 'manual_seed=5 is not what this run was begun with (manual_seed=4)' in said
    assert 'leave out all overrides but name=second' in said
    said = call('train', *there, 'name=second', 'train.amp=bf16', code=2)
    assert 'train.amp=bf16 is not what this run was begun with (without train.amp)' in said
    assert 'iteration 2;' in call('train', *there, 'name=second')
    assert 'iteration 3;' in call('train', *there, 'manual_seed=4', 'name=second')
    assert [path.name for path in (tmp_path / 'there' / 'experiments').iterdir()] == ['second']


def test_a_first_piece_that_could_not_begin_chooses_nothing(carried, tmp_path):
    train = ['train', '--opt', carried, '--root', tmp_path / 'there', '--minutes', 1e-9]
    assert 'does not exist' in call(*train, 'datasets.train.dataroot_gt=/nowhere', 'manual_seed=4', code=2)
    assert 'iteration 1;' in call(*train, 'manual_seed=5')


@pytest.mark.parametrize('text', ['', '[]', '{', '{}', '[' * 100_000], ids=lambda text: text[:3])
def test_damaged_files_of_the_other_machine(tmp_path, text):
    (tmp_path / 'probe.json').write_text(text)
    said = call('wheels', '--root', tmp_path, '--probe', tmp_path / 'probe.json', code=2)
    assert said == f"error: '{tmp_path / 'probe.json'}' is damaged; make it again\n"


def test_what_the_first_piece_chooses_holds_for_the_others(carried, tmp_path):
    there = ['--opt', carried, '--root', tmp_path / 'there']
    text = call('report', *there, '--minutes', 600, '--iterations', 2, '--candidates', 'bf16,float32', 'manual_seed=4')
    assert 'float32' in text and 'bf16' in text and 'gets furthest: ' in text
    content = json.loads((tmp_path / 'there' / '.pieces' / 'throughput.json').read_text())
    speeds = {s['name']: s for s in content['speeds']}
    assert set(speeds) == {'float32', 'bf16'} and all(s['iterations'] > 0 for s in speeds.values())
    best = 'bf16' if content['overrides'] else 'float32'
    assert not (tmp_path / 'there' / 'experiments').exists()
    text = call('train', *there, '--minutes', 1e-9, '--total_iter', 2, '--fastest', 'manual_seed=4')
    assert '2 iterations instead of 4, schedules in proportion' in text and 'iteration 1;' in text
    call('state', *there, '--to', tmp_path / 'down')
    for folder in ('experiments', '.pieces'):  # the data are carried again
        shutil.copytree(tmp_path / 'there' / folder, tmp_path / 'next' / folder, ignore=shutil.ignore_patterns('run*'))
    (tmp_path / 'next' / '.pieces' / 'throughput.json').unlink()
    call('unpack', tmp_path / 'down', '--root', tmp_path / 'next', bare=True)
    again = ['train', '--opt', carried, '--root', tmp_path / 'next', '--minutes', 600]
    assert 'total_iter 3 is not what this run was begun with (2)' in call(*again, '--total_iter', 3, code=2)
    assert 'the run has ended' in call(*again, '--fastest')
    options = json.loads((tmp_path / 'next' / 'experiments' / 'run' / 'options.json').read_text())
    assert (options['train']['total_iter'], options['train']['scheduler']['periods']) == (2, [50])
    assert options['manual_seed'] == 4 and (options['train'].get('amp') == 'bf16') == (best == 'bf16')


def test_probe_needs_nothing(tmp_path):
    found = json.loads(call('probe', '--json', tmp_path / 'probe.json', bare=True))
    assert {'torch', 'numpy', 'natsort', 'pydantic'} <= set(found['missing'])
    assert found['python'] == '.'.join(map(str, sys.version_info[:2]))
    written = json.loads((tmp_path / 'probe.json').read_text())
    assert set(written.pop('installed')) <= {'retinexmamba'} and written == found  # the checkout may say what it is
    assert json.loads(call('probe'))['missing'] == []


def test_wheels_leave_out_what_pytorch_was_built_with(tmp_path, monkeypatch):
    commands = []

    def pip(verb, *arguments):
        commands.append([verb, *map(str, arguments)])
        for name in ('natsort-8.4.0-py3', 'numpy-2.5.5-cp312', 'typing_extensions-4.16.0-py3',
                     'opencv_python_headless-5-x'):
            (tmp_path / f'{name}-none-any.whl').touch()

    monkeypatch.setattr(packages, '_pip', pip)
    machine = {
        'python': '3.12', 'missing': ['natsort', 'opencv-python-headless'],
        'installed': ['numpy', 'torch', 'typing-extensions']
    }
    found = [path.name.split('-')[0] for path in packages.download(machine, tmp_path)]
    assert found == ['natsort', 'opencv_python_headless', 'typing_extensions']
    assert commands[0][0] == 'download' and commands[0][-2:] == machine['missing']
    assert '--python-version=3.12' in commands[0]
    with pytest.raises(UserError, match='no PyTorch'):
        packages.download(machine | {'missing': ['torch']}, tmp_path)


def test_wheels_arrive_in_the_folder_that_training_imports_from(tmp_path):
    """A wheel made here: a zip with one module and what pip wants to know of it."""
    import zipfile
    folder = tmp_path / 'here' / '.pieces' / 'wheels'
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / 'made_here-1.0-py3-none-any.whl', 'w') as wheel:
        wheel.writestr('made_here.py', 'VALUE = 7\n')
        wheel.writestr('made_here-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\nName: made-here\nVersion: 1.0\n')
        wheel.writestr('made_here-1.0.dist-info/WHEEL',
                       'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
        wheel.writestr('made_here-1.0.dist-info/RECORD', '')
    packages.install([folder / 'made_here-1.0-py3-none-any.whl'], tmp_path / 'site')
    assert (tmp_path / 'site' / 'made_here.py').read_text() == 'VALUE = 7\n'


def test_wrong_calls(tiny_options, tmp_path):
    options = tiny_options()
    assert 'there is no training state' in call('state', '--opt', options, '--root', tmp_path, code=2)
    assert 'is not a folder' in call('unpack', tmp_path / 'none', '--root', tmp_path, code=2)
    assert 'there is no file' in call('train', '--opt', options, '--root', tmp_path, '--minutes', 1, '--fastest',
                                      code=2)
    text = call('report', '--opt', options, '--root', tmp_path, '--minutes', 1, '--candidates', 'bf61', code=2)
    assert "there is no 'bf61'. Did you mean 'bf16'?" in text
    staged = tiny_options('staged', stages=[{'name': 'a'}, {'name': 'b'}])
    assert 'has stages' in call('train', '--opt', staged, '--root', tmp_path, '--minutes', 1, code=2)
    (tmp_path / 'probe.json').write_text(json.dumps({'missing': []}))
    assert 'nothing is missing there' in call('wheels', '--root', tmp_path, '--probe', tmp_path / 'probe.json')
    content = yaml.safe_load(options.read_text())
    content['datasets']['train']['dataroot_lq'] = ['a', 'b']
    (tmp_path / 'several.yml').write_text(yaml.safe_dump(content))
    refused = call('pack', '--opt', tmp_path / 'several.yml', '--root', tmp_path, code=2)
    assert 'train.dataroot_lq: only data sets of single' in refused
    assert not (tmp_path / 'experiments').exists()
