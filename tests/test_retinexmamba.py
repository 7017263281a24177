"""RetinexMamba: parity with the published network, any size, any precision."""
from __future__ import annotations

import json

import pytest
import torch
from conftest import SHARED

from basicsr.archs.layers.ss2d import SS2D
from basicsr.archs.retinexmamba.illumination_fusion import IFA
from basicsr.archs.retinexmamba_arch import RetinexMamba


@pytest.fixture
def small():
    torch.manual_seed(0)
    return RetinexMamba(n_feat=8, num_blocks=[1, 1, 1], d_state=4).eval()


@pytest.mark.parametrize('name', ['small', 'official'])
def test_golden_outputs_and_gradients(golden, name):
    case = golden.load_case(SHARED / 'golden' / f'retinexmamba_{name}.npz')
    options = case.options
    assert options.pop('type') == 'RetinexMamba'
    net = RetinexMamba(**options)
    result = golden.check_case(net, case)
    assert result.output_err < 2e-5
    assert result.grad_err < 1e-3
    assert sum(p.numel() for p in net.parameters()) == case.meta['params']


def test_keys_order_and_shapes(golden):
    published = json.loads((SHARED / 'golden' / 'retinexmamba_official.keys.json').read_text())
    assert [[k, list(v.shape)] for k, v in RetinexMamba().state_dict().items()] == [entry[:2] for entry in published]


def test_official_size():
    net = RetinexMamba()
    assert sum(p.numel() for p in net.parameters()) == 4_589_001
    assert len(net.state_dict()) == 330 and not list(net.buffers())
    assert [m.A_logs.shape[1] for m in net.modules() if isinstance(m, SS2D)] == [16, 32, 32, 64, 64, 64, 64, 32]


def test_prefix_of_the_first_release_loads(small):
    old = {k.replace('.Restorer.', '.denoiser.'): v for k, v in small.state_dict().items()}
    other = RetinexMamba(n_feat=8, num_blocks=[1, 1, 1], d_state=4).eval()
    other.load_state_dict(old)
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(other(x), small(x))


@pytest.mark.parametrize('size', [(1, 1), (4, 4), (5, 7), (33, 30), (34, 36), (3, 50)])
def test_any_size(small, size):
    x = torch.rand(2, 3, *size)
    y = small(x)
    assert y.shape == x.shape and torch.isfinite(y).all()


def test_padding_is_reflection_and_cropped_away(small):
    x = torch.rand(1, 3, 18, 21)
    padded = torch.nn.functional.pad(x, (0, 3, 0, 2), 'reflect')
    torch.testing.assert_close(small(x), small(padded)[..., :18, :21], rtol=0, atol=0)


def test_precisions(small):
    x = torch.rand(1, 3, 24, 20)
    with torch.no_grad():
        plain = small(x)
        torch.testing.assert_close(small.double()(x.double()).float(), plain, rtol=1e-4, atol=1e-5)
        small.float()
        with torch.autocast('cpu', torch.bfloat16):
            torch.testing.assert_close(small(x).float(), plain, rtol=0.05, atol=0.05)
        for dtype in (torch.bfloat16, torch.float16):
            out = small.to(dtype)(x.to(dtype))
            assert out.dtype == dtype
            torch.testing.assert_close(out.float(), plain, rtol=0.05, atol=0.05)


def test_attention_does_not_overflow_in_half_precision():
    """Norms over all pixels of a large image exceed the range of float16."""
    attention = IFA(8, 2).half().attn
    x = 60 * torch.ones(1, 8, 64, 64, dtype=torch.float16)
    values, mixing = attention(x, x, lambda t: t)
    assert torch.isfinite(mixing).all() and torch.isfinite(attention.project(values, mixing)).all()


def test_gradients_reach_every_parameter(small):
    small.train()(torch.rand(1, 3, 16, 12)).square().mean().backward()
    assert [k for k, p in small.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


def test_initial_values():
    torch.manual_seed(0)
    scan = RetinexMamba(n_feat=16).body[0].Restorer.bottleneck.blocks[0][1]
    assert torch.equal(scan.Ds, torch.ones_like(scan.Ds))
    torch.testing.assert_close(scan.A_logs.detach().exp()[0], torch.arange(1., 65))
    dt = torch.nn.functional.softplus(scan.dt_projs_bias.detach())
    assert dt.min() > 0.99e-3 and dt.max() < 0.101
    assert scan.in_proj.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert scan.dt_projs_weight.abs().max() <= scan.dt_rank**-0.5


def test_norm_epsilons(small):
    layers = [m.eps for m in small.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert layers and set(layers) == {1e-5}


@pytest.mark.parametrize('arguments, message', [
    ({'n_feat': 31}, 'multiple of 4'),
    ({'in_channels': 1}, 'must be 3'),
    ({'num_blocks': [1, 1]}, 'three numbers'),
])
def test_impossible_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        RetinexMamba(**arguments)


def test_strips_equal_the_whole_image(small, monkeypatch):
    """Without gradients, wide layers work in strips of rows; here as thin as they get."""
    from basicsr.archs.layers import strips
    x = torch.rand(2, 3, 44, 36)
    whole = small(x)  # gradients are recorded: one strip
    monkeypatch.setattr(strips, '_CPU_BYTES', 1)
    with torch.no_grad():
        torch.testing.assert_close(small(x), whole.detach(), rtol=1e-5, atol=1e-6)


def test_checkpointing_gives_the_same_gradients(small):
    other = RetinexMamba(n_feat=8, num_blocks=[1, 1, 1], d_state=4, checkpoint=True)
    other.load_state_dict(small.state_dict())
    x = torch.rand(1, 3, 16, 20)
    saved = []
    for net in (small, other):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t):
            net(x).square().mean().backward()
        saved.append(sum(kept))
    for (name, p), q in zip(small.named_parameters(), other.parameters()):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7, msg=name)
    assert saved[1] < saved[0] / 2


def test_compiles_without_graph_breaks(small):
    x = torch.rand(1, 3, 16, 16)
    plain = small(x)
    compiled = torch.compile(small, fullgraph=True, backend='aot_eager')(x)
    torch.testing.assert_close(compiled, plain, rtol=1e-5, atol=1e-6)
    grads = [torch.autograd.grad(y.square().mean(), list(small.parameters())) for y in (plain, compiled)]
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-7)


def test_compiled_by_inductor(small):
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(small, fullgraph=True)(x), small(x), rtol=1e-4, atol=1e-5)
