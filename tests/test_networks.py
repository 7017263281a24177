"""The neighbours of RetinexMamba: parity with the published networks, any size and precision."""
from __future__ import annotations

import inspect
import json

import pytest
import torch
from conftest import SHARED
from plain_networks import PlainRestormer, PlainRetinexFormer

from basicsr.archs import build_network
from basicsr.archs.layers import strips
from basicsr.archs.layers.channel_attention import attend, channel_affinity
from basicsr.archs.layers.norm import BodyLayerNorm
from basicsr.registry import ARCH_REGISTRY

FLAT = {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1}
TINY = {
    'RetinexFormer': {'n_feat': 8, 'num_blocks': [1, 1, 1]},
    'MST_Plus_Plus': {'n_feat': 6, 'stage': 1},
    'Restormer': FLAT,
    'LoRa_Gate_Restormer': FLAT,
    'ImprovedLoRaGateRestormer': FLAT,
    'ISALux': {'dim': 8, 'num_blocks': [1, 1, 1], 'semantic': 'off'},
    'MASRNet': {'embed_dim': 16, 'stem_dim': 6, 'moe_hidden': [[12], [12], [12, 8]]},
    'IllRecNet': {'embed_dim': 8, 'num_heads': 4, 'num_resolution': 3},
    'CIDNet': {'channels': [8, 8, 12, 16], 'heads': [1, 2, 2, 4]},
    'DarkIR': {'width': 4},
    'NAFNet': {'width': 4, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]},
    'NAFNetLocal': {'width': 4, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1], 'train_size': [1, 3, 16, 16]},
    'MambaIR': {'embed_dim': 30, 'depths': [1, 1], 'd_state': 3, 'drop_path_rate': 0.},
    'MoCEIR': {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_dec_blocks': [1, 1, 1], 'num_refinement_blocks': 1},
    'PromptIR': {'num_blocks': [0, 0, 0, 1], 'num_refinement_blocks': 0},
}
# rounding can send a token to another expert, which moves everything behind it: precision is compared with all chosen
UNROUTED = {'MASRNet': {'num_experts': 2, 'moe_experts': [3, 2, 2]}}
# published weights have them, no result does
UNUSED = ('expert_selector', 'I_LCA5', 'side_out', 'chnl_reduce', 'reduce_noise_channel')
GOLDEN = SHARED / 'golden'
SHALLOW = {k: {'num_blocks': [1, 0, 0, 0], 'num_refinement_blocks': 0} for k in TINY if 'Restormer' in k}
FAMILIES = ('retinexformer', 'mst_plus_plus', 'restormer', 'aio', 'isalux', 'masrnet', 'illrecnet', 'cidnet', 'darkir',
            'nafnet', 'mambair', 'moceir', 'promptir')
CLOSE = ('moceir', 'promptir')  # whose experts and prompts move the output by 1e-4 only
CASES = sorted(f for f in GOLDEN.glob('*.npz') if f.stem.startswith(FAMILIES)) if GOLDEN.is_dir() else []
VGG_PARAMETERS = 1_735_488  # the authors' MASR-Net holds the network of its perceptual loss, ours does not
every = pytest.mark.parametrize('name', TINY)
checkpointing = pytest.mark.parametrize(
    'name', [name for name in TINY if 'checkpoint' in inspect.signature(ARCH_REGISTRY.get(name)).parameters])


@pytest.mark.parametrize('name', [
    name for name in ARCH_REGISTRY.keys() if 'LayerNorm_type' in inspect.signature(ARCH_REGISTRY.get(name)).parameters
])
def test_a_norm_that_there_is_not_is_taken_for_none(name):
    """By the class alone, which checks nothing else of what options are checked for."""
    with pytest.raises(ValueError, match="LayerNorm_type must be 'WithBias' or 'BiasFree', not 'foo'"):
        ARCH_REGISTRY.get(name)(LayerNorm_type='foo')


def tiny(name: str, **more) -> torch.nn.Module:
    """Seeded, with more life in it than the initial values have: scales and norms differ from 1."""
    torch.manual_seed(0)
    net = build_network({'type': name, **TINY[name], **more}).eval()
    for p in net.parameters():
        p.data += 0.05 * torch.randn_like(p)
    return net


