"""`scripts/publish_weights.py`: what it measures of a run, writes, and refuses."""
from __future__ import annotations

import importlib.util
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from test_pretrained import NETWORK, check_entry, reproduce

from basicsr.archs import build_network
from basicsr.commands.evaluate import main as evaluate
from basicsr.config import load_options
from basicsr.publishing.finished_run import FILES
from basicsr.publishing.shipped_weights import measured
from basicsr.train import train_pipeline
from basicsr.utils import pretrained
from basicsr.utils.restricted_unpickling import read_file
from basicsr.utils.weights import load_weights, save_weights

spec = importlib.util.spec_from_file_location('publish_weights', ROOT / 'scripts' / 'publish_weights.py')
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

WORDS = [
    '--name', 'tiny_net', '--data', 'four pairs', '--machine', 'a core', '--licence', 'MIT', '--selection',
    'the held-out pairs', '--use', 'dark photos', '--limits', 'blur stays'
]
ALL = ['last', 'last EMA', 'best', 'best EMA']


@pytest.fixture
def project(tmp_path, pairs, tiny_options, monkeypatch):
    """A project with what a run of 4 iterations leaves, here random weights; the best are of iteration 2."""
    rng = np.random.RandomState(5)
    for name in ('7', '8', '9'):
        target = rng.randint(60, 256, (20, 24, 3), np.uint8)
        for side, img in (('input', target // 3), ('target', target)):
            (tmp_path / 'unseen' / side).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / 'unseen' / side / f'{name}.png'), img)
    test = {
        'type': 'PairedImageDataset', 'name': 'unseen', 'dataroot_lq': str(tmp_path / 'unseen' / 'input'),
        'dataroot_gt': str(tmp_path / 'unseen' / 'target')
    }
    root = tmp_path / 'project'
    (root / 'Options').mkdir(parents=True)
    options = tiny_options(datasets={'val': {'name': 'held out'}, 'test': test}, train={'ema_decay': .5},
                           val={'val_freq': 2})
    shutil.copy(options, root / 'Options')
    run = tmp_path / 'experiments' / 'tiny'
    run.mkdir(parents=True)
    shutil.copy(options, run)
    torch.manual_seed(0)
    for name in ('models/net_g_latest.pth', 'best/net_g_best.pth'):
        content = {key: build_network(NETWORK).state_dict() for key in ('params', 'params_ema')}
        save_weights(run / name, content | {'network_g': NETWORK, 'name': 'tiny'})
    (run / 'best' / 'best.json').write_text('{"dataset": "held out", "iter": 2}')
    did = load_options(options, is_train=True).opt | {'world_size': 2, 'manual_seed': 8}
    (run / 'options.json').write_text(json.dumps(did))
    (run / 'losses.csv').write_text('iter,l_pix\n1,0.5\n4,0.1\n')
    monkeypatch.setattr(pretrained, 'folder', lambda: root / 'pretrained_weights')
    return root


def publish(project, *extra):
    return script.main(
        [str(project.parent / 'experiments' / 'tiny'), *WORDS, '--to',
         str(project / 'pretrained_weights'), *extra])


def entry_of(project, name='tiny_net'):
    return json.loads((project / 'pretrained_weights' / 'manifest.json').read_text())['weights'][name]


def test_a_run_of_the_trainer_is_understood(project, tmp_path):
    """The held-out images choose its best weights, although the name of the test set comes first."""
    train_pipeline(argv=['--opt', str(project / 'Options' / 'tiny.yml'), 'train.optim_g.lr=2e-3', 'num_gpu=0'])
    assert publish(project) == 0
    entry, best = entry_of(project), json.loads((tmp_path / 'experiments/tiny/best/best.json').read_text())
    check_entry('tiny_net', entry, project / 'pretrained_weights')
    assert entry['changes'] == {'train.optim_g.lr': 2e-3}
    assert best['dataset'] == 'held out' and entry['iterations'] == best['iter']
    assert entry['metrics']['candidates']['last']['iterations'] == 4


