"""Which experts see a token, with what weight, and the loss that keeps all experts in use (MASR-Net)."""
from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from basicsr.utils.precision import at_least_float32


class Routing(NamedTuple):
    """The k of E experts that each of n tokens is sent to: `chosen` and `gates` are (n, k), `balance` a scalar or None."""
    chosen: Tensor
    gates: Tensor
    balance: Tensor | None


class BalanceWeights(NamedTuple):
    """Factors of the three parts of `balance_loss`."""
    cv: float
    switch: float
    z: float


def gate_logits(x: Tensor, keys: Tensor, limit: float | None = None) -> Tensor:
    """Scaled products of tokens with one vector per expert, at least float32 also under autocast.

    Experts can be a rounding error apart. What is not a number becomes 0, infinities +-20.

    Args:
        x: (n, D). keys: (D, E), the same for all tokens, or (n, D, E).
        limit: values are clamped to [-limit, limit].
    """
    with torch.autocast(x.device.type, enabled=False):
        exact = at_least_float32(x.dtype)
        x, keys = x.to(exact), keys.to(exact)
        logits = (x @ keys if keys.dim() == 2 else (x.unsqueeze(1) @ keys).squeeze(1)) * x.shape[-1]**-0.5
        if limit is not None:
            logits = logits.clamp(-limit, limit)
        return logits.nan_to_num(nan=0., posinf=20., neginf=-20.)


def route(logits: Tensor, k: int, sampled: int = 0, by_expert: bool = False,
          balance: BalanceWeights | None = None) -> Routing:
    """Send each token to k experts; its gates are their probabilities, normalised to a sum of 1.

    Args:
        logits: (n, E).
        sampled: so many of the k are drawn at random, in proportion to their probabilities; the others, which stand
            first, are the most probable ones.
        by_expert: order each token's experts by their number, not by probability.
        balance: compute the balance loss, too.
    """
    probabilities = logits.softmax(dim=-1)
    index = probabilities.topk(k - sampled).indices
    if sampled:
        rest = (probabilities.detach() + 1e-6).scatter(1, index, 0.)
        # `multinomial` without its checks, for which the host would wait for a GPU; the same numbers are drawn
        index = torch.cat([index, (rest / torch.empty_like(rest).exponential_(1)).topk(sampled).indices], dim=1)
    if by_expert:
        index = index.sort(dim=1).values
    chosen = probabilities.gather(1, index)
    gates = chosen / (chosen.sum(dim=1, keepdim=True) + 1e-6)
    if balance is None:
        return Routing(index, gates, None)
    return Routing(index, gates, balance_loss(torch.zeros_like(logits).scatter(1, index, gates), logits, balance))


def balance_loss(gates: Tensor, logits: Tensor, weights: BalanceWeights) -> Tensor:
    """cv * (variation of the experts' load)^2 + switch * (load times probability) + z * (size of the logits)^2.

    The load of an expert is its share of all gates; squared coefficient of variation (Shazeer et al. 2017, eq. 6),
    Switch Transformer loss (Fedus et al. 2021, eq. 4) with gates for counts, z-loss (Zoph et al. 2022, eq. 5).

    Args:
        gates: (n, E), zero where an expert is not chosen. logits: (n, E).
    """
    experts = gates.shape[1]
    load = F.normalize(gates.sum(dim=0), p=1., dim=0)
    probability = F.normalize(logits.softmax(dim=-1).sum(dim=0), p=1., dim=0)
    variation = load.var() / (load.mean()**2 + 1e-10) if experts > 1 else load.new_zeros(())
    switch = experts * (probability * load).sum()
    z = logits.logsumexp(dim=-1).square().mean()
    return weights.cv * variation + weights.switch * switch + weights.z * z
