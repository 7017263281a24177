"""From a weight file to a file for other programs, which is then asked whether it answers as the network does."""
from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from basicsr.inference.export import FORMATS, Format, merge_low_rank
from basicsr.inference.program import EXAMPLE, Plain, random_inputs
from basicsr.utils.errors import UserError, nearest
from basicsr.utils.names import check_unicode
from basicsr.utils.outputs import check_new, check_outputs
from basicsr.utils.pretrained import WeightFile, locate
from basicsr.weights.foreign import check_own
from basicsr.weights.network import load_described

_TOLERANCE = 1e-3  # of images in [0, 1]: a quarter of a level of 255
_ONE_SIZE = 256, 256
_PROBE = 64, 64  # shows whether weights are sound; attention between all pixels takes minutes for more
_MODULES = {'ss2d_scan': 'basicsr.ops.ss2d', 'selective_scan': 'basicsr.ops.selective_scan'}


def export_file(weights: str | Path | WeightFile, target: Path, size: tuple[int, int] | None = None,
                network: dict[str, Any] | None = None, key: str | None = None, preferred: str | None = None,
                overwrite: bool = False) -> Iterator[str]:
    """Write `target`, in the format of its suffix, and yield what there is to know about it.

    Args:
        weights: as `load_described` takes them.
        size: height and width of the only images that the file takes; None: any, of TorchScript 256x256.
        network: `{type, **arguments}`, for weights that do not say their network. key, preferred: entry of the file.
        overwrite: replace a file that is there.

    Raises:
        UserError: for an unknown format, for a file that is there, for a network that has no such form, and when the file
            does not answer as the network does.
    """
    if size and min(size) < 1:
        raise UserError(f'--size {size[0]} {size[1]}: sides must be positive')
    if target.suffix not in FORMATS:
        raise UserError(f"-o '{target}': unknown type '{target.suffix}'.{nearest(target.suffix, FORMATS)} One of: "
                        f"{', '.join(FORMATS)}")
    weights = locate(weights)
    check_outputs([target], [weights.path], '-o')
    check_new([target], overwrite)
    check_unicode(target, 'PyTorch')
    net, options = load_described(weights, network, key, preferred)
    check_own(net, weights.path, 'are exported')
    net.eval().requires_grad_(False)
    form = FORMATS[target.suffix]
    any_size = form.any_size and size is None
    example = EXAMPLE if any_size else size or _ONE_SIZE
    with torch.no_grad():
        if not torch.isfinite(Plain(net)(*random_inputs(net, options, *size or _PROBE, seed=1))).all():
            raise UserError(f"'{weights}': of a random image the network's result is not finite, so nothing is written")
    merged = merge_low_rank(net, options)
    instead = '; newer PyTorch and onnxscript may, or --size H W writes it for one size' if any_size else '; write .safetensors'
    with _explained(f"{options['type']} cannot be written as {target.suffix}", instead):
        written = form.write(net, merged, random_inputs(net, options, *example, seed=0), any_size, target)
    sizes = [example] if written.least is None else _random_sizes(*written.least)
    hint = '; where the steps of a network are others for each size, --size H W helps' if any_size else ''
    difference = max(_difference(form, target, net, options, size, hint) for size in sizes)
    note = ', low-rank additions merged' if merged != options else ''
    yield f"{target}: {options['type']}, {sum(p.numel() for p in net.parameters()):,d} parameters{note}"
    if target.suffix != '.safetensors':
        shapes = [(1, t.shape[1]) for t in random_inputs(net, options, *example, seed=0)]
        sides = 'x'.join(map(str, example)) if written.least is None else 'HxW'
        limits = 'nothing else' if written.least is None else 'from {}x{} on'.format(*written.least)
        yield 'takes ' + ' and '.join(f'{batch}x{channels}x{sides}' for batch, channels in shapes) + f', {limits}'
    for name in sorted(written.operators):
        yield f'calls an operator of this toolbox: import {_MODULES[name]} before loading it'
    tried = ', '.join('x'.join(map(str, size)) for size in sizes)
    yield f'largest difference from the network on random images of {tried}: {difference:.2e}'
    if not difference <= _TOLERANCE:
        raise UserError(
            f"'{target}' does not answer as the network does (difference {difference:.2e}), do not use it{hint}")


def _random_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """The least size, a tall and a wide one."""
    more = torch.randint(1, 100, (2, 2), generator=torch.Generator().manual_seed(2)).sort(dim=1).values.tolist()
    (least, most), (low, high) = more
    return [(height, width), (height + most, width + least), (height + low, width + high)]


def _difference(form: Format, file: Path, net: nn.Module, options: dict[str, Any], size: tuple[int, int],
                hint: str) -> float:
    """Between what file and network make of a random image."""
    inputs = random_inputs(net, options, *size, seed=1)
    with torch.no_grad():
        expected = Plain(net)(*inputs)
        with _explained(f"'{file}' of {options['type']} cannot be read again", hint):
            answer = form.answer(file, inputs)
    if answer.shape != expected.shape:
        return math.inf
    return (answer - expected).abs().max().item()


@contextmanager
def _explained(what: str, instead: str = '') -> Iterator[None]:
    """Whatever an exporter of PyTorch or a runtime stumbles over, as one sentence. `instead`: its end, what to do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno is not None):  # of the disk
            raise
        first: BaseException = error
        while first.__cause__ is not None:  # PyTorch's own advice comes last, and what went wrong first
            first = first.__cause__
        lines = [line for line in re.sub(r'\x1b\[\d*m', '', str(first)).splitlines() if line.strip()]
        why = f'{type(first).__name__}: {lines[0].strip().rstrip(".")}' if lines else type(first).__name__
        raise UserError(f'{what} ({why}){instead}') from error
