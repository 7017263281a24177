"""IllRecNet in detail: presets, the separation, attention without its scores, checkpoints of the authors."""
from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from conftest import ROOT, run_python
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from basicsr.ablation.costs import count_macs
from basicsr.archs import build_network
from basicsr.archs.illrecnet import pixel_attention as module
from basicsr.archs.illrecnet.pixel_attention import PixelAttention, pixel_attention
from basicsr.archs.illrecnet_arch import Separation
from basicsr.utils.weights import load_weights
from basicsr.weights.detection import detect
from basicsr.weights.fitting import load_into

TINY = {'type': 'IllRecNet', 'embed_dim': 8, 'num_heads': 4, 'mlp_ratio': 2, 'num_resolution': 2}


@pytest.fixture(params=['fused', 'one block', 'many heads', 'part of a head', 'single rows'])
def path(request, monkeypatch):
    """Every way to compute attention on a CPU; block sizes are for 4 byte scores of a few dozen pixels."""
    if request.param != 'fused':
        size = {'one block': 1 << 20, 'many heads': 35 * 42 * 4 * 2, 'part of a head': 42 * 4 * 8, 'single rows': 1}
        monkeypatch.setattr(module, '_fused', lambda *args: False)
        monkeypatch.setattr(module, '_CPU_BYTES', size[request.param])
    return request.param


@pytest.mark.parametrize('options, parameters', [
    ({}, 2_681_384),
    ({'preset': 'train_scripts', 'embed_dim': 64}, 42_766_424),
    ({'preset': 'small'}, 81_524),
    ({'preset': 'base'}, 1_463_108),
    ({'preset': 'large'}, 42_766_436),
    ({'kernel_size': 15, 'sigma': 5, 'embed_dim': 32, 'num_heads': 2, 'mlp_ratio': 2, 'num_resolution': 2}, 378_052),
])
def test_presets_have_the_published_sizes(options, parameters):
    with torch.device('meta'):
        net = build_network({'type': 'IllRecNet', **options})
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert not list(net.buffers())
    frozen = [k for k, p in net.named_parameters() if not p.requires_grad]
    assert frozen == ['encoder.separate.conv_y.weight', 'encoder.separate.conv_x.weight']


def test_presets_have_the_published_heads_and_dropout_and_arguments_win():
    found = {}
    for preset in ('train_scripts', 'small', 'base', 'large'):
        block = build_network({'type': 'IllRecNet', 'preset': preset}).encoder.cttn
        found[preset] = block.attn.attn.num_heads, block.attn.attn.dropout, block.mlp.mlp[2].p
    assert found == {'train_scripts': (8, 0, 0), 'small': (2, .2, .2), 'base': (4, .2, .2), 'large': (8, .2, .2)}
    net = build_network({'type': 'IllRecNet', 'preset': 'base', 'dropout_ratio': 0., 'kernel_size': 9, 'num_heads': 2})
    assert net.encoder.cttn.attn.attn.dropout == 0 and net.encoder.cttn.attn.attn.num_heads == 2
    assert net.encoder.separate.conv_y.weight.shape == (1, 1, 9, 1)
    assert len(net.decoder.down) == 3


