"""Weights say which network they belong to, and an identical one is built from what they say."""
from __future__ import annotations

import pytest
import torch
from conftest import ROOT
from safetensors.torch import save_file

from basicsr.archs import build_network, describe
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.weights.detection import described_networks, detect, disagreements
from basicsr.weights.network import load_described, load_network

DEEP = {'num_blocks': [1, 2, 1, 2], 'num_refinement_blocks': 2}
FLAT = {'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1}
CASES = [
    {'type': 'RetinexFormer'},
    {'type': 'RetinexFormer', 'n_feat': 8, 'stage': 2, 'num_blocks': [2, 1, 3]},
    {'type': 'RetinexFormer', 'n_feat': 12, 'num_blocks': [0, 0, 1]},
    {'type': 'MST_Plus_Plus'},
    {'type': 'MST_Plus_Plus', 'in_channels': 4, 'out_channels': 31, 'n_feat': 7, 'stage': 2},
    {'type': 'Restormer', 'dim': 16, **DEEP},
    {'type': 'Restormer', 'dim': 24, **FLAT, 'heads': [2, 3, 4, 6], 'bias': True, 'ffn_expansion_factor': 2.0},
    {
        'type': 'Restormer', 'dim': 8, **FLAT, 'LayerNorm_type': 'BiasFree', 'dual_pixel_task': True, 'inp_channels': 6,
        'ffn_expansion_factor': 1.5
    },
    {'type': 'Restormer', 'dim': 8, **FLAT, 'inp_channels': 1, 'out_channels': 1},
    {'type': 'Restormer', 'dim': 8, 'num_blocks': [0, 0, 0, 1], 'num_refinement_blocks': 0, 'heads': [1, 1, 1, 8]},
    {'type': 'LoRa_Gate_Restormer', 'dim': 16, **DEEP},
    {'type': 'LoRa_Gate_Restormer', 'dim': 16, **FLAT, 'gate_type': None, 'lora_ffn_ratio': .25, 'lora_attn_ratio': .5},
    {
        'type': 'LoRa_Gate_Restormer', 'dim': 16, **FLAT, 'gate_type': 'headwise', 'lora_ffn_ratio': None,
        'lora_attn_ratio': None, 'bias': True
    },
    {'type': 'LoRa_Gate_Restormer', 'dim': 16, **FLAT, 'gate_type': 'headwise', 'lora_ffn_ratio': 0.01},
    {'type': 'ImprovedLoRaGateRestormer', 'dim': 16, **DEEP},
    {'type': 'ImprovedLoRaGateRestormer', 'dim': 48, **FLAT, 'lora_ffn_ratio': 0.37, 'lora_attn_ratio': 0.613},
    {'type': 'ImprovedLoRaGateRestormer', 'dim': 16, **FLAT, 'gate_type': 'headwise', 'use_dfrg': False},
    {'type': 'ImprovedLoRaGateRestormer', 'dim': 16, **FLAT, 'gate_type': None, 'lora_ffn_ratio': None, 'bias': True},
    {
        'type': 'ImprovedLoRaGateRestormer', 'dim': 16, **FLAT, 'lora_attn_ratio': None, 'LayerNorm_type': 'BiasFree',
        'dual_pixel_task': True
    },
    *({'type': 'MSRResNet', 'num_feat': 6, 'num_block': 2, 'upscale': scale} for scale in (1, 2, 3, 4)),
    {'type': 'MSRResNet', 'num_in_ch': 1, 'num_out_ch': 4, 'num_feat': 4, 'num_block': 1, 'upscale': 2},
    *({'type': 'RRDBNet', 'num_feat': 8, 'num_block': 2, 'num_grow_ch': 4, 'scale': scale} for scale in (1, 2, 4)),
    {'type': 'RRDBNet', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 4, 'num_block': 1, 'scale': 2},
    {'type': 'ISALux', 'dim': 8, 'num_blocks': [1, 2, 1], 'heads': [1, 2, 4], 'semantic': 'external', 'num_classes': 5},
    {'type': 'ISALux', 'dim': 8, 'num_blocks': [1, 1, 1], 'heads': [2, 2, 4], 'semantic': 'off', 'lora_r': 0},
    {'type': 'RetinexMamba', 'n_feat': 8, 'stage': 2, 'num_blocks': [1, 2, 1], 'd_state': 4},
    {'type': 'MASRNet'},
    {
        'type': 'MASRNet', 'embed_dim': 24, 'stem_dim': 7, 'patch_size': 2, 'win_size': 4, 'num_experts': 4,
        'num_heads': 3, 'moe_experts': [3, 2, 5], 'moe_hidden': [[8], [16, 8], [8, 9, 10]]
    },
    {'type': 'IllRecNet'},
    {'type': 'IllRecNet', 'preset': 'small'},
    {'type': 'IllRecNet', 'preset': 'base'},
    {
        'type': 'IllRecNet', 'kernel_size': 7, 'sigma': 3, 'embed_dim': 8, 'num_heads': 8, 'mlp_ratio': 3,
        'num_resolution': 1
    },
    {'type': 'CIDNet'},
    {'type': 'CIDNet', 'channels': [8, 8, 12, 16], 'heads': [1, 2, 3, 4], 'norm': True},
    {'type': 'DarkIR', 'width': 4},
    {
        'type': 'DarkIR', 'img_channel': 1, 'width': 4, 'middle_blk_num_enc': 1, 'middle_blk_num_dec': 0,
        'enc_blk_nums': [1, 0], 'dec_blk_nums': [2, 1], 'dilations': [1, 1], 'extra_depth_wise': False
    },
    {'type': 'NAFNet', 'width': 4},
    {
        'type': 'NAFNet', 'img_channel': 1, 'width': 6, 'middle_blk_num': 2, 'enc_blk_nums': [0, 2],
        'dec_blk_nums': [1, 0]
    },
    {
        'type': 'MambaIR', 'embed_dim': 60, 'depths': [1, 2], 'd_state': 10, 'upsampler': 'pixelshuffledirect',
        'upscale': 3
    },
    {'type': 'MambaIR', 'embed_dim': 43, 'depths': [1], 'd_state': 2, 'resi_connection': '3conv', 'patch_norm': False},
    *({
        'type': 'MambaIR', 'embed_dim': 30, 'depths': [1], 'mlp_ratio': 1.5, 'in_chans': 1, 'upsampler': 'pixelshuffle',
        'upscale': scale
    } for scale in (1, 2, 3, 4)),
    {'type': 'MoCEIR', 'dim': 8, 'num_blocks': [1, 1, 1, 2], 'num_dec_blocks': [1, 2, 1], 'num_refinement_blocks': 1},
    {
        'type': 'MoCEIR', 'dim': 8, 'levels': 3, 'heads': [1, 2, 4], 'num_blocks': [1, 1, 1], 'num_dec_blocks': [2, 1],
        'ffn_expansion_factor': 2.5, 'LayerNorm_type': 'BiasFree', 'bias': True, 'rank': 4, 'num_experts': 3,
        'rank_type': 'lin', 'stage_depth': [1, 1]
    },
    {'type': 'PromptIR', 'num_blocks': [0, 1, 0, 1], 'num_refinement_blocks': 1, 'bias': True},
]

ABLATION = [name for name, entry in ARCH_REGISTRY.index().items() if not entry.file.is_relative_to(ROOT / 'basicsr')]
VARIANTS = {
    'RetinexMamba': {'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 4},
    'MASRNet': {'embed_dim': 16, 'stem_dim': 6},
    'Improved': {'dim': 16, **FLAT},
}


def shapes(net) -> list:
    return [(k, v.shape) for k, v in net.state_dict().items()]


@pytest.mark.parametrize('options', CASES, ids=lambda o: ' '.join(map(str, o.values())))
def test_detected_networks_are_identical(options):
    net = build_network(options)
    found = detect(net.state_dict())
    assert found['type'] == options['type']
    assert shapes(build_network(found)) == shapes(net)
    different = {k: (found[k], v) for k, v in options.items() if k in found and found[k] != v}
    assert set(different) <= {'lora_ffn_ratio', 'lora_attn_ratio', 'gate_type'}, different


def test_official_options_are_found_to_the_letter():
    options = {
        'type': 'ImprovedLoRaGateRestormer',
        'inp_channels': 3,
        'out_channels': 3,
        'dim': 48,
        'num_blocks': [4, 6, 6, 8],
        'num_refinement_blocks': 4,
        'heads': [1, 2, 4, 8],
        'ffn_expansion_factor': 2.66,
        'bias': False,
        'LayerNorm_type': 'WithBias',
        'dual_pixel_task': False,
        'gate_type': 'elementwise',
        'use_dfrg': True,
        'lora_ffn_ratio': 0.5,
        'lora_attn_ratio': 0.8,
    }
    assert detect(build_network(options).state_dict()) == options


def test_without_gate_and_low_rank_the_baseline_is_a_restormer():
    plain = {'gate_type': None, 'lora_ffn_ratio': None, 'lora_attn_ratio': None}
    net = build_network({'type': 'LoRa_Gate_Restormer', 'dim': 8, **FLAT, **plain})
    found = detect(net.state_dict())
    assert found['type'] == 'Restormer' and shapes(build_network(found)) == shapes(net)


def test_every_network_of_the_package_is_among_the_cases():
    own = {name for name, entry in ARCH_REGISTRY.index().items() if entry.file.is_relative_to(ROOT / 'basicsr')}
    own -= {'VGGStyleDiscriminator', 'UNetDiscriminatorSN'}  # they judge images
    assert own - {variant for name in own for variant in describe(name).variants} == {case['type'] for case in CASES}


def test_all_networks_with_the_same_weights_are_named(tmp_path, messages):
    options = {'width': 4, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]}
    net = build_network({'type': 'NAFNet', **options})
    assert all(shapes(build_network({'type': name, **options})) == shapes(net) for name in net.description.variants)
    torch.save(net.state_dict(), tmp_path / 'net.pth')
    assert type(load_network(tmp_path / 'net.pth')).__name__ == 'NAFNet'
    assert 'NAFNetLocal has the same, take it by its option file with --opt' in messages[-1]


@pytest.mark.parametrize('options', CASES, ids=lambda o: ' '.join(map(str, o.values())))
def test_one_rule_answers_so_their_order_does_not_matter(options):
    found = {key: tuple(value.shape) for key, value in build_network(options).state_dict().items()}
    answers = [name for name, net in described_networks() if net.description.recognise(found) is not None]
    assert answers == [options['type']]


@pytest.mark.parametrize('name', ABLATION)
def test_variants_with_other_weights_are_not_taken_for_their_network(name):
    small = next(v for k, v in VARIANTS.items() if name.startswith(k))
    net = build_network({'type': name, **small})
    found = detect(net.state_dict())
    assert found is None or shapes(build_network(found)) == shapes(net)
    assert (found is not None) == (name in ('MASRNetCoarseMaps', 'MASRNetFineMaps'))  # the same weights, used otherwise


def test_dilations_that_no_shape_shows_are_asked_for(tmp_path):
    options = {'type': 'DarkIR', 'width': 4, 'enc_blk_nums': [1], 'dec_blk_nums': [1], 'dilations': [1, 6]}
    net = build_network(options)
    file = tmp_path / 'model.safetensors'
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, file)
    said = "no shape of DarkIR's weights shows dilations, which cannot be the default here; .* with --opt"
    with pytest.raises(UserError, match=said):
        load_network(file)
    assert load_described(file, options)[1] == options
    (tmp_path / 'config.json').write_text('{}')
    with pytest.raises(UserError, match=said):
        load_network(file)
    (tmp_path / 'config.json').write_text('{"dilations": [1, 6]}')
    assert load_described(file)[1] == options | {
        'middle_blk_num_enc': 2, 'middle_blk_num_dec': 2, 'img_channel': 3, 'extra_depth_wise': True
    }


