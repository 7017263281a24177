"""Mixtures of losses: their terms, the checks of nested options, the names in the log."""
from __future__ import annotations

import csv
import urllib.error

import numpy as np
import pytest
import torch
from conftest import GOOD_OPTIONS, option_error
from loss_inputs import images, vgg_file

from basicsr.config import load_options
from basicsr.config.json_schema import option_schema
from basicsr.losses import build_loss, imagenet, vgg
from basicsr.losses.loss_util import number_names
from basicsr.models import build_model
from basicsr.train import main as train


def test_mixed_loss_returns_its_terms_by_name(tmp_path):
    perceptual = {
        'type': 'PerceptualLoss', 'layer_weights': {'relu1_1': 1}, 'style_weight': 1,
        'weights': str(vgg_file(tmp_path / 'v.pth'))
    }
    pred, target = (x.float() for x in images())
    named = build_loss({'type': 'MixedLoss', 'terms': {'a.b': {'type': 'L1Loss', 'loss_weight': 2}, 'vgg': perceptual}})
    values = named(pred, target)
    assert list(values) == ['a.b', 'vgg', 'vgg_style']
    assert values['a.b'].item() == pytest.approx(2 * (pred - target).abs().mean().item())
    listed = build_loss({'type': 'MixedLoss', 'terms': [{'type': 'L1Loss'}, {'type': 'EdgeLoss'}, {'type': 'L1Loss'}]})
    assert list(listed(pred, target)) == ['l1', 'edge', 'l1_2']
    nested = build_loss({
        'type': 'MixedLoss', 'terms': [{'type': 'L1Loss'},
                                       {'type': 'MixedLoss', 'terms': [{'type': 'L1Loss', 'loss_weight': 3}]}]
    })
    values = nested(pred, target)
    assert list(values) == ['l1', 'l1_2'] and values['l1_2'] == 3 * values['l1']


def test_the_default_mixed_loss_is_the_recipe_of_the_all_in_one_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, 'project_root', lambda: tmp_path)
    (tmp_path / 'pretrained_weights').mkdir()
    vgg_file(tmp_path / 'pretrained_weights' / 'vgg19-dcbb9e9d.pth', convs=13)
    pred, target = (x.float() for x in images(32, 32, batch=1))
    values = build_loss({'type': 'MixedLoss'})(pred, target)
    d = (pred - target).double().numpy()
    assert list(values) == ['charbonnier', 'perceptual', 'edge']
    assert values['charbonnier'].item() == pytest.approx(np.sqrt(d**2 + 1e-6).mean(), rel=1e-5)
    assert values['edge'] == build_loss({'type': 'EdgeLoss', 'loss_weight': 0.05})(pred, target)
    layers = {'relu1_1': 1 / 32, 'relu2_1': 1 / 16, 'relu3_1': 1 / 8, 'relu4_1': 1 / 4, 'relu5_1': 1}
    net = vgg.VGGFeatures(layers, weights=tmp_path / 'pretrained_weights' / 'vgg19-dcbb9e9d.pth')
    assert [net.names.index(k) for k in layers] == [1, 6, 11, 20, 29]
    distance = sum(w * (net(pred)[k] - net(target)[k]).abs().mean().item() for k, w in layers.items())
    assert values['perceptual'].item() == pytest.approx(0.1 * distance, rel=1e-5)


def test_equal_names_are_numbered():
    assert number_names([('a', 1), ('a', 2), ('a_2', 3), ('b', None),
                         ('a', 4)]) == {'a': 1, 'a_2': 2, 'a_2_2': 3, 'a_3': 4}


PIXEL = '  pixel_opt:\n    type: L1Loss\n    loss_weight: 1.0\n'
MIXED = """  losses:
    - type: MixedLoss
      terms:
        char: {type: CharbonnierLoss, eps: '1e-3'}
        edges:
          type: EdgeLoss
          loss_weight: 0.05
"""


@pytest.mark.parametrize('old, new, path, words', [
    ('loss_weight: 0.05', 'los_weight: 0.05', 'train.losses[0].terms.edges.los_weight', "Did you mean 'loss_weight'?"),
    ('type: EdgeLoss', 'type: EdgesLoss', 'train.losses[0].terms.edges.type', "Did you mean 'EdgeLoss'?"),
    ('type: EdgeLoss', 'reduction: mean', 'train.losses[0].terms.edges.type', 'is required'),
    ('loss_weight: 0.05', 'loss_weight: much', 'train.losses[0].terms.edges.loss_weight', "not 'much'"),
])
def test_a_mistake_inside_terms_is_reported_with_its_line(load, old, new, path, words):
    text = GOOD_OPTIONS.replace(PIXEL, MIXED.replace(old, new))
    message = option_error(load, text)
    key = 'edges:' if 'required' in words else new
    line = next(i for i, row in enumerate(text.splitlines(), start=1) if key in row)
    assert f'run.x4.yml:{line}: {path}: ' in message and words in message and message.startswith('1 mistake')


