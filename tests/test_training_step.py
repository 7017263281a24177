"""The training step as device work: recorded or not the same, masked where it is not finite, watched by a host that lags."""
from __future__ import annotations

import random

import pytest
import torch
from fake_recorder import FakeRecorder
from torch import nn
from torch.nn.parallel import DataParallel

from basicsr.config import load_options
from basicsr.engine.finite import FiniteWatch
from basicsr.engine.graphs import _obstacle, step_recorder
from basicsr.engine.launch import start_run
from basicsr.engine.optimizer import build_optimizer
from basicsr.models import build_model
from basicsr.models.image_restoration_model import ImageCleanModel
from basicsr.train import main as train
from basicsr.utils.errors import UserError

NETWORK = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
SMALL = {'type': 'RetinexMamba', 'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2}


@pytest.fixture
def build(tiny_options):

    def inner(network=NETWORK, data=None, **train_options):
        options = tiny_options(network_g=network, datasets={'train': data or {}}, train=train_options)
        return build_model(start_run(load_options(options, is_train=True)))

    return inner


def batch(seed, count=4, size=24):
    lq = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return {'lq': lq, 'gt': lq.sqrt(), 'lq_path': [f'{seed}_{i}.png' for i in range(count)]}


def steps(model, count, warmup=-1, first=1):
    random.seed(0)
    torch.manual_seed(0)
    logs = []
    for i in range(first, first + count):
        model.update_learning_rate(i, warmup)
        model.feed_data(batch(i))
        model.optimize_parameters(i)
        logs.append((model.get_current_learning_rate(), dict(model.get_current_log())))
    return logs


def tensors(model):
    found = {f'g.{k}': v for k, v in model.net_g.state_dict().items()}
    if hasattr(model, 'net_g_ema'):
        found |= {f'ema.{k}': v for k, v in model.net_g_ema.state_dict().items()}
    state = model.optimizer_g.state_dict()['state']
    return found | {f'{i}.{k}': v for i, values in state.items() for k, v in values.items() if v is not None}


def assert_same(one, two):
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert torch.equal(value, two[key]), key


PROGRESSIVE = {
    'batch_size_per_gpu': 4,
    'gt_size': 24,
    'mini_batch_sizes': [4, 2],
    'gt_sizes': [8, 24],
    'iters': [30, 20]
}
EVERYTHING = {'total_iter': 50, 'ema_decay': 0.9, 'grad_clip_norm': 0.05, 'accumulate': 2,
              'mixing_augs': {'mixup': True, 'use_identity': True},
              'scheduler': {'type': 'TrueCosineAnnealingLR', 'T_max': 50}}  # yapf: disable


@pytest.mark.parametrize('options', [
    {}, {'amp': 'bf16'}, {'amp': 'fp16'}, {'optim_g': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9}},
    {'optim_g': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.1}},
])  # yapf: disable
def test_a_recorded_step_is_the_step_bit_for_bit(build, options):
    """50 steps with warm-up, cosine, average, clipping, mixup, accumulation and two sizes of patches."""
    results = []
    for recorder in (None, FakeRecorder()):
        torch.manual_seed(1)
        model = build(data=PROGRESSIVE, **EVERYTHING, **options)
        model.record_steps(recorder)
        results.append((steps(model, 50, warmup=5), tensors(model)))
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])
    assert recorder.log.count('record') == 2 and recorder.log.count('replay') == 50 - 2 * 3
    rates = [lr for (lr, ), _ in results[1][0]]
    assert rates[:5] == pytest.approx([rates[4] * i / 5 for i in range(1, 6)], rel=0.02) and rates[49] < rates[4] / 100


@pytest.mark.parametrize('network', [
    {'type': 'MASRNet', 'embed_dim': 16, 'moe_hidden': [[8], [8], [8]]},
    {'type': 'ImprovedLoRaGateRestormer', 'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1],
     'num_refinement_blocks': 1},
], ids=lambda options: options['type'])  # yapf: disable
def test_experts_and_random_routes(build, network):
    results, masr = [], network['type'] == 'MASRNet'
    losses = [{'type': 'LabLoss', 'loss_weight': 0.01}] + [{'type': 'MoEBalanceLoss', 'loss_weight': 0.5}] * masr
    for recorder in (None, FakeRecorder()):
        torch.manual_seed(1)
        model = build(network, losses=losses)
        model.record_steps(recorder)
        results.append((steps(model, 6), tensors(model)))
    assert results[0][0] == results[1][0] and recorder.log.count('replay') == 3
    assert_same(results[0][1], results[1][1])