def plain_separation(x: np.ndarray, k: int, sigma: float, clamp: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """One channel (H, W) in float64, pixel by pixel, with the two-dimensional Gaussian."""
    h, w = x.shape
    offsets = np.arange(k) - k // 2
    g = np.exp(-np.add.outer(offsets**2, offsets**2) / (2. * sigma**2))
    log = np.log(np.maximum(x.astype(np.float64), 1e-6))
    padded = np.pad(log, k // 2, mode='reflect')
    blurred = np.array([[(g * padded[i:i + k, j:j + k]).sum() / g.sum() for j in range(w)] for i in range(h)])
    top = 1 if clamp else np.inf
    return np.clip(np.exp(blurred), 0, 1), np.clip(np.exp(log - blurred), 0, top)


@pytest.mark.parametrize('k, sigma', [(9, 3), (15, 5), (1, 1), (5, 0.7)])
@pytest.mark.parametrize('clamp', [True, False])
def test_separation_equals_a_plain_transcription(k, sigma, clamp):
    rng = np.random.RandomState(k)
    x = rng.rand(2, 3, 17, 20).astype(np.float32)
    x[0, 0, :4] = 0  # the logarithm's floor
    x[1, 2] = 3 + rng.rand(17, 20)  # out of range: the limit of illumination
    il, re = Separation(k, sigma, False, clamp)(torch.from_numpy(x))
    expected = np.array([[plain_separation(c, k, sigma, clamp) for c in image] for image in x])
    np.testing.assert_allclose(il, expected[:, :, 0], rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(re, expected[:, :, 1], rtol=2e-5, atol=1e-7)
    assert il[1, 2].min() == 1 and (expected[:, :, 1] == 1).any() == (clamp or k == 1)


def test_most_of_uniform_noise_has_saturated_reflectance():
    x = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert (Separation(9, 3, False, True)(x)[1] == 1).float().mean().item() == pytest.approx(0.63, abs=0.01)


def test_separation_stays_in_single_precision_under_autocast():
    x = torch.rand(1, 3, 16, 16) * 1e-3
    separate = Separation(9, 3, False, True)
    exact = separate(x)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast('cpu', dtype):
            found = separate(x)
        assert all(torch.equal(a, b) for a, b in zip(exact, found))
        assert all(t.dtype == dtype for t in separate(x.to(dtype)))


def test_the_gaussian_learns_on_request_only():
    x = torch.rand(1, 3, 16, 16)
    for trainable in (False, True):
        net = build_network({**TINY, 'separation_trainable': trainable})
        net(x).square().mean().backward()
        for p in net.encoder.separate.parameters():
            assert p.requires_grad is trainable and (p.grad is not None and bool(p.grad.any())) is trainable


@pytest.mark.parametrize('dim, heads', [(16, 8), (12, 4), (16, 1)])
@pytest.mark.parametrize('cross', [False, True])
def test_attention_equals_multi_head_attention(path, dim, heads, cross):
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(dim, heads, batch_first=True).train()
    ours = PixelAttention(dim, heads).train()
    assert list(ours.state_dict()) == list(plain.state_dict())
    ours.load_state_dict(plain.state_dict())
    x = 2 * torch.randn(2, 35, dim)
    context = 2 * torch.randn(2, 42, dim) if cross else x
    results = []
    for net in (plain, ours):
        net.in_proj_bias.data.copy_(torch.linspace(-1, 1, 3 * dim))
        inputs = x.clone().requires_grad_(), context.clone().requires_grad_()
        y = net(inputs[0], inputs[1], inputs[1])[0] if net is plain else net(*inputs)
        y.square().sum().backward()
        results.append([y.detach(), *(t.grad for t in inputs), *(p.grad for p in net.parameters())])
    for expected, found in zip(*results):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5 * expected.abs().max().item())


def test_attention_in_evaluation_is_the_same(path):
    net, x = PixelAttention(16, 8), torch.randn(1, 42, 16)
    expected = net.train()(x, x)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x, x), expected.detach())


@pytest.mark.parametrize('dropout', [0., 0.3])
def test_attention_has_correct_gradients(path, dropout):
    inputs = [torch.randn(2, 2, n, 3, dtype=torch.float64, requires_grad=True) for n in (5, 7, 7)]

    def run(*tensors):
        torch.manual_seed(1)
        return pixel_attention(*tensors, dropout)

    assert torch.autograd.gradcheck(run, inputs)


def test_dropped_weights_have_the_rate_and_the_rest_is_scaled_up():
    m = 64
    zeros, values = torch.zeros(1, 2, 500, m), torch.eye(m).expand(1, 2, m, m)
    torch.manual_seed(0)
    weights = pixel_attention(zeros, torch.zeros(1, 2, m, m), values, dropout=0.2) * m  # the mask itself
    dropped = weights == 0
    torch.testing.assert_close(weights[~dropped], torch.full_like(weights[~dropped], 1.25))
    assert dropped.float().mean().item() == pytest.approx(0.2, abs=0.006)  # four deviations
    assert dropped.float().mean(dim=(0, 1, 2)).sub(0.2).abs().max() < 0.08
    assert not torch.equal(dropped[:, 0], dropped[:, 1])