def test_terms_are_checked_and_converted(load, tmp_path):
    opt = load(GOOD_OPTIONS, (PIXEL, MIXED)).opt
    assert opt['train']['losses'][0]['terms']['char'] == {'type': 'CharbonnierLoss', 'eps': 1e-3}
    as_list = PIXEL.replace('type: L1Loss\n    loss_weight: 1.0',
                            'type: MixedLoss\n    terms: [{type: L1Loss}, {typ: MSELoss}]')
    message = option_error(load, GOOD_OPTIONS, (PIXEL, as_list))
    assert 'train.pixel_opt.terms[1].type: is required' in message


def test_weight_files_are_found_beside_the_option_file_or_reported(load, tmp_path):
    block = 'pixel_opt:\n    type: MixedLoss\n    terms: [{type: PerceptualLoss, weights: nets/v.pth}]\n'
    text = GOOD_OPTIONS.replace(PIXEL, '  ' + block)
    message = option_error(load, text, check_files=True)
    assert "train.pixel_opt.terms[0].weights: 'nets/v.pth' does not exist" in message
    (tmp_path / 'nets').mkdir()
    file = vgg_file(tmp_path / 'nets' / 'v.pth')
    assert load(text).opt['train']['pixel_opt']['terms'][0]['weights'] == str(file)


def test_the_editor_schema_completes_terms():
    jsonschema = pytest.importorskip('jsonschema')
    schema = option_schema()
    check = jsonschema.Draft202012Validator({'$ref': '#/$defs/Loss', '$defs': schema['$defs']})
    good = {'type': 'MixedLoss', 'terms': {'a': {'type': 'EdgeLoss', 'loss_weight': 0.1}}}
    assert check.is_valid(good) and check.is_valid({'type': 'MixedLoss', 'terms': [{'type': 'L1Loss'}]})
    assert not check.is_valid({'type': 'MixedLoss', 'terms': {'a': {'type': 'EdgeLoss', 'los_weight': 0.1}}})


def test_training_logs_every_term(tiny_options, tmp_path):
    file = str(vgg_file(tmp_path / 'v.pth'))
    perceptual = {'type': 'PerceptualLoss', 'layer_weights': {'relu1_1': 1}, 'weights': file}
    losses = [{'type': 'L1Loss'}, {'type': 'SSIMLoss', 'loss_weight': 0.1}, {**perceptual, 'style_weight': 1}, {
        'type': 'MixedLoss', 'terms': {'l1': {'type': 'L1Loss'}, 'edge': {'type': 'EdgeLoss'}, 'vgg': perceptual}
    }]
    options = tiny_options(train={'total_iter': 2, 'losses': losses, 'perceptual_opt': perceptual},
                           logger={'save_checkpoint_freq': 2})
    assert train([str(options)]) == 0
    run = tmp_path / 'experiments' / 'tiny'
    with (run / 'losses.csv').open() as table:
        rows = list(csv.DictReader(table))
    names = ['l_pix', 'l_percep', 'l_l1', 'l_ssim', 'l_perceptual', 'l_perceptual_style', 'l_l1_2', 'l_edge', 'l_vgg']
    assert len(rows) == 2 and [k for k in rows[0] if k.startswith('l_')] == names
    assert rows[0]['l_l1'] == rows[0]['l_l1_2'] == rows[0]['l_pix'] and rows[0]['l_vgg'] == rows[0]['l_percep']
    log = next(run.glob('train_*.log')).read_text()
    assert all(f' {name}: ' in log for name in names)
    assert b'vgg' not in (run / 'models' / 'net_g_latest.pth').read_bytes()
    state = torch.load(next((run / 'training_states').iterdir()), weights_only=False)
    assert set(state['params']) == set(torch.load(run / 'models' / 'net_g_latest.pth', weights_only=True)['params'])
    assert state['networks'] == {} and not [key for key in state['params'] if 'vgg' in key]


def test_training_without_weights_ends_with_a_sentence(tiny_options, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(imagenet, 'project_root', lambda: tmp_path)

    def offline(*args, **kwargs):
        raise urllib.error.URLError('no network')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    assert train([str(tiny_options(train={'pixel_opt': {'type': 'MixedLoss'}}))]) == 2
    assert 'the ImageNet weights of vgg19 are needed' in capsys.readouterr().err


def test_a_mixed_loss_compares_every_image_of_a_network_that_returns_several(tiny_options):
    terms = {'a': {'type': 'L1Loss'}, 'b': {'type': 'MSELoss'}}
    opt = load_options(tiny_options(train={'pixel_opt': {'type': 'MixedLoss', 'terms': terms}}), is_train=True).opt
    model = build_model(opt | {'dist': False, 'rank': 0, 'world_size': 1})
    losses = model.compute_losses([torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)], torch.full((1, 3, 4, 4), 0.25))
    assert {k: v.item() for k, v in losses.items()} == {'l_a': 1.0, 'l_b': 0.0625 + 0.5625}
