"""Where the semantic prior of ISALux comes from, and that it is never random."""
from __future__ import annotations

import logging
import sys
import urllib.error
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from test_isalux import SMALL, inputs, network

from basicsr.archs import build_network
from basicsr.config import load_options
from basicsr.models import build_model
from basicsr.training.launch import start_run
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.weights import semantic_prior
from basicsr.weights.network import load_network
from basicsr.weights.semantic_prior import equip


def segmenter_file(folder: Path) -> str:
    """A file in the layout of torchvision's weights, of an untrained segmenter."""
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large
    torch.manual_seed(5)
    torch.save(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict(), folder / 'segmenter.pth')
    return str(folder / 'segmenter.pth')


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> str:
    return segmenter_file(tmp_path_factory.mktemp('segmenter'))


def test_a_segmenter_gives_probabilities_and_belongs_to_nobody(weights):
    net, (x, _) = network(semantic=weights), inputs(2, 34, 50)
    shapes, plain = ([(k, v.shape) for k, v in n.state_dict().items()] for n in (net, network()))
    assert shapes == plain
    semantic = net.train().segmenter(x)
    assert semantic.shape == (2, 21, 34, 50) and not semantic.requires_grad
    torch.testing.assert_close(semantic.sum(dim=1), torch.ones(2, 34, 50))
    torch.testing.assert_close(net.segmenter(x + 3 * (x == x.max())), net.segmenter(x.clamp(max=1) + (x == x.max())))
    torch.testing.assert_close(net(x), net(x, semantic), rtol=0, atol=0)
    assert deepcopy(net).segmenter is net.segmenter
    assert network(semantic=weights).segmenter is net.segmenter
    assert net.segmenter(x.bfloat16()).dtype == torch.bfloat16  # computed in float32 all the same


def test_who_builds_a_network_for_use_gives_it_the_segmenter(weights, tiny_options, tmp_path):
    options = {'type': 'ISALux', **SMALL, 'semantic': weights}
    net, (x, _) = build_network(options), inputs(1, 16, 16)
    with pytest.raises(UserError, match=r'semantic_prior\.equip'):
        net(x)
    torch.save({'params': net.state_dict(), 'network_g': options}, tmp_path / 'net.pth')
    loaded = load_network(tmp_path / 'net.pth')
    file = tiny_options(network_g=options, train={'ema_decay': 0.9})
    model = build_model(start_run(load_options(file, is_train=True)))
    assert net.segmenter is None
    for made in (equip(net), loaded, model.net_g, model.net_g_ema):
        assert made.segmenter is semantic_prior.load_semantic_prior(weights)
    assert equip(torch.nn.Identity()).training


def test_the_segmenter_normalises_like_imagenet(weights):
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large
    plain = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    plain.load_state_dict(torch.load(weights, weights_only=True))
    x, _ = inputs(2, 40, 33)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = plain((x - mean) / std)['out'].softmax(dim=1)
    torch.testing.assert_close(semantic_prior.load_semantic_prior(weights)(x), expected)


def test_the_segmenter_leaves_random_numbers_and_training_alone(weights, tmp_path):
    other = tmp_path / 'copy.pth'
    other.write_bytes(open(weights, 'rb').read())
    torch.manual_seed(3)
    net = equip(build_network({'type': 'ISALux', **SMALL, 'semantic': str(other)})).train()
    torch.manual_seed(3)
    reference = build_network({'type': 'ISALux', **SMALL, 'semantic': 'external'})
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), reference.parameters()))
    before = net.segmenter(torch.full((1, 3, 16, 16), 0.3))
    net(torch.rand(2, 3, 16, 16)).sum().backward()
    torch.testing.assert_close(net.segmenter(torch.full((1, 3, 16, 16), 0.3)), before, rtol=0, atol=0)


def test_torchvisions_weights_are_taken_from_its_cache(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda *a, **k: pytest.fail('the file is there'))
    file = tmp_path / 'checkpoints' / 'lraspp_mobilenet_v3_large-d234d4ea.pth'
    file.parent.mkdir()
    file.write_bytes(open(weights, 'rb').read())
    x, _ = inputs(1, 16, 16)
    expected = semantic_prior.load_semantic_prior(weights)(x)
    torch.testing.assert_close(network(semantic='torchvision').segmenter(x), expected)
    torch.testing.assert_close(equip(build_network({'type': 'ISALux', **SMALL})).segmenter(x), expected)  # the default


def refusal(**options) -> str:
    with pytest.raises(UserError) as caught:
        network(**options)
    text = str(caught.value)
    assert '\n' not in text and all(word in text for word in ('path of a file', "'external'", "'off'"))
    return text


def test_weights_that_cannot_be_downloaded_name_the_alternatives(tmp_path, monkeypatch):

    def offline(*args, **kwargs):
        raise urllib.error.URLError('no route')

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    text = refusal(semantic='torchvision')
    assert 'lraspp_mobilenet_v3_large-d234d4ea.pth' in text and 'no route' in text


def test_a_missing_torchvision_names_the_alternatives(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchvision.models', None)
    assert 'cannot be imported' in refusal(semantic=weights)
    network(semantic='off'), network(semantic='external')  # need none


def test_files_that_are_no_segmenter_name_the_alternatives(weights, tmp_path):
    assert "Did you mean 'torchvision'" in refusal(semantic='torchvison')
    (tmp_path / 'text.pth').write_text('no weights')
    assert 'not a weights file' in refusal(semantic=str(tmp_path / 'text.pth'))
    torch.save(network().state_dict(), tmp_path / 'isalux.pth')
    assert 'look like ISALux' in refusal(semantic=str(tmp_path / 'isalux.pth'))
    assert '5x' in refusal(semantic=weights, num_classes=5)


def test_external_maps_are_required_and_checked():
    net, (x, semantic) = network(), inputs(2, 12, 8)
    with pytest.raises(UserError, match='second argument'):
        net(x)
    with pytest.raises(UserError, match=r'\(2, 21, 12, 8\)'):
        net(x, semantic[:, :20])
    with pytest.raises(UserError, match='no use for it'):
        network(semantic='off')(x, semantic)


@pytest.mark.parametrize('word', ['off', None, False])
def test_without_semantics_a_warning_is_logged_once(word):
    logger, found = get_root_logger(), []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    logger.addHandler(handler)
    semantic_prior.warn_without_semantics.cache_clear()
    try:
        assert network(semantic=word).sem_adapters is None and network(semantic=word).segmenter is None
    finally:
        logger.removeHandler(handler)
    assert len(found) == 1 and 'not those of the paper' in found[0]
