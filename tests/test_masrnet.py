"""MASR-Net in detail: routing, balance loss, mixtures against loops, maps, image signal processor, authors' files."""
from __future__ import annotations

import colorsys
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from basicsr.archs import build_network
from basicsr.archs.layers.isp import correct_colour, correct_gamma, correct_saturation
from basicsr.archs.layers.isp_map import AntiCheckerboard, BoundarySmoother, ParameterSmoother, window_map
from basicsr.archs.layers.mixture import MixtureOfAttention, MixtureOfExperts
from basicsr.archs.layers.routing import BalanceWeights, balance_loss, gate_logits, route
from basicsr.archs.layers.window_tokens import NeighbourSearcher
from basicsr.archs.loading import load_into
from basicsr.archs.masrnet_arch import MASRNet
from basicsr.utils.errors import UserError

WEIGHTS = BalanceWeights(0.05, 0.01, 0.001)
TINY = {'embed_dim': 16, 'stem_dim': 6, 'moe_hidden': [[12], [12], [12, 8]]}
STILL = {'dropout': 0., 'attn_dropout': 0., 'ffn_dropout': 0.}


def tiny(**more) -> MASRNet:
    torch.manual_seed(0)
    net = MASRNet(**{**TINY, **more})
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return net.eval()


# ------------------------------------------------------------------------------------------------ routing


def test_gates_are_the_normalised_probabilities_of_the_most_probable_experts():
    logits = torch.randn(50, 5)
    routing = route(logits, 2)
    for row, index, gates in zip(logits.softmax(1).tolist(), routing.index.tolist(), routing.gates):
        best = sorted(range(5), key=lambda e: -row[e])[:2]
        assert index == best
        total = sum(row[e] for e in best) + 1e-6
        torch.testing.assert_close(gates, torch.tensor([row[e] / total for e in best]))
    assert routing.balance is None


def test_tokens_that_stay_apart_are_ordered_by_expert():
    logits = torch.randn(50, 6)
    ordered, plain = route(logits, 3, by_expert=True), route(logits, 3)
    assert torch.equal(ordered.index, plain.index.sort(dim=1).values)
    gates = [torch.zeros(50, 6).scatter(1, r.index, r.gates) for r in (ordered, plain)]
    torch.testing.assert_close(*gates)


def test_the_most_probable_expert_stands_first_and_another_is_drawn_in_proportion():
    logits = torch.tensor([0.3, 0.6, 0.1]).log().repeat(20_000, 1)
    torch.manual_seed(1)
    index = route(logits, 2, sampled=1).index
    assert (index[:, 0] == 1).all() and (index[:, 1] != 1).all()
    assert (index[:, 1] == 0).float().mean().item() == pytest.approx(0.75, abs=0.02)
    torch.manual_seed(1)
    assert torch.equal(route(logits, 2, sampled=1).index, index)
    torch.manual_seed(1)
    left = (logits.softmax(1) + 1e-6) * torch.tensor([1, 0, 1])
    assert torch.equal(torch.multinomial(left, 1), index[:, 1:])


def test_all_heads_can_be_drawn():
    index = route(torch.randn(100, 3), 3, sampled=3).index
    assert torch.equal(index.sort(dim=1).values, torch.arange(3).expand(100, 3))


def test_logits_are_limited_and_always_numbers():
    keys = torch.eye(4)
    assert gate_logits(torch.tensor([[100., -100., 1., 0.]]), keys, 10.).tolist() == [[10, -10, 0.5, 0]]
    assert gate_logits(torch.full((1, 4), float('nan')), keys, 10.).tolist() == [[0, 0, 0, 0]]
    infinite = torch.tensor([[float('inf')], [float('-inf')]])
    assert gate_logits(infinite, torch.ones(1, 1)).flatten().tolist() == [20, -20]
    assert gate_logits(infinite, torch.ones(1, 1), 10.).flatten().tolist() == [10, -10]
    per_token = torch.randn(5, 4, 3)
    tokens = torch.randn(5, 4)
    expected = torch.stack([t @ k for t, k in zip(tokens, per_token)]) / 2
    torch.testing.assert_close(gate_logits(tokens, per_token), expected)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(gate_logits(tokens, per_token), gate_logits(tokens.float(), per_token))


