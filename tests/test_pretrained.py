"""Weights that come with the project: their names, what is damaged, and that the manifest says what is true."""
from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT, run_python

from basicsr.archs import build_network
from basicsr.cli import main as basicsr
from basicsr.commands.enhance import main as enhance
from basicsr.commands.evaluate import main as evaluate
from basicsr.commands.export import main as export
from basicsr.config import load_options
from basicsr.data import build_dataset
from basicsr.evaluation.data_sets import DataSet
from basicsr.evaluation.evaluate import evaluate as evaluate_all
from basicsr.evaluation.restoring import by_restorer
from basicsr.inference.build import build_restorer
from basicsr.publishing.model_card import cards
from basicsr.publishing.shipped_weights import measured
from basicsr.utils import pretrained
from basicsr.utils.errors import UserError
from basicsr.utils.pretrained import LIMIT, default_weights, find_weights, read_manifest
from basicsr.utils.weights import load_weights, save_safetensors, save_weights

NETWORK = {'type': 'RetinexMamba', 'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2}
MEANS = {
    f'{metric} {protocol}': value for protocol in ('retinexformer', 'basicsr', 'restormer-rgb3d')
    for metric, value in (('psnr', 20.123), ('ssim', .7801))
}


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder that ships the random network 'tiny_net', in place of the project's own."""
    folder = tmp_path / 'pretrained_weights'
    folder.mkdir()
    torch.manual_seed(0)
    net = build_network(NETWORK)
    save_safetensors(folder / 'tiny_net.safetensors', net.state_dict(), NETWORK, name='tiny_net', licence='MIT')
    data = (folder / 'tiny_net.safetensors').read_bytes()
    entry = {
        'file': 'tiny_net.safetensors',
        'sha256': hashlib.sha256(data).hexdigest(),
        'bytes': len(data),
        'network': NETWORK,
        'parameters': sum(p.numel() for p in net.parameters()),
        'options': 'Options/tiny.yml',
        'changes': {},
        'data': 'nothing',
        'selection': 'the first',
        'iterations': 1200,
        'machine': 'none',
        'entry': 'best EMA',
        'metrics': {
            'dataset': 'toy', 'images': 15, 'per_image': {}, 'candidates': {
                'best EMA': {'iterations': 1200, 'plain': MEANS, 'GT-mean': {k: v + .1 for k, v in MEANS.items()}}
            }
        },
        'paper': {'psnr': 24.03, 'ssim': .827, 'parameters': '4.59 M', 'source': 'a larger network'},
        'licence': 'MIT',
    }
    (folder / 'manifest.json').write_text(json.dumps({'default': 'tiny_net', 'weights': {'tiny_net': entry}}))
    monkeypatch.setattr(pretrained, 'folder', lambda: folder)
    return folder


@pytest.fixture
def nothing_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, 'folder', lambda: tmp_path / 'no such folder')


# --- names


def test_a_file_wins_over_a_name(shipped, tmp_path, monkeypatch):
    assert find_weights('tiny_net') == shipped / 'tiny_net.safetensors' and default_weights() == 'tiny_net'
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tiny_net').mkdir()  # a folder, of a run perhaps, is no weight file
    assert find_weights('tiny_net') == shipped / 'tiny_net.safetensors'
    (tmp_path / 'tiny_net').rmdir()
    save_weights(tmp_path / 'tiny_net', {'params': build_network(NETWORK).state_dict()})
    assert str(find_weights('tiny_net')) == 'tiny_net'


def test_unknown_names_are_explained(shipped):
    with pytest.raises(UserError, match=r"no weight file 'tinynet', .* Did you mean 'tiny_net'\? Names: tiny_net$"):
        find_weights('tinynet')


def test_nothing_shipped(nothing_shipped):
    assert read_manifest() == {'default': None, 'weights': {}} and default_weights() is None
    with pytest.raises(UserError,
                       match=r"no weight file 'tiny_net', and no weights of that name come with the toolbox\.$"):
        find_weights('tiny_net')


@pytest.mark.parametrize('content, message', [
    (None, "should be in '.*tiny_net.safetensors', which is missing; get it again"),
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\nsize 12345\n',
     'pointer of Git LFS .* git lfs pull'),
    (b'half', r"is not what was published as 'tiny_net' \(it has 4 of [\d,]+ bytes\); get it again"),
    (b'', r'\(it has 0 of [\d,]+ bytes\)'),
    ('flipped', 'its SHA-256 is another one'),
])
def test_damaged_files_are_named(shipped, content, message):
    file = shipped / 'tiny_net.safetensors'
    data = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if content == 'flipped' else content)
    with pytest.raises(UserError, match=message) as caught:
        find_weights('tiny_net')
    assert str(file) in str(caught.value)


