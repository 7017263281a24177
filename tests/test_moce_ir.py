"""MoCE-IR: how experts are chosen, the balance loss, and what evaluation depends on."""
from copy import deepcopy

import pytest
import torch

from basicsr.archs import build_network
from basicsr.archs.moce_ir.experts import Adapter, Router
from basicsr.archs.moce_ir_arch import MoCEIR, ranks_of
from basicsr.utils.errors import UserError
from basicsr.utils.weights import save_weights
from basicsr.weights.network import load_network

SMALL = {
    'type': 'MoCEIR', 'dim': 8, 'levels': 3, 'heads': [1, 2, 2], 'num_blocks': [1, 1, 1], 'num_dec_blocks': [1, 2],
    'num_refinement_blocks': 1, 'stage_depth': [1, 1]
}
LOGITS = torch.tensor([[.5, -.2, .1, 0], [-.3, .4, .2, .9]])
NOISE = torch.tensor([[.1, -.05, .3, -.2], [.05, .2, -.1, -.15]])


@pytest.mark.parametrize(('topk', 'with_complexity', 'want'), [
    (1, False, (0.034291 + 1.144976) / 2),
    (1, True, (1.301426 + 1.144976) / 2),
    (2, False, (0.034291 + 0.547888) / 2),
])
def test_balance_loss_of_a_router(topk, with_complexity, want):
    router = Router(4, 4, [10, 20, 40, 100], topk, with_complexity, 'max')
    assert router.sigma == 0.25
    assert router._balance(LOGITS, LOGITS + NOISE).item() == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(('kind', 'want'), [('constant', [2, 2, 2, 2]), ('lin', [2, 3, 4, 5]), ('double', [2, 4, 6, 8]),
                                            ('exp', [2, 4, 8, 16]), ('fact', [2, 6, 24, 120]),
                                            ('spread', [6, 12, 24, 48])])
def test_ranks(kind, want):
    assert ranks_of(kind, 2, 4, 48) == want


def choosing(topk=1, published_eval=False):
    """An adapter whose router sends picture i to expert i: by its brightest channel, far beyond the noise."""
    torch.manual_seed(0)
    adapter = Adapter(8, 4, [1, 2, 4, 8], topk, False, 'max', published_eval).eval()
    torch.nn.init.zeros_(adapter.routing.freq_gate.weight)
    adapter.routing.gate[2].weight.data = 3 * torch.eye(4, 8)
    pictures = torch.rand(3, 8, 12, 10) / 4
    for i, picture in enumerate(pictures):
        picture[i] += 1
    return adapter, pictures, torch.rand(3, 4), torch.rand(3, 8, 12, 10)


