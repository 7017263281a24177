"""Names that become paths: every place that makes one of a name refuses those that lead elsewhere, before all else."""
from __future__ import annotations

import hashlib
import json
import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT

from basicsr.cli import main as basicsr
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.evaluation.evaluate import Images, Restored
from basicsr.evaluation.validation import image_file
from basicsr.evaluation.weight_files import own_folders
from basicsr.utils import pretrained
from basicsr.utils.errors import UserError
from basicsr.utils.img import imwrite
from basicsr.utils.names import below, checked, namesake
from basicsr.utils.pretrained import WeightFile

sys.path.insert(0, str(ROOT / 'scripts'))
from pieces import parts

ELSEWHERE = [
    '', ' ', '.', '..', '../photos', '/photos', 'a/b', 'a\\b', 'C:b', 'a\nb', 'a\0b', 'x' * 201, 'a.', 'a ', '...',
    'CON', 'con.png', 'Com1', 'lpt² .a'
]
outside = pytest.mark.parametrize('name', ELSEWHERE, ids=repr)


@outside
def test_what_is_no_name(name):
    with pytest.raises(UserError, match=r'^name: must '):
        checked(name, 'name')


@pytest.mark.parametrize('name', ['run', '7', 'lol v1', 'ä-夜', '.hidden', 'a.b', 'x' * 200, 'console', 'com', ' a'])
def test_what_is_a_name(name):
    assert checked(name, 'name') == name


@pytest.mark.parametrize('name', ['../a.png', '/a.png', 'b/../../a.png', 'b/..', 'a\0.png'])
def test_what_is_not_below_a_folder(name):
    with pytest.raises(UserError, match='is no name of a file below'):
        below('folder', 'task', name, what='X')


def test_what_is_below_a_folder():
    assert below('folder', '', 'b/a.png', what='X') == Path('folder/b/a.png')


@pytest.mark.parametrize('letter', ['a', 'ä', '夜', '\udcff'])  # the last is a byte that is no UTF-8
def test_a_name_that_is_too_long_is_shortened(tmp_path, letter):
    longest, width = 'x.png'.rjust(255, 'a'), len(os.fsencode(letter))
    assert below(tmp_path, longest, what='X').name == longest
    names = [f'{letter * (240 // width)}{middle}_{"s" * 20}_{i}.png' for middle in 'pq' for i in (5000, 10000)]
    paths = [below(tmp_path, 'b', name, what='X') for name in names]
    assert len(set(paths)) == 4 and all(p == below(tmp_path, 'b', n, what='X') for p, n in zip(paths, names))
    for name, path in zip(names, paths):
        imwrite(np.zeros((8, 8, 3), np.uint8), path)
        assert path.name.endswith(name[-20:]) and (letter == '\udcff' or path.name[:20] == name[:20])


def test_pictures_of_long_names_are_saved(tiny_options, tmp_path):
    """A file system takes 255 bytes; the iteration, or the name of the run, stands behind the picture's own."""
    for side in ('input', 'target'):
        for stem in ('n' * 250 + 'p', 'n' * 250 + 'q'):
            imwrite(np.zeros((8, 12, 3), np.uint8), tmp_path / 'long' / side / f'{stem}.png')
    val = {'dataroot_lq': str(tmp_path / 'long' / 'input'), 'dataroot_gt': str(tmp_path / 'long' / 'target')}
    options = str(tiny_options(datasets={'val': val}, val={'save_img': True}))
    weights = tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_latest.pth'
    assert basicsr(['train', '--opt', options]) == 0
    assert basicsr(['test', '--opt', options, f'path.pretrain_network_g={weights}']) == 0
    assert len(list((tmp_path / 'experiments/tiny/visualization').glob('n*/n*_4.png'))) == 2
    assert len(list((tmp_path / 'results/tiny/visualization/toy').glob('n*_tiny.png'))) == 2


@pytest.mark.parametrize('name, other', [
    ('LOL', 'lol'), ('café', unicodedata.normalize('NFD', 'CAFÉ')), ('STRASSE', 'straße'),
])  # yapf: disable
def test_names_that_are_one_folder_somewhere(name, other, tiny_options, tmp_path, capsys):
    assert namesake(name, ['x', other]) == other and namesake(other, [name]) == name
    options = tiny_options(datasets={'val': {'name': name}})
    more = yaml.safe_load(options.read_text())
    more['datasets']['val_2'] = {**more['datasets']['val'], 'name': other}
    options.write_text(yaml.safe_dump(more))
    for command in ('train', 'test'):
        assert basicsr([command, '--opt', str(options)]) == 2
        said = capsys.readouterr().err
        assert f"datasets.val_2.name: '{other}', or '{name}', one folder on macOS and Windows," in said
        assert 'is the name of datasets.val already' in said and not (tmp_path / 'experiments').exists()


