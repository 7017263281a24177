"""Half precision on the way through a network: published outputs under autocast, types of norms, gradients by hand."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import SHARED

from basicsr.archs.layers import feedforward
from basicsr.archs.layers.channel_attention import attend, channel_affinity, channel_products, paired_affinity
from basicsr.archs.layers.norm import BodyLayerNorm, ChannelLayerNorm
from basicsr.archs.layers.ss2d import SS2D

GOLDEN = SHARED / 'golden'
FAMILIES = ('retinexmamba', 'retinexformer', 'mst_plus_plus', 'restormer', 'aio', 'isalux', 'masrnet', 'illrecnet')
CASES = sorted(f for f in GOLDEN.glob('*.npz') if f.stem.startswith(FAMILIES)) if GOLDEN.is_dir() else []
HALVES = (torch.bfloat16, torch.float16)
halves = pytest.mark.parametrize('dtype', HALVES, ids=str)
TOLERANCE = 3e-2
# deep networks with random weights amplify the rounding of activations, whatever the attention does; MASR-Net sends
# tokens to other experts
EXCEPTIONS = {
    'restormer_official': 0.07,
    'restormer_dual_pixel_small': 0.045,
    'restormer_small_biasfree': 0.045,
    'aio_baseline_official': 0.08,
    'aio_baseline_small': 0.04,
    'aio_improved_official': 0.09,
    'aio_improved_dual_bias': 0.05,
    'aio_improved_plain_gate': 0.07,
    'aio_improved_small': 0.04,
    'masrnet_bright': 0.5,
    'masrnet_lolv1': 0.5,
    'masrnet_lolv2': 0.5,
}


@pytest.mark.skipif(not CASES, reason='the golden files are not part of the checkout')
@pytest.mark.parametrize('file', CASES, ids=lambda f: f.stem)
def test_published_outputs_under_autocast(golden, published, file):
    case, net = published(file.stem)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        out = net(*case.arguments())
    assert golden.max_rel_err(out, case.output) < EXCEPTIONS.get(file.stem, TOLERANCE)


@halves
@pytest.mark.parametrize('norm', [ChannelLayerNorm(6), BodyLayerNorm(6), BodyLayerNorm(6, bias=False)])
@pytest.mark.parametrize('autocast', [True, False])
def test_norms_take_and_return_half_types(dtype, norm, autocast):
    x = torch.randn(2, 6, 5, 4).contiguous(memory_format=torch.channels_last)
    with torch.autocast('cpu', dtype, enabled=autocast):
        y, exact = norm(x.to(dtype)), norm(x)
    assert y.dtype == dtype and exact.dtype == torch.float32
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y.float(), exact, rtol=0.02, atol=0.02)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b).norm() / b.norm()).item()


@halves
@pytest.mark.parametrize('heads', [1, 3])
@pytest.mark.parametrize('residual', [True, False])
def test_attention_equals_double_precision(dtype, heads, residual):
    """Output and all gradients of the products in half precision, relative to their length."""
    g = torch.Generator().manual_seed(heads)
    images = [torch.randn(2, 6, 7, 12, generator=g).to(dtype) for _ in range(4)]
    others = [torch.rand(heads, 1, 1, generator=g) + 1, torch.randn(8, 12, generator=g), torch.randn(8, generator=g)]
    base, grad = images.pop()[..., :8].contiguous(), torch.randn(2, 6, 7, 8, generator=g)
    results = []
    for exact in (False, True):
        inputs = [t.to(torch.float64 if exact else t.dtype).requires_grad_() for t in (*images, *others, base)]
        q, k, v, scale, weight, bias, x = inputs
        with torch.autocast('cpu', dtype, enabled=not exact):
            out = attend(channel_affinity(q, k, scale), v, weight, bias, x if residual else None)
        assert out.dtype == (torch.float64 if exact else dtype)
        used = inputs if residual else inputs[:-1]
        results.append([out, *torch.autograd.grad(out, used, grad.to(out.dtype))])
    for ours, exact in zip(*results):
        assert relative(ours, exact) < (2e-2 if dtype == torch.bfloat16 else 3e-3)


@halves
def test_products_of_parts_add_up(dtype):
    q, k = torch.randn(2, 2, 8, 6, 8).to(dtype)
    whole = channel_products(q, k, 2)
    parts = [channel_products(q[:, rows], k[:, rows], 2) for rows in (slice(0, 3), slice(3, 8))]
    for total, *summands in zip(whole, *parts):
        assert total.dtype == torch.float32
        torch.testing.assert_close(total, sum(summands))


@halves
def test_large_images_and_zeros_have_gradients(dtype):
    """|x|^2 beyond the range of float16, its inverse below it; channels of zeros have no direction."""
    x = (60 * torch.randn(1, 300, 200, 8)).to(dtype)
    x[..., 3] = 0
    x.requires_grad_()
    scale = torch.ones(2, 1, 1, requires_grad=True)
    affinity = paired_affinity(x, scale)
    (1e4 * affinity.square()).sum().backward()
    assert torch.isfinite(affinity).all() and torch.isfinite(x.grad).all() and torch.isfinite(scale.grad).all()
    assert x.grad[..., 0].abs().max() > 0 and torch.equal(x.grad[..., 3], torch.zeros_like(x.grad[..., 3]))


def test_gate_equals_the_plain_form():
    x = torch.randn(2, 10, 4, 3, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    a, b = x.chunk(2, dim=1)
    plain, ours = F.gelu(a) * b, feedforward._Gate.apply(x)
    grad = torch.randn_like(plain)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(ours, x, grad)[0], torch.autograd.grad(plain, x, grad)[0])


def test_scan_block_with_one_input_product_equals_that_with_two():
    torch.manual_seed(0)
    block = SS2D(8, 4)
    x = torch.randn(2, 8, 6, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    inputs = [x, *block.parameters()]
    ours, plain = block.joined(x), block(x)
    torch.testing.assert_close(ours, plain)
    grad = torch.randn_like(plain)
    for a, b in zip(torch.autograd.grad(ours, inputs, grad), torch.autograd.grad(plain, inputs, grad)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_attention_compiles_in_half_precision():

    def attention(qk, scale, v, weight):
        return attend(paired_affinity(qk, scale), v, weight)

    inputs = [
        torch.randn(2, 4, 4, 16).bfloat16(),
        torch.ones(2, 1, 1),
        torch.randn(2, 4, 4, 8).bfloat16(),
        torch.randn(8, 8)
    ]
    inputs = [t.requires_grad_() for t in inputs]
    plain = attention(*inputs)
    torch._dynamo.reset()
    compiled = torch.compile(attention, fullgraph=True, backend='aot_eager')(*inputs)
    torch.testing.assert_close(compiled, plain)
    grads = [torch.autograd.grad(y.float().square().mean(), inputs) for y in (plain, compiled)]
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)
