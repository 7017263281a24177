"""CUDA graphs on a GPU: the same training, the same images, and a line where they cannot be."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from training_steps import EVERYTHING, NETWORK, PROGRESSIVE, SMALL, batch, steps, tensors

from basicsr.archs import build_network
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.config import load_options
from basicsr.inference.restorer import ImageRestorer
from basicsr.models import build_model
from basicsr.training.launch import start_run
from basicsr.utils.errors import UserError
from basicsr.utils.replay import CudaRecorder, Replayed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


@pytest.fixture
def build(tiny_options, monkeypatch):
    """Models of runs that differ by rounding alone."""
    monkeypatch.setattr(torch.backends.cudnn, 'deterministic', True)
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)

    def inner(network=NETWORK, data=None, **train_options):
        options = tiny_options(num_gpu=1, network_g=network, datasets={'train': data or {}},
                               train={'cudnn_benchmark': False, **train_options})
        torch.manual_seed(1)
        return build_model(start_run(load_options(options, is_train=True)))

    return inner


def assert_close(one, two, rel):
    """Up to `rel` of what each tensor is large."""
    for key, value in one.items():
        error = (value.float() - two[key].float()).norm() / (value.float().norm() + 1e-3)
        assert error < rel, (key, error.item())


FIFTY = [
    ({}, 2e-3),
    ({'amp': 'bf16'}, 5e-2),
    ({'amp': 'fp16'}, 5e-2),
    ({'optim_g': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9}}, 2e-3),
    ({'optim_g': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.1}}, 2e-3),
]


@pytest.mark.parametrize(
    'network, options, rel',
    [
        *((network, *case) for network in (NETWORK, SMALL) for case in FIFTY),
        (NETWORK, {'compile': True}, 1e-2),  # of the other network it takes minutes
    ],
    ids=str)
def test_fifty_steps_are_those_of_the_eager_path(build, network, options, rel, messages):
    """Warm-up, cosine, average, clipping, mixup, accumulation, two sizes of patches."""
    results = []
    for graphs in (False, True):
        model = build(network, PROGRESSIVE, cuda_graphs=graphs, **EVERYTHING, **options)
        results.append((steps(model, 50, warmup=5), tensors(model)))
    assert model.replayed.recordings == 2, messages
    assert [rates for rates, _ in results[0][0]] == [rates for rates, _ in results[1][0]]
    for (_, one), (_, two) in zip(results[0][0], results[1][0]):
        assert one == pytest.approx(two, rel=10 * rel)
    weights = [{k: v for k, v in found.items() if k.startswith(('g.', 'ema.'))} for _, found in results]
    assert_close(*weights, rel)


def test_the_host_waits_for_nothing(build):
    model = build(SMALL, {**PROGRESSIVE, 'iters': [4, 46]}, amp='fp16', **EVERYTHING)
    steps(model, 9)
    assert model.replayed.recordings == 2
    data = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in batch(1).items()}
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        for i in range(10, 16):
            model.update_learning_rate(i)
            model.feed_data(data)
            model.optimize_parameters(i)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert np.isfinite(model.get_current_log()['l_pix'])


def test_random_routing_draws_anew_and_as_the_eager_path_does(build, messages):
    network = {'type': 'MASRNet', 'embed_dim': 16, 'moe_hidden': [[8], [8], [8]]}
    losses = [{'type': 'MoEBalanceLoss', 'loss_weight': 0.5}, {'type': 'LabLoss', 'loss_weight': 0.01}]
    results = []
    for graphs in (False, True):
        model = build(network, losses=losses, cuda_graphs=graphs, optim_g={'type': 'SGD', 'lr': 0.})
        torch.manual_seed(0)
        logs = []
        for i in range(1, 9):
            model.feed_data(batch(0))
            model.optimize_parameters(i)
            logs.append(model.get_current_log()['l_pix'])
        results.append(logs)
    assert model.replayed.recordings == 1, messages
    assert len({round(v, 7) for v in results[1]}) > 4  # dropout and routing differ from replay to replay
    assert results[1] == pytest.approx(results[0], rel=1e-3)


def test_what_is_not_finite_is_masked_and_its_batch_is_named_later(build):
    model = build(SMALL)
    steps(model, 6)
    assert model.replayed.recordings == 1
    data = batch(7)
    data['gt'][0, 0, 0, 0] = float('nan')
    model.feed_data(data)
    with pytest.raises(UserError, match=r'^l_pix is not finite at iteration 7 .*7_3\.png$'):
        for i in range(7, 20):
            model.optimize_parameters(i)
            model.feed_data(batch(i + 1))
    assert all(v.isfinite().all() for v in tensors(model).values())


def test_a_network_whose_host_waits_trains_without(build, messages, monkeypatch):
    forward = MSRResNet.forward
    monkeypatch.setattr(MSRResNet, 'forward', lambda self, x: forward(self, x.clamp(max=x.max().item())))
    model = build({'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1})
    steps(model, 6)
    assert model.replayed.recordings == 0
    told = [m for m in messages if 'CUDA graphs' in m]
    assert len(told) == 1 and 'the host waits for the GPU in' in told[0]


def test_a_recording_that_breaks_leaves_the_gpu_usable(messages):
    device = torch.device('cuda')

    class Blind(CudaRecorder):

        def warm(self, call, watched):
            return super().warm(call, False)

    def function(x):
        return x * float(x.sum()) + torch.nn.functional.dropout(x, 0.5)

    replayed = Replayed(function, Blind(device), 'test', warmup=1)
    for _ in range(4):
        assert replayed(torch.ones(4, device=device)).shape == (4, )
    assert len(messages) == 1 and messages[0].startswith('test runs without CUDA graphs: ')
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    good = Replayed(lambda x: torch.nn.functional.dropout(x, 0.5).sum(), CudaRecorder(device), 'test', warmup=1)
    results = [good(torch.ones(1000, device=device)).item() for _ in range(6)]
    assert good.recordings == 1 and len(set(results)) > 2


def test_images_and_tiles_of_one_size_are_replayed():
    torch.manual_seed(0)
    net = build_network(SMALL)
    images = [np.random.RandomState(i).rand(60, 80, 3).astype(np.float32) for i in range(5)]
    for options in ({}, {'amp': 'bf16'}, {'tile': 48, 'tile_overlap': 16}, {'ensemble': True}):
        plain, graphs = (ImageRestorer(net, 'cuda', graphs=on, **options) for on in (False, True))
        for img in images:
            np.testing.assert_allclose(graphs(img), plain(img), atol=2e-2 if 'amp' in options else 1e-4)
        assert graphs.replayed.recordings > 0
        before = torch.cuda.memory_reserved()
        graphs.replayed.clear()
        assert torch.cuda.memory_reserved() < before


def test_networks_are_recorded(messages):
    """Those whose step or image a graph can hold, by name; a new wait of the host would show here."""
    torch.manual_seed(0)
    small = {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1], 'num_refinement_blocks': 1}
    flat = {'n_feat': 8, 'stage': 1, 'num_blocks': [1, 1, 1]}
    isalux = {'type': 'ISALux', 'dim': 8, 'num_blocks': [1, 1, 1], 'semantic': 'off'}
    for options in (NETWORK, SMALL, {'type': 'Restormer', **small}, {'type': 'LoRa_Gate_Restormer', **small},
                    {'type': 'ImprovedLoRaGateRestormer',
                     **small}, {'type': 'RetinexFormer', **flat}, {'type': 'MST_Plus_Plus', 'n_feat': 8,
                                                                   'stage': 1}, isalux):
        net: nn.Module = build_network(options)
        restorer = ImageRestorer(net, 'cuda')
        for _ in range(3):
            restorer(np.full((64, 64, 3), .5, np.float32))
        assert restorer.replayed.recordings == 1, (options['type'], messages)
