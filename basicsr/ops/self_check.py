"""Each backend against the definitions, on a small input: output and all gradients."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from basicsr.ops.backend import checking
from basicsr.ops.backend_table import OPERATORS, Backend
from basicsr.ops.selective_scan import selective_scan
from basicsr.ops.selective_scan.reference import selective_scan_reference
from basicsr.ops.ss2d import ss2d_scan
from basicsr.ops.ss2d.reference import ss2d_reference


class Verdict(NamedTuple):
    """What came out, in words; and whether a backend that is available is wrong."""
    text: str
    broken: bool = False


def check(row: Backend) -> Verdict:
    """Run the operators that a backend has, on its own device or on the CPU."""
    device = row.device if row.device == 'cuda' and torch.cuda.is_available() else 'cpu'
    errors = {'ss2d': _ss2d_error, 'sequence': _sequence_error}
    absent, found = [], []
    with checking(row.name):
        for op in OPERATORS:
            try:
                reason = row.unfit(op, device, torch.float32)
                if reason and row.has(op):
                    return Verdict(f'not available: {reason}')
                if reason:
                    absent.append(reason)
                else:
                    found.append(errors[op](device))
            except Exception as error:  # a kernel that does not compile or crashes is what this is for
                said = str(error).splitlines()[0] if str(error) else ''
                return Verdict(f'FAILS: {type(error).__name__}: {said}', broken=True)
    worst = _worst(found)
    if not worst < row.tolerance:
        return Verdict(f'WRONG: error {worst:.0e}', broken=True)
    return Verdict(f'works, largest relative error {worst:.0e}' + (f' ({absent[0]})' if absent else ''))


def _ss2d_error(device: str) -> float:
    inputs = _drawn((1, 5, 7, 20), (1, 5, 7, 4, 11), (4, 20, 3), (4, 20), (80, 4), (80, ))
    inputs[4] = -inputs[4].exp()
    return _relative_error(ss2d_scan, ss2d_reference, inputs, device)


def _sequence_error(device: str) -> float:
    inputs = _drawn((2, 12, 33), (2, 12, 33), (12, 4), (2, 2, 4, 33), (2, 2, 4, 33), (12, ), (12, ))
    inputs[2] = -inputs[2].exp()
    return _relative_error(selective_scan, selective_scan_reference, inputs, device)


def _drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=g) for shape in shapes]


def _relative_error(function: Callable, reference: Callable, inputs: list[Tensor], device: str) -> float:
    """Of the output and of all gradients, against the reference in float64."""
    ours = [t.to(device).requires_grad_() for t in inputs]
    exact = [t.double().requires_grad_() for t in inputs]
    results = []
    for call, args in ((function, ours), (reference, exact)):
        y = call(*args)
        results.append([y, *torch.autograd.grad(y.square().sum(), args)])
    return _worst(((a.cpu().double() - b).abs().max() / b.abs().max()).item() for a, b in zip(*results))


def _worst(errors: Iterable[float]) -> float:
    return torch.tensor(list(errors)).max().item()  # NaN where one is NaN, which Python's max would pass over
