"""Mixtures whose experts are chosen image by image."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def mixture(experts: Iterable[nn.Module], gates: Tensor, chosen: Tensor, *inputs: Tensor) -> Tensor:
    """The sum of what experts make of `inputs`, each weighed by its gate.

    An expert sees only the images that chose it, so an image's result does not depend on its batch. On a GPU, and for a
    compiler or tracer, every expert is evaluated and what was not chosen weighs nothing: the host would wait for the choice
    longer than the experts take, and neither a graph of kernels nor one of operators can depend on it.

    Experts that nobody in a batch chose get gradients of zero instead of none, so that DistributedDataParallel needs no
    `find_unused_parameters`, and one process takes the same optimizer steps as several.

    Args:
        gates: (B, experts), zero but for the chosen. chosen: (B, k), their numbers.
        inputs: (B, C, H, W), what each expert is called with.
    """
    if gates.is_cuda or torch.compiler.is_compiling() or torch.jit.is_tracing():
        outputs: Any = sum(_run(expert, gates[:, n], inputs) for n, expert in enumerate(experts))
        return outputs
    choices = chosen.tolist()
    out: Any = 0
    for n, expert in enumerate(experts):
        images = [i for i, choice in enumerate(choices) if n in choice]
        if len(images) == len(choices):
            out = out + _run(expert, gates[:, n], inputs)
        elif images:
            index = torch.tensor(images, device=gates.device)
            part = _run(expert, gates[index, n], [x.index_select(0, index) for x in inputs])
            out = out + part.new_zeros(inputs[0].shape).index_copy_(0, index, part)
        elif torch.is_grad_enabled():
            out = out + 0 * sum(p.sum() for p in expert.parameters())
    return out


def _run(expert: nn.Module, gate: Tensor, inputs: Iterable[Tensor]) -> Tensor:
    y = expert(*inputs)
    return y * gate.to(y.dtype).view(-1, 1, 1, 1)
