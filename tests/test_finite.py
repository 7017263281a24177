"""Steps that are not finite: masked on the device, and told by a host that lags behind."""
from __future__ import annotations

import pytest
import torch
from training_steps import assert_same, batch, steps, tensors

from basicsr.engine.finite import FiniteWatch, Step
from basicsr.engine.nonfinite import NonFinite
from basicsr.utils.errors import UserError


@pytest.mark.parametrize('optim', [
    {'type': 'Adam', 'lr': 1e-3},
    {'type': 'AdamW', 'lr': 1e-3, 'amsgrad': True},
    {'type': 'SGD', 'lr': 0.1},
    {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'nesterov': True},
    {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'dampening': 0.5},
    {'type': 'RMSprop', 'lr': 1e-3},
])
@pytest.mark.parametrize('first', [True, False])
def test_an_update_that_is_not_finite_changes_nothing_and_names_its_batch(tiny_model, optim, first):
    model = tiny_model(optim_g=optim)
    if not first:
        steps(model, 3)
    before = {k: v.clone() for k, v in tensors(model).items()}
    data = batch(7)
    data['gt'][2, 0, 3, 3] = float('nan')
    model.feed_data(data)
    with pytest.raises(UserError,
                       match=r'^l_pix is not finite at iteration 4 .*7_0\.png, 7_1\.png, 7_2\.png, 7_3\.png$'):
        model.optimize_parameters(4)
    after = tensors(model)
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert all((v == 0).all() for k, v in after.items() if k not in before)  # made, not moved


def test_gradients_that_are_not_finite_are_seen_without_clipping(tiny_model):
    model = tiny_model()
    steps(model, 1)
    before = {k: v.clone() for k, v in tensors(model).items()}
    handle = model.net_g.conv_first.weight.register_hook(lambda g: g * float('inf'))
    model.feed_data(batch(7))
    with pytest.raises(UserError, match=r'^gradient norm is not finite at iteration 2 '):
        model.optimize_parameters(2)
    handle.remove()
    assert_same(before, tensors(model))


def test_an_overflow_of_half_precision_is_no_mistake(tiny_model):
    model = tiny_model(amp='fp16')
    steps(model, 1)
    before, scale = {k: v.clone() for k, v in tensors(model).items()}, model.precision.scaler.get_scale()
    model.net_g.conv_first.weight.register_hook(lambda g: g * float('inf'))
    model.feed_data(batch(7))
    model.optimize_parameters(2)
    assert_same(before, tensors(model))
    assert model.precision.scaler.get_scale() == scale / 2


class Slow:
    """A copy that arrives when it is let."""
    arrive = 0

    def __init__(self, flags):
        self.flags, self.number = flags, Slow.made
        Slow.made += 1

    def arrived(self):
        return self.number < Slow.arrive

    def values(self):
        return self.flags.tolist()


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr(Slow, 'arrive', 0)
    monkeypatch.setattr(Slow, 'made', 0, raising=False)
    return Slow


def test_the_host_looks_at_an_earlier_step_and_names_its_batch(slow):
    watch, good, bad = FiniteWatch(NonFinite('stop', None), limit=3,
                                   copy=slow), torch.tensor([True, True]), torch.tensor([True, False])
    names = ('l_pix', 'gradient norm')
    watch.add(Step(1, names, ['1.png']), good)
    watch.add(Step(2, names, ['2.png']), bad)
    watch.add(Step(3, names, ['3.png']), good)
    with pytest.raises(UserError, match=r'^gradient norm is not finite at iteration 2 .*: 2\.png$'):
        for i in (4, 5):  # the fifth makes it wait for the second
            watch.add(Step(i, names, [f'{i}.png']), good)
    watch = FiniteWatch(NonFinite('stop', None), copy=slow)
    slow.made = 0
    watch.add(Step(1, names, []), good)
    watch.add(Step(2, names, []), torch.tensor([False, False]))
    slow.arrive = 2
    with pytest.raises(UserError, match=r'^l_pix is not finite at iteration 2 .*: unknown$'):
        watch.add(Step(3, names, []), good)


@pytest.mark.parametrize('look', [
    lambda model: model.get_current_log(), lambda model: model.save(0, 1),
    lambda model: model.validation(None, 1, None)
])
def test_nothing_is_printed_saved_or_validated_before_the_steps_so_far_are_known(tiny_model, slow, look):
    model = tiny_model()
    model.watch = FiniteWatch(NonFinite('stop', None), copy=slow)
    steps_before = tensors(model)['g.conv_first.weight'].clone()
    data = batch(1)
    data['lq'][0] = float('nan')
    model.feed_data(data)
    model.optimize_parameters(1)
    model.feed_data(batch(2))
    model.optimize_parameters(2)  # goes on, from the weights that were left as they were
    assert not torch.equal(steps_before, model.net_g.conv_first.weight)
    with pytest.raises(UserError, match=r'not finite at iteration 1 .*1_0\.png'):
        look(model)