@pytest.mark.parametrize('text', ['{', '[]', '{"default": null}', '{"default": null, "weights": 3}'])
def test_a_damaged_manifest_is_named(shipped, text):
    (shipped / 'manifest.json').write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json' is damaged"):
        find_weights('tiny_net')


# --- commands


def test_enhance_takes_the_default_and_says_so(shipped, pairs, tmp_path, messages):
    photo = str(pairs / 'input' / '1.png')
    assert enhance([photo, '-o', str(tmp_path / 'a.png')]) == 0
    assert ('no --weights given: taking tiny_net, 20.12 dB PSNR, 0.7801 SSIM on the 15 images of toy (protocol'
            ' retinexformer); licence: MIT') in messages
    del messages[:]
    for weights in ('tiny_net', str(shipped / 'tiny_net.safetensors')):
        assert enhance([photo, '-o', str(tmp_path / 'b.png'), '--weights', weights, '--overwrite']) == 0
        assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()
    assert not any('no --weights given' in text for text in messages)


def test_enhance_without_shipped_weights_asks_for_them(nothing_shipped, pairs, tmp_path, capsys):
    assert enhance([str(pairs / 'input'), '-o', str(tmp_path / 'out')]) == 2
    assert 'which network? give --weights FILE' in capsys.readouterr().err


def test_an_option_file_without_weights_gets_no_default(shipped, tiny_options, pairs, tmp_path, capsys):
    """The network that it describes is another one."""
    assert enhance([str(pairs / 'input'), '-o', str(tmp_path / 'out'), '--opt', str(tiny_options())]) == 2
    assert 'which network? give --weights FILE' in capsys.readouterr().err


