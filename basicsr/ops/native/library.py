"""Finds and loads the compiled kernels, and knows what this CPU can run."""
from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_float
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from basicsr.ops.native.compiled import NotCompiled, compiled
from basicsr.utils.errors import UserError

ISAS = ('baseline', 'avx2', 'avx512')
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork)


class Kernels(NamedTuple):
    """The loaded library and how it was got; without one, why there is none and what to do, in words."""
    library: ctypes.CDLL | None
    story: str


@cache
def kernels() -> Kernels:
    """Built when installing, else compiled now or earlier."""
    broken = ''
    for file in _files():
        try:
            return Kernels(_load(file), f"built when installing, '{file}'")
        except (OSError, AttributeError):
            broken = f"'{file.name}' cannot be loaded (built for another machine?), and "
    try:
        library, file = compiled(_load)
        return Kernels(library, f"compiled on first use, '{file}'")
    except NotCompiled as error:
        return Kernels(None, f'{broken}{error}')


def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None; `why_not` says why."""
    return kernels().library


def loaded() -> ctypes.CDLL:
    """The compiled kernels. Raises `UserError` where there are none."""
    lib, story = kernels()
    if lib is None:
        raise UserError(story)
    return lib


def why_not() -> str | None:
    """A sentence when the kernels cannot be used, else None."""
    return None if library() is not None else kernels().story


def _files() -> list[Path]:
    return sorted(Path(__file__).parent.glob('_scan*.so'))


def _load(file: Path) -> ctypes.CDLL:
    """Raises `OSError` or `AttributeError` for what is no such library."""
    lib = ctypes.CDLL(str(file))
    for name in ('ss2d_forward', 'ss2d_part', 'ss2d_backward', 'sequence_forward', 'sequence_backward', 'gelu',
                 'scan_width', 'scan_chunk'):
        getattr(lib, name).restype = ctypes.c_int
    lib.scan_use_openmp.argtypes, lib.scan_use_openmp.restype = [ctypes.c_void_p], None
    lib.scan_use_openmp(openmp_of_torch())
    return lib


def openmp_of_torch() -> ctypes.c_void_p | None:
    """Address of `GOMP_parallel` in the OpenMP runtime that came with PyTorch (GNU's, or Intel's and LLVM's under GNU's
    name), or None. It is loaded already: opening it again gives the same one."""
    package = Path(torch.__file__).parent
    files = [f for folder in (package / 'lib', package.parent / 'torch.libs') for f in folder.glob('lib*omp*.so*')]
    for file in sorted(files):
        try:
            runtime = ctypes.CDLL(str(file), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            return ctypes.cast(runtime.GOMP_parallel, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
    return None


def supported_isas() -> list[str]:
    """Instruction sets that the library and this CPU have, the best last."""
    lib = library()
    return [name for i, name in enumerate(ISAS) if lib is not None and lib.scan_width(i) > 0]


@cache
def best_isa() -> tuple[int, int, int]:
    """(instruction set, floats per vector, positions per chunk)."""
    isa = ISAS.index(os.environ.get('BASICSR_SCAN_ISA') or supported_isas()[-1])
    width = loaded().scan_width(isa)
    if not width:
        raise ValueError(f"BASICSR_SCAN_ISA: this CPU lacks '{ISAS[isa]}'; it has: {', '.join(supported_isas())}")
    return isa, width, loaded().scan_chunk()


def threads() -> int:
    # a forked child must not look at thread pools of its parent; its own share of cores is unknown, so one
    return 1 if _forked else torch.get_num_threads()


def pointer(x: Tensor | None):
    return None if x is None else ctypes.cast(x.data_ptr(), POINTER(c_float))


def blocks(channels: int) -> int:
    return -(-channels // best_isa()[1])


def chunks(length: int) -> int:
    return -(-length // best_isa()[2])


def run(function, struct: ctypes.Structure, *args: int | ctypes.c_int64) -> None:
    if function(ctypes.byref(struct), best_isa()[0], threads(), *args):
        raise MemoryError('the selective scan could not allocate its working memory')