def gradients(net: torch.nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    net.zero_grad()
    net(x).square().mean().backward()
    return {k: p.grad for k, p in net.named_parameters() if p.grad is not None}


def _is_rounding(key: str, options: dict) -> bool:
    """Gradients that are zero but for rounding, of which the golden files hold the norm."""
    if options['type'] == 'MASRNet':
        return key.endswith('k_proj.bias')  # softmax does not see what all its logits share
    return options.get('top_k') == 1 and 'gating_fc' in key  # one expert has weight 1, whatever the gate says


@pytest.mark.skipif(not CASES, reason='the golden files are not part of the checkout')
@pytest.mark.parametrize('file', CASES, ids=[f.stem for f in CASES])
def test_golden_outputs_and_gradients(golden, file):
    case = golden.load_case(file)
    norms = case.meta.get('grad_norm', {})
    for key in [k for k in norms if _is_rounding(k, case.options)]:
        del norms[key]
    net = build_network(case.options)
    with torch.set_grad_enabled('grad_norm' in case.meta):
        result = golden.check_case(net, case)
    assert result.output_err < (1e-5 if file.stem.startswith(CLOSE) else 2e-5)
    assert result.grad_err < 1e-3
    loss = VGG_PARAMETERS if case.options['type'] == 'MASRNet' else 0
    assert sum(p.numel() for p in net.parameters()) == case.meta['params'] - loss
    keys = file.with_suffix('.keys.json')
    if keys.is_file():
        published = [e[:2] for e in json.loads(keys.read_text()) if not e[0].startswith('perceptual_loss.')]
        assert [[k, list(v.shape)] for k, v in net.state_dict().items()] == published


@pytest.mark.parametrize('options, parameters, tensors', [
    ({'type': 'RetinexFormer'}, 1_605_701, 122),
    ({'type': 'MST_Plus_Plus', 'stage': 3}, 1_511_220, 227),
    ({'type': 'Restormer'}, 26_126_644, 494),
    ({'type': 'Restormer', 'LayerNorm_type': 'BiasFree'}, 26_111_668, 406),
    ({'type': 'Restormer', 'LayerNorm_type': 'BiasFree', 'inp_channels': 1, 'out_channels': 1}, 26_109_076, 406),
    ({'type': 'Restormer', 'inp_channels': 6, 'dual_pixel_task': True}, 26_132_548, 495),
])
def test_official_sizes(options, parameters, tensors):
    with torch.device('meta'):
        net = build_network(options)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(net.state_dict()) == tensors and not list(net.buffers())


@pytest.mark.parametrize('plain, ours', [
    (PlainRetinexFormer(8, 2, (1, 2, 1)), {'type': 'RetinexFormer', 'n_feat': 8, 'stage': 2, 'num_blocks': [1, 2, 1]}),
    (PlainRestormer(16, (1, 1, 1, 2),
                    1), {'type': 'Restormer', 'dim': 16, 'num_blocks': [1, 1, 1, 2], 'num_refinement_blocks': 1}),
    (PlainRestormer(8, (1, 1, 1, 1), 1, bias=True, LayerNorm_type='BiasFree'),
     {'type': 'Restormer', **FLAT, 'bias': True, 'LayerNorm_type': 'BiasFree'}),
], ids=['RetinexFormer', 'Restormer', 'Restormer BiasFree'])
@pytest.mark.parametrize('batch', [1, 3])
def test_equal_to_the_obvious_code(plain, ours, batch):
    net = build_network(ours)
    plain.load_state_dict(net.state_dict())
    x = torch.rand(batch, 3, 24, 16)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-4, atol=1e-5)
    ours, theirs = gradients(net, x), gradients(plain, x)
    for key, gradient in theirs.items():
        torch.testing.assert_close(ours[key], gradient, rtol=1e-3, atol=1e-5 + 1e-4 * gradient.abs().max().item())


@every
@pytest.mark.parametrize('size', [(1, 1), (8, 8), (5, 7), (33, 30), (3, 50)])
def test_any_size(name, size):
    x = torch.rand(2, 3, *size)
    y = tiny(name)(x)
    assert y.shape == x.shape and torch.isfinite(y).all() and y.is_contiguous()


