"""Mixtures of experts and of attention heads (MASR-Net; Zhang et al. 2022, arXiv 2210.05144).

All experts are evaluated for all tokens and the chosen ones kept: more products than needed (twice with 3 of 6 experts),
but large ones, no loop over tokens or experts, and nothing that the host has to wait for.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.gelu import gelu
from basicsr.archs.masrnet.routing import BalanceWeights, Routing, gate_logits, route
from basicsr.utils.precision import at_least_float32

_NOISE_BLOCK = 8  # weights in a row that quantisation noise drops together
_LOGIT_LIMIT = 10.


class ExpertLinear(nn.Module):
    """One affine map for each expert: (E, n, I) to (E, n, O)."""

    bias: nn.Parameter | None

    def __init__(self, experts: int, in_features: int, out_features: int, bias: bool):
        super().__init__()
        self.register_parameter('bias', nn.Parameter(torch.zeros(experts, out_features)) if bias else None)
        self.weight = nn.Parameter(torch.randn(experts, in_features, out_features) * in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return torch.bmm(x, self.weight)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight)


class Experts(nn.Module):
    """Affine maps with GELU in between: (E, n, widths[0]) to (E, n, widths[-1])."""

    def __init__(self, experts: int, widths: Sequence[int], bias: bool):
        super().__init__()
        self.layers = nn.ModuleList(ExpertLinear(experts, i, o, bias) for i, o in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(gelu(x) if i else x)
        return x


class RoutedExperts(nn.Module):
    """The parameters of a mixture: the router's, the experts', and those of a second map of each expert.

    Published checkpoints hold `w_atten_gate`, which nothing reads; where the router gets its logits from elsewhere that
    is true of `w_gate`, too. Such parameters are not trained.
    """

    def __init__(self, dim: int, experts: int, hidden: Sequence[int], bias: bool, learned_gate: bool = True):
        super().__init__()
        self.w_atten_gate = nn.Parameter(torch.randn(experts, experts) * experts**-0.5, requires_grad=False)
        self.w_gate = nn.Parameter(torch.randn(dim, experts) * dim**-0.5, requires_grad=learned_gate)
        self.experts = Experts(experts, (dim, *hidden), bias)
        self.output_experts = Experts(experts, (hidden[-1], dim), bias)


class MixtureOfExperts(RoutedExperts):
    """Each token is sent to the k most probable experts, feed-forward networks.

    Args:
        dim: width of the tokens. hidden: widths of an expert's layers before its last one.
        merge: sum the chosen experts' outputs; else they stay apart, ordered by the number of the expert.
    """

    def __init__(self, dim: int, experts: int, k: int, hidden: Sequence[int], merge: bool, balance: BalanceWeights):
        super().__init__(dim, experts, (*hidden, dim), bias=True)
        self.k, self.merge, self.balance = k, merge, balance

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(..., D) to (..., D), or (..., k, D) without merging; and the balance loss while training."""
        tokens = x.flatten(0, -2)
        routing = route(gate_logits(tokens, self.w_gate, _LOGIT_LIMIT), self.k, by_expert=not self.merge,
                        balance=self.balance if self.training else None)
        outputs = self.output_experts(self.experts(tokens.expand(len(self.w_atten_gate), -1, -1)))
        outputs = _pick(outputs, routing) * routing.gates.unsqueeze(-1).to(outputs.dtype)
        outputs = outputs.sum(dim=1) if self.merge else outputs
        return outputs.unflatten(0, x.shape[:-1]), routing.balance


