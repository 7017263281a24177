"""Kernels of a training step on a GPU, counted without one: the tool, and what networks may launch."""
from __future__ import annotations

import sys
from unittest import mock

import pytest
import torch
from conftest import ROOT
from torch import nn

from basicsr.archs import build_network

sys.path.insert(0, str(ROOT / 'benchmarks'))
fake_step = pytest.importorskip('fake_step')
count_step = pytest.importorskip('kernel_count').count_step

SMALL = {
    'RetinexMamba': {'n_feat': 8, 'num_blocks': [1, 1, 1], 'd_state': 4},
    'RetinexFormer': {'n_feat': 8, 'num_blocks': [1, 1, 1]},
}


def test_the_walk_finds_the_gradients_of_the_engine():
    """On real tensors, with recomputation, functions of our own and a parameter that is used twice."""
    torch.manual_seed(0)
    net, x = build_network({'type': 'RetinexMamba', **SMALL['RetinexMamba']}), torch.rand(1, 3, 12, 16)
    net(x).square().mean().backward()
    expected = {k: p.grad for k, p in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    with mock.patch('torch._C._current_graph_task_id', lambda: 1):
        fake_step.backward(net(x).square().mean())
    for key, p in net.named_parameters():
        torch.testing.assert_close(p.grad, expected[key], rtol=1e-5, atol=1e-8, msg=key)


# autograd of PyTorch 2.6 asks the driver for a stream, and ends the process where there is none
needs_fake_cuda = pytest.mark.skipif(torch.__version__ < '2.7' and not torch.cuda.is_available(),
                                     reason='with this PyTorch it needs a GPU')


@needs_fake_cuda
def test_a_convolution_is_counted():

    class Net(nn.Module):

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(x.contiguous(memory_format=torch.channels_last))

    with mock.patch('kernel_count.build_network', lambda options: Net()):
        counted = count_step({}, 16, amp=None, batch=1)
    assert counted.kernels['convolution'] == 3 and counted.kernels['convolution_backward'] == pytest.approx(4.4)
    assert counted.kernels['clone'] == 4  # image, weight forward and backward, gradient of the weight
    assert counted.bytes['abs'] == 2 * 4 * 3 * 16 * 16


@needs_fake_cuda
@pytest.mark.parametrize('name, most', [('RetinexMamba', 985), ('RetinexFormer', 536)])
def test_no_more_kernels_than_today(name, most):
    counted = count_step({'type': name, **SMALL[name]}, 32, cast_once=True, batch=2)
    assert counted.kernels.total() <= most


@needs_fake_cuda
def test_weights_are_cast_only_where_autocast_is_on():
    """The maps of MASR-Net are computed in float32, with weights of float32."""
    options = {'type': 'MASRNet', 'embed_dim': 16, 'moe_hidden': [[8], [8], [8]]}
    counts = [count_step(options, 16, cast_once=cast, batch=1).kernels for cast in (False, True)]
    assert counts[1]['_to_copy'] < counts[0]['_to_copy'] - 20
