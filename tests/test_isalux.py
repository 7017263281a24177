"""ISALux in detail: variants, attention, mixture of experts, LoRA and checkpoints."""
from __future__ import annotations

import zlib
from copy import deepcopy

import pytest
import torch
from test_all_in_one import figures
from torch import nn

from basicsr.archs import build_network
from basicsr.archs.isalux_arch import HISA_MSA, LayerNorm, LoRA, TransformerBlock
from basicsr.utils.errors import UserError
from basicsr.weights.detection import detect
from basicsr.weights.fitting import load_into
from basicsr.weights.semantic_prior import equip

SMALL = {'dim': 8, 'num_blocks': [1, 1, 1]}
VARIANTS = {
    'both priors': {'semantic': 'external'},
    'illumination only': {'semantic': 'off'},
    'semantic only': {'semantic': 'external', 'use_illumination': False},
    'no priors': {'semantic': 'off', 'use_illumination': False},
    'no LoRA': {'semantic': 'external', 'lora_r': 0},
}


def network(**options) -> nn.Module:
    """Seeded; no scale, norm or LoRA has its initial value."""
    torch.manual_seed(0)
    net = equip(build_network({'type': 'ISALux', **SMALL, 'semantic': 'external', **options})).eval()
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return net


def inputs(batch: int, height: int, width: int, classes: int = 21) -> tuple[torch.Tensor, torch.Tensor]:
    """An image and its semantic map."""
    generator = torch.Generator().manual_seed(batch * height + width)
    image, logits = (torch.randn(batch, c, height, width, generator=generator) for c in (3, classes))
    return image.sigmoid(), logits.softmax(dim=1)


def arguments(net: nn.Module, *size: int) -> tuple[torch.Tensor, ...]:
    """What this variant takes."""
    image, semantic = inputs(*size)
    return (image, ) if net.sem_adapters is None else (image, semantic)


# ------------------------------------------------------------------------------------------------ the network


@pytest.mark.parametrize('options, parameters', [
    ({'semantic': 'external'}, 1_849_367),
    ({'semantic': 'external', 'lora_r': 0}, 1_769_495),
    ({'semantic': 'external', 'use_illumination': False}, 1_647_289),
    ({'semantic': None}, 1_605_177),
    ({'semantic': 'off', 'use_illumination': False}, 1_604_729),
    ({'semantic': 'off', 'use_illumination': False, 'lora_r': 0}, 1_564_793),
    ({'semantic': 'external', 'num_blocks': [2, 3, 3], 'ffn_expansion_factor': 1.33, 'lora_r': 4}, 1_852_217),
    ({'semantic': 'external', 'num_blocks': [1, 2, 2], 'lora_r': 4}, 1_856_527),
    ({'semantic': 'external', 'num_blocks': [2, 3, 3], 'ffn_expansion_factor': 2.0, 'lora_r': 4}, 2_297_609),
    ({'semantic': 'external', 'dim': 48, 'num_blocks': [4, 6, 6]}, 11_149_583),
])
def test_parameter_counts_of_the_variants(options, parameters):
    with torch.device('meta'):
        net = build_network({'type': 'ISALux', **options})
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert not list(net.buffers())
    parts = {
        part: sum(p.numel() for k, p in net.named_parameters() if part in k) for part in ('lora_', 'sem_ad', '.ffn.')
    }
    if parameters == 1_849_367:
        assert {k: round(v, -3) for k, v in parts.items()} == {'lora_': 80_000, 'sem_ad': 43_000, '.ffn.': 1_211_000}


def fill(net: nn.Module) -> nn.Module:
    """Weights from the names of the tensors alone, the rule under which the figures below were measured."""
    for key, tensor in net.state_dict().items():
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()) % 2**31)
        noise = torch.randn(tensor.shape, generator=generator)
        if key.endswith(('temperature', '.v', '.w')):
            tensor.copy_(1 + 0.1 * noise)
        elif tensor.dim() >= 2:
            tensor.copy_(noise / (tensor.numel() / tensor.shape[0])**0.5)
        else:
            tensor.copy_(0.1 * noise + key.endswith('weight'))
    return net


@pytest.mark.parametrize('options, size, expected, gradient', [
    ({**SMALL, 'semantic': 'external'},
     (3, 34, 42), [0.18695089, 0.86275055, 0.23768169, 1.18685329, -0.67884052], 4.531268),
    ({**SMALL, 'semantic': 'off'},
     (3, 34, 42), [0.14346147, 0.85865017, 0.23967510, 1.09538615, -0.60608673], 3.990642),
    ({'semantic': 'external'}, (2, 64, 64), [0.95930562, 1.12018358, 0.22158104, -0.14381933, 0.81525362], None),
], ids=['both priors', 'illumination only', 'defaults'])
@pytest.mark.parametrize('checkpoint', [False, True])
def test_figures_of_the_reconstruction(options, size, expected, gradient, checkpoint):
    net = fill(build_network({'type': 'ISALux', **options, 'checkpoint': checkpoint}))
    b, h, w = size
    x = torch.rand((b, 3, h, w), generator=torch.Generator().manual_seed(1))
    semantic = torch.rand((b, 21, h, w), generator=torch.Generator().manual_seed(2)).softmax(dim=1)
    y = net(x, None if options['semantic'] == 'off' else semantic)
    assert figures(y) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    if gradient:
        y.square().mean().backward()
        norm = sum(p.grad.double().square().sum() for p in net.parameters()).sqrt().item()
        assert norm == pytest.approx(gradient, rel=1e-4)