@torch.no_grad()
@pytest.mark.parametrize('topk', [1, 2])
def test_a_picture_is_its_own_in_any_batch(topk):
    adapter, x, features, shared = choosing(topk)
    assert adapter.routing(x, features, False)[1][:, 0].tolist() == [0, 1, 2]
    alone = torch.cat([adapter(*(t[i:i + 1] for t in (x, features, shared))) for i in range(3)])
    torch.testing.assert_close(adapter(x, features, shared), alone, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_evaluation_as_published_mixes_what_a_batch_chooses(monkeypatch):
    adapter, x, features, shared = choosing(published_eval=True)
    assert not torch.equal(adapter(x, features, shared), adapter(x, features, shared))
    monkeypatch.setattr(torch, 'randn_like', torch.zeros_like)
    own = adapter.routing(x, features, False)[0].sum(1).view(-1, 1, 1, 1)
    mixed = sum(expert[0](x, shared) for expert in adapter.experts[:3])
    torch.testing.assert_close(adapter(x, features, shared), adapter.proj_out(own * mixed), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_evaluation_is_the_same_again():
    net, x = build_network(SMALL).eval(), torch.rand(2, 3, 20, 28)
    assert torch.equal(net(x), net(x))
    net = build_network(SMALL | {'published_eval': True}).eval()
    assert all(block.adapter.published_eval for _, _, level in net.dec for block in level.layers)


def test_routers_learn_from_the_balance_loss():
    net = build_network(SMALL).train()
    net(torch.rand(2, 3, 16, 16))
    copy = deepcopy(net)  # as the average of the weights is made
    assert copy.auxiliary_loss is None and copy.dec[0][2].layers[0].adapter.routing.balance is None
    net.auxiliary_loss.backward()
    gates = [p.grad for name, p in net.named_parameters() if 'routing.gate' in name]
    assert len(gates) == 3 and all(g.abs().sum() > 0 for g in gates)
    assert net.eval()(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16) and net.auxiliary_loss is None


def test_every_parameter_gets_a_gradient_whatever_is_chosen():
    net = build_network(SMALL).train()
    out = net(torch.rand(1, 3, 16, 16)).mean()
    (out + net.auxiliary_loss).backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize(('options', 'reason'), [
    ({'heads': [1, 2]}, 'heads and num_blocks need a number for each of 3 levels'),
    ({'heads': [1, 2, 3]}, '3 heads do not divide the 32 channels'),
    ({'topk': 5}, 'topk no more'),
    ({'out_channels': 1}, 'out_channels must equal'),
    ({'num_experts': 5}, 'halves of it'),
])
def test_what_cannot_be_built(options, reason):
    with pytest.raises(UserError, match=reason):
        build_network(SMALL | options)


@torch.no_grad()
@pytest.mark.parametrize('name', ['moceir_small', 'moceir_top2'])
def test_experts_are_those_that_the_published_network_chooses(published, name):
    """They move the result by 1e-4 only, so they are looked at themselves: which are chosen, the norms of what they make."""
    case, net = published(name)
    chosen, norms = [], []
    for want in case.meta['adapters']:
        adapter = net.get_submodule(want['name'])
        adapter.routing.register_forward_hook(lambda m, a, y: chosen.append(y[1].sort(1).values.tolist()))
        adapter.register_forward_hook(lambda m, a, y: norms.append(y.flatten(1).norm(dim=1)))
    net(case.input)
    assert [list(experts) for experts in zip(*chosen)] == case.meta['experts']
    for found, want in zip(norms, case.meta['adapters'], strict=True):
        torch.testing.assert_close(found, torch.tensor(want['norm']), rtol=2e-5, atol=0)


@pytest.mark.parametrize(('name', 'with_complexity', 'loss', 'gate', 'features'), [
    ('moceir_small', False, 1.355162, 0.58444, 4.04555),
    ('moceir_small', True, 1.740784, 0.45919, 3.49173),
    ('moceir_top2', False, 0.669962, None, None),
    ('moceir_top2', True, 0.764263, None, None),
])
def test_balance_loss_of_the_published_network(published, monkeypatch, name, with_complexity, loss, gate, features):
    case, net = published(name, with_complexity=with_complexity)
    monkeypatch.setattr(torch, 'randn_like', torch.zeros_like)
    net.train()(case.input)
    assert net.auxiliary_loss.item() == pytest.approx(loss, abs=2e-6)
    net.auxiliary_loss.backward()
    weights = dict(net.named_parameters())
    norms = [
        weights[k].grad.norm().item()
        for k in ('dec.0.2.layers.0.adapter.routing.gate.2.weight', 'freq_embed.mlp.2.weight')
    ]
    assert gate is None or norms == [pytest.approx(gate, abs=1e-5), pytest.approx(features, abs=1e-5)]


@pytest.mark.parametrize(('scale', 'want'), [('max', [0.1, 0.4, 1]), ('min', [1, 4, 10]), ('count', [10, 40, 100])])
def test_units_of_complexity(scale, want):
    buffer = Router(4, 4, [10, 40, 100], 1, True, scale).complexity
    assert buffer.dtype == torch.float32 and buffer.tolist() == pytest.approx(want)


def test_no_unit_is_taken_for_another():
    with pytest.raises(UserError, match="complexity_scale: 'mx' is not allowed; one of: max, min or count"):
        build_network(SMALL | {'complexity_scale': 'mx'})
    with pytest.raises(ValueError, match="complexity_scale must be 'max', 'min' or 'count', not 'mx'"):
        MoCEIR(complexity_scale='mx')


def test_files_that_count_in_whole_numbers_load(tmp_path):
    net = build_network(SMALL | {'complexity_scale': 'count'})
    state = {k: v.long() if k.endswith('complexity') else v for k, v in net.state_dict().items()}
    save_weights(tmp_path / 'w.pth', {'params': state})
    found = load_network(tmp_path / 'w.pth')
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in found.state_dict().items())


def test_its_cost_is_counted_although_the_image_decides():
    from basicsr.ablation.costs import count_macs
    net = build_network({'type': 'MoCEIR', 'dim': 8, 'num_blocks': [1] * 4, 'num_dec_blocks': [1] * 3})
    (small, scan), (large, _) = count_macs(net, 32), count_macs(net, 64)
    assert scan == 0 and 3 < large / small < 5
