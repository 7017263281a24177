"""The Triton kernels without a GPU: run by Triton's interpreter against the definition, and compiled for real GPUs.

Both happen in subprocesses that run this file: Triton reads TRITON_INTERPRET when the kernels are imported.
"""
from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path

import pytest
import torch

pytest.importorskip('triton')

# batch, height, width, channels, states, rank
IMAGES = [(1, 1, 1, 1, 1, 1), (1, 3, 3, 9, 3, 2), (2, 5, 1, 3, 2, 0)]
# batch, groups, channels of a group, states, length, softplus
SEQUENCES = [(1, 1, 1, 1, 1, True), (2, 2, 2, 3, 5, True), (1, 1, 9, 2, 13, False)]


def run(tmp_path: Path, *args: str, **env: str) -> str:
    from conftest import ROOT, run_python
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'TRITON_CACHE_DIR': str(tmp_path), 'PYTHONPATH': str(ROOT), **env}
    done = run_python(__file__, *args, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize('what', ['image', 'sequence', 'image_bfloat16', 'sequence_float16'])
def test_interpreted_kernels_equal_the_definition(tmp_path, what):
    run(tmp_path, what, TRITON_INTERPRET='1')


# batch, height, width, channels: a size of 1, divisible by 16 and not, several chunks
SIZES = [(1, 1, 1, 1), (2, 5, 7, 9), (1, 16, 16, 16), (1, 33, 64, 5)]

# the assembler of Triton 3.2 is older than sm_100
ARCHITECTURES = ['80', '90', '100'] if metadata.version('triton').split('.') >= ['3', '3'] else ['80', '90']


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_kernels_compile_without_spilling_registers(tmp_path, arch):
    report = run(tmp_path, 'compile', arch, TRITON_INTERPRET='0')
    for kernel in ('sweep_kernel', 'carry_kernel', 'gradient_kernel'):
        assert kernel in report


def test_images_of_all_sizes_share_the_kernels_that_were_compiled_ahead(tmp_path):
    run(tmp_path, 'sizes', TRITON_INTERPRET='0')


def _poison() -> None:
    """Fresh memory full of NaN: what is read before it is written shows up."""

    def poisoned(allocate):

        def wrapper(*args, **kwargs):
            x = allocate(*args, **kwargs)
            return x.fill_(float('nan')) if x.is_floating_point() else x

        return wrapper

    torch.empty, torch.empty_like = poisoned(torch.empty), poisoned(torch.empty_like)
    torch.Tensor.new_empty = poisoned(torch.Tensor.new_empty)


def _small_blocks() -> None:
    """From here on there are several chunks, tiles and blocks of channels in tensors that the interpreter can handle."""
    from basicsr.ops.selective_scan import triton_launch
    triton_launch.CHUNKS, triton_launch.BLOCK, triton_launch.TILE = (8, ), 8, 4
    triton_launch.CARRY_STEPS, triton_launch.CARRY_BLOCK = 2, 8


def _image(batch, height, width, channels, states, rank, g) -> list[torch.Tensor]:

    def draw(*shape):
        return torch.randn(*shape, generator=g)

    return [
        draw(batch, height, width, channels),
        draw(batch, height, width, 4, rank + 2 * states),
        draw(4, channels, rank),
        draw(4, channels), -draw(4 * channels, states).exp(),
        draw(4 * channels)
    ]


def _sequence(batch, groups, width, states, length, softplus, g) -> list[torch.Tensor]:

    def draw(*shape):
        return torch.randn(*shape, generator=g)

    channels = groups * width
    return [
        draw(batch, channels, length),
        draw(batch, channels, length).abs(), -draw(channels, states).exp(),
        draw(batch, groups, states, length),
        draw(batch, groups, states, length),
        draw(channels),
        draw(channels).abs()
    ]


def _close(ours: torch.Tensor, theirs: torch.Tensor, low: torch.dtype, name: str) -> None:
    """Error relative to the largest value: of float32 arithmetic, and one rounding where the output is shorter."""
    tolerance = {torch.float32: 2e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}[ours.dtype]
    assert ours.shape == theirs.shape and ours.is_contiguous(), name
    if theirs.numel():
        error = (ours.double() - theirs).abs().max() / theirs.abs().max().clamp_min(1e-3)
        assert error <= tolerance, f'{name}: {error:.1e} > {tolerance:.1e} ({low})'


def _mend_the_interpreter() -> None:
    """Before Triton 3.8 it makes numbers of arrays with one element, which NumPy 2.4 refuses; 3.2 knows no boolean type, and
    its sums of 32-bit integers have 64 bits."""
    import triton.language as tl
    from triton.runtime import interpreter
    patch, total = interpreter._patch_lang_tensor, interpreter.ReduceOps.sum

    def patched(tensor, *scope):
        patch(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.squeeze())

    def same_type(self, x):
        result = total(self, x)
        result.handle.data = result.handle.data.astype(x.handle.data.dtype, copy=False)
        return result

    interpreter._patch_lang_tensor, interpreter.ReduceOps.sum = patched, same_type
    if not hasattr(interpreter.InterpreterBuilder, 'get_int1_ty'):
        interpreter.InterpreterBuilder.get_int1_ty = lambda self: tl.int1


def _apart(inputs: list[torch.Tensor], outputs: Sequence[torch.Tensor]) -> None:
    """What PyTorch asks of an operator: no two outputs, and no output and input, share memory."""
    places = [x.untyped_storage().data_ptr() for x in outputs if x.numel()]
    assert len({*places}) == len(places) and not {*places} & {x.untyped_storage().data_ptr() for x in inputs}


def _interpret(what: str) -> None:
    _mend_the_interpreter()
    _small_blocks()
    from basicsr.ops.selective_scan import triton_scan
    from basicsr.ops.selective_scan.reference import selective_scan_reference
    from basicsr.ops.ss2d import triton_ss2d
    from basicsr.ops.ss2d.reference import ss2d_reference
    kind, _, low = what.partition('_')
    low = getattr(torch, low or 'float32')
    g = torch.Generator().manual_seed(0)
    for shape in IMAGES if kind == 'image' else SEQUENCES:
        if low != torch.float32 and shape not in (IMAGES[2], SEQUENCES[1]):
            continue
        args = _image(*shape, g) if kind == 'image' else _sequence(*shape, g)
        for i in (0, 1) if kind == 'image' else (0, 1, 3, 4):
            args[i] = args[i].to(low)
        exact = [x.double().requires_grad_() for x in args]
        flag = shape[5:] if kind == 'sequence' else ()
        theirs = ss2d_reference(*exact) if kind == 'image' else selective_scan_reference(*exact, *flag)
        dy = torch.randn(theirs.shape, generator=g).to(low)
        expected = torch.autograd.grad(theirs, exact, dy.double())
        module = triton_ss2d if kind == 'image' else triton_scan
        kept = torch.empty, torch.empty_like, torch.Tensor.new_empty
        _poison()
        try:
            y, *last, starts = module.forward(*args, *flag, True)
            gradients = module.backward(dy, *args, *flag, starts)
            assert module.forward(*args, *flag, False)[-1].numel() == 0
        finally:
            torch.empty, torch.empty_like, torch.Tensor.new_empty = kept
        _apart(args, [y, *last, starts])
        _apart([dy, *args, starts], gradients)
        _close(y, theirs.detach(), low, f'{shape} y')
        for i, (x, ours, true) in enumerate(zip(args, gradients, expected)):
            assert ours.dtype == x.dtype
            _close(ours, true, low, f'{shape} gradient {i}')
        if last:
            _close(last[0], selective_scan_reference(*exact, *flag, True)[1].detach(), low, f'{shape} last state')
        sizes = shape[:5] if kind == 'image' else (shape[0], shape[1] * shape[2], shape[4], shape[1], shape[3])
        assert starts.numel() == module.state_count(*sizes) and starts.dtype == torch.float32


class NoGPU:
    """Stands in for Triton's driver: kernels are compiled as for a GPU of this kind, and cannot be started."""

    def __init__(self, arch: int):
        from triton.backends.compiler import GPUTarget
        self.target = GPUTarget('cuda', arch, 32)

    def get_current_target(self):
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        pass


def _without_gpu(arch: int) -> None:
    import triton
    triton.runtime.driver.set_active(NoGPU(arch))
    torch.cuda.device = lambda device: nullcontext()


def _compile(arch: int) -> None:
    """Compile the kernels, and look for spilled registers in the result."""
    from basicsr.ops.selective_scan import triton_compile
    _without_gpu(arch)
    kinds = [triton_compile.ScanKind(16, 3), triton_compile.ScanKind(7, 0, torch.bfloat16)]
    for item in {item.identity: item for kind in kinds for item in triton_compile.launches(kind)}.values():
        compiled = triton_compile.compile_one(item, torch.device('cpu'))
        registers, spills = _resources(compiled.asm['cubin'])
        what = [item.kernel.fn.__name__, *(f'{k}={v}' for k, v in item.arguments.items() if k.isupper())]
        sys.stdout.write(f"{registers:>4} registers, {spills} spills: sm_{arch} {' '.join(what)}\n")
        assert spills == 0, f'{what} spills'


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers, and the loads and stores of local memory; the stack alone says less."""
    import triton
    cuobjdump = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
    file = Path(os.environ['TRITON_CACHE_DIR']) / 'kernel.cubin'
    file.write_bytes(cubin)
    sass = subprocess.run([cuobjdump, '-sass', '-res-usage', file], capture_output=True, text=True).stdout
    assert 'EXIT' in sass
    return int(re.search(r'REG:(\d+)', sass).group(1)), len(re.findall(r'\b(?:LDL|STL)\b', sass))


def _sizes() -> None:
    """Run through the host code at several sizes, compiling whatever it would start."""
    from basicsr.ops.selective_scan import triton_compile, triton_launch
    from basicsr.ops.ss2d import triton_ss2d
    _without_gpu(90)
    device, counts = torch.device('cpu'), []
    g = torch.Generator().manual_seed(0)
    for shape in SIZES:
        image = _image(*shape, 2, 1, g)
        with triton_launch.recorded() as found:
            y, starts = triton_ss2d.forward(*image, True)
            triton_ss2d.backward(y, *image, starts)
        for item in found:
            triton_compile.compile_one(item, device)
        counts.append(len(list(Path(os.environ['TRITON_CACHE_DIR']).rglob('*.cubin'))))
    ahead = triton_compile.launches(triton_compile.ScanKind(2, 1))
    sys.stdout.write(f'{len(ahead)} ahead, then {counts}')
    assert counts == [len(ahead)] * len(SIZES)
    assert triton_compile.run_all(ahead, device) == len(ahead)
    assert len(list(Path(os.environ['TRITON_CACHE_DIR']).rglob('*.cubin'))) == len(ahead)


if __name__ == '__main__':
    if sys.argv[1] == 'compile':
        _compile(int(sys.argv[2]))
    elif sys.argv[1] == 'sizes':
        _sizes()
    else:
        _interpret(sys.argv[1])