def test_the_option_file_of_a_variant(project, tmp_path, capsys):
    """A run keeps it merged, or as it was written before it had a base; the published one names the base."""
    options, run = project / 'Options', tmp_path / 'experiments' / 'tiny'
    shutil.move(options / 'tiny.yml', options / 'recipe.yml')
    (options / 'tiny.yml').write_text('base: recipe.yml\ntrain: {accumulate: 1}\n')
    assert publish(project) == 0 and entry_of(project)['options'] == 'Options/tiny.yml'
    (run / 'tiny.yml').write_text(load_options(options / 'tiny.yml', is_train=True).text)
    assert publish(project) == 0 and entry_of(project)['changes'] == {'manual_seed': 8, 'world_size': 2}
    (options / 'recipe.yml').write_text((options / 'recipe.yml').read_text().replace('n_feat: 4', 'n_feat: 8'))
    assert publish(project) == 2 and 'says something else' in capsys.readouterr().err


def test_what_it_writes_is_true(project, tmp_path):
    assert publish(project, '--paper', '24.03', '0.827', '4.59 M', 'the larger network') == 0
    entry, folder = entry_of(project), project / 'pretrained_weights'
    check_entry('tiny_net', entry, folder)
    reproduce(entry, folder, count=3)
    assert entry['entry'] == 'best EMA' and entry['iterations'] == 2 and entry['options'] == 'Options/tiny.yml'
    assert entry['changes'] == {'manual_seed': 8, 'world_size': 2}
    assert entry['paper'] == {'psnr': 24.03, 'ssim': .827, 'parameters': '4.59 M', 'source': 'the larger network'}
    assert entry['metrics']['dataset'] == 'unseen' and set(entry['metrics']['per_image']) == {'7', '8', '9'}
    best = read_file(tmp_path / 'experiments/tiny/best/net_g_best.pth')['params_ema']
    state = load_weights(folder / 'tiny_net.safetensors').state
    assert state.keys() == best.keys() and all(torch.equal(state[k], best[k]) for k in best)
    table = (folder / 'METRICS.md').read_text()
    assert table == measured(pretrained.read_manifest()) and '*4.59 M* |  |  | *24.03 / 0.827*' in table
    found = entry['metrics']['candidates']['best EMA']['GT-mean']
    assert f"| **best EMA** | 2 | GT-mean | {found['psnr retinexformer']:.2f} / {found['ssim retinexformer']:.4f} |" in table


@pytest.mark.parametrize('kind, flags', [('plain', []), ('GT-mean', ['--GT_mean'])])
def test_numbers_are_those_of_evaluate(project, tmp_path, kind, flags):
    assert publish(project, '--ship', 'last') == 0
    found = entry_of(project)['metrics']['candidates']
    for label, one in found.items():
        file = tmp_path / 'experiments/tiny' / FILES[label.split()[0]]
        key = 'params_ema' if 'EMA' in label else 'params'
        command = ['--opt', str(project / 'Options' / 'tiny.yml'), '--weights', str(file), '--no_images', *flags]
        assert evaluate([*command, f'path.param_key_g={key}', '--output_dir', str(tmp_path / 'o')]) == 0
        means = json.loads((tmp_path / 'o' / 'metrics.json').read_text())['datasets']['unseen']
        assert len(one[kind]) == 6 and one['iterations'] == (4 if 'last' in label else 2)
        for metric, value in one[kind].items():
            assert value == pytest.approx(means[metric], abs=1e-4)
    assert list(found) == ALL and len({one[kind]['psnr retinexformer'] for one in found.values()}) == 4


def test_candidates_that_hold_the_same_numbers_are_measured_once(project, tmp_path):
    run = tmp_path / 'experiments' / 'tiny'
    content = read_file(run / 'models' / 'net_g_latest.pth')
    save_weights(run / 'best' / 'net_g_best.pth', content)
    assert publish(project) == 0
    assert list(entry_of(project)['metrics']['candidates']) == ['last', 'best EMA']  # the shipped one keeps its name
    del content['params_ema']
    save_weights(run / 'models' / 'net_g_latest.pth', content)
    assert publish(project, '--ship', 'last') == 0
    assert list(entry_of(project)['metrics']['candidates']) == ['last', 'best EMA']


