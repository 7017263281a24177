"""The gated, low-rank Restormers in detail: figures of the published networks, batch norm, what gets no gradient."""
from __future__ import annotations

import zlib

import pytest
import torch

from basicsr.archs import build_network
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.recompute import BatchNorm2d
from basicsr.archs.lora_gate_restormer.low_rank import SpatialAwareLoRaConv, low_rank

SMALL = {'dim': 16, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1}
IMPROVED = {'type': 'ImprovedLoRaGateRestormer', **SMALL}
BASELINE = {'type': 'LoRa_Gate_Restormer', **SMALL}


def fill(net: torch.nn.Module) -> torch.nn.Module:
    """Weights from the names of the tensors alone, the rule under which the published networks were measured."""
    for key, tensor in net.state_dict().items():
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()) % 2**31)
        if not tensor.is_floating_point():
            continue
        if key.endswith('running_var'):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if key.endswith(('temperature', 'gamma1', 'gamma2')):
            tensor.copy_(1 + 0.1 * noise)
        elif tensor.dim() >= 2:
            tensor.copy_(noise / (tensor.numel() / tensor.shape[0])**0.5)
        else:
            tensor.copy_(0.1 * noise + key.endswith('weight'))
    return net


def figures(y: torch.Tensor) -> list[float]:
    flat = y.detach().flatten()
    return [y.mean().item(), y.std().item(), *(flat[i].item() for i in (0, y.numel() // 2, -1))]


@pytest.mark.parametrize('options, parameters, evaluated, trained, without_gradient', [
    (IMPROVED, 893_184, [0.78207286, 1.77080283, 0.48663265, 0.02267466, 0.34782851
                         ], [0.62585069, 1.99733662, 18.861892], 61),
    ({**IMPROVED, 'gate_type': 'None'}, 868_112, [0.72209480, 1.69944560, 0.37602669, 0.42035067, -0.97074497
                                                  ], [0.61980690, 1.94270773, 19.448357], 61),
    ({**IMPROVED, 'gate_type': 'headwise', 'use_dfrg': False}, 845_888,
     [0.75335273, 1.73616848, 0.51064193, -0.05748294, -1.72719574], [0.58919220, 1.96185957, 18.469105], 0),
    ({**IMPROVED, 'bias': True, 'LayerNorm_type': 'BiasFree', 'dual_pixel_task': True}, 900_419,
     [0.50782267, 2.17719151, 0.38061646, 0.95245421, 0.56794220], [0.20369221, 2.20850875, 25.234629], 61),
    (BASELINE, 754_167, [0.48957622, 0.54673453, 0.84293664, 0.48008400, 0.41695911
                         ], [0.48957622, 0.54673453, 3.836399], 0),
    ({**BASELINE, 'gate_type': 'headwise'}, 729_184, [0.48855000, 0.54475573, 0.86643797, 0.44460833, 0.43541482
                                                      ], [0.48855000, 0.54475573, 3.559843], 0),
], ids=['improved', 'no gate', 'headwise', 'biases', 'baseline', 'baseline headwise'])
@pytest.mark.parametrize('checkpoint', [False, True])
def test_figures_of_the_published_networks(options, parameters, evaluated, trained, without_gradient, checkpoint):
    net = fill(build_network({**options, 'checkpoint': checkpoint})).eval()
    assert sum(p.numel() for p in net.parameters()) == parameters
    x = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert figures(net(x)) == pytest.approx(evaluated, rel=1e-4, abs=1e-5)
    y = net.train()(x)
    y.square().mean().backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    norm = sum(g.double().square().sum() for g in gradients).sqrt().item()
    assert [*figures(y)[:2], norm] == pytest.approx(trained, rel=1e-4)
    assert len(list(net.parameters())) - len(gradients) == without_gradient
    if options is IMPROVED:
        norm = net.encoder_level1[0].attn.qkv.spatial_context[1]
        assert norm.running_mean.mean().item() == pytest.approx(0.01127308, rel=1e-3)
        assert norm.num_batches_tracked == 1


@pytest.mark.parametrize('type_, options, parameters', [
    ('ImprovedLoRaGateRestormer', {}, 25_856_276),
    ('ImprovedLoRaGateRestormer', {'gate_type': None}, 24_387_284),
    ('ImprovedLoRaGateRestormer', {'gate_type': 'headwise'}, 24_417_888),
    ('ImprovedLoRaGateRestormer', {'use_dfrg': False}, 24_494_732),
    ('ImprovedLoRaGateRestormer', {'lora_ffn_ratio': None, 'lora_attn_ratio': None}, 29_539_012),
    ('ImprovedLoRaGateRestormer', {'lora_ffn_ratio': 1., 'lora_attn_ratio': 1., 'gate_type': None, 'use_dfrg': False
                                   }, 26_381_216),
    ('ImprovedLoRaGateRestormer', {'lora_ffn_ratio': 0.3, 'lora_attn_ratio': 0.6}, 18_692_464),
    ('ImprovedLoRaGateRestormer', {'lora_ffn_ratio': 0.6, 'lora_attn_ratio': 0.9}, 29_468_868),
    ('ImprovedLoRaGateRestormer', {
        'dim': 32, 'num_blocks': [4, 4, 4, 6], 'num_refinement_blocks': 2, 'lora_ffn_ratio': 0.4, 'lora_attn_ratio': 0.6
    }, 7_492_918),
    ('LoRa_Gate_Restormer', {}, 22_723_552),
    ('LoRa_Gate_Restormer', {'lora_ffn_ratio': None, 'lora_attn_ratio': None}, 28_009_588),
    ('LoRa_Gate_Restormer', {'lora_ffn_ratio': None, 'lora_attn_ratio': None, 'gate_type': ''}, 26_126_644),
    ('LoRa_Gate_Restormer', {'lora_ffn_ratio': 0.25, 'lora_attn_ratio': 0.5}, 14_513_044),
    ('LoRa_Gate_Restormer', {'gate_type': 'none'}, 21_207_328),
])
def test_parameter_counts(type_, options, parameters):
    with torch.device('meta'):
        net = build_network({'type': type_, **options})
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_official_layout():
    with torch.device('meta'):
        net = build_network({'type': 'ImprovedLoRaGateRestormer'})
        baseline = build_network({'type': 'LoRa_Gate_Restormer'})
    assert sum(isinstance(m, SpatialAwareLoRaConv) for m in net.modules()) == 308
    assert sum(b.numel() for b in net.buffers()) == 38_892
    assert sum(type(m).__name__ == 'BetterLoRaConv' for m in baseline.modules()) == 176
    block = net.latent[0]
    names = ('attn.qkv', 'attn.project_out', 'attn.dfrg.fc1', 'attn.dfrg.fc2', 'attn.dfrg.expert_selector.0',
             'ffn.project_in', 'ffn.project_out')
    ranks = [block.get_submodule(n).conv_down.weight.shape[0] for n in names]
    assert ranks == [307, 192, 76, 76, 4, 192, 192]


def test_rank_rule():

    def rank(full: int, ratio: float | None) -> int | None:
        conv = low_rank(SpatialAwareLoRaConv, ratio, least=4)(full, 64)
        return None if isinstance(conv, PointwiseConv2d) else conv.conv_down.weight.shape[0]

    assert [rank(16, 0.8), rank(16, 0.1),
            rank(4, 0.1), rank(16, 1),
            rank(16, None), rank(5, 0.5)] == [12, 4, None, None, None, 4]


def test_batch_norm_of_a_single_value():
    torch.manual_seed(0)
    norm = BatchNorm2d(3)
    norm.running_mean.copy_(torch.tensor([1., 2., 3.]))
    y = norm(torch.ones(1, 3, 1, 1))
    torch.testing.assert_close(y.flatten(), torch.tensor([0., -1., -2.]), rtol=1e-4, atol=1e-5)
    assert norm.num_batches_tracked == 0
    reference = torch.nn.BatchNorm2d(3)
    reference.load_state_dict(norm.state_dict())
    x = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(norm(x), reference(x))
    torch.testing.assert_close(norm.running_var, reference.running_var)


@pytest.mark.parametrize('options', [IMPROVED, BASELINE], ids=['improved', 'baseline'])
def test_second_argument_is_ignored(options):
    net = build_network(options).eval()
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(net(x, torch.tensor([3])), net(x))
