"""Knobs that networks bring themselves, on the command line and in Python."""
from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from photo_files import encoded, picture
from test_amount import ENHANCING, write_weights, written
from test_networks import tiny

from basicsr.archs import describe
from basicsr.archs.knobs import declared, turn
from basicsr.commands.enhance import main
from basicsr.commands.evaluate import main as evaluate
from basicsr.inference.photos import photo_restorer
from basicsr.photos.reading import read_photo
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils.errors import UserError


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> dict[str, str]:
    return write_weights(tmp_path_factory.mktemp('weights'))


def test_knobs_of_cidnet_are_those_of_its_authors():
    assert set(describe('CIDNet').knobs) == {'alpha_s', 'alpha_i', 'gamma'}
    net = tiny('CIDNet')
    x = torch.rand(1, 3, 16, 24)
    plain = net(x)
    turn(net, {'alpha_i': .5})
    torch.testing.assert_close(net(x), plain * .5)
    turn(net, {'alpha_i': 1, 'alpha_s': 0})
    grey = net(x)
    torch.testing.assert_close(grey, grey.mean(1, keepdim=True).expand_as(grey), atol=1e-4, rtol=0)
    turn(net, {'alpha_s': 1., 'gamma': .7})
    turned = net(x)
    turn(net, {'gamma': 1.})
    torch.testing.assert_close(net(x**.7), turned)
    torch.testing.assert_close(net(x), plain)


@pytest.mark.parametrize('name', [n for n in ENHANCING if describe(n).knobs])
def test_knobs_turn_what_there_is_and_no_weights(name):
    net = tiny(name)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for knob, what in describe(name).knobs.items():
        place, _, attribute = what.attribute.rpartition('.')
        assert isinstance(getattr(net.get_submodule(place), attribute), (int, float)) and what.meaning
        turn(net, {knob: what.most})
        assert getattr(net.get_submodule(place), attribute) == what.most
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_another_networks_knobs_need_no_change_of_the_command(weights, tmp_path, monkeypatch):
    from dataclasses import replace

    from basicsr.archs.description import Knob
    net = ARCH_REGISTRY.get('MSRResNet')
    monkeypatch.setattr(net, 'description', replace(describe('MSRResNet'), knobs={'zeal': Knob('upscale', 0, 9, 'x')}),
                        raising=False)
    assert 'zeal' in declared()
    restorer = photo_restorer(weights['plain'], device='cpu', knobs={'zeal': 3.})
    assert restorer.net.upscale == 3


def test_knobs_on_the_command_line(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written('a.png', encoded(picture() // 5, 'PNG'))
    for n, words in enumerate((['--alpha_s', '0', 'a.png'], ['a.png', '--alpha_s=0.0'], ['a.png'])):
        assert main([*words, '-o', f'{n}.png', '--weights', weights['cidnet'], '--strength', '1']) == 0
    first, second, third = (read_photo(f'{n}.png').frames[0].pixels.astype(int) for n in range(3))
    assert np.ptp(first, axis=2).max() <= 1 and (first == second).all() and np.ptp(third, axis=2).max() > 5


def test_knobs_of_an_evaluation(weights, tmp_path, capsys):
    (tmp_path / 'in').mkdir()
    written(str(tmp_path / 'in' / 'a.png'), encoded(picture() // 5, 'PNG'))
    words = [
        '--weights', weights['cidnet'], '--degraded_dir',
        str(tmp_path / 'in'), '--clean_dir',
        str(tmp_path / 'in')
    ]
    assert evaluate([*words, '--output_dir', str(tmp_path / 'grey'), '--alpha_s', '0', '--alpha_i=0.8']) == 0
    out = capsys.readouterr().out
    assert np.ptp(cv2.imread(str(tmp_path / 'grey' / 'a.png')).astype(int), axis=2).max() <= 1
    assert 'alpha_s: 0' in out and 'alpha_i: 0.8' in out
    assert json.loads((tmp_path / 'grey' / 'metrics.json').read_text())['knobs'] == {'alpha_s': 0, 'alpha_i': 0.8}
    assert evaluate([*words, '--alpha_z', '1']) == 2 and "Did you mean '--alpha_s'?" in capsys.readouterr().err
    assert evaluate([*words, '--alpha_s', '3']) == 2


def test_a_knob_that_a_network_does_not_have_names_those_it_has():
    with pytest.raises(UserError, match=r"CIDNet has no knob 'alpha'; its knobs are alpha_s, alpha_i, gamma. Did you"):
        turn(tiny('CIDNet'), {'alpha': 1.})