class Broken(FakeRecorder):
    """Fails when the gradients are unscaled and the update is still to come."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def record(self, call):
        self.model._update = lambda skip: 1 / 0
        try:
            return call()
        finally:
            del self.model._update


def test_a_recording_that_fails_leaves_nothing_half_done(build, messages):
    results = []
    for recorder in (lambda model: None, Broken):
        torch.manual_seed(1)
        model = build(amp='fp16', grad_clip_norm=1.)
        model.record_steps(recorder(model))
        results.append((steps(model, 6), tensors(model)))
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])
    told = [m for m in messages if 'graphs' in m]
    assert told == ['training runs without CUDA graphs: ZeroDivisionError: division by zero']


def test_the_network_restores_the_same_from_recordings(build):
    model = build(network=SMALL, ema_decay=0.5)
    steps(model, 2)
    outputs = []
    for recorder in (None, FakeRecorder()):
        model.tested.recorder = recorder
        for seed in range(4):
            model.feed_data(batch(seed, count=1, size=21))
            model.test()
            outputs.append(model.output)
    assert all(torch.equal(a, b) for a, b in zip(outputs[:4], outputs[4:]))
    assert recorder.log == ['watch', 'record', 'replay', 'replay', 'replay'] and model.net_g.training


# ---------------------------------------------------------------------------------------- what is not finite


@pytest.mark.parametrize('optim', [
    {'type': 'Adam', 'lr': 1e-3}, {'type': 'AdamW', 'lr': 1e-3, 'amsgrad': True}, {'type': 'SGD', 'lr': 0.1},
    {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'nesterov': True},
    {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'dampening': 0.5}, {'type': 'RMSprop', 'lr': 1e-3},
])  # yapf: disable
@pytest.mark.parametrize('first', [True, False])
def test_an_update_that_is_not_finite_changes_nothing_and_names_its_batch(build, optim, first):
    model = build(optim_g=optim)
    if not first:
        steps(model, 3)
    before = {k: v.clone() for k, v in tensors(model).items()}
    data = batch(7)
    data['gt'][2, 0, 3, 3] = float('nan')
    model.feed_data(data)
    with pytest.raises(
            UserError, match=r'^l_pix is not finite at iteration 4 .*7_0\.png, 7_1\.png, 7_2\.png, 7_3\.png$'):
        model.optimize_parameters(4)
    after = tensors(model)
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert all((v == 0).all() for k, v in after.items() if k not in before)  # made, not moved


def test_gradients_that_are_not_finite_are_seen_without_clipping(build):
    model = build()
    steps(model, 1)
    before = {k: v.clone() for k, v in tensors(model).items()}
    handle = model.net_g.conv_first.weight.register_hook(lambda g: g * float('inf'))
    model.feed_data(batch(7))
    with pytest.raises(UserError, match=r'^gradient norm is not finite at iteration 2 '):
        model.optimize_parameters(2)
    handle.remove()
    assert_same(before, tensors(model))


def test_an_overflow_of_half_precision_is_no_mistake(build):
    model = build(amp='fp16')
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
    watch, good, bad = FiniteWatch(limit=3, copy=slow), torch.tensor([True, True]), torch.tensor([True, False])
    names = ('l_pix', 'gradient norm')
    watch.add(1, names, good, ['1.png'])
    watch.add(2, names, bad, ['2.png'])
    watch.add(3, names, good, ['3.png'])
    with pytest.raises(UserError, match=r'^gradient norm is not finite at iteration 2 .*: 2\.png$'):
        for i in (4, 5):  # the fifth makes it wait for the second
            watch.add(i, names, good, [f'{i}.png'])
    watch = FiniteWatch(copy=slow)
    slow.made = 0
    watch.add(1, names, good, [])
    watch.add(2, names, torch.tensor([False, False]), [])
    slow.arrive = 2
    with pytest.raises(UserError, match=r'^l_pix is not finite at iteration 2 .*: unknown$'):
        watch.add(3, names, good, [])


@pytest.mark.parametrize('look', [
    lambda model: model.get_current_log(), lambda model: model.save(0, 1),
    lambda model: model.validation(None, 1, None)
])
def test_nothing_is_printed_saved_or_validated_before_the_steps_so_far_are_known(build, slow, look):
    model = build()
    model.watch = FiniteWatch(copy=slow)
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


# --------------------------------------------------------------------------------------------------------- options


def test_graphs_that_are_demanded_of_a_cpu_are_a_mistake(tiny_options, tmp_path, capsys):
    assert train([str(tiny_options()), 'train.cuda_graphs=true']) == 2
    assert 'train.cuda_graphs: true, but this run is on the CPU' in capsys.readouterr().err
    assert not (tmp_path / 'experiments').exists()
    assert train([str(tiny_options()), 'train.cuda_graphs=maybe']) == 2
    assert train([str(tiny_options()), 'train.cuda_graphs=false', 'train.total_iter=1']) == 0


def test_what_stands_in_the_way_of_graphs(messages):
    gpu, net = torch.device('cuda'), nn.Linear(2, 2)
    adam, other = build_optimizer(torch.optim.Adam, net.parameters(), 1e-3), torch.optim.RMSprop(net.parameters())

    class Derived(ImageCleanModel):
        pass

    assert _obstacle(False, gpu, net, adam, ImageCleanModel) is None
    assert _obstacle(True, gpu, net, adam, ImageCleanModel) is None  # the compiled network is recorded
    for given, word in (((False, torch.device('cpu'), net, adam, ImageCleanModel), 'CPU'),
                        (('reduce-overhead', gpu, net, adam, ImageCleanModel), 'graphs of its own'),
                        ((False, gpu, DataParallel(net), adam, ImageCleanModel), 'several GPUs'),
                        ((False, gpu, net, other, ImageCleanModel), 'RMSprop has no fused kernel'),
                        ((False, gpu, net, adam, Derived), 'Derived does not say')):  # yapf: disable
        assert word in _obstacle(*given)
    opt = {'train': {'cuda_graphs': 'auto', 'compile': False}}
    assert step_recorder(opt, gpu, net, other, ImageCleanModel) is None
    assert messages == ['training runs without CUDA graphs: RMSprop has no fused kernel with these options']
    assert step_recorder(opt, torch.device('cpu'), net, adam, ImageCleanModel) is None and len(messages) == 1
    with pytest.raises(UserError, match='cuda_graphs: true, but RMSprop'):
        step_recorder({'train': {'cuda_graphs': True}}, gpu, net, other, ImageCleanModel)
    assert step_recorder({'train': {'cuda_graphs': False}}, gpu, net, adam, ImageCleanModel) is None