@pytest.mark.parametrize('size', [(65, 65), (34, 50), (7, 9), (3, 3), (1, 2)])
@pytest.mark.parametrize('variant', VARIANTS)
def test_any_size(variant, size):
    net = network(**VARIANTS[variant])
    x, *semantic = arguments(net, 1, *size)
    y = net(x, *semantic)
    assert y.shape == x.shape and torch.isfinite(y).all() and y.is_contiguous()


def test_image_and_map_are_padded_by_reflection():
    net, (x, semantic) = network(), inputs(1, 18, 21)
    padded = (nn.functional.pad(t, (0, 3, 0, 2), 'reflect') for t in (x, semantic))
    torch.testing.assert_close(net(x, semantic), net(*padded)[..., :18, :21], rtol=0, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_close(dtype):
    net, args = network(), inputs(2, 24, 20)
    with torch.no_grad():
        exact = net(*args)
        with torch.autocast('cpu', dtype):
            rough = net(*args)
        low = deepcopy(net).to(dtype)(*(t.to(dtype) for t in args))
    assert low.dtype == dtype
    for y in (rough, low):
        torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.04 * exact.abs().max().item())


def test_norms_softmax_and_gate_are_float32_under_autocast(monkeypatch):
    from basicsr.archs.isalux import prior_attention
    types = []

    def affinity(*args):
        out = paired_affinity(*args)
        types.append(out.dtype)
        return out

    paired_affinity = prior_attention.paired_affinity
    monkeypatch.setattr(prior_attention, 'paired_affinity', affinity)
    block = TransformerBlock(8, 2, sem=False)
    with torch.autocast('cpu', torch.bfloat16):
        block(torch.randn(2, 8, 8, 8, dtype=torch.bfloat16), torch.rand(2, 8, 8, 8, dtype=torch.bfloat16))
        assert block.ffn.route(torch.randn(2, 8, 8, 8, dtype=torch.bfloat16))[0].dtype == torch.float32
    assert types == [torch.float32]
    x = (1000 + 8 * torch.randn(1, 4, 4, 8)).to(torch.float16)  # squares leave the range of float16
    norm = LayerNorm(8)
    torch.testing.assert_close(norm.half()(x).float(), norm.float()(x.float()), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize('variant', VARIANTS)
def test_one_compiled_graph_gives_the_same_image(variant):
    net = network(**VARIANTS[variant])
    args = arguments(net, 3, 18, 16)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(*args), net(*args), rtol=1e-4, atol=1e-5)


def test_checkpoints_give_the_same_gradients_with_both_priors():
    args, found = inputs(3, 16, 12), []
    for checkpoint in (False, True):
        net = network(checkpoint=checkpoint).train()
        net(*args).square().mean().backward()
        found.append({k: p.grad for k, p in net.named_parameters()})
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=1e-4, atol=1e-6)


def test_attention_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    attention = HISA_MSA(12, num_heads=3, r=4)
    for p in attention.parameters():
        p.data += 0.3 * torch.randn_like(p)
    u, prior_i, prior_s = torch.randn(2, 5, 6, 12), torch.randn(2, 12, 5, 6), torch.randn(2, 12, 5, 6)

    def attend(stream: nn.Module) -> torch.Tensor:
        qkv = nn.functional.conv2d(u.permute(0, 3, 1, 2), stream.qkv_proj.weight, stream.qkv_proj.bias).chunk(3, dim=1)
        adapted = (t + lora(u).permute(0, 3, 1, 2)
                   for t, lora in zip(qkv, (stream.lora_q, stream.lora_k, stream.lora_v)))
        q, k, v = (t.reshape(2, 3, 4, 30) for t in adapted)
        q, k = nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1)
        return ((q @ k.transpose(-2, -1) * stream.temperature).softmax(dim=-1) @ v).reshape(2, 12, 5, 6)

    m = attention.v * attend(attention.attn_i) * prior_i + attention.w * attend(attention.attn_s) * prior_s
    expected = attention.proj(m).permute(0, 2, 3, 1)
    torch.testing.assert_close(attention(u, prior_i, prior_s), expected, rtol=1e-4, atol=1e-5)


