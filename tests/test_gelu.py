"""GELU by the C kernels against PyTorch's own in float64."""
from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from basicsr.ops import gelu as operator
from basicsr.ops.gelu import gelu
from basicsr.ops.native import library


@pytest.fixture(params=library.supported_isas())
def isa(request, monkeypatch):
    monkeypatch.setenv('BASICSR_SCAN_ISA', request.param)
    library.best_isa.cache_clear()
    yield
    library.best_isa.cache_clear()


@pytest.fixture
def counted(monkeypatch):
    """Calls of the kernel."""
    calls = []
    run = operator.native._run
    monkeypatch.setattr(operator.native, '_run', lambda *args: calls.append(1) or run(*args))
    return calls


def values_and_gradients(function, x):
    x = x.detach().requires_grad_()
    y = function(x)
    return y, *torch.autograd.grad((y * torch.arange(y.numel()).view_as(y).cos()).sum(), x)


def test_values_and_gradients(isa, counted):
    x = torch.linspace(-14, 14, 100_003)  # some are left over behind the last full vector
    for got, want in zip(values_and_gradients(gelu, x), values_and_gradients(F.gelu, x.double())):
        assert (got - want).abs().max() < 3e-7
    assert len(counted) == 2


@pytest.mark.parametrize('count', [1, 3, 15, 16, 17, (1 << 14) + 5])
def test_every_length(isa, count):
    x = torch.randn(count, generator=torch.Generator().manual_seed(count))
    for got, want in zip(values_and_gradients(gelu, x), values_and_gradients(F.gelu, x.double())):
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-6)


def test_values_that_are_no_ordinary_numbers(isa):
    x = torch.tensor([0., -0., math.inf, -math.inf, math.nan, 3e38, -3e38, 1e-38] * 3)
    y = gelu(x)
    assert y[4].isnan() and y[2] == math.inf and y[5] == x[5]
    assert (y[[0, 1, 3, 6]] == 0).all() and y[7] == pytest.approx(5e-39, rel=1e-6)
    small = torch.tensor([1e-3, 1e-6, -1e-6, -1.]).repeat(4)
    torch.testing.assert_close(gelu(small).double(), F.gelu(small.double()), rtol=1e-6, atol=0)


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_images_of_either_layout_on_threads(layout, threads, counted):
    x = torch.randn(2, 24, 33, 41).contiguous(memory_format=layout)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y, grad = values_and_gradients(gelu, x)  # the gradient that comes in is contiguous
    finally:
        torch.set_num_threads(before)
    assert y.stride() == grad.stride() == x.stride() and len(counted) == 2
    for got, want in zip((y, grad), values_and_gradients(F.gelu, x.double())):
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize('x', [
    pytest.param(torch.randn(2, 3, 8, 8)[..., ::2], id='with gaps'),
    pytest.param(torch.randn(4).double(), id='float64'),
    pytest.param(torch.randn(4).bfloat16(), id='bfloat16'),
])
def test_all_else_goes_to_pytorch(x, counted):
    assert torch.equal(gelu(x), F.gelu(x)) and not counted


def test_gradients_of_gradients(counted):
    x = torch.linspace(-3, 3, 50).requires_grad_()
    first, = torch.autograd.grad(gelu(x).sum(), x, create_graph=True)
    second, = torch.autograd.grad(first.sum(), x)
    want, = torch.autograd.grad(torch.autograd.grad(F.gelu(x).sum(), x, create_graph=True)[0].sum(), x)
    torch.testing.assert_close(second, want, rtol=1e-5, atol=1e-6)


def test_a_traced_network_has_the_operator_of_pytorch():
    graph = torch.jit.trace(gelu, torch.randn(3)).graph
    assert 'aten::gelu' in str(graph)


def test_an_empty_tensor_stays_empty():
    assert gelu(torch.empty(0, 3)).shape == (0, 3)


def test_the_operator_keeps_its_promises_to_pytorch():
    torch.library.opcheck(operator.gelu_operator, (torch.randn(5, requires_grad=True), ))
    torch.library.opcheck(operator.gelu_backward_operator, (torch.randn(5), torch.randn(5)))
