"""Routing to experts, the balance loss, mixtures of experts and of attention against plain loops."""
from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from basicsr.archs.masrnet.mixtures import MixtureOfAttention, MixtureOfExperts
from basicsr.archs.masrnet.routing import BalanceWeights, balance_loss, gate_logits, route
from basicsr.archs.masrnet.window_tokens import NeighbourSearcher

WEIGHTS = BalanceWeights(0.05, 0.01, 0.001)

# ------------------------------------------------------------------------------------------------ routing


def test_gates_are_the_normalised_probabilities_of_the_most_probable_experts():
    logits = torch.randn(50, 5)
    routing = route(logits, 2)
    for row, index, gates in zip(logits.softmax(1).tolist(), routing.chosen.tolist(), routing.gates):
        best = sorted(range(5), key=lambda e: -row[e])[:2]
        assert index == best
        total = sum(row[e] for e in best) + 1e-6
        torch.testing.assert_close(gates, torch.tensor([row[e] / total for e in best]))
    assert routing.balance is None


def test_tokens_that_stay_apart_are_ordered_by_expert():
    logits = torch.randn(50, 6)
    ordered, plain = route(logits, 3, by_expert=True), route(logits, 3)
    assert torch.equal(ordered.chosen, plain.chosen.sort(dim=1).values)
    gates = [torch.zeros(50, 6).scatter(1, r.chosen, r.gates) for r in (ordered, plain)]
    torch.testing.assert_close(*gates)


def test_the_most_probable_expert_stands_first_and_another_is_drawn_in_proportion():
    logits = torch.tensor([0.3, 0.6, 0.1]).log().repeat(20_000, 1)
    torch.manual_seed(1)
    index = route(logits, 2, sampled=1).chosen
    assert (index[:, 0] == 1).all() and (index[:, 1] != 1).all()
    assert (index[:, 1] == 0).float().mean().item() == pytest.approx(0.75, abs=0.02)
    torch.manual_seed(1)
    assert torch.equal(route(logits, 2, sampled=1).chosen, index)
    torch.manual_seed(1)
    left = (logits.softmax(1) + 1e-6) * torch.tensor([1, 0, 1])
    assert torch.equal(torch.multinomial(left, 1), index[:, 1:])


def test_all_heads_can_be_drawn_also_improbable_ones():
    assert set(route(torch.tensor([[0., -200., -200.]] * 50), 2, sampled=1).chosen[:, 1].tolist()) == {1, 2}
    index = route(torch.randn(100, 3), 3, sampled=3).chosen
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
    for row, index in zip(p, routing.chosen.tolist()):
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
    moe.w_gate.data[:, 0] *= 60  # beyond the limit of logits
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
    moe = moa.q_proj['moe']
    moe.w_gate.data[:, 0] *= 60  # beyond the limit of logits
    y, balance = moa(query, key, value, gate_keys)
    assert balance is None
    for b, w, t in np.ndindex(2, 5, tokens):
        x = query[b, w, t]
        z = gate_keys[b, w] @ x / 8**0.5 if gated else (x @ moe.w_gate / 8**0.5).clamp(-10, 10)
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
