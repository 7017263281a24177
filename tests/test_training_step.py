"""The training step as device work: recorded or not, it is the same."""
from __future__ import annotations

import pytest
import torch
from fake_recorder import FakeRecorder
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from training_steps import EVERYTHING, PROGRESSIVE, SMALL, assert_same, batch, steps, tensors

from basicsr.engine.graphs import _obstacle, step_recorder
from basicsr.engine.optimizer import build_optimizer
from basicsr.models.image_restoration_model import ImageCleanModel
from basicsr.train import main as train
from basicsr.utils.errors import UserError


@pytest.mark.parametrize('options', [
    {},
    {'amp': 'bf16'},
    {'amp': 'fp16'},
    {'optim_g': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9}},
    {'optim_g': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.1}},
])
def test_a_recorded_step_is_the_step_bit_for_bit(tiny_model, options):
    """50 steps with warm-up, cosine, average, clipping, mixup, accumulation and two sizes of patches."""
    results = []
    for recorder in (None, FakeRecorder()):
        torch.manual_seed(1)
        model = tiny_model(data=PROGRESSIVE, **EVERYTHING, **options)
        model.record_steps(recorder)
        results.append((steps(model, 50, warmup=5), tensors(model)))
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])
    assert recorder.log.count('record') == 2 and recorder.log.count('replay') == 50 - 2 * 3
    rates = [lr for (lr, ), _ in results[1][0]]
    assert rates[:5] == pytest.approx([rates[4] * i / 5 for i in range(1, 6)], rel=0.02) and rates[49] < rates[4] / 100


@pytest.mark.parametrize('network', [
    {'type': 'MASRNet', 'embed_dim': 16, 'moe_hidden': [[8], [8], [8]]},
    {
        'type': 'ImprovedLoRaGateRestormer', 'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1],
        'num_refinement_blocks': 1
    },
], ids=lambda options: options['type'])
def test_experts_and_random_routes(tiny_model, network):
    results, masr = [], network['type'] == 'MASRNet'
    losses = [{'type': 'LabLoss', 'loss_weight': 0.01}] + [{'type': 'MoEBalanceLoss', 'loss_weight': 0.5}] * masr
    for recorder in (None, FakeRecorder()):
        torch.manual_seed(1)
        model = tiny_model(network, losses=losses)
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


def test_a_recording_that_fails_leaves_nothing_half_done(tiny_model, messages):
    results = []
    for recorder in (lambda model: None, Broken):
        torch.manual_seed(1)
        model = tiny_model(amp='fp16', grad_clip_norm=1.)
        model.record_steps(recorder(model))
        results.append((steps(model, 6), tensors(model)))
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])
    told = [m for m in messages if 'graphs' in m]
    assert told == ['training runs without CUDA graphs: ZeroDivisionError: division by zero']


def test_the_network_restores_the_same_from_recordings(tiny_model):
    model = tiny_model(SMALL, ema_decay=0.5)
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
    several = DistributedDataParallel.__new__(DistributedDataParallel)  # its constructor needs a process group
    cases = [
        ((False, torch.device('cpu'), net, adam, ImageCleanModel), 'CPU'),
        (('reduce-overhead', gpu, net, adam, ImageCleanModel), 'graphs of its own'),
        ((False, gpu, several, adam, ImageCleanModel), 'several processes exchange gradients'),
        ((False, gpu, DataParallel(net), adam, ImageCleanModel), 'several GPUs'),
        ((False, gpu, net, other, ImageCleanModel), 'RMSprop has no fused kernel'),
        ((False, gpu, net, adam, Derived), 'Derived does not say'),
    ]
    for given, word in cases:
        assert word in _obstacle(*given)
    opt = {'train': {'cuda_graphs': 'auto', 'compile': False}}
    assert step_recorder(opt, gpu, net, other, ImageCleanModel) is None
    assert messages == ['training runs without CUDA graphs: RMSprop has no fused kernel with these options']
    assert step_recorder(opt, torch.device('cpu'), net, adam, ImageCleanModel) is None and len(messages) == 1
    with pytest.raises(UserError, match='cuda_graphs: true, but RMSprop'):
        step_recorder({'train': {'cuda_graphs': True}}, gpu, net, other, ImageCleanModel)
    assert step_recorder({'train': {'cuda_graphs': False}}, gpu, net, adam, ImageCleanModel) is None
