"""CUDA C++ at run time, without a compiler on the machine: NVRTC, which PyTorch brings, and the driver of the GPU."""
from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch

from basicsr.ops import kernel_cache
from basicsr.utils.errors import UserError

# of the driver's interface
FUNCTION_SHARED, DEVICE_SHARED_OF_BLOCK, DEVICE_SHARED = 8, 97, 81
# bytes of shared memory of a block that the kernels need; GPUs have that from 2020 on
LEAST_SHARED = 99 << 10


class CudaError(UserError):
    """NVRTC or the driver refused: something is wrong with this machine, or with the kernels for it."""


@cache
def nvrtc() -> ctypes.CDLL | None:
    """The compiler, or None where it cannot be found."""
    major = (torch.version.cuda or '0').split('.')[0]
    package = Path(torch.__file__).parent
    places = [package / 'lib', *sorted((package.parent / 'nvidia').glob('*/lib'))]
    files = [str(f) for place in places for f in sorted(place.glob(f'libnvrtc.so.{major}*'))]
    for file in [*files, f'libnvrtc.so.{major}']:
        try:
            return ctypes.CDLL(file)
        except OSError:
            continue
    return None


def _nvrtc() -> ctypes.CDLL:
    lib = nvrtc()
    if lib is None:
        raise CudaError('NVRTC, which comes with PyTorch, was not found')
    return lib


@cache
def driver() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL('libcuda.so.1')
    except OSError as error:
        raise CudaError(f"the driver of the GPU cannot be loaded: {error}") from error
    if lib.cuInit(0):
        raise CudaError('the driver of the GPU does not start; nvidia-smi may say why')
    return lib


@cache
def shared_memory(device: int) -> tuple[int, int]:
    """Bytes of shared memory at most: of a block, of a multiprocessor."""
    found = []
    for attribute in (DEVICE_SHARED_OF_BLOCK, DEVICE_SHARED):
        handle, value = c_int(), c_int()
        _ask('cuDeviceGet', byref(handle), device)
        _ask('cuDeviceGetAttribute', byref(value), attribute, handle)
        found.append(value.value)
    return found[0], found[1]


def missing() -> str | None:
    """What the kernels lack on a machine with GPUs, as a sentence; None when nothing."""
    if torch.version.hip:
        return 'the CUDA kernels are made for NVIDIA GPUs'
    if nvrtc() is None:
        return 'NVRTC, which comes with PyTorch, was not found'
    least = min((shared_memory(i)[0] for i in range(torch.cuda.device_count())), default=LEAST_SHARED)
    if least < LEAST_SHARED:
        return f'the GPU has {least >> 10} KiB of shared memory for a block, and {LEAST_SHARED >> 10} are needed'
    return None


def architecture(device: torch.device) -> str:
    return 'sm_{}{}'.format(*torch.cuda.get_device_capability(device))


def compiled(source: str, arch: str, **constants: object) -> bytes:
    """Machine code for an architecture ('sm_90'); what was compiled before comes from the cache on disk.

    For a GPU that is newer than the compiler it is code of the newest architecture that it knows, which the driver translates.

    Raises:
        CudaError: with what the compiler says.
    """
    lib = _nvrtc()
    known = architectures()
    target = arch if arch in known else max(known, key=_number).replace('sm', 'compute')
    options = [f'--gpu-architecture={target}', '--std=c++17', *(f'-D{k}={v}' for k, v in constants.items())]
    major, minor = c_int(), c_int()
    lib.nvrtcVersion(byref(major), byref(minor))
    key = kernel_cache.digest('\n'.join([source, *options, f'{major.value}.{minor.value}']))
    for file in kernel_cache.find(key, '.cubin'):
        return file.read_bytes()
    # in a thread that ends, because old versions leave theirs with the locale 'C', where files are ASCII
    with ThreadPoolExecutor(1) as pool:
        code = pool.submit(_compile, lib, source, options, target).result()
    with suppress(OSError):  # a folder that cannot be written only costs time
        kernel_cache.keep(key, '.cubin', code)
    return code


def _number(arch: str) -> int:
    return int(arch.partition('_')[2])


def architectures() -> list[str]:
    """What the compiler knows."""
    lib, count = _nvrtc(), c_int()
    _check(lib, lib.nvrtcGetNumSupportedArchs(byref(count)))
    numbers = (c_int * count.value)()
    _check(lib, lib.nvrtcGetSupportedArchs(numbers))
    return [f'sm_{n}' for n in numbers]


def _compile(lib: ctypes.CDLL, source: str, options: list[str], target: str) -> bytes:
    program = c_void_p()
    _check(lib, lib.nvrtcCreateProgram(byref(program), source.encode(), b'scan.cu', 0, None, None))
    try:
        if lib.nvrtcCompileProgram(program, len(options), (c_char_p * len(options))(*map(str.encode, options))):
            raise CudaError(f'NVRTC: {_text(lib.nvrtcGetProgramLogSize, lib.nvrtcGetProgramLog, program).decode()}')
        real = target.startswith('sm')
        size, read = (lib.nvrtcGetCUBINSize, lib.nvrtcGetCUBIN) if real else (lib.nvrtcGetPTXSize, lib.nvrtcGetPTX)
        return _text(size, read, program)
    finally:
        lib.nvrtcDestroyProgram(byref(program))


def _check(lib: ctypes.CDLL, status: int) -> None:
    if status:
        lib.nvrtcGetErrorString.restype = c_char_p
        raise CudaError(f'NVRTC: {lib.nvrtcGetErrorString(status).decode()}')


def _text(size_of: Callable, read: Callable, program: c_void_p) -> bytes:
    size = c_size_t()
    size_of(program, byref(size))
    text = ctypes.create_string_buffer(size.value)
    read(program, text)
    return text.raw


class Module:
    """Machine code on a GPU."""

    def __init__(self, code: bytes, device: torch.device):
        self.device, self.handle = device, c_void_p()
        self.functions: dict[str, Any] = {}
        with torch.cuda.device(device):
            self._context()
            _ask('cuModuleLoadData', byref(self.handle), code)

    def launch(self, name: str, programs: int, threads: int, shared: int, argument: ctypes.Structure) -> None:
        """Start `programs` blocks of a kernel with one argument, on the current stream."""
        with torch.cuda.device(self.device):
            self._context()
            function = self.functions.get(name) or self._function(name, shared)
            stream = c_void_p(torch.cuda.current_stream(self.device).cuda_stream)
            _ask('cuLaunchKernel', function, programs, 1, 1, threads, 1, 1, shared, stream,
                 (c_void_p * 1)(ctypes.addressof(argument)), None)

    def _function(self, name: str, shared: int) -> c_void_p:
        function = c_void_p()
        _ask('cuModuleGetFunction', byref(function), self.handle, name.encode())
        _ask('cuFuncSetAttribute', function, FUNCTION_SHARED, shared)
        self.functions[name] = function
        return function

    def _context(self) -> None:
        """A thread of autograd's may not have PyTorch's context yet."""
        context, device = c_void_p(), c_int()
        _ask('cuCtxGetCurrent', byref(context))
        if not context:
            index = torch.cuda.current_device() if self.device.index is None else self.device.index
            _ask('cuDeviceGet', byref(device), index)
            _ask('cuDevicePrimaryCtxRetain', byref(context), device)
            _ask('cuCtxSetCurrent', context)


def _ask(name: str, *arguments: object) -> None:
    status = getattr(driver(), name)(*arguments)
    if status:
        text = c_char_p()
        driver().cuGetErrorString(status, byref(text))
        raise CudaError(f'{name}: {(text.value or b"unknown error").decode()}')