@pytest.mark.parametrize('experts, k', [(3, 2), (6, 3), (2, 1), (1, 1)])
def test_balance_loss_equals_its_formula(experts, k):
    logits = 2 * torch.randn(40, experts)
    routing = route(logits, k, balance=WEIGHTS)
    z = logits.double().numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    total = np.zeros(experts)
    for row, index in zip(p, routing.index.tolist()):
        for e in index:
            total[e] += row[e] / (sum(row[i] for i in index) + 1e-6)
    share = total / total.sum()
    cv2 = share.var(ddof=1) / (share.mean()**2 + 1e-10) if experts > 1 else 0
    switch = experts * sum(p.sum(0) / p.sum() * share)
    size = np.mean(np.log(np.exp(z).sum(1))**2)
    assert routing.balance.item() == pytest.approx(0.05 * cv2 + 0.01 * switch + 0.001 * size, rel=1e-5)


def test_balance_loss_is_least_for_equal_load_and_has_gradients_through_gates_and_probabilities():
    logits = torch.zeros(6, 3)
    even, uneven = F.one_hot(torch.arange(6) % 3, 3).float(), F.one_hot(torch.arange(6) % 2, 3).float()
    assert balance_loss(even, logits, WEIGHTS) < balance_loss(uneven, logits, WEIGHTS)
    gates, logits = uneven.requires_grad_(), torch.randn(6, 3, requires_grad=True)
    balance_loss(gates, logits, BalanceWeights(1., 1., 0.)).backward()
    assert gates.grad.abs().sum() > 0 and logits.grad.abs().sum() > 0


# ------------------------------------------------------------------------------------------------ mixtures


def expert(moe, e: int, x: torch.Tensor) -> torch.Tensor:
    """One token through one expert's layers, GELU between them."""
    layers = moe.experts.layers
    for i, layer in enumerate(layers):
        x = (F.gelu(x) if i else x) @ layer.weight[e] + layer.bias[e]
    out = moe.output_experts.layers[0]
    return x @ out.weight[e] + out.bias[e]