@every
def test_padding_is_cropped_away(name):
    net, x = tiny(name), torch.rand(1, 3, 18, 21)
    sides = {'RetinexFormer': 4, 'ISALux': 4, 'NAFNet': 4, 'NAFNetLocal': 4, 'MambaIR': 1}
    bottom, right = (-side % sides.get(name, 8) for side in (18, 21))
    mode = 'constant' if name in ('NAFNet', 'NAFNetLocal', 'DarkIR') else 'reflect'
    padded = torch.nn.functional.pad(x, (0, right, 0, bottom), mode)
    torch.testing.assert_close(net(x), net(padded)[..., :18, :21], rtol=0, atol=0)


@every
def test_precisions(name):
    net, x = tiny(name, **UNROUTED.get(name, {})), torch.rand(2, 3, 24, 20)
    with torch.no_grad():
        plain = net(x)
        scale = plain.abs().max().item()
        torch.testing.assert_close(net.double()(x.double()).float(), plain, rtol=1e-3, atol=1e-5 * scale)
        net.float()
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast('cpu', dtype):
                out = net(x)
            assert out.dtype == torch.float32  # of the image, whatever the layers inside computed in
            torch.testing.assert_close(out, plain, rtol=0.05, atol=0.04 * scale)
            out = tiny(name, **UNROUTED.get(name, {})).to(dtype)(x.to(dtype))
            assert out.dtype == dtype
            torch.testing.assert_close(out.float(), plain, rtol=0.05, atol=0.04 * scale)


def test_dual_pixels_give_single_precision_under_autocast():
    net = tiny('Restormer', inp_channels=6, dual_pixel_task=True)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        assert net(torch.rand(1, 6, 16, 16)).dtype == torch.float32


@every
def test_autocast_gradients(name):
    net, x = tiny(name, **UNROUTED.get(name, {})), torch.rand(1, 3, 16, 16)
    exact = gradients(net, x)
    net.zero_grad()
    with torch.autocast('cpu', torch.bfloat16):
        loss = net(x).square().mean()
    loss.backward()
    rough = {k: p.grad for k, p in net.named_parameters() if p.grad is not None}
    assert rough.keys() == exact.keys()
    norm = sum(g.square().sum() for g in exact.values()).sqrt()
    assert sum((rough[k] - g).square().sum() for k, g in exact.items()).sqrt() < 0.1 * norm


def test_attention_in_half_precision():
    """Norms over all pixels of a large image exceed the range of float16; channels of zeros have no direction."""
    x = (60 * torch.ones(1, 64, 64, 8, dtype=torch.float16)).requires_grad_()
    affinity = channel_affinity(x, x, torch.ones(2, 1, 1, dtype=torch.float16))
    attend(affinity, x).float().mean().backward()
    assert affinity.dtype == torch.float32
    assert torch.isfinite(affinity).all() and torch.isfinite(x.grad).all()
    zeros = torch.zeros(1, 4, 4, 8, requires_grad=True)
    channel_affinity(zeros, zeros, torch.ones(2, 1, 1)).square().sum().backward()
    assert torch.equal(zeros.grad, torch.zeros_like(zeros))


def test_bias_free_norm_divides_without_centring():
    norm = BodyLayerNorm(6, bias=False)
    norm.body.weight.data.uniform_(0.5, 2)
    x = torch.randn(2, 6, 4, 5) + 3
    expected = x / (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt() * norm.body.weight.view(1, 6, 1, 1)
    torch.testing.assert_close(norm(x), expected)
    assert [k for k, _ in norm.named_parameters()] == ['body.weight']


@every
def test_strips_of_rows_give_the_same_image(name, monkeypatch):
    """Without gradients the feed-forward works on strips; here on the smallest ones."""
    monkeypatch.setattr(strips, '_CPU_BYTES', 1)
    net, x = tiny(name), torch.rand(2, 3, 40, 24)
    with torch.no_grad():
        y = net(x)
    torch.testing.assert_close(y, net(x).detach(), rtol=1e-4, atol=1e-5)


@checkpointing
def test_checkpoints_give_the_same_gradients(name):
    x = torch.rand(2, 3, 16, 24)
    kept, again = tiny(name).train(), tiny(name, checkpoint=True).train()
    torch.manual_seed(1)  # MoCEIR draws noise
    expected = gradients(kept, x)
    torch.manual_seed(1)
    found = gradients(again, x)
    assert expected.keys() == found.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-7 + 1e-5 * gradient.abs().max().item())
    for (key, a), (_, b) in zip(kept.named_buffers(), again.named_buffers()):
        torch.testing.assert_close(a, b, msg=f'{key}: a checkpointed block counts its batch twice')


