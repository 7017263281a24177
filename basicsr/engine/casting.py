"""The weights of a network in half precision, all of them by one copy a step instead of one at each use."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# what PyTorch casts under autocast. A layer of a network says which of its parameters it wants cast, as its attribute
# `casts`; nothing else may be done with them there. Both hold for these classes alone, not for subclasses
_CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
         nn.modules.linear.NonDynamicallyQuantizableLinear)


class CastWeights:
    """Within `with cast():`, linear layers and convolutions find their weights cast, where they run under autocast.

    The block holds forward and backward, which may compute parts of the forward again. Gradients arrive in the
    parameters, by one copy as well. Only the layers themselves see the copies: whoever reads `layer.weight`, or switches
    autocast off, finds the parameter.

    Args:
        net: neither compiled nor wrapped for several devices.
        dtype: what autocast casts to; None casts nothing.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype | None, device: str):
        self.dtype, self.device = dtype, device
        self.layers = [m for m in net.modules() if _wanted(m)] if dtype is not None else []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        layers = [m for m in self.layers if 'forward' not in vars(m)]  # else somebody has replaced it
        found = {id(p): p for m in layers for p in _wanted(m) if p.dtype == torch.float32}
        # not trained: no gradient, so not through the function
        frozen, trained = ([p for p in found.values() if p.requires_grad is wanted] for wanted in (False, True))
        with torch.no_grad():
            cast = dict(zip(map(id, frozen), _cast(frozen, self.dtype)))
        if trained:
            cast |= zip(map(id, trained), _Cast.apply(*trained, self.dtype))
        for m in layers:
            weights = {name: cast.get(id(p), p) for name, p in m._parameters.items()}
            vars(m)['forward'] = partial(_forward, m, type(m).forward, weights, self.device)
        try:
            yield
        finally:
            for m in layers:
                del vars(m)['forward']


class _Cast(torch.autograd.Function):
    """Parameters to copies of another type; gradients the other way."""

    @staticmethod
    def forward(ctx: Any, *params_and_type: Any) -> tuple[Tensor, ...]:
        *params, dtype = params_and_type
        ctx.set_materialize_grads(False)  # a layer that was not used gets none
        ctx.dtype = params[0].dtype
        return tuple(_cast(params, dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        there = [g for g in grads if g is not None]
        cast = iter(_cast(there, ctx.dtype))
        return *(None if g is None else next(cast) for g in grads), None


def _wanted(module: nn.Module) -> list[nn.Parameter]:
    names = ('weight', 'bias') if type(module) in _CAST else vars(type(module)).get('casts', ())
    return [p for name in names if (p := module._parameters[name]) is not None]


def _cast(tensors: Any, dtype: torch.dtype | None) -> list[Tensor]:
    out = [torch.empty_like(t, dtype=dtype) for t in tensors]
    if out:
        torch._foreach_copy_(out, list(tensors))
    return out


def _forward(module: nn.Module, forward: Callable[..., Any], weights: dict[str, Tensor | None], device: str, *args: Any,
             **kwargs: Any) -> Any:
    if not torch.is_autocast_enabled(device):
        return forward(module, *args, **kwargs)
    own = module._parameters
    vars(module)['_parameters'] = weights
    try:
        return forward(module, *args, **kwargs)
    finally:
        vars(module)['_parameters'] = own
