"""Mixtures of convolutional experts that each image chooses from (ISALux)."""
from __future__ import annotations

import pytest
import torch

from basicsr.archs.isalux_arch import MOE_FFN, Expert


def mixture(num_experts: int = 4, top_k: int = 2) -> MOE_FFN:
    torch.manual_seed(1)
    ffn = MOE_FFN(6, 10, num_experts, top_k)
    ffn.gating_fc.weight.data.normal_(std=8)
    return ffn


def plain_mixture(ffn: MOE_FFN, u: torch.Tensor) -> torch.Tensor:
    images = []
    for image in u:
        shares = ffn.gating_fc(image.mean(dim=(0, 1))).softmax(dim=-1)
        order = shares.argsort(descending=True)[:ffn.top_k]
        parts = [shares[n] * ffn.experts[n].net(image.permute(2, 0, 1)[None])[0] for n in order]
        images.append((sum(parts) / shares[order].sum()).permute(1, 2, 0))
    return torch.stack(images)


@pytest.mark.parametrize('num_experts, top_k', [(4, 2), (3, 1), (4, 4)])
@pytest.mark.parametrize('batch', [1, 7])
def test_routing_equals_a_plain_loop(num_experts, top_k, batch):
    ffn, u = mixture(num_experts, top_k), torch.randn(batch, 9, 5, 6)
    torch.testing.assert_close(ffn(u), plain_mixture(ffn, u), rtol=1e-4, atol=1e-5)
    names, tensors = zip(*ffn.named_parameters())
    found = torch.autograd.grad(ffn(u).square().sum(), tensors)
    expected = torch.autograd.grad(plain_mixture(ffn, u).square().sum(), tensors, allow_unused=True)
    for name, ours, plain in zip(names, found, expected):
        torch.testing.assert_close(ours,
                                   torch.zeros_like(ours) if plain is None else plain, rtol=1e-3, atol=1e-4, msg=name)


def test_images_of_a_batch_choose_different_experts_and_each_sees_only_its_own():
    ffn, u = mixture(), torch.randn(6, 8, 8, 6)
    gates, chosen = ffn.route(u)
    assert len({tuple(sorted(c)) for c in chosen.tolist()}) > 1
    torch.testing.assert_close(gates.sum(dim=1), torch.ones(6))
    assert ((gates > 0).sum(dim=1) == 2).all()
    seen = []
    for expert in ffn.experts:
        expert.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    ffn(u)
    assert seen == [n for n in (gates > 0).sum(dim=0).tolist() if n]


def test_experts_that_nobody_chose_get_gradients_of_zero():
    ffn, u = mixture(), torch.randn(1, 4, 4, 6)
    chosen = set(ffn.route(u)[1].flatten().tolist())
    ffn(u).sum().backward()
    for n, expert in enumerate(ffn.experts):
        norms = [p.grad.norm().item() for p in expert.parameters()]
        assert all(v > 0 for v in norms) if n in chosen else norms == [0] * len(norms)


def test_an_expert_on_strips_of_rows_gives_the_same_image(monkeypatch):
    from basicsr.archs.layers import strips
    monkeypatch.setattr(strips, '_CPU_BYTES', 1)
    expert, x = Expert(6, 12), torch.randn(2, 6, 40, 10)
    with torch.no_grad():
        y = expert(x)
    torch.testing.assert_close(y, expert(x).detach(), rtol=1e-4, atol=1e-5)
