"""MASR-Net with plain attention in place of its mixtures, and with one of the two paths of its map generator."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.masrnet.parameter_maps import window_map
from basicsr.archs.masrnet_arch import MASRNet
from basicsr.utils.registry import ARCH_REGISTRY


class PlainAttention(nn.Module):
    """Multi-head attention with as many heads as the mixture chooses: nothing is routed, every head has its own keys.

    Takes the arguments of `MixtureOfAttention` and ignores those of router, noise and position bias. The balance loss
    is 0.
    """

    def __init__(self, dim: int, experts: int, heads: int, sampled: int, sample_in_eval: bool, balance: Any,
                 dropout: float, quant_noise: float, **more: Any):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, gate_keys: Tensor | None = None,
                arrange: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor | None]:
        """As `MixtureOfAttention`: query (B, W, T, D), key and value (B, W, S, D) or what `arrange` makes that of."""
        k, v = self.k_proj(key), self.v_proj(value)
        if arrange is not None:
            k, v = arrange(k), arrange(v)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(2, 3) for t in (self.q_proj(query), k, v))
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.)
        return self.out_proj(out.transpose(2, 3).flatten(3)), query.new_zeros(()) if self.training else None


@ARCH_REGISTRY.register()
class MASRNetPlainAttention(MASRNet):
    """MASR-Net whose four mixtures of attention are plain multi-head attention, of almost the same size.

    `qk_gen.k_combined`, the router's vectors, gets no gradient.
    """

    attention_type = PlainAttention


@ARCH_REGISTRY.register()
class MASRNetCoarseMaps(MASRNet):
    """MASR-Net whose maps are the interpolated means of windows."""

    window_map = staticmethod(partial(window_map, coarse_share=1.))


@ARCH_REGISTRY.register()
class MASRNetFineMaps(MASRNet):
    """MASR-Net whose maps are the values of pixels, not smoothed between windows."""

    window_map = staticmethod(partial(window_map, coarse_share=0.))
