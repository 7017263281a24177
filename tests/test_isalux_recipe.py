"""The recipes of ISALux: its loss as the options spell it, and the networks of its ablation."""
from __future__ import annotations

import pytest
import torch
from conftest import ROOT
from loss_inputs import images, vgg_file

from basicsr.archs import build_network
from basicsr.config import load_options
from basicsr.losses import build_loss
from basicsr.losses.ssim_loss import MSSSIMLoss
from basicsr.losses.vgg import VGGFeatures

RECIPES = [*(ROOT / 'Options').glob('ISALux_*.yml'), *(ROOT / 'Ablation_Model').glob('isalux_*.yml')]
LAYERS = {'relu1_2': 3, 'relu2_2': 8, 'relu3_4': 17, 'relu4_4': 26, 'relu5_4': 35}


def options(file) -> dict:
    return load_options(file, is_train=True, check_files=False).opt


def recipe(name: str) -> dict:
    return options(next(f for f in RECIPES if f.stem == name))


def test_the_loss_is_mse_plus_vgg_plus_ms_ssim(tmp_path):
    """L = mse + 0.1 sum_l mean |phi_l(p) - phi_l(t)| + 0.1 (1 - MS-SSIM of the clamped p)."""
    train = recipe('ISALux_LOL_v1')['train']
    blocks = [train['pixel_opt'], train['perceptual_opt'], *train['losses']]
    file = vgg_file(tmp_path / 'vgg.pth', convs=16)
    blocks[1] = blocks[1] | {'weights': str(file)}
    pred, target = (x.float() for x in images(40, 36))
    pred = pred * 1.5 - 0.2  # beyond [0, 1] on both sides
    values = [build_loss(block)(pred, target) for block in blocks]
    assert values[0].item() == pytest.approx(((pred - target)**2).mean().item(), rel=1e-5)
    features, wanted = (VGGFeatures(LAYERS, weights=file)(x) for x in (pred, target))
    total = sum((features[k] - wanted[k]).abs().mean() for k in LAYERS)
    assert values[1][0].item() == pytest.approx(0.1 * total.item(), rel=1e-5) and values[1][1] is None
    expected = 0.1 * MSSSIMLoss()(pred.clamp(0, 1), target)
    assert values[2].item() == pytest.approx(expected.item(), rel=1e-5)
    assert values[2].item() != pytest.approx(0.1 * MSSSIMLoss()(pred, target).item(), rel=1e-3)


def test_the_layers_are_those_of_the_recipe():
    from basicsr.losses.vgg import layer_names
    assert {name: layer_names('vgg19').index(name) for name in LAYERS} == LAYERS
    assert recipe('ISALux_LOL_v1')['train']['perceptual_opt']['layer_weights'] == dict.fromkeys(LAYERS, 1)


@pytest.mark.parametrize('name, parameters', [
    ('isalux_no_priors', 1_604_729),
    ('isalux_illumination_only', 1_605_177),
    ('isalux_semantic_only', 1_647_289),
    ('isalux_no_lora', 1_769_495),
    ('isalux_loss_l2', 1_849_367),
    ('isalux_loss_l2_vgg', 1_849_367),
    ('ISALux_LOL_v1', 1_849_367),
    ('ISALux_LOL_v2_real', 1_849_367),
    ('ISALux_LOL_v2_synthetic', 1_849_367),
])
def test_networks_of_the_recipes(name, parameters):
    network = recipe(name)['network_g']
    if network['semantic'] == 'torchvision':
        network['semantic'] = 'external'  # the segmenter has no part in the count
    with torch.device('meta'):
        net = build_network(network)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_an_ablation_differs_from_the_full_recipe_in_what_its_name_says():
    full = recipe('ISALux_LOL_v1')
    changed = {
        'isalux_no_priors': {'network_g'},
        'isalux_illumination_only': {'network_g'},
        'isalux_semantic_only': {'network_g'},
        'isalux_no_lora': {'network_g'},
        'isalux_loss_l2': {'train'},
        'isalux_loss_l2_vgg': {'train'},
    }
    assert changed.keys() == {f.stem for f in RECIPES if f.parent.name == 'Ablation_Model'}
    for name, parts in changed.items():
        mine = recipe(name)
        assert {k for k in full if full[k] != mine.get(k)} - {'name', 'path'} == parts
    losses = [[k for k in ('pixel_opt', 'perceptual_opt', 'losses') if recipe(n)['train'].get(k)]
              for n in ('isalux_loss_l2', 'isalux_loss_l2_vgg')]
    assert losses == [['pixel_opt'], ['pixel_opt', 'perceptual_opt']]


@pytest.mark.parametrize('file', RECIPES, ids=lambda f: f.stem)
def test_every_recipe_says_that_it_is_a_reconstruction(file):
    head = file.read_text().split('name:')[0]
    assert 'reconstruction' in head
    train = options(file)['train']
    assert (train['total_iter'], train['ema_decay'], train['grad_clip_norm']) == (150000, 0.999, 1.0)
    assert (train['optim_g']['lr'], train['scheduler']['eta_min']) == (2e-4, 1e-6)