def test_unrelated_weights_are_nobodys():
    assert detect(torch.nn.Linear(3, 4).state_dict()) is None
    relative = build_network({'type': 'Restormer', 'dim': 8, **FLAT}).state_dict() | {'prompt1.weight': torch.ones(1)}
    assert detect(relative) is None


def test_a_network_that_cannot_be_imported_is_named_and_not_asked(tmp_path, messages):
    (tmp_path / 'broken_arch.py').write_text('import no_such_package\n\n\nclass Broken: pass\n')
    ARCH_REGISTRY.add_file(tmp_path / 'broken_arch.py')
    try:
        assert detect(build_network({'type': 'MSRResNet', 'num_feat': 4}).state_dict())['type'] == 'MSRResNet'
    finally:
        ARCH_REGISTRY._extra.remove(tmp_path / 'broken_arch.py')
        ARCH_REGISTRY._index = None
    assert len(messages) == 1 and 'Broken' in messages[0] and 'no_such_package' in messages[0]


# ------------------------------------------------------------------------------------------------ claims against shapes

IMPROVED = {'type': 'ImprovedLoRaGateRestormer', 'dim': 16, **FLAT}
CLAIMS = {
    'dim': 16, 'num_blocks': (1, 1, 1, 1), 'num_refinement_blocks': 1, 'heads': [1, 2, 4, 8],
    'gate_type': 'elementwise', 'use_dfrg': True, 'LoRa_ffn_ratio': 0.5, 'LoRa_attn_ratio': 0.8
}


