"""Weights that are cast once a step: the same network and gradients as with autocast alone."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from basicsr.archs import build_network
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.recompute import checkpointed
from basicsr.engine.casting import CastWeights

NETWORKS = [
    {'type': 'RetinexMamba', 'n_feat': 8, 'num_blocks': [1, 1, 1], 'd_state': 2},
    {'type': 'RetinexFormer', 'n_feat': 8, 'stage': 1, 'num_blocks': [1, 1, 1]},
    {
        'type': 'Restormer', 'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1], 'num_refinement_blocks': 1,
        'checkpoint': True
    },
    {
        'type': 'MASRNet', 'embed_dim': 16, 'moe_hidden': [[8], [8], [8]], 'sample_topk': 0, 'dropout': 0.,
        'attn_dropout': 0., 'ffn_dropout': 0.
    },
    {'type': 'IllRecNet', 'preset': 'small', 'dropout_ratio': 0.},
    {'type': 'MSRResNet', 'num_feat': 8, 'num_block': 1, 'upscale': 2},
]


def passes(net, x, cast, dtype=torch.bfloat16):
    net.zero_grad()
    with cast():
        with torch.autocast('cpu', dtype=dtype):
            y = net(x)
        y = y[-1] if isinstance(y, list) else y
        y.float().square().mean().backward()
    return y.detach().float(), {k: p.grad for k, p in net.named_parameters()}


@pytest.mark.parametrize('options', NETWORKS, ids=lambda options: options['type'])
def test_networks_are_the_same_as_under_autocast(options):
    torch.manual_seed(0)
    net, x = build_network(options).train(), torch.rand(2, 3, 32, 32)
    parameters = {k: id(p) for k, p in net.named_parameters()}
    plain, wanted = passes(net, x, CastWeights(net, None, 'cpu'))
    cast, grads = passes(net, x, CastWeights(net, torch.bfloat16, 'cpu'))
    torch.testing.assert_close(cast, plain, rtol=0.02, atol=0.01)
    for key, grad in grads.items():
        assert (grad is None) == (wanted[key] is None), key
        if grad is not None:
            assert grad.dtype == torch.float32
            error = (grad - wanted[key]).norm() / (wanted[key].norm() + 1e-6)
            assert error < 0.05, (key, error)
    assert {k: id(p) for k, p in net.named_parameters()} == parameters
    assert not any('forward' in vars(m) for m in net.modules())


class Odd(nn.Module):
    """Shared, frozen, unused and directly read weights; a part in full precision; a part computed again."""

    def __init__(self):
        super().__init__()
        self.first, self.again = nn.Linear(4, 4), nn.Linear(4, 4)
        self.again.weight = self.first.weight
        self.frozen, self.unused, self.exact = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.frozen.requires_grad_(False)
        self.conv, self.read = PointwiseConv2d(4, 4), nn.Linear(4, 4)
        self.seen = []
        for name in ('first', 'again', 'frozen', 'exact'):
            getattr(self, name).register_forward_pre_hook(lambda m, _: self.seen.append(m.weight.dtype))

    def forward(self, x):
        x = self.frozen(self.again(self.first(x)))
        x = x + checkpointed(True, self.conv, x[..., None, None])[..., 0, 0]
        self.seen.append(self.read.weight.dtype)
        with torch.autocast('cpu', enabled=False):
            return self.exact(x.float()) @ self.read.weight


def test_what_is_cast_and_what_is_not(monkeypatch):
    torch.manual_seed(0)
    net, x, casts = Odd(), torch.rand(3, 4), []
    plain, wanted = passes(net, x, CastWeights(net, None, 'cpu'))
    copy = torch._foreach_copy_
    monkeypatch.setattr(torch, '_foreach_copy_', lambda to, of: casts.append(len(to)) or copy(to, of))
    y, grads = passes(net, x, CastWeights(net, torch.bfloat16, 'cpu'))
    assert torch.equal(y, plain)
    for key, grad in grads.items():
        assert (grad is None) == (wanted[key] is None)
        torch.testing.assert_close(grad, wanted[key], rtol=0.02, atol=1e-4)
    assert grads['unused.weight'] is None and grads['frozen.weight'] is None
    # frozen, trained (the shared one once), and the gradients of those that are used under autocast
    assert casts == [2, 11, 5]
    assert set(net.seen) == {torch.float32}  # only the layer's own forward sees the copy


def test_an_exception_leaves_the_network_as_it_was():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(3, 3))
    weights = [m._parameters for m in net]
    with pytest.raises(RuntimeError):
        passes(net, torch.rand(2, 4), CastWeights(net, torch.bfloat16, 'cpu'))
    assert [m._parameters for m in net] == weights and all(m.weight.dtype == torch.float32 for m in net)
    assert not any('forward' in vars(m) for m in net)


def test_a_forward_that_somebody_replaced_is_kept():
    net = nn.Sequential(nn.Linear(4, 4))
    net[0].forward = lambda x: 2 * x
    y, _ = passes(nn.Sequential(nn.Linear(4, 4), *net), torch.rand(2, 4), CastWeights(net, torch.bfloat16, 'cpu'))
    assert y.shape == (2, 4) and 'forward' in vars(net[0])
