"""Training MASR-Net with its six losses: what is logged, accumulation, resuming; files of the authors; its options."""
from __future__ import annotations

import csv
from copy import deepcopy

import pytest
import torch
from conftest import ROOT
from loss_inputs import vgg_file

from basicsr.archs import build_network
from basicsr.commands.evaluate import main as evaluate
from basicsr.config.yaml_reader import read_yaml
from basicsr.train import main as train

TINY = {'type': 'MASRNet', 'embed_dim': 16, 'stem_dim': 6, 'moe_hidden': [[12], [12], [12, 8]]}
STILL = {**TINY, 'dropout': 0., 'attn_dropout': 0., 'ffn_dropout': 0., 'sample_topk': 0}
RECIPE = read_yaml(ROOT / 'Options' / 'MASRNet_LOL_v1.yml')[0]['train']
NAMES = ['l_charbonnier', 'l_perceptual', 'l_psnrhinge', 'l_ssim', 'l_lab', 'l_moebalance']
SHORT = {'total_iter': 6, 'scheduler': {**RECIPE['scheduler'], 'warmup_iter': 2}}


@pytest.fixture
def options(tiny_options, tmp_path):
    """Writes the published recipe in small: `options(name, train=..., ...)`."""
    losses = deepcopy(RECIPE['losses'])
    losses[1]['weights'] = str(vgg_file(tmp_path / 'vgg.pth', 'vgg16', convs=7))

    def write(name: str, **changes):
        recipe = {**SHORT, 'losses': losses, 'pixel_opt': None, 'optim_g': RECIPE['optim_g'], 'grad_clip_norm': 1.0}
        return tiny_options(
            name, **{
                'network_g': TINY, 'val': {'val_freq': 6}, 'logger': {'save_checkpoint_freq': 3},
                **changes, 'train': {**recipe, **changes.get('train', {})}
            })

    return write


def table(tmp_path, name):
    with (tmp_path / 'experiments' / name / 'losses.csv').open(newline='') as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_every_loss_is_logged_with_its_weight(options, tmp_path):
    assert train([str(options('run', network_g=STILL))]) == 0
    double = deepcopy(RECIPE['losses'])
    assert double[2]['type'] == 'MoEBalanceLoss'
    double[2]['loss_weight'] *= 2
    double[1]['weights'] = str(tmp_path / 'vgg.pth')
    assert train([str(options('double', network_g=STILL, train={'losses': double}))]) == 0
    first, other = (table(tmp_path, name)[0] for name in ('run', 'double'))
    assert list(first)[2:] == NAMES and all(value > 0 for value in first.values())
    assert other.pop('l_moebalance') == pytest.approx(2 * first.pop('l_moebalance'), rel=1e-6)
    assert other == first


def test_a_resumed_run_equals_a_straight_one_and_keeps_the_rates(options, tmp_path):
    assert train([str(options('straight'))]) == 0
    resumed = options('resumed')
    assert train([str(resumed)]) == 0
    folder = tmp_path / 'experiments' / 'resumed'
    (folder / 'models' / 'net_g_latest.pth').unlink()  # as if it had been stopped after iteration 3
    (folder / 'training_states' / '6.state').unlink()
    assert train([str(resumed), '--auto_resume']) == 0
    assert table(tmp_path, 'resumed') == table(tmp_path, 'straight')
    # 1e-4 * {1/2, 1} in the warm-up, then 1/2 (1 + cos(3 pi k / 4)^10) by sign, at least 1e-3
    low = 0.5 * (1 - 0.5**5)
    assert [row['lr'] for row in table(tmp_path, 'resumed')
            ] == pytest.approx([5e-5, 1e-4, 1e-4 * low, 5e-5, 1e-4 * (1 - low), 1e-7], rel=1e-9)


def test_losses_of_the_whole_batch_are_refused_in_parts(options, tmp_path, capsys):
    file = options('parts', datasets={'train': {'batch_size_per_gpu': 2}}, train={'accumulate': 2})
    assert train([str(file)]) == 2
    error = capsys.readouterr().err
    assert 'train.accumulate: MoEBalanceLoss, PSNRHingeLoss look at a batch as a whole' in error
    assert not (tmp_path / 'experiments' / 'parts').exists()


@pytest.mark.parametrize('changes, message', [
    ({'losses': [{'type': 'MoEBalanceLoss'}]}, 'train: no loss'),
    ({'pixel_opt': {'type': 'MoEBalanceLoss'}}, 'train.pixel_opt: MoEBalanceLoss compares no images'),
])
def test_the_balance_alone_is_no_loss(options, capsys, changes, message):
    assert train([str(options('run', train=changes))]) == 2
    assert message in capsys.readouterr().err


def test_networks_without_mixtures_are_named(options, capsys):
    network = {'type': 'RetinexMamba', 'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2}
    assert train([str(options('run', network_g=network))]) == 2
    assert 'MoEBalanceLoss: RetinexMamba has no balance loss' in capsys.readouterr().err


@pytest.mark.parametrize('bare', [False, True], ids=['best_model.pth', 'best_model_weights.pth'])
def test_files_of_the_authors_are_evaluated_and_fine_tuned(options, pairs, tmp_path, bare):
    torch.manual_seed(0)
    state = build_network(TINY).state_dict()
    state |= {
        f'emb_gen.ffn_path.{i}.{leaf}': state[f'emb_gen.{name}.{leaf}'] for i, name in ((0, 'fc1'), (3, 'fc2'))
        for leaf in ('weight', 'bias')
    }
    state |= {'perceptual_loss.vgg_layers.0.weight': torch.zeros(64, 3, 3, 3)}
    state = {f'_orig_mod.{k}': v for k, v in state.items()}
    torch.save(state if bare else {'epoch': 7, 'model_state_dict': state, 'optimizer_state_dict': {}, 'val_psnr': 20.1},
               tmp_path / 'best.pth')
    weights = ['--weights', str(tmp_path / 'best.pth')]
    assert evaluate([*weights, '--degraded_dir', str(pairs / 'input'), '--output_dir', str(tmp_path / 'o')]) == 0
    assert len(list((tmp_path / 'o').glob('*.png'))) == 4
    assert evaluate([*weights, '--opt', str(options('run')), '--output_dir', str(tmp_path / 'p')]) == 0
    assert train([str(options('run', path={'pretrain_network_g': str(tmp_path / 'best.pth')}))]) == 0


@pytest.mark.parametrize('name, pairs, patch', [('LOL_v1', 485, 4), ('LOL_v2_real', 689, 2), ('LSRW_Huawei', 2450, 4),
                                                ('LSRW_Nikon', 3150, 4)])
def test_option_files_are_twelve_hundred_epochs_on_whole_images(name, pairs, patch):
    opt = read_yaml(ROOT / 'Options' / f'MASRNet_{name}.yml')[0]
    epoch = pairs // opt['datasets']['train']['batch_size_per_gpu']
    assert opt['train']['total_iter'] == 1200 * epoch and opt['train']['scheduler']['warmup_iter'] == 10 * epoch
    assert opt['network_g'] == {'type': 'MASRNet', 'patch_size': patch, 'win_size': 8 // patch}
    assert opt['train']['losses'] == RECIPE['losses'] and opt['train']['optim_g'] == RECIPE['optim_g']
    for block in opt['datasets'].values():
        assert block['resize'] == [400, 600] and block['pair_by'] == 'number' and 'gt_size' not in block
