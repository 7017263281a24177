"""The implementations of the selective scan, a row each: read where one is chosen, checked, prepared, listed and documented.

To add one, write its module and its row. A module has `forward`, `backward` and `state_count` as `torch_scan.py` and
`torch_ss2d.py` have them, and becomes part of the PyTorch operator; a function brings an autograd of its own.
"""
from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from basicsr.ops.cuda import driver
from basicsr.ops.native import library as native

OPERATORS = {'ss2d': 'four-direction scan', 'sequence': 'sequence scan'}
DEVICES = {'cpu': 'the CPU', 'cuda': 'CUDA GPUs'}
_LOW = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Backend:
    """One implementation.

    Attributes:
        title: subject of sentences about it.
        summary, where, needs: for people, in `basicsr doctor` and `docs/backends.md`: what it is, runs on, must be there.
        priority: of those that can run, the highest is chosen; one with 0 only when it is named.
        device: the type of device that its tensors lie on; None for any.
        types: of images and sequences that reach it.
        modules: of operators that it has, see above: 'package.module'.
        functions: of operators for which it brings a function: 'package.module:function'.
        missing: what is not there on this machine, as a sentence that says what to do; None where nothing is.
        detail: what the log adds to its name.
        prepare: function that compiles ahead, `(scans, device, training) -> number of kernels`, where `scans` are
            (states, rank, channels, type of the image).
        tolerance: largest error relative to the definition with which its self-check (`self_check.py`) passes.
    """
    name: str
    title: str
    summary: str
    where: str
    needs: str
    priority: int
    device: str | None
    types: tuple[torch.dtype, ...]
    modules: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    missing: Callable[[], str | None] = lambda: None
    detail: Callable[[], str] = lambda: ''
    prepare: str = ''
    tolerance: float = 1e-4

    def has(self, op: str) -> bool:
        return op in self.modules or op in self.functions

    def unfit(self, op: str, device: str, dtype: torch.dtype) -> str | None:
        """Why it cannot take such tensors, or None when it can."""
        if self.device not in (None, device):
            return f'{self.title} run on {DEVICES[self.device]}, not on {device}'
        if not self.has(op):
            return f'{self.title} have no {OPERATORS[op]}'
        if dtype not in self.types:
            return f"{self.title} are {', '.join(map(type_name, self.types))} only"
        return self.missing()


def type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix('torch.')


def _no_triton() -> str | None:
    if torch.version.hip:
        return 'the Triton kernels are made for NVIDIA GPUs'
    return _not_installed('triton', 'pip install triton')


def _no_mamba_ssm() -> str | None:
    return _not_installed('mamba_ssm', "pip install 'retinexmamba[mamba]'")


def _not_installed(package: str, install: str) -> str | None:
    return None if importlib.util.find_spec(package) else f'{package} is not installed: {install}'


BACKENDS = {
    row.name: row for row in (
        Backend(
            'reference',
            title='the definitions',
            summary='the definition, one Python step per position',
            where='everywhere, for tests',
            needs='nothing',
            priority=0,
            device=None,
            types=(*_LOW, torch.float64),
            functions={
                'ss2d': 'basicsr.ops.ss2d.reference:ss2d_reference',
                'sequence': 'basicsr.ops.selective_scan.reference:selective_scan_reference'
            },
        ),
        Backend(
            'torch',
            title='the plain PyTorch scans',
            summary='plain PyTorch, chunk by chunk',
            where='everywhere',
            needs='nothing',
            priority=1,
            device=None,
            types=(*_LOW, torch.float64),
            modules={'ss2d': 'basicsr.ops.ss2d.torch_ss2d', 'sequence': 'basicsr.ops.selective_scan.torch_scan'},
        ),
        Backend(
            'native',
            title='the C kernels',
            summary='C, for several instruction sets',
            where='CPU',
            needs='a C compiler: the kernels are compiled when installing, else on first use, and kept',
            priority=2,
            device='cpu',
            types=(torch.float32, ),
            modules={'ss2d': 'basicsr.ops.native.ss2d', 'sequence': 'basicsr.ops.native.sequence'},
            missing=native.why_not,
            detail=lambda: native.ISAS[native.best_isa()[0]],
        ),
        Backend(
            'cuda',
            title='the CUDA kernels',
            summary='CUDA C++, compiled for the GPU that is there',
            where='CUDA, images',
            needs=
            'nothing: PyTorch brings NVRTC, which compiles the kernels in seconds before the first step and keeps them',
            priority=4,
            device='cuda',
            types=_LOW,
            modules={'ss2d': 'basicsr.ops.cuda.ss2d'},
            missing=driver.missing,
            prepare='basicsr.ops.cuda.prepare:prepare',
        ),
        Backend(
            'triton',
            title='the Triton kernels',
            summary='Triton',
            where='CUDA',
            needs='nothing: triton comes with PyTorch on Linux; the same, but slower to compile and to run',
            priority=3,
            device='cuda',
            types=_LOW,
            modules={'ss2d': 'basicsr.ops.ss2d.triton_ss2d', 'sequence': 'basicsr.ops.selective_scan.triton_scan'},
            missing=_no_triton,
            prepare='basicsr.ops.selective_scan.triton_compile:prepare',
        ),
        Backend(
            'mamba_ssm',
            title='the kernels of mamba_ssm',
            summary='the package mamba-ssm',
            where='CUDA, sequences only',
            needs="`pip install -e '.[mamba]'`",
            priority=0,
            device='cuda',
            types=_LOW,
            functions={'sequence': 'basicsr.ops.selective_scan.mamba_ssm_scan:mamba_ssm_scan'},
            missing=_no_mamba_ssm,
        ),
    )
}
# the first that can run is chosen; the last can always
BY_PRIORITY = sorted((row for row in BACKENDS.values() if row.priority), key=lambda row: -row.priority)
PLAIN = BY_PRIORITY[-1]


def markdown() -> str:
    """The table of the documentation."""
    rows = [*BY_PRIORITY, *(row for row in BACKENDS.values() if not row.priority)]
    lines = [f'| `{row.name}` | {row.where} | {row.needs} |' for row in rows]
    return '\n'.join(['| scan backend | where | needs |', '|---|---|---|', *lines])