def test_every_kind_can_be_shipped_and_the_first_is_the_default(project):
    for ship in ('last', 'last-ema', 'best', 'best-ema'):
        assert publish(project, '--ship', ship, '--name', f'net_{ship}') == 0
        assert entry_of(project, f'net_{ship}')['entry'] == ship.replace('-ema', ' EMA')
    manifest = pretrained.read_manifest()
    assert manifest['default'] == 'net_last' and len(manifest['weights']) == 4
    assert publish(project, '--name', 'net_best', '--default') == 0
    assert pretrained.default_weights() == 'net_best' and len(pretrained.read_manifest()['weights']) == 4


def test_weights_chosen_on_the_test_set_are_refused(project, tmp_path, capsys):
    best = tmp_path / 'experiments/tiny/best/best.json'
    assert publish(project, '--dataset', 'val') == 2
    assert "were chosen on 'held out', which is not held apart from the test set" in capsys.readouterr().err
    # also by another name, when a part of the images is the same
    shutil.copy(tmp_path / 'unseen/input/9.png', tmp_path / 'data/input/9.png')
    (tmp_path / 'data/target/9.png').symlink_to(tmp_path / 'unseen/target/9.png')
    assert publish(project) == 2 and 'not held apart' in capsys.readouterr().err
    (tmp_path / 'data/target/9.png').unlink()
    (tmp_path / 'data/input/9.png').unlink()
    best.write_text(best.read_text().replace('held out', 'unseen'))
    assert publish(project) == 2 and "were chosen on 'unseen'" in capsys.readouterr().err
    assert not (project / 'pretrained_weights').exists()


def damage(project, run, how):
    {
        'options': lambda: (project / 'Options' / 'tiny.yml').unlink(),
        'changed': lambda: (run / 'tiny.yml').write_text(
            (run / 'tiny.yml').read_text().replace('n_feat: 4', 'n_feat: 8')),
        'two': lambda: (run / 'other.yml').write_text('name: x\n'),
        'weights': lambda: [shutil.rmtree(run / name) for name in ('models', 'best')],
        'best': lambda: shutil.rmtree(run / 'best'),
        'json': lambda: (run / 'best' / 'best.json').unlink(),
        'tables': lambda: (run / 'losses.csv').unlink(),
        'bare': lambda: save_weights(run / 'models' / 'net_g_latest.pth',
                                     {'params': read_file(run / 'models' / 'net_g_latest.pth')['params']}),
    }.get(how, lambda: None)()


@pytest.mark.parametrize('how, flags, message', [
    ('options', [], "Options/tiny.yml' is missing: put the option file there"),
    ('changed', [], "says something else than '"),
    ('two', [], "has several: other.yml, tiny.yml; keep the last"),
    ('weights', [], 'is not the folder of a finished run: it has neither models/net_g_latest.pth nor best'),
    ('best', [], 'say which to take with --ship'),
    ('best', ['--ship', 'best-ema'], '--ship best-ema: the run has no such weights, but: last, last EMA'),
    ('json', [], "best.json' is missing"),
    ('tables', [], 'does not say how long the run was'),
    ('bare', [], 'does not say which network it belongs to'),
    ('', ['--name', '../x'], "--name '../x' must consist of letters"),
    ('', ['--dataset', 'tset'], "has no data set 'tset'. Did you mean 'test'?"),
    ('', ['--paper', 'a', 'b', 'c', 'd'], '--paper wants two numbers before the words, not a b'),
])
def test_mistakes_are_one_sentence_and_change_nothing(project, tmp_path, capsys, how, flags, message):
    damage(project, tmp_path / 'experiments' / 'tiny', how)
    assert publish(project, *flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith('error: ') and error.count('\n') == 1
    assert not (project / 'pretrained_weights').exists()


def test_files_that_are_too_large_are_refused(project, capsys, monkeypatch):
    monkeypatch.setattr(script, 'LIMIT', 100_000)
    assert publish(project) == 2
    assert 'what comes with the project stays below 100,000' in capsys.readouterr().err
