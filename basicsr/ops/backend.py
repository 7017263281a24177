"""Which implementation of the selective scan runs: chosen once, logged once, overridable by `BASICSR_SCAN`.

    backend     where                                       what it needs
    cuda        CUDA tensors, images only                   NVRTC (comes with PyTorch)
    triton      CUDA tensors                                triton (comes with PyTorch on Linux)
    native      CPU, float32 and smaller                    the C kernels, compiled when installing
    mamba_ssm   CUDA tensors, sequences only                pip install 'retinexmamba[mamba]'
    torch       everything else: float64, MPS, no compiler  nothing
    reference   tests                                       nothing
"""
from __future__ import annotations

import importlib.util
import os
from functools import cache

import torch
from torch import Tensor

from basicsr.ops.native import library as native
from basicsr.utils.errors import UserError, nearest
from basicsr.utils.logger import get_root_logger

BACKENDS = ('reference', 'torch', 'native', 'cuda', 'triton', 'mamba_ssm')
VARIABLE = 'BASICSR_SCAN'
# bytes of shared memory of a block that the CUDA kernels need; GPUs have that from 2020 on
SHARED = 99 << 10
# elements (positions x channels x states) from which the plain backend is worth a warning on the CPU
_LARGE = 1 << 24


def choose(op: str, tensor: Tensor, elements: int = 0) -> str:
    """The backend of one call.

    Args:
        op: 'ss2d' or 'sequence'. tensor: its main input, float32 or float64 on the CPU.
        elements: size of the scan, to warn where a large one would run slowly.

    Raises:
        UserError: when `BASICSR_SCAN` names a backend that does not exist, or cannot work here.
    """
    name, reason = _decide(os.environ.get(VARIABLE) or 'auto', op, tensor.device.type, tensor.dtype)
    _log(op, name, tensor.device.type, str(tensor.dtype).removeprefix('torch.'), reason)
    if name == 'torch' and (tensor.device.type == 'cuda' or elements >= _LARGE) and tensor.dtype != torch.float64:
        _warn_slow(tensor.device.type)
    return name


@cache
def _decide(wanted: str, op: str, device: str, dtype: torch.dtype) -> tuple[str, str]:
    if wanted != 'auto':
        if wanted not in BACKENDS:
            raise UserError(
                f"{VARIABLE}='{wanted}' is no backend.{nearest(wanted, BACKENDS)} One of: auto, {', '.join(BACKENDS)}")
        problem = unavailable(wanted, op, device, dtype)
        if problem:
            raise UserError(f"{VARIABLE}='{wanted}' cannot run here: {problem}")
        return wanted, f'{VARIABLE} says so'
    for name in ('cuda', 'triton', 'native'):
        if unavailable(name, op, device, dtype) is None:
            return name, 'the fastest here'
    fast = 'triton' if device == 'cuda' else 'native'
    return 'torch', unavailable(fast, op, device, dtype)


def unavailable(name: str, op: str, device: str, dtype: torch.dtype) -> str | None:
    """Why a backend cannot take such tensors, or None when it can."""
    if name == 'native':
        if device != 'cpu':
            return f'the C kernels run on the CPU, not on {device}'
        return 'the C kernels are float32 only' if dtype == torch.float64 else native.why_not()
    if name in ('cuda', 'triton'):
        kernels = {'cuda': 'CUDA kernels', 'triton': 'Triton kernels'}[name]
        if name == 'cuda' and op != 'ss2d':
            return f'the {kernels} have no sequence scan'
        if device != 'cuda':
            return f'{kernels} run on CUDA GPUs, not on {device}'
        if dtype == torch.float64:
            return f'the {kernels} have no float64'
        if torch.version.hip:
            return f'the {kernels} are made for NVIDIA GPUs'
        if name == 'cuda':
            return _cuda_lacks()
        return None if importlib.util.find_spec('triton') else 'triton is not installed'
    if name == 'mamba_ssm':
        if op != 'sequence':
            return 'mamba_ssm has no four-direction scan'
        if device != 'cuda':
            return f'mamba_ssm runs on CUDA GPUs, not on {device}'
        return None if importlib.util.find_spec(
            'mamba_ssm') else "mamba_ssm is not installed: pip install 'retinexmamba[mamba]'"
    return None


def _cuda_lacks() -> str | None:
    """What the CUDA kernels miss on a machine with GPUs."""
    from basicsr.ops.cuda.driver import nvrtc, shared_memory
    if nvrtc() is None:
        return 'NVRTC, which comes with PyTorch, was not found'
    least = min((shared_memory(i)[0] for i in range(torch.cuda.device_count())), default=SHARED)
    if least < SHARED:
        return f'the GPU has {least >> 10} KiB of shared memory for a block, and {SHARED >> 10} are needed'
    return None


@cache
def _log(op: str, name: str, device: str, dtype: str, reason: str) -> None:
    detail = f' ({native.supported_isas()[-1]})' if name == 'native' else ''
    get_root_logger().info(f'selective scan ({op}, {dtype} on {device}): backend {name}{detail}; {reason}')


@cache
def _warn_slow(device: str) -> None:
    how = 'install triton (pip install triton)' if device == 'cuda' else native.why_not() or f'unset {VARIABLE}'
    get_root_logger().warning(
        f'the selective scan runs on plain PyTorch, many times slower than the fast kernels on {device}: {how}.'
        ' "basicsr doctor" shows what is missing')
