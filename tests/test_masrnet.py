"""MASR-Net in detail: maps, image signal processor, training and evaluation, files of the authors."""
from __future__ import annotations

import colorsys
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from basicsr.archs import build_network
from basicsr.archs.masrnet.isp import correct_colour, correct_gamma, correct_saturation
from basicsr.archs.masrnet.mixtures import MixtureOfAttention, MixtureOfExperts
from basicsr.archs.masrnet.parameter_maps import AntiCheckerboard, BoundarySmoother, ParameterSmoother, window_map
from basicsr.archs.masrnet_arch import MASRNet
from basicsr.utils.errors import UserError
from basicsr.weights.fitting import load_into

TINY = {'embed_dim': 16, 'stem_dim': 6, 'moe_hidden': [[12], [12], [12, 8]]}
STILL = {'dropout': 0., 'attn_dropout': 0., 'ffn_dropout': 0.}


def tiny(**more) -> MASRNet:
    torch.manual_seed(0)
    net = MASRNet(**{**TINY, **more})
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return net.eval()


# ------------------------------------------------------------------------------------------------ maps


def test_window_maps_are_a_tenth_fine_and_nine_tenths_coarse():
    values = torch.randn(2, 6, 64 * 9)
    out = window_map(values, (2, 3))
    fine, coarse = torch.empty(2, 9, 16, 24), torch.empty(2, 9, 2, 3)
    for w in range(6):
        pixels = values[:, w].view(2, 8, 8, 9).permute(0, 3, 1, 2)
        y, x = divmod(w, 3)
        fine[:, :, 8 * y:8 * y + 8, 8 * x:8 * x + 8] = pixels
        coarse[:, :, y, x] = pixels.mean(dim=(2, 3))
    coarse = F.interpolate(coarse, size=(16, 24), mode='bilinear', align_corners=False)
    torch.testing.assert_close(out, 0.1 * fine + 0.9 * coarse)


@pytest.mark.parametrize('make, names', [(AntiCheckerboard, ('horizontal', 'vertical', 'diagonal')),
                                         (ParameterSmoother, ('conv5', 'conv7'))])
def test_the_fused_kernel_equals_the_branches(make, names):
    torch.manual_seed(0)
    smoother = make(4)
    for p in smoother.parameters():
        p.data = 0.3 * torch.randn_like(p)
    x = torch.randn(2, 4, 8, 16)
    y = x
    for _ in range(2):
        branches = []
        for weight in (smoother.get_submodule(name).weight for name in names):
            down, right = weight.shape[2] // 2, weight.shape[3] // 2
            branches.append(F.conv2d(F.pad(y, (right, right, down, down), 'reflect'), weight))
        y = y + smoother.residual_weight * smoother.fusion(torch.cat(branches, dim=1))
    torch.testing.assert_close(smoother(x), y, rtol=1e-4, atol=1e-4)


def test_boundaries_are_smoothed_where_the_gate_is_open():
    smoother, x = BoundarySmoother(3), torch.randn(1, 3, 8, 8)
    smoother.gate[0].bias.data.fill_(-100)
    torch.testing.assert_close(smoother(x), x)
    smoother.gate[0].bias.data.fill_(100)
    smoother.residual_weight.data.fill_(1)
    torch.testing.assert_close(smoother(x), smoother.smooth_conv(x))


# ------------------------------------------------------------------------------------------------ signal processor


def test_colours_are_row_vectors_times_a_limited_matrix():
    rgb, delta = torch.rand(1, 3, 2, 2), 10 * torch.randn(1, 9, 2, 2)
    out = correct_colour(rgb, delta)
    for y, x in np.ndindex(2, 2):
        matrix = (torch.eye(3) + 0.5 * delta[0, :, y, x].view(3, 3)).clamp(-3, 3)
        torch.testing.assert_close(out[0, :, y, x], (rgb[0, :, y, x] @ matrix).clamp(1e-5, 1))
    one = torch.ones(1, 3, 1, 1)
    assert correct_colour(0.1 * one, torch.full((1, 9, 1, 1), 100.)).flatten().tolist() == pytest.approx([0.9] * 3)
    delta = torch.zeros(1, 9, 1, 1)
    delta[:, 1] = float('nan')  # from red to green
    assert correct_colour(0.5 * one, delta).flatten().tolist() == [0.5, 0.5, 0.5]