class MixtureOfAttention(nn.Module):
    """Attention whose heads are chosen by a router: queries and output projections are experts, keys and values shared.

    Args:
        dim: width of the tokens. heads: number of chosen experts, each of width dim / heads.
        sampled: so many of the heads are drawn at random, while training or with `sample_in_eval`.
        learned_gate: False where `forward` is given gate keys.
        neighbours: number of windows that keys come from; learns a bias for each of them and each head.
        quant_noise: while training, probability that 8 neighbouring weights of the key and value projections are
            dropped (Fan et al. 2020, arXiv 2004.07320). The published code also writes what is left of the weights
            back, so that they decay to zero; here the noise never touches them.
    """

    def __init__(self, dim: int, experts: int, heads: int, sampled: int, sample_in_eval: bool, balance: BalanceWeights,
                 dropout: float, quant_noise: float, learned_gate: bool = True, neighbours: int = 0):
        super().__init__()
        width = dim // heads
        self.heads, self.sampled, self.sample_in_eval, self.balance = heads, sampled, sample_in_eval, balance
        self.dropout, self.quant_noise = dropout, quant_noise
        self.q_proj = nn.ModuleDict({'moe': RoutedExperts(dim, experts, (width, ), False, learned_gate)})
        self.k_proj = nn.Linear(dim, width)
        self.v_proj = nn.Linear(dim, width)
        for layer in (self.k_proj, self.v_proj):
            nn.init.normal_(layer.weight, std=dim**-0.5)
        self.pos_bias = nn.Embedding(neighbours, heads) if neighbours else None

    def forward(self, query: Tensor, key: Tensor, value: Tensor, gate_keys: Tensor | None = None,
                arrange: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor | None]:
        """Tokens of each window attend to S keys of theirs.

        Args:
            query: (B, W, T, D). key, value: (B, W, S, D), or whatever `arrange` makes (B, W, S, C) of, C channels.
            gate_keys: (B, W, E, D), the router's vectors of each window, instead of learned ones.
            arrange: applied to the projected keys and values.

        Returns:
            (B, W, T, D), and the balance loss while training.
        """
        moe: Any = self.q_proj['moe']
        tokens = query.flatten(0, 2)
        if gate_keys is None:
            logits = gate_logits(tokens, moe.w_gate, _LOGIT_LIMIT)
        else:
            gate_keys = gate_keys.unsqueeze(2).expand(-1, -1, query.shape[2], -1, -1)
            logits = gate_logits(tokens, gate_keys.flatten(0, 2).transpose(1, 2))
        sampled = self.sampled if self.training or self.sample_in_eval else 0
        routing = route(logits, self.heads, sampled, balance=self.balance if self.training else None)

        q = _pick(moe.experts(tokens.expand(logits.shape[1], -1, -1)), routing)  # (n, heads, C)
        k, v = self._project(self.k_proj, key), self._project(self.v_proj, value)
        if arrange is not None:
            k, v = arrange(k), arrange(v)
        attended = self._attend(q.view(-1, query.shape[2] * self.heads, q.shape[-1]), k.flatten(0, 1), v.flatten(0, 1))
        attended = attended.reshape(q.shape) * routing.gates.unsqueeze(-1).to(v.dtype)

        # each expert's place holds what its head attended to, or zeros; one product for all output projections
        places = attended.new_zeros(tokens.shape[0], logits.shape[1], q.shape[-1])
        places = places.scatter(1, routing.chosen.unsqueeze(-1).expand_as(attended), attended)
        out = places.flatten(1) @ moe.output_experts.layers[0].weight.flatten(0, 1)
        return out.view(query.shape), routing.balance

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(C) + bias) v for q (windows, T * heads, C), k and v (windows, S, C)."""
        logits = (q * q.shape[-1]**-0.5) @ k.transpose(1, 2)
        logits = logits.to(at_least_float32(logits.dtype))
        if self.pos_bias is not None:
            # key 8 * token + neighbour gets row key // tokens, not the row of its neighbour: published weights are so
            bias = self.pos_bias.weight.repeat_interleave(k.shape[1] // len(self.pos_bias.weight), dim=0).t()
            bias = bias.to(logits.dtype) * q.shape[-1]**0.5
            logits = (logits.unflatten(1, (-1, self.heads)) + bias).flatten(1, 2)
        return F.dropout(logits.softmax(dim=-1), self.dropout, self.training).to(v.dtype) @ v

    def _project(self, layer: nn.Linear, x: Tensor) -> Tensor:
        weight = layer.weight
        if self.training and self.quant_noise > 0:
            draws = torch.rand(len(weight), weight.shape[1] // _NOISE_BLOCK, device=weight.device)
            dropped = (draws < self.quant_noise).repeat_interleave(_NOISE_BLOCK, dim=1)
            weight = weight.masked_fill(dropped, 0) / (1 - self.quant_noise)
        return F.linear(x, weight, layer.bias)


def _pick(outputs: Tensor, routing: Routing) -> Tensor:
    """(E, n, C) of all experts to (n, k, C) of the chosen ones."""
    index = routing.chosen.unsqueeze(-1).expand(-1, -1, outputs.shape[-1])
    return outputs.transpose(0, 1).gather(1, index)