@pytest.mark.parametrize('merge', [True, False])
def test_mixture_of_experts_equals_a_loop_over_tokens(merge):
    torch.manual_seed(0)
    moe = MixtureOfExperts(8, 5, 3, (6, 7), merge, WEIGHTS).eval()
    for p in moe.parameters():
        p.data += 0.2 * torch.randn_like(p)
    x = torch.randn(2, 3, 2, 8)
    y, balance = moe(x)
    assert balance is None and y.shape == (x.shape if merge else (2, 3, 2, 3, 8))
    for token, out in zip(x.reshape(-1, 8), y.reshape(12, -1, 8)):
        p = (token @ moe.w_gate / 8**0.5).clamp(-10, 10).softmax(0)
        chosen = sorted(range(5), key=lambda e: -p[e])[:3]
        total = sum(p[e] for e in chosen) + 1e-6
        parts = [p[e] / total * expert(moe, e, token) for e in sorted(chosen)]
        torch.testing.assert_close(out, sum(parts)[None] if merge else torch.stack(parts), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('tokens, keys, neighbours, gated', [(1, 4, 0, True), (3, 3, 0, False), (3, 24, 8, False)])
def test_mixture_of_attention_equals_a_loop_over_windows(tokens, keys, neighbours, gated):
    torch.manual_seed(0)
    moa = MixtureOfAttention(8, 3, 2, 1, False, WEIGHTS, 0.1, 0., not gated, neighbours).eval()
    query, key, value = torch.randn(2, 5, tokens, 8), torch.randn(2, 5, keys, 8), torch.randn(2, 5, keys, 8)
    gate_keys = torch.randn(2, 5, 3, 8) if gated else None
    y, balance = moa(query, key, value, gate_keys)
    assert balance is None
    moe = moa.q_proj['moe']
    for b, w, t in np.ndindex(2, 5, tokens):
        x = query[b, w, t]
        z = (gate_keys[b, w] @ x if gated else x @ moe.w_gate) / 8**0.5
        p = z.softmax(0)
        chosen = sorted(range(3), key=lambda e: -p[e])[:2]
        total, expected = sum(p[e] for e in chosen) + 1e-6, 0
        k, v = moa.k_proj(key[b, w]), moa.v_proj(value[b, w])
        for j, e in enumerate(chosen):
            logits = k @ (x @ moe.experts.layers[0].weight[e]) * 4**-0.5
            if neighbours:
                logits = logits + torch.stack([moa.pos_bias.weight[u // 3, j] * 2 for u in range(24)])
            expected = expected + p[e] / total * (logits.softmax(0) @ v @ moe.output_experts.layers[0].weight[e])
        torch.testing.assert_close(y[b, w, t], expected, rtol=1e-4, atol=1e-5)


def test_neighbours_in_raster_order_with_zeros_outside():
    grid = 1 + torch.arange(12.).view(1, 3, 4, 1, 1) + torch.tensor([0., 100.]).view(2, 1)  # two tokens
    out = NeighbourSearcher()(F.pad(grid, (0, 0, 0, 0, 1, 1, 1, 1)))
    assert out.shape == (1, 12, 16, 1)
    assert out[0, 5, :, 0].tolist() == [1, 2, 3, 5, 7, 9, 10, 11, 101, 102, 103, 105, 107, 109, 110, 111]
    assert out[0, 0, :8, 0].tolist() == [0, 0, 0, 0, 2, 0, 5, 6]
    assert out[0, 11, :8, 0].tolist() == [7, 8, 0, 11, 0, 0, 0, 0]


def test_arranging_projected_neighbours_equals_projecting_arranged_ones():
    moa = MixtureOfAttention(8, 3, 2, 1, False, WEIGHTS, 0., 0., neighbours=8).eval()
    t, search = torch.randn(2, 6, 3, 8), NeighbourSearcher()
    around = F.pad(t.view(2, 2, 3, 3, 8), (0, 0, 0, 0, 1, 1, 1, 1))
    gathered = search(around)
    torch.testing.assert_close(moa(t, around, around, arrange=search)[0], moa(t, gathered, gathered)[0])


def test_quantisation_noise_drops_blocks_and_leaves_the_weights_alone():
    torch.manual_seed(0)
    moa = MixtureOfAttention(64, 3, 2, 1, False, WEIGHTS, 0., 0.25)
    before = deepcopy(moa.state_dict())
    weight = moa.k_proj.weight.t().detach()
    seen = moa._project(moa.k_proj, torch.eye(64)) - moa.k_proj.bias
    kept = (seen != 0).view(8, 8, 32)
    assert torch.equal(kept, kept[:, :1].expand_as(kept))  # eight inputs of one output go together
    assert 0.65 < kept.float().mean() < 0.85
    torch.testing.assert_close(seen, torch.where(kept.view(64, 32), weight / 0.75, 0), rtol=1e-4, atol=1e-5)
    moa(*[torch.randn(1, 4, 3, 64)] * 3)[0].sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in moa.state_dict().items())
    moa.eval()
    torch.testing.assert_close(moa._project(moa.k_proj, torch.eye(64)), weight + moa.k_proj.bias)


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
    ({'in_channels': 1}, 'in_channels must be 3'),
    ({'embed_dim': 20}, 'multiple of 8'),
    ({'num_heads': 4, 'num_experts': 3}, 'at most the next'),
    ({'sample_topk': 3}, 'at most the next'),
    ({'moe_topk': [2, 2, 2]}, 'must start with 3'),
    ({'moe_experts': [6, 3, 1]}, 'at most moe_experts'),
    ({'moe_experts': [6, 3]}, 'three mixtures'),
    ({'moe_hidden': [[8], [], [8]]}, 'three mixtures'),
    ({'quant_noise': [0.1, 0.1]}, 'four probabilities'),
    ({'eval_routing': 'top'}, "'argmax' or 'sample'"),
])  # yapf: disable
def test_impossible_arguments_are_explained(arguments, message):
    with pytest.raises(UserError) as caught:
        build_network({'type': 'MASRNet', **arguments})
    assert message in str(caught.value)
