"""Checkpoints of other projects: enhance.py needs no YAML for any network in any of the forms that circulate."""
from __future__ import annotations

import argparse
import os
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from basicsr.archs import build_network
from basicsr.commands.enhance import main as enhance
from basicsr.utils.errors import UserError
from basicsr.utils.img import imread, imwrite
from basicsr.utils.weights import WRAPPERS, load_weights, save_weights
from basicsr.weights.fitting import load_into
from basicsr.weights.network import load_network

SMALL = {'dim': 16, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1}
NETWORKS = [
    {'type': 'RetinexMamba', 'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2},
    {'type': 'RetinexFormer', 'n_feat': 8},
    {'type': 'MST_Plus_Plus', 'n_feat': 6},
    {'type': 'Restormer', **SMALL},
    {'type': 'LoRa_Gate_Restormer', **SMALL},
    {'type': 'ImprovedLoRaGateRestormer', **SMALL},
    {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 2},
    {'type': 'CIDNet', 'channels': [4, 4, 8, 8], 'heads': [1, 1, 2, 2]},
    {'type': 'DarkIR', 'width': 4},
    {'type': 'NAFNet', 'width': 4, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]},
    {'type': 'MambaIR', 'embed_dim': 30, 'depths': [1], 'd_state': 2, 'mlp_ratio': 1.2},
    {'type': 'MoCEIR', 'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_dec_blocks': [1, 1, 1], 'num_refinement_blocks': 1},
    {'type': 'PromptIR', 'num_blocks': [0, 1, 0, 1], 'num_refinement_blocks': 0},
]
HYPER_PARAMETERS = {
    'dim': 16, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1, 'heads': [1, 2, 4, 8],
    'gate_type': 'elementwise', 'use_dfrg': True, 'LoRa_ffn_ratio': 0.5, 'LoRa_attn_ratio': 0.8, 'lr': 2e-4
}


def lightning(state, hyper_parameters=None):
    """What Lightning writes for a module whose network is `net`, beside a loss with tensors of its own."""
    extra = {} if hyper_parameters is None else {'hyper_parameters': hyper_parameters, 'hparams_name': 'kwargs'}
    return {
        'epoch': 3, 'global_step': 42, 'pytorch-lightning_version': '2.4.0',
        'state_dict': {**{f'net.{k}': v for k, v in state.items()}, 'loss.kernel': torch.ones(3)},
        'loops': {'fit_loop': {'state_dict': {}}}, 'optimizer_states': [{'state': {}}], **extra
    }


FORMS = {
    'net_g.pth': lambda state: {'params': state},
    'best_psnr_25.16_42000.pth': lambda state: {'params': state},
    'ema.pth': lambda state: {'params': {k: torch.zeros_like(v) for k, v in state.items()}, 'params_ema': state},
    'bare.pth': lambda state: {f'module.{k}': v for k, v in state.items()},
    'only_state.ckpt': lambda state: {'state_dict': {f'net.{k}': v for k, v in state.items()}},
    'last.ckpt': lambda state: lightning(state, {}),
    'nameless.ckpt': lambda state: lightning(state),  # no hyper-parameters were saved
    'model.ckpt': lambda state: wrapped(lightning(state), 'net.', 'model.'),
    'compiled.ckpt': lambda state: wrapped(lightning(state), 'net.', 'net._orig_mod.'),
    'epoch_99.pt': lambda state: {
        'epoch': 99, 'model_state_dict': {f'module.{k}': v for k, v in state.items()}, 'loss': .1,
        'optimizer_state_dict': {'state': {}, 'param_groups': []}
    },
    'gan.pth': lambda state: {'net_g': state, 'net_d': {'conv.weight': torch.ones(3)}},
    'extracted.pth': lambda state: {f'net.{k}': v for k, v in state.items()},
    'script.pth': lambda state: {'params': {f'module.model.{k}': v for k, v in state.items()}},
}


