"""From a weight file to a file for other programs, which is then asked whether it answers as the network does."""
from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from basicsr.inference.export import FORMATS, Plain, merge_low_rank, random_inputs
from basicsr.utils.errors import UserError, nearest
from basicsr.utils.names import check_unicode
from basicsr.utils.outputs import check_new, check_outputs
from basicsr.utils.pretrained import WeightFile, locate
from basicsr.weights.foreign import check_own
from basicsr.weights.network import load_described

_TOLERANCE = 1e-3  # of images in [0, 1]: a quarter of a level of 255
_MODULES = {'ss2d_scan': 'basicsr.ops.ss2d', 'selective_scan': 'basicsr.ops.selective_scan'}


def export_file(weights: str | Path | WeightFile, target: Path, height: int, width: int,
                network: dict[str, Any] | None = None, key: str | None = None, preferred: str | None = None,
                overwrite: bool = False) -> Iterator[str]:
    """Write `target`, in the format of its suffix, and yield what there is to know about it.

    Args:
        weights: as `load_described` takes them.
        height, width: of the images that formats take which hold the computation.
        network: `{type, **arguments}`, for weights that do not say their network. key, preferred: entry of the file.
        overwrite: replace a file that is there.

    Raises:
        UserError: for an unknown format, for a file that is there, and when the file does not answer as the network does.
    """
    if min(height, width) < 1:
        raise UserError(f'--size {height} {width}: sides must be positive')
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
    write, answer = FORMATS[target.suffix]
    check = random_inputs(net, options, height, width, seed=1)
    expected = Plain(net)(*check)
    if not torch.isfinite(expected).all():
        raise UserError(f"'{weights}': of a random image the network's result is not finite, so nothing is written")
    merged = merge_low_rank(net, options)
    with _explained(f"{options['type']} cannot be written as {target.suffix}", '; write .safetensors'):
        own = write(net, merged, random_inputs(net, options, height, width, seed=0), target)
    with torch.no_grad(), _explained(f"'{target}' of {options['type']} cannot be read again"):
        difference = (answer(target, check) - expected).abs().max().item()
    note = ', low-rank additions merged' if merged != options else ''
    yield f"{target}: {options['type']}, {sum(p.numel() for p in net.parameters()):,d} parameters{note}"
    if target.suffix != '.safetensors':
        yield 'takes ' + ' and '.join('x'.join(map(str, t.shape)) for t in check) + ', nothing else'
    for name in sorted(own):
        yield f'calls an operator of this toolbox: import {_MODULES[name]} before loading it'
    yield f'largest difference from the network on a random image: {difference:.2e}'
    if not difference <= _TOLERANCE:
        raise UserError(f"'{target}' does not answer as the network does (difference {difference:.2e}); do not use it")


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
