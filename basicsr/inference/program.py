"""A network's computation as a program of `torch.export`, for images of one size or of any."""
from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from basicsr.archs import describe, input_channels
from basicsr.utils.errors import UserError

EXAMPLE = 253, 318  # sides that nothing divides: what holds for them by chance holds for others too
_DYNAMIC = {2: Dim.AUTO, 3: Dim.AUTO}


class Plain(nn.Module):
    """A network whose output is one tensor: of several images, the last."""

    def __init__(self, net: nn.Module, check: Callable[[Tensor, list[int]], Tensor] | None = None,
                 shape: tuple[int, ...] = ()):
        super().__init__()
        self.net, self.check, self.shape = net, check, list(shape)

    def forward(self, image: Tensor, *guides: Tensor) -> Tensor:
        image = image if self.check is None else self.check(image, self.shape)
        out = self.net(image, *guides)
        return out[-1] if isinstance(out, (list, tuple)) else out


def random_inputs(net: nn.Module, options: dict[str, Any], height: int, width: int, seed: int) -> tuple[Tensor, ...]:
    """What the network takes: an image (1, C, H, W) in [0, 1], and probabilities as its guide where it wants one."""
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.rand(1, input_channels(options) or 3, height, width, generator=generator)]
    if guide := describe(net).guide:
        inputs.append(torch.randn(1, guide, height, width, generator=generator).softmax(dim=1))
    return tuple(inputs)


def capture(net: nn.Module, inputs: tuple[Tensor, ...], any_size: bool) -> ExportedProgram:
    """The program for inputs of these shapes, or with `any_size` of any height and width.

    Raises:
        UserError: where the computation of this network cannot be had for any size.
    """
    guides = (tuple(_DYNAMIC for _ in inputs[1:]), ) * bool(inputs[1:])
    program = torch.export.export(Plain(net), inputs, strict=False,
                                  dynamic_shapes=(_DYNAMIC, *guides) if any_size else None)
    if any_size and any(isinstance(side, int) for side in _image(program).shape[2:]):
        raise UserError(
            f'{type(net).__name__}: its steps are others for each size of images, so a file can hold one size'
            ' only: give --size H W')
    return program


def least_sides(program: ExportedProgram, net: nn.Module) -> tuple[int, int]:
    """Height and width from which on a program for any size answers as the network does.

    Smaller images would be padded by more than they have, or come down to a single row.

    Raises:
        UserError: where it answers up to a size only.
    """
    ranges = [program.range_constraints[side.node.expr] for side in _image(program).shape[2:]]
    if any(r.upper < sys.maxsize - 1 for r in ranges):
        most = ' x '.join(str(r.upper) for r in ranges)
        raise UserError(f'{type(net).__name__}: its steps are others for images of more than {most}: give --size H W')
    height, width = (max(describe(net).multiple + 1, int(r.lower)) for r in ranges)
    return height, width


def own_operators(program: ExportedProgram) -> set[str]:
    """Names of the operators of this toolbox that a program calls."""
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    return {
        found[1] for graph in graphs for node in graph.nodes if (found := re.match(r'basicsr\.(\w+)', str(node.target)))
    }


def _image(program: ExportedProgram) -> Any:
    name = program.graph_signature.user_inputs[0]
    return next(node for node in program.graph.nodes if node.op == 'placeholder' and node.name == name).meta['val']