def wrapped(content, old, new):
    """The same file of a module that calls its network otherwise."""
    state = {new + k.removeprefix(old) if k.startswith(old) else k: v for k, v in content['state_dict'].items()}
    return content | {'state_dict': state}


@pytest.fixture(scope='module', params=NETWORKS, ids=lambda n: n['type'])
def network(request, tmp_path_factory):
    """Its random weights, a photo, and what the network makes of it."""
    torch.manual_seed(1)
    net = build_network(request.param).eval()
    folder = tmp_path_factory.mktemp(request.param['type'])
    photo = np.random.RandomState(0).randint(0, 256, (19, 26, 3), np.uint8)
    imwrite(photo, folder / 'photo.png')
    with torch.no_grad():
        result = net(torch.from_numpy(photo[..., ::-1] / np.float32(255)).permute(2, 0, 1)[None])
    return net.state_dict(), folder, (result.clamp(0, 1)[0].permute(1, 2, 0).numpy()[..., ::-1] * 255).round()


@pytest.mark.parametrize('form', FORMS)
def test_every_network_in_every_form_needs_no_yaml(network, form):
    state, folder, wanted = network
    torch.save(FORMS[form](state), folder / form)
    out = folder / f'{form}.png'
    assert enhance([str(folder / 'photo.png'), '-o', str(out), '--weights', str(folder / form), '--strength', '1']) == 0
    np.testing.assert_array_equal(imread(out), wanted)


# ------------------------------------------------------------------------------------------------ Lightning


@pytest.fixture
def improved():
    torch.manual_seed(1)
    return build_network({'type': 'ImprovedLoRaGateRestormer', **SMALL})


def attribute_dict(monkeypatch, module):
    """Lightning's dictionary with attributes, as its version that keeps it in `module` would pickle it."""

    def attribute(self, key):
        if key in self:
            return self[key]
        raise AttributeError(key)

    cls = type('AttributeDict', (dict, ), {'__module__': module, '__getattr__': attribute})
    parts = module.split('.')
    for i in range(len(parts)):
        name = '.'.join(parts[:i + 1])
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[module].AttributeDict = cls
    return cls


@pytest.mark.parametrize(
    'wrap',
    [dict, lambda h: argparse.Namespace(**h), lambda h: {'opt': argparse.Namespace(**h)}, lambda h: {'args': h}],
    ids=['dict', 'namespace', 'nested namespace', 'nested dict'])
def test_hyper_parameters_in_every_container(improved, tmp_path, wrap):
    torch.save(lightning(improved.state_dict(), wrap(HYPER_PARAMETERS)), tmp_path / 'last.ckpt')
    loaded = load_weights(tmp_path / 'last.ckpt')
    assert loaded.claims == HYPER_PARAMETERS and loaded.choice == 'state_dict'
    assert list(loaded.state) == list(improved.state_dict())


@pytest.mark.parametrize('module', [
    'pytorch_lightning.utilities.parsing', 'lightning_fabric.utilities.data', 'lightning.fabric.utilities.data',
    'lightning.pytorch.utilities.parsing'
])
def test_dictionaries_of_lightning_load_without_lightning(improved, tmp_path, monkeypatch, module):
    with monkeypatch.context() as patch:
        content = attribute_dict(patch, module)(HYPER_PARAMETERS)
        torch.save(lightning(improved.state_dict(), content), tmp_path / 'last.ckpt')
    assert module not in sys.modules
    assert load_weights(tmp_path / 'last.ckpt').claims == HYPER_PARAMETERS


def test_shapes_decide_and_the_contradiction_is_said(improved, tmp_path, messages):
    claims = HYPER_PARAMETERS | {'dim': 48, 'gate_type': 'headwise'}
    torch.save(lightning(improved.state_dict(), argparse.Namespace(**claims)), tmp_path / 'last.ckpt')
    net = load_network(tmp_path / 'last.ckpt')
    assert [k for k, v in net.state_dict().items() if not torch.equal(v, improved.state_dict()[k])] == []
    said = [line.split('decide: ')[1] for line in messages if 'contradicts itself' in line]
    assert said == ['dim: 48 claimed, 16 by the shapes', 'gate_type: headwise claimed, elementwise by the shapes']