def test_layer_norm_takes_both_layouts():
    x = torch.randn(2, 6, 3, 4)
    last, first = LayerNorm(6), LayerNorm(6, data_format='channels_first')
    assert last.eps == 1e-6
    torch.testing.assert_close(first(x), last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    with pytest.raises(ValueError, match='data_format'):
        LayerNorm(6, data_format='first')


@pytest.mark.parametrize('arguments, message', [
    ({'heads': [1, 3, 4]}, '3 heads do not divide the 16'),
    ({'heads': [1, 2]}, 'heads: needs at least 3 values, not 2'),
    ({'num_blocks': [1, 1, -1]}, r'num_blocks\[2\]: must be greater than or equal to 0, not -1'),
    ({'num_refinement_blocks': -1}, 'num_refinement_blocks: must be greater than or equal to 0, not -1'),
    ({'top_k': 0}, 'top_k'),
    ({'top_k': 5}, 'top_k'),
    ({'lora_r': -1}, 'lora_r: must be greater than or equal to 0, not -1'),
    ({'out_channels': 1}, 'residual to the input'),
    ({'in_channels': 1, 'out_channels': 1, 'semantic': 'torchvision'}, 'RGB'),
    ({'num_classes': 5, 'semantic': 'torchvision'}, '21 classes'),
    ({'ffn_expansion_factor': 0.1}, 'leaves no channel'),
])
def test_impossible_arguments_are_explained(arguments, message):
    with pytest.raises(UserError, match=message):
        build_network({'type': 'ISALux', **SMALL, 'semantic': 'external', **arguments})


def test_a_fourth_number_is_ignored_with_a_warning():
    with pytest.warns(UserWarning, match='fourth number') as caught:
        net = network(num_blocks=[1, 1, 1, 8], heads=[1, 2, 4, 8])
    assert len(caught) == 2
    assert [k for k, _ in net.named_parameters()] == [k for k, _ in network().named_parameters()]


def test_an_image_does_not_depend_on_its_batch():
    net, (x, semantic) = network(), inputs(5, 20, 24)
    with torch.no_grad():
        together = net(x, semantic)
        alone = torch.cat([net(x[i:i + 1], semantic[i:i + 1]) for i in range(5)])
        backwards = net(x.flip(0), semantic.flip(0)).flip(0)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, backwards, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------ LoRA and checkpoints


def test_lora_starts_as_nothing_and_its_rank_is_r():
    lora = LoRA(12, 8, r=3)
    assert lora(torch.randn(2, 5, 12)).abs().max() == 0 and lora.lora_a.weight.shape == (3, 12)
    lora.lora_b.weight.data.normal_()
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(lora(x), x @ lora.product().T)


def test_merged_lora_is_the_same_function_and_loads_without_lora():
    net, args = network(), inputs(2, 20, 16)
    with torch.no_grad():
        expected = net(*args)
        torch.testing.assert_close(net.merge_lora()(*args), expected, rtol=1e-4, atol=1e-5)
    plain = network(lora_r=0)
    assert list(plain.state_dict()) == list(net.state_dict())
    plain.load_state_dict(net.state_dict())
    torch.testing.assert_close(plain(*args), expected, rtol=1e-4, atol=1e-5)
    assert detect(net.state_dict())['lora_r'] == 0
    torch.testing.assert_close(net.merge_lora()(*args), expected, rtol=1e-4, atol=1e-5)  # nothing left to merge


def test_weights_of_another_variant_are_named():
    full, without = network(), network(semantic='off')
    with pytest.raises(RuntimeError,
                       match='without semantic prior, with LoRA; this one is with illumination prior, with'):
        full.load_state_dict(without.state_dict())
    with pytest.raises(RuntimeError, match='with illumination prior, with semantic prior, with LoRA; this one is'):
        without.load_state_dict(full.state_dict())
    with pytest.raises(RuntimeError, match='without LoRA; this one'):
        full.load_state_dict(network(lora_r=0).state_dict())
    with pytest.raises(UserError, match=r'look like ISALux .*semantic: off'):
        load_into(full, without.state_dict(), 'w.pth')
    load_into(full, without.state_dict(), 'w.pth', strict=False)


@pytest.mark.parametrize('options', [
    {},
    {'heads': [2, 4, 8], 'ffn_expansion_factor': 2.0, 'num_experts': 3, 'lora_r': 4},
    {'num_blocks': [1, 2, 3], 'num_refinement_blocks': 2, 'lora_r': 0},
    {'use_illumination': False},
    {'semantic': 'off'},
    {'semantic': 'off', 'use_illumination': False},
    {'num_classes': 7, 'in_channels': 4, 'out_channels': 4},
    {'dim': 32, 'num_blocks': [2, 2, 2]},
], ids=str)
def test_detected_networks_are_identical(options):
    net = network(**options)
    found = detect(net.state_dict())
    expected = {
        'type': 'ISALux', 'semantic': 'external' if options.get('num_classes') == 7 else 'torchvision', 'lora_r': 8,
        **SMALL, **options
    }
    assert {k: found[k] for k in expected} == expected
    again = network(**{**found, 'semantic': options.get('semantic', 'external')})
    assert [(k, v.shape) for k, v in again.state_dict().items()] == [(k, v.shape) for k, v in net.state_dict().items()]