def test_names_that_windows_cuts():
    assert namesake('lol.', ['lol']) == 'lol' and namesake('lol', ['LOL ']) == 'LOL '


def test_names_that_are_folders_of_their_own():
    assert namesake('lol', ['lol_v1', '.lol', ' lol', 'l.ol']) is None


def test_weights_whose_names_differ_in_case_alone(tmp_path):
    files = [
        WeightFile(tmp_path / run / 'models' / f'{name}.pth', name)
        for run, name in (('a', 'net'), ('b', 'NET'), ('c', 'Net'))
    ]
    homes = own_folders(tmp_path / 'results', files)
    assert [home.name for home in homes] == ['net', 'b_NET', 'c_Net']
    assert own_folders(tmp_path / 'results', files[::-1]) == homes[::-1]


@pytest.fixture
def yard(tmp_path, tiny_options, monkeypatch):
    """A folder with an earlier run and photographs, whose content must stay as it is."""
    imwrite(np.zeros((8, 8, 3), np.uint8), tmp_path / 'photos' / 'a.png')
    (tmp_path / 'experiments' / 'earlier').mkdir(parents=True)
    (tmp_path / 'experiments' / 'earlier' / 'kept.txt').write_text('kept')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob('*'))
        if p.is_file()
    }


def refused(capsys, *argv: str) -> str:
    assert basicsr(list(argv)) == 2
    said = capsys.readouterr().err
    assert 'Traceback' not in said and ' must ' in said
    return said


NAMES = ['.', '..', '../photos', 'lol/run1', 'x' * 300]


@pytest.mark.parametrize('name', NAMES, ids=lambda n: n[:10])
@pytest.mark.parametrize('key', ['name', 'val.suffix', 'datasets.val.name'])
@pytest.mark.parametrize('command', ['train', 'test'])
def test_options(yard, tiny_options, capsys, command, key, name):
    options = tiny_options()
    before = content(yard)
    assert key in refused(capsys, command, '--opt', str(options), f'{key}={json.dumps(name)}')
    assert content(yard) == before


@pytest.mark.parametrize('key', ['val_', 'val_ ', 'val_.', 'val_..', 'val_C:x', 'test_a/b', 'val_' + 'x' * 200])
def test_keys_of_data_sets_are_names(yard, tiny_options, capsys, key):
    """What stands behind `val_` is a name, as one that is given by `name` would be."""
    options = tiny_options(datasets={key: {'type': 'PairedImageDataset'}})
    before = content(yard)
    assert f'datasets.{key}: must ' in refused(capsys, 'train', '--opt', str(options))
    assert content(yard) == before


def test_keys_that_are_one_folder_somewhere(tiny_options, capsys):
    options = tiny_options()
    more = yaml.safe_load(options.read_text())
    del more['datasets']['val']['name']
    more['datasets'] |= dict.fromkeys(('val_name', 'val_NAME.'), more['datasets']['val'])
    options.write_text(yaml.safe_dump(more, sort_keys=False))
    assert basicsr(['train', '--opt', str(options)]) == 2
    assert "'val_NAME.', or 'val_name', one folder on macOS and Windows, is the name of" in capsys.readouterr().err


@pytest.mark.parametrize('stage, reason', [
    ('.', 'must be a name'), ('..', 'must be a name'), ('x' * 300, 'must have at most 200 bytes'),
    ('x' * 199, "the run's whole name must have at most 200 bytes")])  # yapf: disable
@pytest.mark.parametrize('command', ['train', 'test', 'check-data'])
def test_stages(yard, tiny_options, capsys, command, stage, reason):
    options = tiny_options(stages=[{'name': 'first'}, {'name': stage}])
    before = content(yard)
    assert f'stages[1].name: {reason}' in refused(capsys, command, '--opt', str(options))
    assert content(yard) == before


