"""The variants in Ablation_Model: sizes at official options, wiring against plain formulas, any image size."""
from __future__ import annotations

import pytest
import torch
from conftest import ROOT
from plain_networks import GuidedAttention

from basicsr.archs import build_network
from basicsr.archs.masrnet.parameter_maps import window_map
from basicsr.archs.masrnet_arch import MASRNet
from basicsr.archs.retinexmamba_arch import RetinexMamba
from basicsr.config.base import read_options
from basicsr.config.yaml_reader import read_yaml
from basicsr.ops.ss2d.reference import ss2d_reference
from basicsr.registry import ARCH_REGISTRY, Registry

FULL = 4_589_001
WIDTHS = (40, 80, 80, 160, 160, 80, 80, 40)  # of the eight blocks, and their state sizes
STATES = (16, 32, 32, 64, 64, 64, 64, 32)


def scans(states, directions=4):
    """Parameters of the eight SS2D: x_proj, dt_proj and its bias, A and D of each direction, and what they share."""
    total = 0
    for c, n in zip(WIDTHS, states):
        e, r = 2 * c, -(-c // 16)
        total += directions * ((r + 2 * n) * e + e * r + e + e * n + e) + 2 * e * c + 10 * e + 2 * e + e * c
    return total


def ifas():
    """Parameters of the eight IFA: conv1, two norms, attention (temperature, kv, q, projection), gated feed-forward."""
    total = 0
    for c in WIDTHS:
        f = int(2.66 * c)
        attention = c // 40 + 2 * c * (c + 1) + 2 * c * 10 + c * (c + 1) + c * (9 * c + 1) + c * (c + 1)
        total += c * (c + 1) + 4 * c + attention + 2 * f * (c + 1) + 2 * f * 10 + c * (f + 1)
    return total


def guided():
    """Parameters of IG-MSA in the eight blocks: q, k, v, projection, two depthwise convolutions, temperatures."""
    return sum(4 * c * c + c + 18 * c + c // 40 for c in WIDTHS)


PARAMETERS = {
    'retinexmamba_full': (FULL, FULL),
    'retinexmamba_without_ss2d': (3_093_321, FULL - scans(STATES)),
    'retinexmamba_without_ifa': (2_767_683, FULL - ifas()),
    'retinexmamba_igmsa': (3_101_381, FULL - ifas() + guided()),
    'retinexmamba_ffn': (1_272_003, FULL - ifas() - scans(STATES)),
    'retinexmamba_igmsa_without_ss2d': (1_605_701, FULL - ifas() - scans(STATES) + guided()),
    'retinexmamba_without_estimator': (4_578_638, FULL - (5 * 40 + 40 * (25 * 10 + 1) + 3 * 41)),
    'retinexmamba_one_direction': (3_840_201, FULL - scans(STATES) + scans(STATES, 1)),
    'retinexmamba_two_directions': (4_089_801, FULL - scans(STATES) + scans(STATES, 2)),
    'retinexmamba_halved_state': (4_450_761, FULL - scans(STATES) + scans((16, 32, 32, 64, 64, 32, 32, 16))),
    'retinexmamba_d_state_8': (4_135_881, FULL - scans(STATES) + scans([n // 2 for n in STATES])),
    'retinexmamba_d_state_32': (5_495_241, FULL - scans(STATES) + scans([2 * n for n in STATES])),
    'retinexmamba_stages_2': (9_178_002, 2 * FULL),
    'retinexmamba_stages_3': (13_767_003, 3 * FULL),
    'aio_without_dfrg': (24_494_732, None),
    'aio_without_lora': (29_539_012, None),
    'aio_lora_03_06': (18_692_464, None),
    'aio_lora_04_07': (22_199_348, None),
    'aio_lora_06_09': (29_468_868, None),
    # refinement: two dense 3x3; attention: down to a quarter and up again
    'aio_without_csff': (24_960_752, 25_856_276 - sum(18 * c * c + c * c // 2 + c // 4 + c for c in (48, 96, 192))),
    'aio_without_mixed_loss': (25_856_276, 25_856_276),
    'masrnet_plain_attention': (4_935_069, 4_935_121 - 3 * 66_057 - 66_073 + 4 * 4 * (128 * 128 + 128)),
    'masrnet_coarse_maps': (4_935_121, 4_935_121),
    'masrnet_fine_maps': (4_935_121, 4_935_121),
    'illrecnet_trained_separation': (2_681_384, 2_681_384),
    'illrecnet_resolutions_2': (126_056, None),
    'illrecnet_resolutions_3': (480_168, None),
}
FILES = [f for f in sorted(ROOT.glob('Ablation_Model/*.yml')) if 'variants' not in read_yaml(f)[0]]  # no studies


def options(name):
    return read_options(ROOT / 'Ablation_Model' / f'{name}.yml')[0]


def test_every_variant_is_counted():
    assert {f.stem for f in FILES if not f.stem.startswith('isalux')} == set(PARAMETERS)


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameters_at_official_widths(name):
    """Exactly; where there is a formula, it gives the same. The option file's comment names the number."""
    wanted, formula = PARAMETERS[name]
    net = build_network(options(name)['network_g'])
    assert sum(p.numel() for p in net.parameters()) == wanted
    assert formula in (None, wanted)
    assert f'{wanted:,}' in (ROOT / 'Ablation_Model' / f'{name}.yml').read_text()


VARIANTS = ('RetinexMambaWithoutSS2D', 'RetinexMambaWithoutIFA', 'RetinexMambaFFN', 'RetinexMambaIGMSA',
            'RetinexMambaWithoutEstimator', 'RetinexMambaOneDirection', 'RetinexMambaTwoDirections',
            'RetinexMambaHalvedState')
SMALL = {
    **{name: {'n_feat': 8, 'num_blocks': [1, 1, 1], 'd_state': 4} for name in VARIANTS},
    'ImprovedLoRaGateRestormerWithoutCSFF': {'dim': 16, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1},
    **{
        name: {'embed_dim': 16,
               'stem_dim': 8} for name in ('MASRNetPlainAttention', 'MASRNetCoarseMaps', 'MASRNetFineMaps')
    },
}
# nothing reads these in the variants: features of the illumination below the first level, the router's vectors
SILENT = {
    'RetinexMambaWithoutIFA': '.2.weight',
    'RetinexMambaFFN': '.2.weight',
    'MASRNetPlainAttention': 'qk_gen.k_combined.',
    'ImprovedLoRaGateRestormerWithoutCSFF': '.expert_selector.',
}


def small(name, **more):
    torch.manual_seed(0)
    return build_network({'type': name, **SMALL.get(name, SMALL['RetinexMambaFFN']), **more})


def test_the_networks_are_those_of_the_folder():
    own = {name for name, entry in ARCH_REGISTRY.index().items() if entry.file.parent == ROOT / 'Ablation_Model'}
    assert {name for name in own if 'isalux' not in ARCH_REGISTRY.where(name)} == set(SMALL)


@pytest.mark.parametrize('name', SMALL)
def test_any_size_and_gradients(name):
    net = small(name).train()
    for size in ((13, 18), (24, 32)):
        x = torch.rand(2, 3, *size)
        y = net(x)
        assert y.shape == x.shape and torch.isfinite(y).all()
    y.square().mean().backward()
    without = {
        k for k, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    }
    silent = SILENT.get(name)
    assert all(silent and silent in key for key in without), without
    assert bool(without) == bool(silent)


@pytest.mark.parametrize('name', VARIANTS)
def test_checkpoints_and_precisions(name):
    net, other = small(name).eval(), small(name, checkpoint=True).eval()
    x = torch.rand(1, 3, 16, 20)
    for module in (net, other):
        module(x).square().mean().backward()
    for (key, p), q in zip(net.named_parameters(), other.parameters()):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7, msg=key)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        low = net(x).float()
    with torch.no_grad():
        torch.testing.assert_close(low, net(x), rtol=0.05, atol=0.05)


# ------------------------------------------------------------------------------------------------ wiring


def one_block(name):
    """A body of one block of the variant: (body, its modules), width 8, two heads."""
    torch.manual_seed(1)
    body = ARCH_REGISTRY.get(name).level_type(8, 2, 1, 4).eval()
    return body, list(body.blocks[0])


def feed(ffn, t):
    return t + ffn(t)


@pytest.fixture
def images():
    torch.manual_seed(2)
    return [torch.randn(2, 8, 6, 10).contiguous(memory_format=torch.channels_last) for _ in range(2)]


def test_without_ss2d(images):
    x, illumination = images
    body, (attention, ffn) = one_block('RetinexMambaWithoutSS2D')
    torch.testing.assert_close(body(x, illumination), feed(ffn, attention(x, illumination) + x))


def test_without_ifa(images):
    x, illumination = images
    body, (scan, ffn) = one_block('RetinexMambaWithoutIFA')
    torch.testing.assert_close(body(x, illumination), feed(ffn, scan(x) + x))


def test_neither(images):
    x, illumination = images
    body, (ffn, ) = one_block('RetinexMambaFFN')
    torch.testing.assert_close(body(x, illumination), feed(ffn, x))


def test_guided_attention_before_the_scan(images):
    x, illumination = images
    body, (attention, scan, ffn) = one_block('RetinexMambaIGMSA')
    plain = GuidedAttention(8, 2)
    plain.load_state_dict(attention.state_dict())
    y = plain(*(t.permute(0, 2, 3, 1) for t in images)).permute(0, 3, 1, 2)
    torch.testing.assert_close(body(x, illumination), feed(ffn, scan(y) + x), rtol=1e-4, atol=1e-5)


def test_without_the_scan_guided_blocks_are_those_of_retinexformer():
    """The two option files of IG-MSA differ by SS2D alone."""
    former = build_network({'type': 'RetinexFormer', 'n_feat': 8, 'num_blocks': [1, 1, 1]})
    rest = {
        k.replace('.blocks.0.2.', '.blocks.0.1.').replace('Restorer', 'denoiser'): v
        for k, v in small('RetinexMambaIGMSA').state_dict().items() if '.blocks.0.1.' not in k
    }
    assert {k: v.shape for k, v in rest.items()} == {k: v.shape for k, v in former.state_dict().items()}


def test_without_estimator():
    net, full = small('RetinexMambaWithoutEstimator').eval(), small('RetinexMamba').eval()
    restorer = full.body[0].Restorer
    restorer.load_state_dict(net.body[0].Restorer.state_dict())
    x = torch.rand(1, 3, 12, 16)
    torch.testing.assert_close(net(x), restorer(x, restorer.embedding(x)))
    assert {k.split('.')[2] for k in net.state_dict()} == {'Restorer'}


@pytest.mark.parametrize('name, orders', [('RetinexMambaOneDirection', [0]), ('RetinexMambaTwoDirections', [0, 2])])
def test_few_directions_are_the_reference_scan_of_these(name, orders):
    """The others say nothing when their C and D are zero."""
    _, (_, scan, _) = one_block(name)
    e, n, r = scan.d_inner, scan.d_state, scan.dt_rank
    with torch.no_grad():
        scan.Ds.normal_()
    scan = scan.double()
    u = torch.randn(2, 5, 7, e, dtype=torch.float64, requires_grad=True)
    x_dbl = torch.randn(2, 5, 7, len(orders), r + 2 * n, dtype=torch.float64, requires_grad=True)
    parameters = [scan.dt_projs_weight, scan.dt_projs_bias, scan.A_logs, scan.Ds]

    def spread(t):
        out = t.new_zeros(4, *t.shape[1:])
        return out.index_copy(0, torch.tensor(orders), t)

    def spread_rows(t):
        return spread(t.unflatten(0, (len(orders), -1))).flatten(0, 1)

    rows, A = spread(x_dbl.movedim(3, 0)).movedim(0, 3), -torch.exp(spread_rows(scan.A_logs))
    weight, bias, D = spread(scan.dt_projs_weight), spread(scan.dt_projs_bias), spread_rows(scan.Ds)
    wanted = ss2d_reference(u, rows, weight, bias, A, D)
    found = scan.scan(u, x_dbl)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)  # A is rounded to float32
    inputs = [u, x_dbl, *parameters]
    for a, b in zip(torch.autograd.grad(found.square().sum(), inputs),
                    torch.autograd.grad(wanted.square().sum(), inputs)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_halved_decoder_state():
    net = build_network({'type': 'RetinexMambaHalvedState'})
    assert [m.shape[1] for k, m in net.named_parameters() if k.endswith('A_logs')] == [16, 32, 32, 64, 64, 32, 32, 16]


def test_without_csff_the_skip_is_a_1x1_convolution():
    net = small('ImprovedLoRaGateRestormerWithoutCSFF')
    a, b = torch.randn(1, 32, 4, 6), torch.randn(1, 32, 4, 6)
    weight = net.csff2.conv_merge.weight
    torch.testing.assert_close(net.csff2(a, b),
                               torch.nn.functional.conv2d(torch.cat([a, b], 1), weight.view(32, 64, 1, 1)))
    assert [k for k in net.state_dict() if k.startswith('csff2')] == ['csff2.conv_merge.weight']


# ------------------------------------------------------------------------------------------------ MASR-Net


def test_plain_attention_is_multi_head_attention():
    torch.manual_seed(3)
    ours = small('MASRNetPlainAttention').multi_attention_2.eval()
    theirs = torch.nn.MultiheadAttention(16, 2, batch_first=True).eval()
    parts = (ours.q_proj, ours.k_proj, ours.v_proj)
    theirs.load_state_dict({
        'in_proj_weight': torch.cat([p.weight for p in parts]), 'in_proj_bias': torch.cat([p.bias for p in parts]),
        'out_proj.weight': ours.out_proj.weight, 'out_proj.bias': ours.out_proj.bias
    })
    query, key, value = torch.randn(2, 3, 5, 16), torch.randn(2, 3, 7, 16), torch.randn(2, 3, 7, 16)
    wanted, _ = theirs(*(t.flatten(0, 1) for t in (query, key, value)))
    found, loss = ours(query, key, value)
    torch.testing.assert_close(found.flatten(0, 1), wanted)
    assert loss is None


def test_plain_attention_leaves_the_experts_their_balance_loss():
    net = small('MASRNetPlainAttention').train()
    net(torch.rand(1, 3, 16, 16))
    assert net.auxiliary_loss > 0


def test_the_two_paths_of_the_map_generator():
    """Together, nine to one, they are the published map."""
    values, grid = torch.randn(2, 6, 64 * 9), (2, 3)
    coarse, fine = (ARCH_REGISTRY.get(f'MASRNet{path}Maps').window_map(values, grid) for path in ('Coarse', 'Fine'))
    torch.testing.assert_close(MASRNet.window_map(values, grid), 0.9 * coarse + 0.1 * fine)
    pixels = values.unflatten(1, grid).unflatten(-1, (8, 8, 9))
    torch.testing.assert_close(fine[1, 4, 11, 17], pixels[1, 1, 2, 3, 1, 4])
    torch.testing.assert_close(coarse.mean(), window_map(values, grid, 0.).mean(), rtol=1e-3, atol=1e-4)
    assert coarse[0, 0, 4:12, 4:20].diff(dim=0).diff(dim=0).abs().max() < 1e-5  # linear between the centres of windows


# ------------------------------------------------------------------------------------------------ found where they lie


def test_a_file_dropped_into_the_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / 'Ablation_Model').mkdir()
    (tmp_path / 'Ablation_Model' / 'mine_arch.py').write_text(
        'from basicsr.utils.registry import ARCH_REGISTRY\n@ARCH_REGISTRY.register()\nclass DroppedNet: ...\n')
    for place in ('project_root', 'shipped_root'):
        monkeypatch.setattr(f'basicsr.registry.{place}', lambda: tmp_path)
    registry = Registry('arch', 'network', 'archs', '_arch.py', beside='Ablation_Model')
    assert 'DroppedNet' in registry and 'RetinexMamba' in registry and 'RetinexMambaFFN' not in registry
    assert 'basicsr/archs/*_arch.py, Ablation_Model/*_arch.py' in registry.unknown('x')


def test_variants_subclass_the_real_network():
    assert all(issubclass(ARCH_REGISTRY.get(name), RetinexMamba) for name in VARIANTS)
