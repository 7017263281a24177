"""Networks of others, by spandrel: enhanced with, evaluated and compared like one's own; and a second opinion on the ports."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from basicsr.archs import build_network
from basicsr.commands.benchmark import main as benchmark
from basicsr.commands.enhance import main as enhance
from basicsr.commands.evaluate import main as evaluate
from basicsr.commands.export import main as export
from basicsr.inference.build import build_restorer
from basicsr.utils.img import imread, imwrite
from basicsr.utils.weights import save_weights
from basicsr.weights import foreign
from basicsr.weights.network import load_network

NAMES = {'RetinexFormer': 'RetinexFormer', 'CIDNet': 'HVI-CIDNet', 'NAFNet': 'NAFNet', 'RRDBNet': 'ESRGAN'}
OPTIONS = {
    'RetinexFormer': {'n_feat': 16, 'num_blocks': [1, 1, 1]},
    'CIDNet': {},
    'NAFNet': {'width': 8, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]},
    'RRDBNet': {'num_feat': 16, 'num_block': 1, 'num_grow_ch': 32, 'scale': 4},
}  # yapf: disable


def compact(scale: int = 1) -> nn.Module:
    """A small network of a family that this toolbox has not, with weights that change an image little."""
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
    torch.manual_seed(0)
    return SRVGGNetCompact(num_feat=16, num_conv=2, upscale=scale)


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / 'weights' / 'compact.pth'
    save_weights(file, {'params': compact().state_dict()})
    return file


def test_a_network_of_others_answers_as_itself(weights):
    img = np.random.default_rng(0).random((13, 18, 3), np.float32)
    restorer = build_restorer(weights, device='cpu')
    assert restorer.net.title == 'RealESRGAN Compact' and restorer.channels == 3
    with torch.no_grad():
        expected = compact().eval()(torch.from_numpy(img.transpose(2, 0, 1))[None])[0].clamp(0, 1)
    np.testing.assert_allclose(restorer(img).transpose(2, 0, 1), expected, atol=1e-6)


def test_enlarging(tmp_path):
    save_weights(tmp_path / 'x2.pth', {'params': compact(2).state_dict()})
    assert build_restorer(tmp_path / 'x2.pth', device='cpu')(np.zeros((7, 9, 3), np.float32)).shape == (14, 18, 3)


def test_photos_are_enhanced_with_it(weights, tmp_path, monkeypatch, messages):
    monkeypatch.chdir(tmp_path)
    imwrite(np.full((20, 24, 3), 60, np.uint8), tmp_path / 'a.png')
    assert enhance(['a.png', '-o', 'b.png', '--weights', str(weights), '--strength', '1']) == 0
    assert imread('b.png').shape == (20, 24, 3)
    assert any('network by spandrel' in line for line in messages)


def test_it_stands_on_a_board_beside_others(weights, pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = {'type': 'PairedImageDataset', 'dataroot_lq': str(pairs / 'input'), 'dataroot_gt': str(pairs / 'target')}
    board = {'name': 'mine', 'data': data, 'rows': [{'weights': str(weights), 'name': 'theirs'}]}
    (tmp_path / 'board.yml').write_text(json.dumps(board))
    assert benchmark(['board.yml', '--root', str(tmp_path), '--device', 'cpu']) == 0
    row, = json.loads((tmp_path / 'results' / 'benchmarks' / 'mine' / 'board.json').read_text())['rows']
    assert row['network'] == 'RealESRGAN Compact'
    assert row['parameters'] == sum(p.numel() for p in compact().parameters())
    command = ['--weights', str(weights), '--degraded_dir', str(pairs / 'input'), '--clean_dir', str(pairs / 'target')]
    assert evaluate([*command, '--output_dir', 'out']) == 0
    measured = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert measured['psnr retinexformer'] == pytest.approx(row['plain']['psnr retinexformer'], abs=1e-6)


def test_what_cannot_be_done_is_one_sentence(weights, tmp_path, monkeypatch, capsys):
    assert export(['--weights', str(weights), '-o', str(tmp_path / 'a.safetensors')]) == 2
    assert "is of RealESRGAN Compact, by spandrel; networks of this toolbox alone are exported" in capsys.readouterr(
    ).err
    save_weights(tmp_path / 'odd.pth', {'params': {'layer.weight': torch.zeros(3)}})
    command = ['a.png', '-o', 'b.png', '--weights', str(tmp_path / 'odd.pth')]
    monkeypatch.chdir(tmp_path)
    imwrite(np.zeros((8, 8, 3), np.uint8), tmp_path / 'a.png')
    assert enhance(command) == 2
    assert 'give the option file with --opt. It is none of the networks that spandrel' in capsys.readouterr().err
    broken = compact().state_dict()
    broken['body.2.weight'] = torch.zeros(16, 7, 3, 3)
    save_weights(tmp_path / 'odd.pth', {'params': broken})
    assert enhance(command) == 2
    error = capsys.readouterr().err
    assert 'does not fit the network that spandrel takes it for' in error and error.count('error: ') == 1
    monkeypatch.setattr(foreign, 'find_spec', lambda name: None)
    assert enhance(command) == 2 and "pip install 'retinexmamba[foreign]'" in capsys.readouterr().err


@pytest.mark.parametrize('name', OPTIONS)
def test_ports_answer_as_those_of_spandrel(name):
    """Its networks are of other hands, from the same published code."""
    from spandrel import ModelLoader
    torch.manual_seed(0)
    ours = build_network({'type': name, **OPTIONS[name]}).eval()
    theirs = ModelLoader('cpu').load_from_state_dict({k: v.clone() for k, v in ours.state_dict().items()})
    assert theirs.architecture.name == NAMES[name]
    image = torch.rand(1, 3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image).clamp(0, 1), theirs(image), atol=2e-5, rtol=0)


def test_own_networks_stay_own(tmp_path):
    save_weights(tmp_path / 'a.pth', {'params': build_network({'type': 'RetinexFormer', 'n_feat': 8}).state_dict()})
    assert type(load_network(tmp_path / 'a.pth')).__name__ == 'RetinexFormer'