def found_by_shapes(**changes) -> dict:
    return detect(build_network(IMPROVED | changes).state_dict())


def test_true_claims_agree():
    assert disagreements(found_by_shapes(), CLAIMS) == []
    assert disagreements(found_by_shapes(), {'dim': 16, 'lr': 2e-4}) == []
    assert disagreements(found_by_shapes(gate_type=None), CLAIMS | {'gate_type': 'None'}) == []
    # 0.803 gives the ranks of 0.8, and the shapes cannot tell them apart
    assert disagreements(found_by_shapes(lora_attn_ratio=0.803), CLAIMS | {'LoRa_attn_ratio': 0.803}) == []
    assert disagreements(detect(build_network({'type': 'RetinexFormer', 'n_feat': 8}).state_dict()), CLAIMS) == []


@pytest.mark.parametrize('claim, says', [
    ({'dim': 32}, 'dim: 32 claimed, 16 by the shapes'),
    ({'num_blocks': [4, 6, 6, 8]}, 'num_blocks: [4, 6, 6, 8] claimed, [1, 1, 1, 1] by the shapes'),
    ({'gate_type': 'None'}, 'gate_type: None claimed, elementwise by the shapes'),
    ({'use_dfrg': False}, 'use_dfrg: False claimed, True by the shapes'),
    ({'LoRa_ffn_ratio': 0.4}, 'LoRa_ffn_ratio: 0.4 claimed, 0.5 by the shapes'),
    ({'LoRa_attn_ratio': None}, 'LoRa_attn_ratio: None claimed, 0.8 by the shapes'),
])
def test_false_claims_are_named_with_both_values(claim, says):
    assert disagreements(found_by_shapes(), CLAIMS | claim) == [says]


def test_a_plain_restormer_refutes_gate_and_low_rank():
    found = detect(build_network({'type': 'Restormer', 'dim': 16, **FLAT}).state_dict())
    lines = disagreements(found, CLAIMS)
    assert [line.split(':')[0] for line in lines] == ['gate_type', 'LoRa_ffn_ratio', 'LoRa_attn_ratio']
