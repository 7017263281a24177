"""Optimizers between machines, versions and ways of execution."""
from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from basicsr.engine.optimizer import (
    DeviceRates,
    build_optimizer,
    can_mask,
    load_optimizer_state,
    masked_step,
    optimizer_state,
)

OPTIMIZERS = [(torch.optim.Adam, {}), (torch.optim.AdamW, {'weight_decay': 0.1, 'amsgrad': True}),
              (torch.optim.SGD, {'momentum': 0.9, 'nesterov': True}), (torch.optim.RMSprop, {})]


def test_options_that_a_cpu_cannot_keep_are_refused_before_the_first_step():
    p = nn.Parameter(torch.zeros(1))
    for params in ([p], iter([p]), [{'params': [p]}], [{'params': p}], [('p', p)]):
        with pytest.raises(ValueError, match='capturable is for parameters on a GPU'):
            build_optimizer(torch.optim.Adam, params, 1e-3, capturable=True)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 1))


def advance(net, optimizer, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        optimizer.zero_grad()
        net(torch.rand(2, 3, 6, 6, generator=generator)).square().mean().backward()
        optimizer.step()


def assert_close(one, two):
    for a, b in zip(one.parameters(), two.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('cls, options', OPTIMIZERS)
def test_states_go_both_ways_between_plain_and_fused(cls, options):
    """A plain optimizer is what earlier versions wrote and read."""
    plain_net, ours_net = network(), network()
    plain = cls(plain_net.parameters(), lr=1e-2, **options)
    ours = build_optimizer(cls, ours_net.parameters(), 1e-2, **options)
    assert can_mask(ours) == (cls is not torch.optim.RMSprop)
    advance(plain_net, plain, 3)
    advance(ours_net, ours, 3)
    assert_close(plain_net, ours_net)
    written = optimizer_state(ours)
    assert not any(isinstance(v, torch.Tensor) for group in written['param_groups'] for v in group.values())
    assert all(group.get('fused') is None for group in written['param_groups'])
    group, = plain.state_dict()['param_groups']
    assert written['param_groups'] == [group]

    old_net, new_net = copy.deepcopy(plain_net), copy.deepcopy(plain_net)
    old = cls(old_net.parameters(), lr=5., **options)
    old.load_state_dict(copy.deepcopy(written))  # an earlier version
    new = build_optimizer(cls, new_net.parameters(), 5., **options)
    load_optimizer_state(new, copy.deepcopy(plain.state_dict()))
    assert can_mask(new) == can_mask(ours) and new.param_groups[0]['lr'] == 1e-2
    for net, optimizer in ((plain_net, plain), (old_net, old), (new_net, new)):
        advance(net, optimizer, 3, seed=1)
    assert_close(plain_net, old_net)
    assert_close(plain_net, new_net)


def test_what_a_file_says_about_execution_is_not_taken_over():
    net = network()
    plain = torch.optim.Adam(net.parameters(), lr=torch.tensor(0.5), capturable=False, foreach=False, eps=1e-4)
    advance(net, plain, 1)
    ours = build_optimizer(torch.optim.Adam, net.parameters(), 1e-2)
    load_optimizer_state(ours, plain.state_dict())
    group, = ours.param_groups
    assert (group['fused'], group['foreach'], group['eps'], group['lr']) == (True, None, 1e-4, 0.5)
    assert isinstance(group['lr'], float)
    with pytest.raises(ValueError, match='different number of parameter groups'):
        load_optimizer_state(ours, plain.state_dict() | {'param_groups': []})


def test_moments_lie_in_memory_as_their_parameters_do():
    nets = [network(), network().to(memory_format=torch.channels_last)]
    plain = torch.optim.Adam(nets[0].parameters(), lr=1e-2)
    advance(nets[0], plain, 2)
    nets[1].load_state_dict(nets[0].state_dict())
    ours = build_optimizer(torch.optim.Adam, nets[1].parameters(), 1e-2)
    load_optimizer_state(ours, copy.deepcopy(plain.state_dict()))
    assert all(v.stride() == p.stride() for p, s in ours.state.items() for v in s.values() if v.shape == p.shape)
    for net, optimizer in zip(nets, (plain, ours)):
        advance(net, optimizer, 2, seed=1)
    assert_close(*nets)


def test_options_that_choose_the_execution_decide():
    params = list(network().parameters())
    assert not can_mask(build_optimizer(torch.optim.Adam, params, 1e-2, foreach=True))
    assert can_mask(build_optimizer(torch.optim.Adam, params, 1e-2, fused=True))
    # its first momentum would be uninitialised memory when the first update is left out
    assert not can_mask(build_optimizer(torch.optim.SGD, params, 1e-2, momentum=0.9, dampening=0.5))


@pytest.mark.parametrize('cls, options', OPTIMIZERS[:3])
def test_rates_on_the_device(cls, options):
    nets, optimizers = [network(), network()], []
    for net in nets:
        optimizers.append(build_optimizer(cls, net.parameters(), 1e-2, **options))
    rates = DeviceRates(optimizers[1], torch.device('cpu'))
    for i, rate in enumerate((0.1, 0.01, 0.03)):
        for optimizer in optimizers:
            optimizer.param_groups[0]['lr'] = rate
        rates.refresh()
        tensor, = rates.tensors
        with rates.in_place():
            assert optimizers[1].param_groups[0]['lr'] is tensor
            advance(nets[1], optimizers[1], 1, seed=i)
        advance(nets[0], optimizers[0], 1, seed=i)
        assert optimizers[1].param_groups[0]['lr'] == rate and isinstance(rate, float)
        assert not optimizers[1].param_groups[0].get('capturable')
    for a, b in zip(*(net.parameters() for net in nets)):
        assert torch.equal(a, b)


@pytest.mark.parametrize('cls, options', OPTIMIZERS[:3])
def test_a_masked_step_is_none(cls, options):
    nets, optimizers = [network(), network()], []
    for net, masks in zip(nets, ((1., 0., 1., 0.), (0., 0.))):
        optimizer = build_optimizer(cls, net.parameters(), 1e-2, **options)
        seed = 0
        for mask in masks:
            optimizer.zero_grad()
            net(torch.full((1, 3, 6, 6), float(seed if mask == 0 else 'nan'))).square().mean().backward()
            masked_step(optimizer, torch.tensor(mask))
            seed += mask == 0
        assert not hasattr(optimizer, 'found_inf')
        optimizers.append(optimizer)
    for a, b in zip(*(net.parameters() for net in nets)):
        assert torch.equal(a, b)
    for one, two in zip(*(o.state_dict()['state'].values() for o in optimizers)):
        assert all(torch.equal(v, two[k]) for k, v in one.items())