def test_hyper_parameters_that_agree_say_nothing(improved, tmp_path, messages):
    torch.save(lightning(improved.state_dict(), HYPER_PARAMETERS), tmp_path / 'last.ckpt')
    load_network(tmp_path / 'last.ckpt')
    assert [line for line in messages if 'contradicts' in line] == [] and len(messages) == 1


class Payload:
    """What a malicious file would hold among its hyper-parameters."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target, )


@pytest.mark.parametrize('wrap', [lambda p: {'opt': p}, lambda p: argparse.Namespace(opt=p)])
def test_code_among_hyper_parameters_is_never_run(improved, tmp_path, wrap):
    trap: Path = tmp_path / 'ran'
    torch.save(lightning(improved.state_dict(), wrap(Payload(trap))), tmp_path / 'evil.ckpt')
    with pytest.raises(UserError, match='holds more than weights'):
        load_weights(tmp_path / 'evil.ckpt')
    assert not trap.exists()


def test_an_option_file_that_asks_for_params_takes_lightnings_entry(improved, tmp_path):
    torch.save(lightning(improved.state_dict(), HYPER_PARAMETERS), tmp_path / 'last.ckpt')
    assert load_weights(tmp_path / 'last.ckpt', preferred='params').choice == 'state_dict (there is no params)'


def test_a_network_with_a_part_called_net_keeps_its_names(tmp_path):
    state = {'net.0.weight': torch.ones(2), 'head.weight': torch.ones(3)}
    torch.save({'state_dict': state}, tmp_path / 'w.pth')
    assert list(load_weights(tmp_path / 'w.pth').state) == list(state)


@pytest.mark.parametrize('name', WRAPPERS)
def test_names_of_wrappers_are_a_networks_own_where_it_has_them(tmp_path, name):
    part = name.removesuffix('.')
    mine, theirs = (torch.nn.ModuleDict({part: torch.nn.Conv2d(1, 1, 1)}) for _ in range(2))
    save_weights(tmp_path / 'w.pth', {'params': theirs.state_dict()})
    load_into(mine, load_weights(tmp_path / 'w.pth').state, 'w.pth')
    load_into(mine[part], load_weights(tmp_path / 'w.pth').state, 'w.pth')
    assert torch.equal(mine[part].weight, theirs[part].weight)


@pytest.mark.parametrize('entry, words', [
    ({}, "the entry 'params' of '{}' is empty"),
    ({'w': torch.ones(2), 'lr': 3}, "the entry 'params' of '{}' holds 'lr', a int, which is no tensor"),
    ([torch.ones(2)], "the entry 'params' of '{}' is a list, not weights"),
])
@pytest.mark.parametrize('asked', [{}, {'key': 'params'}, {'preferred': 'params_ema'}], ids=str)
def test_an_entry_that_holds_no_weights_says_why(tmp_path, entry, words, asked):
    torch.save({'params': entry}, tmp_path / 'w.pth')
    with pytest.raises(UserError) as told:
        load_weights(tmp_path / 'w.pth', **asked)
    assert str(told.value) == words.format(tmp_path / 'w.pth')


@pytest.mark.parametrize('change, words', [
    (lambda w: w.to_sparse(), 'float32 sparse_coo in the file, float32 in the network'),
    (lambda w: w.to('meta'), 'float32 without values (device meta) in the file, float32 in the network'),
])
def test_tensors_that_cannot_be_copied_are_told_in_one_sentence(change, words):
    net = torch.nn.Linear(2, 3)
    state = net.state_dict() | {'weight': change(net.weight.detach())}
    with pytest.raises(UserError,
                       match=f"'w.pth' does not fit Linear: 1 keys of another type: weight: {re.escape(words)}"):
        load_into(net, state, 'w.pth')