def test_names_that_are_too_long_with_what_is_put_to_them(yard, tiny_options, capsys):
    options, space = str(tiny_options()), yard / 'space.yml'
    space.write_text('space:\n  train.optim_g.lr: {low: 1e-4, high: 1e-3}\n')
    study = yard / 'study.yml'
    study.write_text(f'base: {options}\nvariants: [{{name: {"x" * 200}}}]\n')
    before, long = content(yard), 'x' * 198
    said = refused(capsys, 'train', '--opt', options, '--debug', f'name={long}')
    assert "name: the run's whole name must have at most 200 bytes, not 'debug_x" in said
    for more in ([f'name={long}'], ['--study', long]):
        said = refused(capsys, 'search', '--opt', options, '--space', str(space), '--trials', '1', *more)
        assert 'the name of the study with that of a trial behind it: must have at most 200 bytes' in said
    assert 'name: must have at most 200 bytes' in refused(capsys, 'ablate', str(study))
    study.rename(yard / '.yml')
    assert "the name of '.yml' before its first dot: must be a name" in refused(capsys, 'ablate', '.yml')
    assert {k: v for k, v in content(yard).items()
            if k != '.yml'} == {k: v for k, v in before.items() if k != 'study.yml'}


def test_the_key_of_a_data_set_and_the_name_of_a_file(yard, tiny_options, capsys):
    options = tiny_options(datasets={'val_../../x': {'type': 'PairedImageDataset'}})
    assert "datasets.val_../../x: must be a name without '/'" in refused(capsys, 'train', '--opt', str(options))
    hidden = yard / '.yml'
    hidden.write_text(tiny_options().read_text().replace('name: tiny\n', ''))
    assert "the name of '" in refused(capsys, 'train', '--opt', str(hidden))


@pytest.mark.parametrize('name', NAMES, ids=lambda n: n[:10])
def test_commands(yard, tiny_options, capsys, name):
    options, space = str(tiny_options()), yard / 'space.yml'
    space.write_text('space:\n  train.optim_g.lr: {low: 1e-4, high: 1e-3}\n')
    study = yard / 'study.yml'
    study.write_text(f'name: {json.dumps(name)}\nbase: {options}\nvariants: [{{name: a}}]\n')
    before = content(yard)
    refused(capsys, 'search', '--opt', options, '--space', str(space), '--trials', '1', '--study', name)
    refused(capsys, 'evaluate', '--weights', 'retinexmamba_tiny', '--degraded_dir', 'photos', '--dataset', name)
    refused(capsys, 'ablate', str(study))
    assert content(yard) == before


def test_lists_of_images(yard):
    (yard / 'list.txt').write_text('a.png\n../experiments/earlier/kept.txt\n')
    with pytest.raises(UserError, match=r"list\.txt': '\.\./experiments/earlier/kept\.txt' is no name of a file below"):
        SingleImageDataset(str(yard / 'photos'), meta_info_file=str(yard / 'list.txt'))


@pytest.mark.parametrize('is_train', [True, False])
@pytest.mark.parametrize('task, name', [('', '../../a'), ('../..', 'a'), ('', '/a')])
def test_results(yard, is_train, task, name):
    opt = {'is_train': is_train, 'path': {'visualization': str(yard / 'seen')}, 'val': {}, 'name': 'run'}
    image = np.zeros((4, 4, 3), np.float32)
    with pytest.raises(UserError, match='is no name of a file below'):
        image_file(opt, 'set', Restored(task, name, '', Images(image, image, None), {}), 5)


def test_the_list_of_weights(yard, monkeypatch):
    entry = {'file': '../photos/a.png', 'sha256': '', 'bytes': 1}
    (yard / 'manifest.json').write_text(json.dumps({'default': None, 'weights': {'net': entry}}))
    monkeypatch.setattr(pretrained, 'folder', lambda: yard)
    with pytest.raises(UserError, match=r"'\.\./photos/a\.png' is no name of a file below"):
        pretrained.find_weights('net')


@pytest.mark.parametrize('name', ['../photos/a.part', '/etc/a.part', '..', 'a.png', 7, None])
def test_lists_of_parts(yard, name):
    (yard / 'photos' / 'a.part').write_text('a photograph')
    arrived = yard / 'arrived'
    arrived.mkdir()
    (arrived / 'data.parts.json').write_text(json.dumps({'files': 1, 'parts': [{'file': name, 'sha256': 'x'}]}))
    (arrived / 'data_000.part').write_text('part')
    before = content(yard)
    for call in (lambda: parts.waiting(arrived, check=True), lambda: parts.join(arrived, 'data', yard / 'out'),
                 lambda: parts.collect([arrived], yard / 'again')):
        with pytest.raises(UserError):
            call()
    assert {k: v for k, v in content(yard).items() if not k.startswith('again')} == before


@pytest.mark.parametrize('text', ['', '[]', '{"parts": 5}', '{"parts": [{}]}', '{"parts": ["a"]}', 'null', '\x00'])
def test_damaged_lists_of_parts(yard, text):
    (yard / 'data.parts.json').write_text(text)
    with pytest.raises(UserError, match='is damaged, or no list of parts; carry it again'):
        parts.waiting(yard, check=True)
