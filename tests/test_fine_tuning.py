"""Fine-tuning without naming the network: the weights say it."""
from __future__ import annotations

import json

import pytest
import torch
from conftest import ROOT

from basicsr.archs import build_network
from basicsr.commands.evaluate import main as evaluate
from basicsr.config import load_options
from basicsr.config.yaml_reader import dump_yaml, read_yaml
from basicsr.train import main as train
from basicsr.utils.errors import UserError
from basicsr.utils.weights import save_safetensors, save_weights

NETWORK = {'type': 'RetinexFormer', 'n_feat': 8, 'num_blocks': [1, 1, 1]}
FILE = ROOT / 'Options' / 'fine_tune.yml'
SHORT = [
    'train.total_iter=3', 'train.scheduler.periods=[3]', 'train.warmup_iter=1', 'datasets.train.gt_size=16',
    'datasets.train.batch_size_per_gpu=1', 'val.val_freq=3', 'logger.save_checkpoint_freq=3', 'logger.print_freq=1'
]


@pytest.fixture
def own(tmp_path):
    torch.manual_seed(0)
    net = build_network(NETWORK)
    save_safetensors(tmp_path / 'mine.safetensors', net.state_dict(), NETWORK)
    save_weights(tmp_path / 'bare.pth', net.state_dict())
    return net


def test_the_option_file_takes_the_network_of_the_shipped_weights():
    opt = load_options(FILE, is_train=True).opt
    shipped = json.loads(
        (ROOT / 'pretrained_weights' / 'manifest.json').read_text())['weights']['retinexformer_photos_small']
    assert {**opt['network_g'], **shipped['network']} == opt['network_g']
    assert opt['path']['pretrain_network_g'].endswith('retinexformer_photos_small.safetensors')
    opt = load_options(FILE, ['path.fine_tune_from=retinexmamba_tiny'], is_train=True).opt
    assert opt['network_g']['type'] == 'RetinexMamba' and opt['network_g']['d_state'] == 8


def test_published_weights_say_it_by_their_table():
    """Nothing is fetched to look at options."""
    opt = load_options(FILE, ['path.fine_tune_from=cidnet_lol_v1_wperc'], is_train=False, check_files=False).opt
    assert opt['network_g']['type'] == 'CIDNet'


def test_the_entry_is_that_of_the_options(own, tmp_path):
    entries = {'early': own.state_dict(), 'late': own.state_dict(), 'network_g': NETWORK}
    torch.save(entries, tmp_path / 'two.pth')
    given = [f'path.fine_tune_from={tmp_path / "two.pth"}', 'path.param_key_g=late']
    assert load_options(FILE, given, is_train=True).opt['network_g']['n_feat'] == 8


def test_a_network_that_is_named_stays():
    opt = load_options(FILE, ['network_g.type=RetinexFormer', 'network_g.n_feat=24'], is_train=True).opt
    assert opt['network_g']['n_feat'] == 24


@pytest.mark.parametrize(('given', 'says'), [
    ('bare.pth', 'does not say its network; give network_g'),
    ('nothing.pth', "'.*nothing.pth' is neither a weight file nor a run that has ended"),
])
def test_what_cannot_be_told(own, tmp_path, given, says):
    with pytest.raises(UserError, match=says) as caught:
        load_options(FILE, [f'path.fine_tune_from={tmp_path / given}'], is_train=True)
    assert 'is required' not in str(caught.value)


def test_from_weights_to_weights_on_own_pairs(own, pairs, tmp_path, monkeypatch):
    content = read_yaml(FILE)[0]
    content['path']['fine_tune_from'] = 'mine.safetensors'  # beside the option file
    for key in ('train', 'val'):
        content['datasets'][key] |= {'dataroot_lq': str(pairs / 'input'), 'dataroot_gt': str(pairs / 'target')}
    content['path']['experiments_root'] = str(tmp_path / 'experiments')
    (tmp_path / 'mine.yml').write_text(dump_yaml(content))
    assert train(['--opt', str(tmp_path / 'mine.yml'), 'num_gpu=0', 'name=mine', *SHORT]) == 0
    saved = torch.load(tmp_path / 'experiments' / 'mine' / 'models' / 'net_g_latest.pth')
    before, after = own.state_dict(), saved['params_ema']
    assert before.keys() == after.keys()
    moved = max(float((after[key] - before[key]).abs().max()) for key in before)
    assert 0 < moved < 0.01  # it began with these weights
    copy = read_yaml(tmp_path / 'experiments' / 'mine' / 'mine.yml')[0]
    assert copy['network_g']['n_feat'] == 8  # it does not need the weights that it began with
    # the run is a network of its own, from which another one may start
    opt = load_options(tmp_path / 'mine.yml', ['path.fine_tune_from=mine', 'name=more'], is_train=True).opt
    assert opt['network_g']['n_feat'] == 8
    assert evaluate([
        '--opt',
        str(tmp_path / 'mine.yml'), '--weights',
        str(tmp_path / 'experiments' / 'mine' / 'models' / 'net_g_latest.pth'), '--output_dir',
        str(tmp_path / 'out')
    ]) == 0
