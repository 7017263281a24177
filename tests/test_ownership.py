"""A run's folder belongs to one process: others are refused, what was killed is no obstacle, earlier runs are kept."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from basicsr.registry import METRIC_REGISTRY
from basicsr.test import main as run_test
from basicsr.train import main as train
from basicsr.utils import ownership
from basicsr.utils.errors import UserError
from basicsr.utils.files import atomic_write, kept
from basicsr.utils.ownership import owned

HOLD = """
import sys, time
from pathlib import Path
from basicsr.utils.ownership import owned
with owned(Path(sys.argv[1]), archive=False):
    print('owned', flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other():
    """Starts a process that owns a folder until it is killed."""
    children = []

    def start(folder: Path) -> subprocess.Popen:
        child = subprocess.Popen([sys.executable, '-c', HOLD, str(folder)], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': str(ROOT)}, text=True)
        children.append(child)
        assert child.stdout.readline() == 'owned\n'
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file()}


@pytest.mark.parametrize('more', [[], ['--auto_resume']])
def test_a_second_start_leaves_the_first_alone(tiny_options, tmp_path, other, capsys, more):
    run = tmp_path / 'experiments' / 'tiny'
    child = other(run)
    before = files(tmp_path)
    assert train([str(tiny_options()), *more]) == 2
    said = capsys.readouterr().err
    assert f"'{run}' is in use by process {child.pid} on " in said and 'give this run another name=' in said
    assert files(tmp_path) - before == {'tiny.yml'} and len(list((tmp_path / 'experiments').iterdir())) == 1


def test_what_was_killed_is_no_obstacle(tiny_options, tmp_path, other):
    run = tmp_path / 'experiments' / 'tiny'
    child = other(run)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (run / '.lock').exists()
    assert train([str(tiny_options())]) == 0
    assert (run / 'models' / 'net_g_latest.pth').is_file()
    assert len(list((tmp_path / 'experiments').glob('tiny_archived_*'))) == 1
    assert not {name for name in files(tmp_path / 'experiments') if Path(name).name in ('.lock', '.owner.json')}


def test_a_stage_in_use_stops_the_start_of_all(tiny_options, tmp_path, other, capsys):
    options = str(tiny_options(stages=[{'name': 'a'}, {'name': 'b'}]))
    assert train([options]) == 0
    other(tmp_path / 'experiments' / 'tiny_b')
    before = files(tmp_path)
    assert train([options]) == 2
    assert "tiny_b' is in use by" in capsys.readouterr().err and files(tmp_path) == before


def test_results_belong_to_one_test(tiny_options, tmp_path, other, capsys):
    options = str(tiny_options())
    assert train([options]) == 0
    other(tmp_path / 'results' / 'tiny')
    weights = tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_latest.pth'
    assert run_test([options, f'path.pretrain_network_g={weights}']) == 2
    assert "results/tiny' is in use by process" in capsys.readouterr().err


def test_of_processes_that_start_at_once_one_owns(tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'earlier.txt').write_text('kept')
    code = HOLD.replace('archive=False', 'archive=True').replace('sys.stdin.read()', 'time.sleep(2)')
    children = [
        subprocess.Popen([sys.executable, '-c', code, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env={**os.environ, 'PYTHONPATH': str(ROOT)}, text=True) for _ in range(4)
    ]
    ended = [child.communicate() for child in children]
    owners = [out for out, _ in ended if out == 'owned\n']
    assert len(owners) == 1, ended
    assert all('is in use by' in error for out, error in ended if not out)
    assert [p.read_text() for p in tmp_path.glob('run_archived_*/earlier.txt')] == ['kept']


def test_a_file_system_without_locks_is_said(tmp_path, messages, monkeypatch):

    def acquire(self):
        raise NotImplementedError('FileSystem does not appear to support flock')

    monkeypatch.setattr(ownership.FileLock, 'acquire', acquire)
    with owned(tmp_path / 'run', archive=False):
        pass
    assert [m for m in messages if 'knows no locks' in m]


def test_the_owner_is_told(tmp_path):
    with owned(tmp_path / 'run', archive=False) as archived:
        said = json.loads((tmp_path / 'run' / '.owner.json').read_text())
        assert archived is None and said['process'] == os.getpid() and said['host'] and said['started']
        with pytest.raises(UserError, match=f'in use by process {os.getpid()} on '):
            ownership.check_free(tmp_path / 'run')
    ownership.check_free(tmp_path / 'run')
    assert files(tmp_path) == set()


WANDB = """
class errors:
    class Error(Exception):
        pass

class Settings:
    def __init__(self, project=None, run_id=None):
        if '/' in project or '/' in (run_id or ''):
            raise errors.Error('Invalid name')

def login():
    import os
    if not os.environ.get('WANDB_API_KEY'):
        raise errors.Error('No API key configured.')

def init(id, resume, name, config, project, sync_tensorboard):
    import json, os
    if project == 'full':
        raise RuntimeError('project quota\\nreached')
    class Run:
        def finish(self):
            with open(os.environ['WANDB_LOG'], 'a') as file:
                file.write(json.dumps([id, resume, name, project]) + '\\n')
    return Run()
"""


def test_wandb_is_asked_before_folders_are_touched(tiny_options, tmp_path, capsys, monkeypatch, request):
    request.addfinalizer(lambda: sys.modules.pop('wandb', None))
    (tmp_path / 'modules').mkdir()
    (tmp_path / 'modules' / 'wandb.py').write_text(WANDB)
    monkeypatch.syspath_prepend(tmp_path / 'modules')
    monkeypatch.setenv('WANDB_LOG', str(tmp_path / 'log'))
    options = [str(tiny_options()), 'logger.use_tb_logger=true', 'logger.wandb.project=p']
    assert train(options) == 2
    assert 'logger.wandb: No API key configured. (or WANDB_MODE=offline' in capsys.readouterr().err
    monkeypatch.setenv('WANDB_API_KEY', 'x')
    assert train([*options, 'logger.wandb.resume_id=a/b']) == 2
    assert capsys.readouterr().err.endswith('error: logger.wandb: Invalid name\n')
    assert not (tmp_path / 'experiments').exists()
    assert train(options) == 0 and train([*options, 'logger.wandb.resume_id=abc']) == 0
    before = files(tmp_path / 'experiments')
    assert train([*options, 'logger.wandb.project=full']) == 2
    assert 'logger.wandb: project quota reached (or WANDB_MODE=offline' in capsys.readouterr().err
    assert files(tmp_path / 'experiments') == before
    assert [json.loads(line) for line in (tmp_path / 'log').read_text().splitlines()] == [[None, None, 'tiny', 'p'],
                                                                                          ['abc', 'allow', 'tiny', 'p']]


def test_a_package_that_cannot_be_imported_is_told_before_folders_are_touched(tiny_options, tmp_path, capsys,
                                                                              monkeypatch):
    from basicsr.training import preflight

    def load():
        raise TypeError('Descriptors cannot be created directly')

    monkeypatch.setattr(preflight, 'tensorboard', load)
    assert train([str(tiny_options()), 'logger.use_tb_logger=true']) == 2
    assert ('logger.use_tb_logger is set, but tensorboard cannot be imported (TypeError: Descriptors cannot'
            in capsys.readouterr().err)
    assert not (tmp_path / 'experiments').exists()


@pytest.mark.parametrize('package', ['wandb', 'tensorboard'])
def test_a_logger_that_is_not_there_is_told_before_folders_are_touched(tiny_options, tmp_path, capsys, monkeypatch,
                                                                       package):
    from basicsr.training import preflight
    assert train([str(tiny_options())]) == 0
    monkeypatch.setattr(preflight.importlib.util, 'find_spec', lambda name: None if name == package else object())
    before = files(tmp_path)
    assert train([str(tiny_options()), 'logger.use_tb_logger=true', 'logger.wandb.project=p']) == 2
    assert f'is set, but {package} is not installed: pip install {package}' in capsys.readouterr().err
    assert files(tmp_path) == before


@pytest.mark.parametrize('way', ['a file', 'a link that leads nowhere', 'not writable'])
def test_a_place_for_folders_that_is_none_is_told_before_folders_are_touched(tiny_options, tmp_path, capsys,
                                                                             monkeypatch, way):
    options = str(tiny_options())
    assert train([options]) == 0
    place = tmp_path / 'experiments' / 'tb_logger'
    if way == 'a file':
        place.write_text('')
    elif way == 'not writable':
        place.mkdir()
        monkeypatch.setattr(ownership.os, 'access', lambda path, mode: Path(path) != place)  # all is allowed to root
    else:
        place.symlink_to(tmp_path / 'nowhere')
    before = files(tmp_path)
    assert train([options, 'logger.use_tb_logger=true']) == 2
    said = f"'{place / 'tiny'}' cannot be made: '{place}' "
    assert said + ('may not be written to' if way == 'not writable' else 'is not a folder') in capsys.readouterr().err
    assert files(tmp_path) == before
    assert way == 'not writable' or train([options]) == 0  # who logs nothing needs no place for it


TAKES_AWAY = """
import shutil
from pathlib import Path
from basicsr.utils.registry import METRIC_REGISTRY

@METRIC_REGISTRY.register()
def calculate_removal(img, img2, folder='', way='', **kwargs):
    if Path(folder).is_dir() and not Path(folder + '_moved').exists():
        shutil.move(folder, folder + '_moved')
        if way == 'removed':
            shutil.rmtree(folder + '_moved')
        if way == 'replaced':
            Path(folder).mkdir()
    return 1.0
"""


@pytest.fixture
def removal(tmp_path, monkeypatch):
    """The file of a metric that takes a folder away, and its options."""
    for name, value in (('_extra', []), ('_index', None), ('_objects', dict(METRIC_REGISTRY._objects))):
        monkeypatch.setattr(METRIC_REGISTRY, name, value)  # the other tests do not know it
    (tmp_path / 'removal_metric.py').write_text(TAKES_AWAY)

    def options(folder: Path, way: str) -> list[str]:
        block = {'type': 'calculate_removal', 'folder': str(folder), 'way': way}
        return [f'metric_files=["{tmp_path / "removal_metric.py"}"]', f'val.metrics.removal={json.dumps(block)}']

    return options


@pytest.mark.parametrize('way', ['removed', 'renamed', 'replaced'])
@pytest.mark.parametrize('more', [[], ['val.save_img=true'], ['logger.save_checkpoint_freq=1']], ids=str)
def test_a_run_whose_folder_is_taken_away_ends(tiny_options, tmp_path, capsys, removal, way, more):
    run = tmp_path / 'experiments' / 'tiny'
    assert train([str(tiny_options()), *removal(run, way), 'val.val_freq=2', *more]) == 2
    said = capsys.readouterr().err
    assert f"'{run}' was removed, renamed or replaced while it was written to" in said and 'Traceback' not in said
    assert run.is_dir() == (way == 'replaced') and files(run) == set()


@pytest.mark.parametrize('inside', ['models', 'training_states'])
def test_a_run_whose_weights_or_states_are_taken_away_ends(tiny_options, tmp_path, capsys, removal, inside):
    folder = tmp_path / 'experiments' / 'tiny' / inside
    often = ['val.val_freq=2', 'logger.save_checkpoint_freq=1']
    assert train([str(tiny_options()), *removal(folder, 'removed'), *often]) == 2
    said = capsys.readouterr().err
    assert f"'{folder}' was removed, renamed or replaced while it was written to" in said and not folder.exists()


def test_pictures_may_be_removed_while_a_run_goes_on(tiny_options, tmp_path, removal):
    folder = tmp_path / 'experiments' / 'tiny' / 'visualization'
    pictures = ['val.val_freq=2', 'val.save_img=true']
    assert train([str(tiny_options()), *removal(folder, 'removed'), *pictures]) == 0
    assert list(folder.rglob('*_4.png')) and not list(folder.rglob('*_2.png'))


def test_a_test_whose_folder_is_taken_away_ends(tiny_options, tmp_path, capsys, removal):
    options, results = str(tiny_options()), tmp_path / 'results' / 'tiny'
    assert train([options]) == 0
    weights = tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_latest.pth'
    assert run_test([options, f'path.pretrain_network_g={weights}', *removal(results, 'removed')]) == 2
    assert f"'{results}' was removed" in capsys.readouterr().err and not results.exists()


def test_a_folder_is_kept_while_something_writes_to_it(tmp_path):
    with kept(tmp_path / 'a'):
        (tmp_path / 'a').rename(tmp_path / 'b')
        for place in ('a', 'a/deep/inside'):
            with pytest.raises(UserError, match="a' was removed, renamed or replaced"), \
                    atomic_write(tmp_path / place / 'x.txt', 'w') as file:
                file.write('x')
        with atomic_write(tmp_path / 'other' / 'x.txt', 'w') as file:
            file.write('x')
    with atomic_write(tmp_path / 'a' / 'x.txt', 'w') as file:
        file.write('x')
    assert files(tmp_path) == {'other/x.txt', 'a/x.txt'}
