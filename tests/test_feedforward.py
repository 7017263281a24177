"""Feed-forward blocks without gradients, where convolution and GELU are one kernel, against the same with gradients."""
from __future__ import annotations

import pytest
import torch

from basicsr.archs.layers import gelu
from basicsr.archs.layers.feedforward import FeedForward, GatedFeedForward


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('block', [FeedForward, GatedFeedForward])
@pytest.mark.parametrize('threads', [1, 2])
def test_one_kernel_equals_two(block, bias, threads, monkeypatch):
    torch.manual_seed(0)
    net, x = block(12, bias=bias), torch.randn(2, 12, 7, 9).contiguous(memory_format=torch.channels_last)
    before, calls = torch.get_num_threads(), []
    kernel = torch.ops.mkldnn._convolution_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, '_convolution_pointwise', lambda *args: calls.append(1) or kernel(*args))
    torch.set_num_threads(threads)
    try:
        want = net(x).detach()
        assert not calls
        with torch.no_grad():
            torch.testing.assert_close(net(x), want, rtol=1e-5, atol=1e-6)
    finally:
        torch.set_num_threads(before)
    assert len(calls) == {FeedForward: 2, GatedFeedForward: 1}[block]


@torch.no_grad()
def test_other_types_and_machines_take_two_kernels(monkeypatch):
    net, x = GatedFeedForward(8), torch.randn(1, 8, 5, 6)
    want = net(x)
    torch.testing.assert_close(net.double()(x.double()).float(), want, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(gelu, '_has_kernel', lambda: False)
    torch.testing.assert_close(net.float()(x), want, rtol=1e-5, atol=1e-6)
    with torch.autocast('cpu', torch.bfloat16):
        assert net(x).dtype == torch.bfloat16