def test_dropout_follows_the_seed_and_training_mode():
    net = build_network({**TINY, 'dropout_ratio': 0.2})
    x = torch.rand(1, 3, 12, 12)

    def train(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return net.train()(x)

    assert torch.equal(train(1), train(1)) and not torch.equal(train(1), train(2))
    without = build_network({**TINY, 'dropout_ratio': 0.})
    without.load_state_dict(net.state_dict())
    assert torch.equal(net.eval()(x), without.train()(x))


@pytest.mark.parametrize('compiled', [False, True])
def test_checkpoints_drop_the_same_again(compiled):
    x, results = torch.rand(1, 3, 12, 12), []
    for again in (False, True):
        torch.manual_seed(0)
        net = build_network({**TINY, 'num_resolution': 1, 'dropout_ratio': 0.3, 'checkpoint': again}).train()
        torch._dynamo.reset()
        run = torch.compile(net, fullgraph=True, backend='aot_eager') if compiled and again else net
        torch.manual_seed(5)
        run(x).square().mean().backward()
        results.append([p.grad for p in net.parameters() if p.requires_grad])
    for expected, found in zip(*results):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


MEMORY = """
import resource, sys, torch
from basicsr.archs import build_network
from basicsr.archs.illrecnet.pixel_attention import PixelAttention
torch.set_num_threads(1)
net, plain, dropout = build_network({'type': 'IllRecNet'}), PixelAttention(16, 8), PixelAttention(16, 8, dropout=0.2)
def network(pixels): net(torch.rand(1, 3, 16, pixels // 16)).square().mean().backward()
def dropping(pixels): x = torch.rand(1, pixels, 16); dropout(x, x).square().mean().backward()
def large(pixels): x = torch.rand(1, pixels, 16); plain(x, x).square().mean().backward()
for run, pixels in ((dropping, 4096), (network, 4096), (large, 16_000)):
    run(256)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(pixels)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(grown / (2**20 if sys.platform == 'darwin' else 1024))  # bytes there, KiB elsewhere
"""


def test_no_scores_are_held_in_forward_or_backward():
    """Those of one of the network's attentions to 64x64 pixels would take 512 MiB."""
    done = run_python('-c', MEMORY, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    dropping, network, large = map(float, done.stdout.split())
    assert dropping < 40 and network < 100  # scores of one layer: 512
    assert large < 200  # MiB; the scores of its eight heads would take 7.6 GiB


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('dropout', [0., 0.2])
def test_no_scores_are_held_on_a_gpu(dtype, dropout):
    """Head dimension 2 fits no fused kernel as it is; 2.9 TiB of scores in float32 would fit no GPU."""
    q, k, v = (torch.randn(1, 8, 300_000, 2, device='cuda', dtype=dtype, requires_grad=True) for _ in range(3))
    torch.cuda.reset_peak_memory_stats()
    pixel_attention(q[:, :, :4096], k, v, dropout).float().square().mean().backward()
    assert torch.cuda.max_memory_allocated() < 2 << 30
    if not dropout:
        found = pixel_attention(q[:, :, :64], k[:, :, :64], v[:, :, :64])
        expected = pixel_attention(*(t[:, :, :64].float().cpu() for t in (q, k, v)))
        torch.testing.assert_close(found.float().cpu(), expected, rtol=0.02,
                                   atol=0.02 if dtype != torch.float32 else 1e-3)


def test_attention_costs_what_the_score_count_says():
    """2.8377 G multiply-adds of attention at 64x64 pixels, 50.8 k per pixel of all else."""
    net = build_network({'type': 'IllRecNet'}).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.rand(1, 3, 64, 64))
    counts = {str(k): v / 2 for k, v in counter.get_flop_counts()['Global'].items()}
    attention = sum(v for k, v in counts.items() if 'attention' in k)
    assert attention == sum(2 * (4096 // 4**i)**2 * 16 * 2**i * n for i, n in enumerate((5, 2, 2, 2, 2)))
    # the separation, 54 multiply-adds per pixel, is part of it
    assert sum(counts.values()) - attention == pytest.approx(50.8e3 * 4096, rel=1e-3)


def test_a_counted_network_costs_what_the_readme_says():
    assert count_macs(build_network({'type': 'IllRecNet'}))[0] == pytest.approx(729.8e9, abs=0.05e9)


@pytest.mark.parametrize('dropout', [0., 0.3])
def test_attention_is_counted_on_every_path(path, dropout):
    q, k, v = (torch.randn(2, 3, n, 8, requires_grad=True) for n in (5, 7, 7))
    with FlopCounterMode(display=False) as counter:
        pixel_attention(q, k, v, dropout).sum().backward()
    assert counter.get_total_flops() == (2 + 5) * 2 * (2 * 3 * 5 * 7 * 8)  # products of forward and backward


@pytest.mark.parametrize('size', [(1, 1), (5, 7), (8, 30)])
@pytest.mark.parametrize('preset', ['small', 'base'])
def test_images_smaller_than_the_gaussian(preset, size):
    x = torch.rand(2, 3, *size)
    y = build_network({'type': 'IllRecNet', 'preset': preset}).eval()(x)
    assert y.shape == x.shape and torch.isfinite(y).all()


def test_the_result_is_no_longer_limited_by_saturated_reflectance():
    torch.manual_seed(0)
    net = build_network(TINY)
    free = build_network({**TINY, 'clamp_reflectance': False})
    free.load_state_dict(net.state_dict())
    x = torch.rand(1, 3, 16, 16)
    assert not torch.allclose(net(x), free(x))
    flat = torch.full((1, 3, 16, 16), 0.3)  # nothing to limit
    torch.testing.assert_close(net(flat), free(flat))


def test_checkpoints_of_the_authors_load(tmp_path):
    """Lightning keeps the network under `model.`, and the metrics' networks beside it."""
    options = {**TINY, 'embed_dim': 16, 'num_heads': 8}
    net = build_network(options)
    for key, p in net.named_parameters():
        if 'separate' not in key:
            p.data.normal_(generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    state = {f'model.{k}': v for k, v in net.state_dict().items()}
    state |= {'metric.LPIPS.net.lin0.weight': torch.rand(1, 4), 'metric.PSNR.dummy_param': torch.empty(0)}
    torch.save({'state_dict': state, 'epoch': 3, 'global_step': 9, 'hyper_parameters': {'lr': 1e-4}},
               tmp_path / 'a.ckpt')
    weights = load_weights(tmp_path / 'a.ckpt')
    found = detect(weights.state)
    assert {k: found[k] for k in options} == options
    copy = build_network(found)
    load_into(copy, weights.state, 'a.ckpt', strict=True)
    assert weights.state.keys() == net.state_dict().keys()
    x = torch.rand(1, 3, 16, 12)
    torch.testing.assert_close(copy(x), net(x), rtol=0, atol=0)


def test_unknown_weights_are_still_refused():
    net = build_network(TINY)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*encoder\.extra'):
        net.load_state_dict({**net.state_dict(), 'encoder.extra': torch.ones(1)})