@every
def test_one_image_trains(name):
    net = tiny(name).train()
    found = gradients(net, torch.rand(1, 3, 16, 12))
    without = {k for k, p in net.named_parameters() if p.requires_grad} - found.keys()
    assert all(any(part in k for part in UNUSED) for k in without)
    assert all(torch.isfinite(g).all() for g in found.values())


@every
def test_compiles_in_one_graph(name):
    """Tracing finds graph breaks; what the compiler proper makes of the graph takes minutes and is not our code."""
    net, x = tiny(name, **SHALLOW.get(name, {})), torch.rand(1, 3, 18, 16)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['RetinexFormer', 'ImprovedLoRaGateRestormer'])
def test_compiles_with_checkpoints_and_backward(name):
    options, x = SHALLOW.get(name, {}), torch.rand(2, 3, 16, 16)
    expected = gradients(tiny(name, **options).train(), x)
    net = tiny(name, checkpoint=True, **options).train()
    torch._dynamo.reset()
    torch.compile(net, fullgraph=True, backend='aot_eager')(x).square().mean().backward()
    for key, gradient in expected.items():
        torch.testing.assert_close(net.get_parameter(key).grad, gradient, rtol=1e-3, atol=1e-5)
    assert {b.item() for k, b in net.named_buffers() if 'num_batches' in k and 'expert' not in k} <= {1}


@pytest.mark.parametrize('name, arguments, message', [
    ('RetinexFormer', {'n_feat': 31}, 'multiple of 4'),
    ('RetinexFormer', {'in_channels': 1}, 'must be 3'),
    ('RetinexFormer', {'num_blocks': [1, 1]}, 'three numbers'),
    ('RetinexFormer', {'stage': 0}, 'at least 1'),
    ('MST_Plus_Plus', {'stage': 0}, 'at least 1'),
    ('Restormer', {'LayerNorm_type': 'WithoutBias'}, "'WithBias' or 'BiasFree'"),
    ('Restormer', {'inp_channels': 6}, 'residual to the input'),
    ('Restormer', {'heads': [1, 2, 5, 8]}, '5 heads do not divide'),
    ('Restormer', {'heads': [1, 2, 4]}, 'four numbers'),
    ('Restormer', {'dim': 15}, 'must be even'),
    ('LoRa_Gate_Restormer', {'gate_type': 'rowwise'}, 'gate_type'),
    ('ImprovedLoRaGateRestormer', {'gate_type': 'rowwise'}, 'gate_type'),
    ('ImprovedLoRaGateRestormer', {'dim': 18}, 'multiple of 4'),
    ('ImprovedLoRaGateRestormer', {'lora_ffn_ratio': 0}, 'above 0'),
    ('ImprovedLoRaGateRestormer', {'num_blocks': [4, 6, 6]}, 'four numbers'),
    ('IllRecNet', {'embed_dim': 12}, '8 heads do not divide 12 channels'),
    ('IllRecNet', {'kernel_size': 8}, 'must be odd'),
    ('IllRecNet', {'sigma': 0}, 'sigma must be above 0'),
    ('IllRecNet', {'channels': 1}, 'must be 3'),
    ('IllRecNet', {'num_resolution': 0}, 'at least 1'),
    ('IllRecNet', {'dropout_ratio': 1.}, 'below 1'),
    ('IllRecNet', {'preset': 'huge'}, 'train_scripts, small, base, large'),
])
def test_impossible_arguments_are_explained(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        ARCH_REGISTRY.get(name)(**arguments)
