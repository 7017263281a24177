"""Weights say which network they belong to, and an identical one is built from what they say."""
from __future__ import annotations

import pytest

from basicsr.archs import build_network, detect

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
    {'type': 'Restormer', 'dim': 8, **FLAT, 'LayerNorm_type': 'BiasFree', 'dual_pixel_task': True, 'inp_channels': 6,
     'ffn_expansion_factor': 1.5},
    {'type': 'Restormer', 'dim': 8, **FLAT, 'inp_channels': 1, 'out_channels': 1},
    {'type': 'Restormer', 'dim': 8, 'num_blocks': [0, 0, 0, 1], 'num_refinement_blocks': 0, 'heads': [1, 1, 1, 8]},
    {'type': 'LoRa_Gate_Restormer', 'dim': 16, **DEEP},
    {'type': 'LoRa_Gate_Restormer', 'dim': 16, **FLAT, 'gate_type': None, 'lora_ffn_ratio': .25, 'lora_attn_ratio': .5},
    {'type': 'LoRa_Gate_Restormer', 'dim': 16, **FLAT, 'gate_type': 'headwise', 'lora_ffn_ratio': None,
     'lora_attn_ratio': None, 'bias': True},
    {'type': 'LoRa_Gate_Restormer', 'dim': 16, **FLAT, 'gate_type': 'headwise', 'lora_ffn_ratio': 0.01},
    {'type': 'ImprovedLoRaGateRestormer', 'dim': 16, **DEEP},
    {'type': 'ImprovedLoRaGateRestormer', 'dim': 48, **FLAT, 'lora_ffn_ratio': 0.37, 'lora_attn_ratio': 0.613},
    {'type': 'ImprovedLoRaGateRestormer', 'dim': 16, **FLAT, 'gate_type': 'headwise', 'use_dfrg': False},
    {'type': 'ImprovedLoRaGateRestormer', 'dim': 16, **FLAT, 'gate_type': None, 'lora_ffn_ratio': None, 'bias': True},
    {'type': 'ImprovedLoRaGateRestormer', 'dim': 16, **FLAT, 'lora_attn_ratio': None, 'LayerNorm_type': 'BiasFree',
     'dual_pixel_task': True},
    {'type': 'IllRecNet'},
    {'type': 'IllRecNet', 'preset': 'small'},
    {'type': 'IllRecNet', 'preset': 'base'},
    {'type': 'IllRecNet', 'kernel_size': 7, 'sigma': 3, 'embed_dim': 8, 'num_heads': 8, 'mlp_ratio': 3,
     'num_resolution': 1},
]  # yapf: disable


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
        'type': 'ImprovedLoRaGateRestormer', 'inp_channels': 3, 'out_channels': 3, 'dim': 48, 'num_blocks': [4, 6, 6, 8],
        'num_refinement_blocks': 4, 'heads': [1, 2, 4, 8], 'ffn_expansion_factor': 2.66, 'bias': False,
        'LayerNorm_type': 'WithBias', 'dual_pixel_task': False, 'gate_type': 'elementwise', 'use_dfrg': True,
        'lora_ffn_ratio': 0.5, 'lora_attn_ratio': 0.8,
    }  # yapf: disable
    assert detect(build_network(options).state_dict()) == options


def test_without_gate_and_low_rank_the_baseline_is_a_restormer():
    plain = {'gate_type': None, 'lora_ffn_ratio': None, 'lora_attn_ratio': None}
    net = build_network({'type': 'LoRa_Gate_Restormer', 'dim': 8, **FLAT, **plain})
    found = detect(net.state_dict())
    assert found['type'] == 'Restormer' and shapes(build_network(found)) == shapes(net)


def test_unrelated_weights_are_nobodys():
    net = build_network({'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1})
    assert detect(net.state_dict()) is None