def test_gamma_is_an_exponent_and_its_result_limited():
    rgb = torch.tensor([0., 0.25, 1.]).view(1, 3, 1, 1)
    out = correct_gamma(rgb, torch.full((1, 1, 1, 1), 0.5)).flatten().tolist()
    assert out == pytest.approx([1e-5**0.5, 0.25001**0.5, 1])
    assert correct_gamma(rgb, torch.full((1, 1, 1, 1), 9.)).min().item() == pytest.approx(1e-5)
    assert correct_gamma(rgb, torch.full((1, 1, 1, 1), -9.)).max() == 1


@pytest.mark.parametrize('factor', [1.1, 1.5, 1.9])
def test_saturation_equals_the_way_through_hsv(factor):
    rgb = torch.rand(1, 3, 6, 6, dtype=torch.float64)
    rgb[..., 0, 0] = 0.4  # grey
    rgb[..., 1, 1] = 0
    out = correct_saturation(rgb, torch.full((1, 1, 6, 6), factor, dtype=torch.float64))
    for y, x in np.ndindex(6, 6):
        h, s, v = colorsys.rgb_to_hsv(*rgb[0, :, y, x].tolist())
        expected = colorsys.hsv_to_rgb(h, min(s * factor, 1), v)
        assert out[0, :, y, x].tolist() == pytest.approx(expected, abs=2e-8)


def test_signal_processor_has_finite_gradients_at_grey_and_black():
    rgb = torch.tensor([0., 0., 0., 0.5, 0.5, 0.5]).view(2, 3, 1, 1).requires_grad_()
    maps = [torch.zeros(2, c, 1, 1, requires_grad=True) for c in (9, 1, 1)]
    colour, gamma, saturation = maps
    correct_saturation(correct_gamma(correct_colour(rgb, colour), 1 + gamma), 1.5 + saturation).sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in (rgb, *maps))


# ------------------------------------------------------------------------------------------------ network


@pytest.mark.parametrize('options, parameters', [({}, 4_935_121), ({'patch_size': 2, 'win_size': 4}, 4_861_393)])
def test_official_sizes(options, parameters):
    with torch.device('meta'):
        net = MASRNet(**options)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(net.state_dict()) == 177
    idle = [k for k, p in net.named_parameters() if not p.requires_grad]
    assert len(idle) == 8 and sum(net.get_parameter(k).numel() for k in idle) == 474


def test_an_untrained_network_keeps_the_exponent_near_one_and_saturates():
    torch.manual_seed(0)
    with torch.no_grad():
        image, maps = MASRNet().eval()(0.2 * torch.rand(1, 3, 33, 50), return_maps=True)
    assert image.shape == (1, 3, 33, 50) and all(m.shape == (1, 33, 50) for m in maps.values())
    assert maps['gamma_map'].mean().item() == pytest.approx(1, abs=0.2)
    assert maps['saturation_map'].mean().item() == pytest.approx(1.8, abs=0.05)
    assert (maps['color_correction_strength'] >= 0).all() and 1e-8 <= image.min() and image.max() <= 1


def test_images_of_a_batch_do_not_see_each_other():
    net, x = tiny(), torch.rand(3, 3, 24, 16)
    torch.testing.assert_close(net(x), torch.cat([net(i) for i in x.split(1)]), rtol=1e-4, atol=1e-5)


def test_evaluation_is_reproducible_unless_it_is_told_to_sample():
    x = torch.rand(1, 3, 32, 32)
    net = tiny()
    assert torch.equal(net(x), net(x))
    sampling = tiny(eval_routing='sample')
    torch.manual_seed(5)
    first, second = sampling(x), sampling(x)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(sampling(x), first)


def test_training_samples_and_without_sampling_and_dropout_it_equals_evaluation():
    x = torch.rand(1, 3, 32, 32)
    sampling = tiny(**STILL).train()
    assert not torch.equal(sampling(x), sampling(x))
    fixed = tiny(**STILL, sample_topk=0)
    expected = fixed(x)
    torch.testing.assert_close(fixed.train()(x), expected)


