"""Which implementation of the selective scan runs: the best that can, logged once, overridable by `BASICSR_SCAN`.

They are the rows of `backend_table.py`.
"""
from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from basicsr.ops.backend_table import BACKENDS, BY_PRIORITY, PLAIN, type_name
from basicsr.utils.errors import UserError, nearest
from basicsr.utils.logger import get_root_logger

VARIABLE = 'BASICSR_SCAN'
# elements (positions x channels x states) from which the plain backend is worth a warning on the CPU
_LARGE = 1 << 24
_checked: list[str] = []


def choose(op: str, tensor: Tensor, elements: int = 0) -> str:
    """The backend of one call.

    Args:
        op: 'ss2d' or 'sequence'. tensor: its main input, float32 or float64 on the CPU.
        elements: size of the scan, to warn where a large one would run slowly.

    Raises:
        UserError: when `BASICSR_SCAN` names a backend that does not exist, or cannot work here.
    """
    if _checked:
        return _checked[-1]
    wanted, device = os.environ.get(VARIABLE) or 'auto', tensor.device.type
    name, reason = _decide(wanted, op, device, tensor.dtype)
    _log(op, name, device, type_name(tensor.dtype), reason)
    if name == PLAIN.name and (device == 'cuda' or elements >= _LARGE) and tensor.dtype != torch.float64:
        _warn_slow(device, reason if wanted == 'auto' else f'unset {VARIABLE}')
    return name


@contextmanager
def checking(name: str) -> Iterator[None]:
    """Within, every call takes this backend, whatever `BASICSR_SCAN` says, and logs nothing."""
    _checked.append(name)
    try:
        yield
    finally:
        _checked.pop()


def module(name: str, op: str) -> ModuleType:
    """What a backend brings to the PyTorch operator: a module with `forward`, `backward` and `state_count`.

    Raises `UserError` for one that has a function of its own instead.
    """
    if op not in BACKENDS[name].modules:
        raise UserError(f"the scan backend '{name}' cannot be compiled or exported; choose another with {VARIABLE}")
    return importlib.import_module(BACKENDS[name].modules[op])


@cache
def function(name: str, op: str) -> Callable | None:
    """The function of a backend with an autograd of its own, which runs instead of the PyTorch operator."""
    place = BACKENDS[name].functions.get(op)
    return pkgutil.resolve_name(place) if place else None


@cache
def _decide(wanted: str, op: str, device: str, dtype: torch.dtype) -> tuple[str, str]:
    if wanted != 'auto':
        if wanted not in BACKENDS:
            raise UserError(
                f"{VARIABLE}='{wanted}' is no backend.{nearest(wanted, BACKENDS)} One of: auto, {', '.join(BACKENDS)}")
        problem = BACKENDS[wanted].unfit(op, device, dtype)
        if problem:
            raise UserError(f"{VARIABLE}='{wanted}' cannot run here: {problem}")
        return wanted, f'{VARIABLE} says so'
    lacking = ''
    for row in BY_PRIORITY[:-1]:
        problem = row.unfit(op, device, dtype)
        if problem is None:
            return row.name, f'the fastest here: {lacking}' if lacking else 'the fastest here'
        if row.device == device and row.has(op):  # the last of them says what is lacking
            lacking = problem
    return PLAIN.name, lacking or f'there is nothing faster for {device}'


@cache
def _log(op: str, name: str, device: str, dtype: str, reason: str) -> None:
    detail = BACKENDS[name].detail()
    shown = f'{name} ({detail})' if detail else name
    get_root_logger().info(f'selective scan ({op}, {dtype} on {device}): backend {shown}; {reason}')


@cache
def _warn_slow(device: str, how: str) -> None:
    get_root_logger().warning(
        f'the selective scan runs on plain PyTorch, many times slower than the fast kernels on {device}: {how}.'
        ' "basicsr doctor" shows what is missing')
