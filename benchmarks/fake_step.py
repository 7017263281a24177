"""A training step on CUDA tensors that do not exist: every operation that a GPU would be sent, without a GPU.

Fake tensors know shapes, types and memory formats only. PyTorch's backward engine asks the driver for streams, so the
graph is walked here: nodes in the order of their dependencies, gradients added where they meet.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
Seen = Callable[[Any, tuple, dict, Any], None]  # (operation, arguments, keyword arguments, result)


class _Listener(TorchDispatchMode):
    """Reports operations below autograd; gives convolutions the memory format that cuDNN would give them."""

    def __init__(self, seen: Seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is aten.convolution.default:
            x, w = args[:2]
            args = (_channels_last(x, self.seen), _channels_last(w, self.seen), *args[2:]) if _is_last(x, w) else args
            out = func(*args, **kwargs)
            out = _as_last(out) if _is_last(x, w) else out
        elif func is aten.convolution_backward.default and _is_last(*args[1:3]):
            args = (*(_channels_last(t, self.seen) for t in args[:3]), *args[3:])
            out = func(*args, **kwargs)
            out = tuple(t if t is None or t.dim() < 4 else _as_last(t) for t in out)
        else:
            out = func(*args, **kwargs)
        self.seen(func, args, kwargs, out)
        return out


def _is_last(*tensors: Tensor) -> bool:
    return any(_suggests_last(t) for t in tensors)


def _suggests_last(t: Tensor) -> bool:
    """As PyTorch decides: the channels' stride is the smallest, one-pixel images and one-channel images excepted."""
    if t.dim() != 4:
        return False
    c = t.stride(1)
    if c == 0 or (t.shape[1] == 1 and t.is_contiguous()) or (t.is_contiguous() and t.shape[2] == t.shape[3] == 1):
        return False
    least = 0
    for d in (1, 3, 2, 0):
        if t.shape[d] == 0 or t.stride(d) < least or (d == 0 and least == c):
            return False
        least = t.stride(d) * max(1, t.shape[d])
    return True


def _as_last(t: Tensor) -> Tensor:
    return torch.empty_like(t, memory_format=torch.channels_last)


def _channels_last(t: Tensor, seen: Seen) -> Tensor:
    if t.is_contiguous(memory_format=torch.channels_last):
        return t
    out = _as_last(t)
    seen(aten.clone.default, (t, ), {}, out)
    return out


@contextmanager
def fake_cuda(seen: Seen | None = None) -> Iterator[None]:
    """Tensors made inside are fake, `device='cuda'` works, autocast included; `seen` hears of every operation."""
    with ExitStack() as stack:
        for target, value in (
            ('torch.cuda.amp.common.amp_definitely_not_available', lambda: False),
            ('torch.cuda.is_bf16_supported', lambda *_, **__: True),
                # outside the engine a checkpoint would be computed again for each saved tensor
            ('torch._C._current_graph_task_id', lambda: 1)):
            stack.enter_context(mock.patch(target, value))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        if seen is not None:
            stack.enter_context(_Listener(seen))
        yield


@torch.no_grad()
def backward(loss: Tensor, seen: Seen | None = None) -> None:
    """The gradients of a scalar, as `loss.backward()` computes and accumulates them into `.grad`."""
    waiting: dict[Any, int] = defaultdict(int)
    stack, known = [loss.grad_fn], {loss.grad_fn}
    while stack:
        for node, _ in stack.pop().next_functions:
            if node is not None:
                waiting[node] += 1
                if node not in known:
                    known.add(node)
                    stack.append(node)
    gradients: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    gradients[loss.grad_fn][0] = torch.ones_like(loss)
    ready = [loss.grad_fn]
    while ready:
        node = ready.pop()
        given = gradients.pop(node, {})
        if hasattr(node, 'variable'):
            _accumulate(node.variable, given.get(0))
            continue
        inputs = [given.get(i) for i in range(len(node._input_metadata))]
        call = node.apply if isinstance(node, torch.autograd.function.BackwardCFunction) else node
        outs = call(*inputs) if given else None
        outs = outs if isinstance(outs, tuple) else (outs, ) * len(node.next_functions)
        for (following, number), gradient in zip(node.next_functions, outs):
            if following is None:
                continue
            if gradient is not None:
                wanted = following._input_metadata[number] if not hasattr(following, 'variable') else following.variable
                if gradient.shape != torch.Size(wanted.shape):
                    gradient = gradient.sum_to_size(wanted.shape)
                if gradient.dtype != wanted.dtype:
                    gradient = gradient.to(wanted.dtype)
                there = gradients[following]
                there[number] = there[number] + gradient if number in there else gradient
            waiting[following] -= 1
            if waiting[following] == 0:
                ready.append(following)


def _accumulate(parameter: Tensor, gradient: Tensor | None) -> None:
    """A gradient in the parameter's memory format is kept as it is, another one is copied."""
    if gradient is None:
        return
    if parameter.grad is not None:
        parameter.grad = parameter.grad + gradient
    elif _same_layout(gradient, parameter):
        parameter.grad = gradient
    else:
        parameter.grad = torch.empty_like(parameter).copy_(gradient)


def _same_layout(a: Tensor, b: Tensor) -> bool:
    return all(n == 1 or s == t for n, s, t in zip(b.shape, a.stride(), b.stride()))


def training_step(net: nn.Module, x: Tensor, amp: torch.dtype | None) -> None:
    """Forward, mean absolute error, backward; to be called inside `fake_cuda`."""
    with torch.autocast('cuda', amp or torch.bfloat16, enabled=amp is not None):
        out = net(x)
    backward((out - x[:, :out.shape[1]]).abs().mean())


def to_fake_cuda(net: nn.Module) -> nn.Module:
    """The network with fake tensors on the GPU for its parameters and buffers, in place; inside `fake_cuda`."""
    made: dict[Tensor, Tensor] = {}

    def convert(t: Tensor) -> Tensor:
        if t not in made:
            new = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device='cuda')
            made[t] = nn.Parameter(new, t.requires_grad) if isinstance(t, nn.Parameter) else new
        return made[t]

    for module in net.modules():
        for tensors in (module._parameters, module._buffers):
            tensors.update({k: convert(t) for k, t in tensors.items() if t is not None})
    return net