def test_training_leaves_the_mean_balance_loss_of_seven_mixtures():
    net, terms = tiny().train(), []
    mixtures = [m for m in net.modules() if isinstance(m, (MixtureOfAttention, MixtureOfExperts))]
    for m in mixtures:
        m.register_forward_hook(lambda _, __, out: terms.append(out[1]))
    assert len(mixtures) == 7 and net.auxiliary_loss is None
    net(torch.rand(2, 3, 16, 24))
    torch.testing.assert_close(net.auxiliary_loss, sum(terms) / 7)
    net.auxiliary_loss.backward()
    for name in ('moe_1.w_gate', 'moe_3.w_gate', 'multi_attention_4.q_proj.moe.w_gate', 'qk_gen.k_combined.weight'):
        assert net.get_parameter(name).grad.abs().sum() > 0
    assert deepcopy(net).auxiliary_loss is None and net.auxiliary_loss is not None
    net.eval()(torch.rand(1, 3, 8, 8))
    assert net.auxiliary_loss is None


def test_balance_loss_is_in_full_precision_under_autocast():
    net = tiny().train()
    with torch.autocast('cpu', torch.bfloat16):
        image, maps = net(torch.rand(1, 3, 16, 16), return_maps=True)
    assert {t.dtype for t in (image, net.auxiliary_loss, *maps.values())} == {torch.float32}


def test_training_compiles_in_one_graph_with_its_balance_loss():
    net, x = tiny(**STILL, sample_topk=0).train(), torch.rand(1, 3, 16, 16)
    (net(x).square().mean() + net.auxiliary_loss).backward()
    expected = {k: p.grad for k, p in net.named_parameters() if p.grad is not None}
    loss = net.auxiliary_loss.item()
    net.zero_grad()
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend='aot_eager')
    (compiled(x).square().mean() + compiled.auxiliary_loss).backward()
    assert net.auxiliary_loss.item() == pytest.approx(loss, rel=1e-5)
    for key, gradient in expected.items():
        torch.testing.assert_close(net.get_parameter(key).grad, gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('wrap', [lambda net: net, torch.nn.Sequential])
def test_files_of_the_authors_load_although_they_hold_aliases_and_the_loss(wrap):
    theirs, ours = wrap(tiny()), wrap(MASRNet(**TINY))
    state, prefix = theirs.state_dict(), '' if isinstance(theirs, MASRNet) else '0.'
    for alias, name in (('0', 'fc1'), ('3', 'fc2')):
        for leaf in ('weight', 'bias'):
            state[f'{prefix}emb_gen.ffn_path.{alias}.{leaf}'] = state[f'{prefix}emb_gen.{name}.{leaf}']
    state[f'{prefix}perceptual_loss.vgg_layers.0.weight'] = torch.zeros(64, 3, 3, 3)
    count = len(state)
    ours.load_state_dict(state)
    load_into(ours, state, 'authors.pth')
    assert len(state) == count and all(torch.equal(v, state[k]) for k, v in ours.state_dict().items())


def test_other_unknown_keys_are_still_refused():
    net = tiny()
    with pytest.raises(UserError, match=r'unknown to the network: emb_gen\.fc3'):
        load_into(net, {**net.state_dict(), 'emb_gen.fc3.weight': torch.zeros(1)}, 'other.pth')


@pytest.mark.parametrize('arguments, message', [
    ({'patch_size': 4, 'win_size': 4}, 'must be 8 pixels, not 4 * 4'),
    ({'in_channels': 1}, 'in_channels: 1 is not allowed; one of: 3'),
    ({'embed_dim': 20}, 'multiple of 8'),
    ({'num_heads': 4, 'num_experts': 3}, 'at most the next'),
    ({'sample_topk': 3}, 'at most the next'),
    ({'moe_topk': [2, 2, 2]}, 'must start with 3'),
    ({'moe_experts': [6, 3, 1]}, 'at most moe_experts'),
    ({'moe_experts': [6, 3]}, 'moe_experts: needs at least 3 values, not 2'),
    ({'moe_hidden': [[8], [], [8]]}, 'moe_hidden[1]: needs at least 1 value, not 0'),
    ({'quant_noise': [0.1, 0.1]}, 'quant_noise: needs at least 4 values, not 2'),
    ({'eval_routing': 'top'}, 'one of: argmax or sample'),
])
def test_impossible_arguments_are_explained(arguments, message):
    with pytest.raises(UserError) as caught:
        build_network({'type': 'MASRNet', **arguments})
    assert message in str(caught.value)
