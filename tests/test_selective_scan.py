"""The selective scan against its definition."""
from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from basicsr.ops.selective_scan import selective_scan
from basicsr.ops.selective_scan.reference import selective_scan_reference


def inputs(batch=2, groups=4, width=3, states=5, length=37, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    channels = groups * width

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=dtype)

    return [
        draw(batch, channels, length),
        draw(batch, channels, length), -draw(channels, states).exp(),
        draw(batch, groups, states, length),
        draw(batch, groups, states, length),
        draw(channels),
        draw(channels)
    ]


def naive(u, delta, A, B, C, D, bias):
    """Four loops over plain numbers."""
    batch, channels, length = u.shape
    groups, states = B.shape[1:3]
    y = torch.zeros_like(u)
    for b in range(batch):
        for e in range(channels):
            h, k = [0.] * states, e * groups // channels
            for t in range(length):
                x = (delta[b, e, t] + bias[e]).item()
                dt = x if x > 20 else math.log1p(math.exp(x))
                h = [
                    math.exp(dt * A[e, s].item()) * h[s] + dt * B[b, k, s, t].item() * u[b, e, t].item()
                    for s in range(states)
                ]
                y[b, e, t] = sum(C[b, k, s, t].item() * h[s] for s in range(states)) + D[e].item() * u[b, e, t].item()
    return y


def test_reference_is_the_definition():
    args = inputs(batch=1, groups=2, width=2, states=3, length=9)
    torch.testing.assert_close(selective_scan_reference(*args), naive(*args), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('shape', [
    {'length': 1},
    {'length': 2},
    {'length': 37},
    {'length': 700, 'batch': 1},
    {'groups': 1, 'width': 1, 'states': 1},
    {'groups': 3, 'width': 7, 'states': 11, 'length': 50},
    {'batch': 3, 'groups': 2},
], ids=str)
def test_forward_and_gradients_equal_the_reference(shape):
    args = [x.requires_grad_() for x in inputs(**shape)]
    ours, theirs = selective_scan(*args), selective_scan_reference(*args)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    grad = torch.randn_like(ours)
    for a, b in zip(torch.autograd.grad(ours, args, grad), torch.autograd.grad(theirs, args, grad)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_gradcheck():
    args = [x.requires_grad_() for x in inputs(batch=1, groups=2, width=2, states=2, length=6)]
    assert torch.autograd.gradcheck(selective_scan, args)


@pytest.mark.parametrize('missing', ['D', 'delta_bias', 'both', 'softplus'])
def test_optional_arguments(missing):
    u, delta, A, B, C, D, bias = inputs()
    D = None if missing in ('D', 'both') else D
    bias = None if missing in ('delta_bias', 'both') else bias
    softplus = missing != 'softplus'
    delta = delta if softplus else delta.abs()
    bias = bias.abs() if bias is not None and not softplus else bias
    torch.testing.assert_close(selective_scan(u, delta, A, B, C, D, bias, softplus),
                               selective_scan_reference(u, delta, A, B, C, D, bias, softplus))


@pytest.mark.parametrize('shift', [-200., -30., 21., 1000.])
def test_extreme_steps(shift):
    """Vanishing steps, the linear branch of softplus, and decays that underflow."""
    u, delta, A, B, C, D, bias = inputs(dtype=torch.float32)
    args = u, delta + shift, A, B, C, D, bias
    want = selective_scan_reference(*(x.double() for x in args))
    got = selective_scan(*args).double()
    assert torch.isfinite(got).all()
    assert (got - want).abs().max() <= 2e-6 * want.abs().max()


def test_softplus_is_linear_above_20():
    u, delta, A, B, C, D, _ = inputs(length=3)
    big = torch.full_like(delta, 25.)
    linear = selective_scan(u, big, A, B, C, D, None, False)
    torch.testing.assert_close(selective_scan(u, big, A, B, C, D, None, True), linear, rtol=0, atol=0)
    assert not torch.equal(F.softplus(torch.tensor(19., dtype=torch.float64)), torch.tensor(19., dtype=torch.float64))


def test_non_contiguous_inputs_and_half_precision():
    u, delta, A, B, C, D, bias = inputs(dtype=torch.float32)
    args = (u.transpose(1, 2).contiguous().transpose(1, 2), delta.repeat(1, 1, 2)[..., ::2], A.t().contiguous().t(),
            B.transpose(1, 3).contiguous().transpose(1, 3), C, D, bias)
    torch.testing.assert_close(selective_scan(*args), selective_scan_reference(*args), rtol=1e-4, atol=1e-4)
    half = selective_scan(*(x.bfloat16() for x in args))
    assert half.dtype == torch.bfloat16
    want = selective_scan_reference(*(x.bfloat16().double() for x in args))
    assert (half.double() - want).abs().max() < 5e-3 * want.abs().max()  # the state is float32, only y is rounded
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(selective_scan(*args), selective_scan(*args), rtol=0, atol=0)


def test_wrong_shapes_are_named():
    u, delta, A, B, C, D, bias = inputs()
    with pytest.raises(ValueError, match=r'delta has shape \(2, 12, 36\), u has \(2, 12, 37\)'):
        selective_scan(u, delta[..., 1:], A, B, C, D, bias)
    with pytest.raises(ValueError, match='groups dividing 12'):
        selective_scan(u, delta, A, B.repeat(1, 2, 1, 1)[:, :5], C, D, bias)
    with pytest.raises(ValueError, match='D has shape'):
        selective_scan(u, delta, A, B, C, D[:-1], bias)


def test_no_tensor_of_length_times_states_is_held():
    """Forward and backward stay far below one (batch, channels, length, states) tensor of float32."""
    args = [
        x.requires_grad_() for x in inputs(batch=1, groups=4, width=20, states=64, length=4096, dtype=torch.float32)
    ]
    full = 4 * 80 * 4096 * 64
    sizes = []

    class Spy(torch.utils._python_dispatch.TorchDispatchMode):

        def __torch_dispatch__(self, func, types, fargs=(), kwargs=None):
            out = func(*fargs, **(kwargs or {}))
            for t in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(t, torch.Tensor):
                    sizes.append(t.untyped_storage().nbytes())
            return out

    with Spy():
        selective_scan(*args).sum().backward()
    assert max(sizes) < full / 8