def test_evaluate_takes_names_and_no_default(shipped, tiny_options, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = str(tiny_options('o'))
    assert evaluate(['--opt', options]) == 2 and 'give --weights FILE' in capsys.readouterr().err
    found = []
    for weights in ('tiny_net', str(shipped / 'tiny_net.safetensors')):
        assert evaluate(['--opt', options, '--weights', weights, '--dataset', 'd', '--no_images']) == 0
        found.append(json.loads((tmp_path / 'results' / 'd' / 'o' / 'tiny_net' / 'metrics.json').read_text()))
    assert found[0]['psnr basicsr'] == found[1]['psnr basicsr'] and found[0]['weights'] == 'tiny_net'
    assert evaluate(['--opt', options, '--weights', 'tiny_nett']) == 2
    assert "Did you mean 'tiny_net'?" in capsys.readouterr().err


def test_export_takes_names(shipped, tmp_path):
    assert export(['--weights', 'tiny_net', '-o', str(tmp_path / 'copy.safetensors')]) == 0
    mine, theirs = (load_weights(f).state for f in (tmp_path / 'copy.safetensors', shipped / 'tiny_net.safetensors'))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
    assert export(['--weights', 'tiny_net', '-o', str(shipped / 'tiny_net.safetensors')]) == 2


def test_option_files_take_names(shipped, tiny_options):
    opt = load_options(tiny_options(), ['path.pretrain_network_g=tiny_net'], is_train=False).opt
    assert opt['path']['pretrain_network_g'] == str(shipped / 'tiny_net.safetensors')
    with pytest.raises(UserError, match="'tinny' does not exist"):
        load_options(tiny_options(), ['path.pretrain_network_g=tinny'], is_train=False)


def test_list_shows_them(shipped, capsys):
    assert basicsr(['list', 'weights']) == 0
    head, name, text = capsys.readouterr().out.splitlines()
    assert head == 'weights:' and name.split() == ['tiny_net', '(default)', 'RetinexMamba,', '34,449', 'parameters']
    assert '20.12 dB PSNR, 0.7801 SSIM' in text and 'protocol retinexformer' in text and 'licence: MIT' in text


def test_list_when_there_are_none(nothing_shipped, capsys):
    assert basicsr(['list', 'weights']) == 0
    assert capsys.readouterr().out == 'weights:\n  none come with this version\n'


# --- where they are


def test_an_installed_package_has_them_inside(shipped, tmp_path):
    """Those of the manifest, and not what a user keeps beside them; found from any folder."""
    source, built = shipped.parent, shipped.parent / 'build' / 'lib'
    (shipped / 'mine.safetensors').write_bytes(b'1')
    shutil.copytree(ROOT / 'basicsr', source / 'basicsr', ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'README.md'):
        shutil.copy(ROOT / name, source)
    done = run_python('setup.py', 'build_py', '--build-lib', built, cwd=source)
    assert done.returncode == 0, done.stderr
    inside = built / 'basicsr' / 'shipped' / 'pretrained_weights'
    assert {p.name for p in inside.iterdir()} == {'manifest.json', 'tiny_net.safetensors'}
    for package, file in ((built, inside / 'tiny_net.safetensors'), (source, shipped / 'tiny_net.safetensors')):
        code = 'from basicsr.utils.pretrained import find_weights; print(find_weights("tiny_net"))'
        found = run_python('-c', code, cwd=Path('/'), env={**os.environ, 'PYTHONPATH': str(package)})
        assert found.stdout.strip() == str(file), found.stderr


# --- METRICS.md


def test_what_a_paper_claims_has_a_row_of_its_own(shipped):
    manifest = read_manifest()
    table = [line for line in measured(manifest).splitlines() if line.startswith('|')]
    head, _, ours, claimed, *_ = ([cell.strip() for cell in line[1:-1].split('|')] for line in table)
    assert head == ['network', 'parameters', 'trained on', 'iterations', 'PSNR / SSIM', 'with GT-mean']
    assert ours == ['`tiny_net`, the default, measured', '34,449', 'nothing', '1,200', '20.12 / 0.780', '20.22 / 0.880']
    assert claimed == ['*claimed for another network: a larger network*', '*4.59 M*', '', '', '*24.03 / 0.827*', '']
    manifest['weights']['tiny_net']['paper'] = None
    assert '| 20.12 / 0.780 | 20.22 / 0.880 |' in measured(manifest) and 'claimed' not in measured(manifest)
    manifest['weights']['tiny_net']['changes'] = {'train.total_iter': 5}
    for words in ('changed: train.total_iter 5.', 'run: best EMA. the first.', 'Machine: none.',
                  '(../Options/tiny.yml)'):
        assert words in measured(manifest)


def test_cards_are_those_of_the_manifest():
    folder = ROOT / 'pretrained_weights' / 'cards'
    assert {file.stem: file.read_text(encoding='utf-8') for file in folder.glob('*.md')} == cards(OURS)
    for text in cards(OURS).values():
        assert '- For: ' in text and '- Limits: ' in text


def test_metrics_are_those_of_the_manifest():
    assert (ROOT / 'pretrained_weights' / 'METRICS.md').read_text(encoding='utf-8') == measured(OURS)


# --- what this project ships

OURS = read_manifest(ROOT / 'pretrained_weights')


def test_the_default_is_one_of_them():
    assert OURS['default'] in OURS['weights'] if OURS['weights'] else OURS['default'] is None


def check_entry(name, entry, folder):
    """What a test of the project's own weights asserts of each entry."""
    file = folder / entry['file']
    data = file.read_bytes()
    assert file.name == f'{name}.safetensors' and len(data) == entry['bytes'] < LIMIT
    assert hashlib.sha256(data).hexdigest() == entry['sha256']
    weights = load_weights(file)
    assert weights.network == entry['network'] and weights.meta == {'name': name, 'licence': entry['licence']}
    net = build_network(entry['network'])
    net.load_state_dict(weights.state)
    assert sum(p.numel() for p in net.parameters()) == entry['parameters']
    assert (folder.parent / entry['options']).is_file()
    shipped_numbers = entry['metrics']['candidates'][entry['entry']]
    assert shipped_numbers['iterations'] == entry['iterations']
    own = entry['metrics']['per_image'].values()
    assert len(own) == entry['metrics']['images']
    assert sum(own) / len(own) == pytest.approx(shipped_numbers['plain']['psnr retinexformer'], abs=2e-4)


def test_entries_are_true():
    for name, entry in OURS['weights'].items():
        check_entry(name, entry, ROOT / 'pretrained_weights')


def reproduce(entry, folder, count=2):
    """The first images of the test set of the published option file have the PSNR that the manifest says."""
    opt = load_options(folder.parent / entry['options'], is_train=False).opt
    block = opt['datasets'][entry['metrics']['block']]
    restorer = build_restorer(folder / entry['file'], opt, device='cpu')
    metrics = {'psnr': {'type': 'calculate_psnr', 'protocol': 'retinexformer'}}
    found = evaluate_all(by_restorer(restorer), DataSet(build_dataset(block), block, range(count)).loader(), metrics)
    assert len(found.rows) == count
    for row in found.rows:
        assert row.values['psnr'] == pytest.approx(entry['metrics']['per_image'][row.name], abs=.01)


@pytest.mark.skipif(not (ROOT / 'data' / 'LOLv1').is_dir(), reason='needs LOL-v1 at data/LOLv1')
def test_measured_numbers_reproduce_on_lol_v1():
    for entry in OURS['weights'].values():
        reproduce(entry, ROOT / 'pretrained_weights')
