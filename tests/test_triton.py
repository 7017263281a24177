"""The Triton kernels without a GPU: run by Triton's interpreter against the definition, and compiled for real GPUs.

Both happen in subprocesses that run this file: Triton reads TRITON_INTERPRET when the kernels are imported.
"""
from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

pytest.importorskip('triton')

# batch, height, width, channels, states, rank
IMAGES = [(1, 1, 1, 1, 1, 1), (1, 3, 3, 9, 3, 2), (2, 5, 1, 3, 2, 0)]
# batch, groups, channels of a group, states, length, softplus
SEQUENCES = [(1, 1, 1, 1, 1, True), (2, 2, 2, 3, 5, True), (1, 1, 9, 2, 13, False)]

# how the parts of the scan are run: small blocks, so that there are several chunks, tiles and blocks of channels in tensors
# that the interpreter can handle
KINDS = {
    'sweep_tile': ({'kernel': 'sweep', 'tile': 1}, {'kernel': 'tile', 'together': 1}),
    'pass_walk': ({'kernel': 'pass'}, {'kernel': 'walk'}),
    'sweep_split': ({'kernel': 'sweep', 'tile': 1}, {'kernel': 'split', 'together': 2}),
}  # yapf: disable


def run(tmp_path: Path, *args: str, **env: str) -> str:
    from conftest import ROOT, run_python
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'TRITON_CACHE_DIR': str(tmp_path), 'PYTHONPATH': str(ROOT), **env}
    done = run_python(__file__, *args, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('what', ['image', 'sequence', 'image_bfloat16', 'sequence_float16'])
def test_interpreted_kernels_equal_the_definition(tmp_path, what, kind):
    run(tmp_path, what, kind, TRITON_INTERPRET='1')


@pytest.mark.parametrize('arch', ['80', '90', '100'])
def test_kernels_compile_without_spilling_registers(tmp_path, arch):
    report = run(tmp_path, 'compile', arch, TRITON_INTERPRET='0')
    for kernel in ('sweep_kernel', 'carry_kernel', 'gradient_kernel'):
        assert kernel in report


def _poison() -> None:
    """Fresh memory full of NaN: what is read before it is written shows up."""

    def poisoned(allocate):

        def wrapper(*args, **kwargs):
            x = allocate(*args, **kwargs)
            return x.fill_(float('nan')) if x.is_floating_point() else x

        return wrapper

    torch.empty, torch.empty_like = poisoned(torch.empty), poisoned(torch.empty_like)
    torch.Tensor.new_empty = poisoned(torch.Tensor.new_empty)


def _small_blocks(kind: str) -> AbstractContextManager:
    """Small sizes from here on, and inside, this kind of kernels."""
    from basicsr.ops.selective_scan import triton_backward, triton_candidates, triton_launch
    triton_launch.CHUNKS, triton_launch.CARRY_STEPS, triton_launch.CARRY_BLOCK = (8, ), 2, 8
    triton_backward.MULTIPROCESSORS, triton_backward.WALKERS_PER_MULTIPROCESSOR = 1, 3
    rows = [triton_candidates.Candidate(**{'block': 8, 'tile': 4, 'share': 1} | row) for row in KINDS[kind]]
    return triton_candidates.forced(**dict(zip(('forward', 'gradient'), rows)))


def _image(batch, height, width, channels, states, rank, g) -> list[torch.Tensor]:

    def draw(*shape):
        return torch.randn(*shape, generator=g)

    return [draw(batch, height, width, channels), draw(batch, height, width, 4, rank + 2 * states),
            draw(4, channels, rank), draw(4, channels), -draw(4 * channels, states).exp(),
            draw(4 * channels)]  # yapf: disable


def _sequence(batch, groups, width, states, length, softplus, g) -> list[torch.Tensor]:

    def draw(*shape):
        return torch.randn(*shape, generator=g)

    channels = groups * width
    return [draw(batch, channels, length), draw(batch, channels, length).abs(), -draw(channels, states).exp(),
            draw(batch, groups, states, length), draw(batch, groups, states, length), draw(channels),
            draw(channels).abs()]  # yapf: disable


def _close(ours: torch.Tensor, theirs: torch.Tensor, low: torch.dtype, name: str) -> None:
    """Error relative to the largest value: of float32 arithmetic, and one rounding where the output is shorter."""
    tolerance = {torch.float32: 2e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}[ours.dtype]
    assert ours.shape == theirs.shape and ours.is_contiguous(), name
    if theirs.numel():
        error = (ours.double() - theirs).abs().max() / theirs.abs().max().clamp_min(1e-3)
        assert error <= tolerance, f'{name}: {error:.1e} > {tolerance:.1e} ({low})'


def _interpret(what: str, scans: str) -> None:
    with _small_blocks(scans):
        _compare(what)


def _compare(what: str) -> None:
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
        _close(y, theirs.detach(), low, f'{shape} y')
        for i, (x, ours, true) in enumerate(zip(args, gradients, expected)):
            assert ours.dtype == x.dtype
            _close(ours, true, low, f'{shape} gradient {i}')
        if last:
            _close(last[0], selective_scan_reference(*exact, *flag, True)[1].detach(), low, f'{shape} last state')
        sizes = shape[:5] if kind == 'image' else (shape[0], shape[1] * shape[2], shape[4], shape[1], shape[3])
        assert starts.numel() == module.state_count(*sizes) and starts.dtype == torch.float32


def _compile(arch: int) -> None:
    """Compile each kernel as the host code would start it, and look for spilled registers in the result."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from basicsr.ops.selective_scan import triton_launch, triton_scan
    from basicsr.ops.ss2d import triton_ss2d
    launches = {}

    def record(kernel, programs, tensors, warps, registers=None, **arguments):
        names = {torch.float32: '*fp32', torch.bfloat16: '*bf16'}
        constants = {k: v for k, v in arguments.items() if k.isupper()}
        types = {k: names[t.dtype] for k, t in tensors.items()}
        types |= {k: 'constexpr' if k in constants else 'i32' for k in arguments}
        if constants.get('FIRST', False) == constants.get('LAST', False):  # the most, and the least that is added
            signature = {k: types[k] for k in kernel.arg_names}
            launches[kernel.__name__, repr(signature),
                     repr(constants)] = (kernel, signature, constants, tensors, warps, registers)

    triton_launch.launch = record
    g = torch.Generator().manual_seed(0)
    image, sequence = _image(1, 2, 3, 80, 16, 5, g), _sequence(1, 2, 40, 7, 3, True, g)
    y, starts = triton_ss2d.forward(*image, True)
    triton_ss2d.backward(y, *image, starts)
    sequence = [x.bfloat16() if i in (0, 1, 3, 4) else x for i, x in enumerate(sequence)]
    y, _, starts = triton_scan.forward(*sequence, True, True)
    triton_scan.backward(y, *sequence, True, starts)
    cuobjdump = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
    cubin = Path(os.environ['TRITON_CACHE_DIR']) / 'kernel.cubin'
    for kernel, signature, constants, tensors, warps, limit in launches.values():
        aligned = {(i, ): [['tt.divisibility', 16]] for i, name in enumerate(signature) if name in tensors}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
        compiled = triton.compile(source, target=GPUTarget('cuda', arch, 32),
                                  options={'num_warps': warps, 'maxnreg': limit, 'enable_fp_fusion': True})  # yapf: disable
        cubin.write_bytes(compiled.asm['cubin'])
        sass = subprocess.run([cuobjdump, '-sass', '-res-usage', cubin], capture_output=True, text=True).stdout
        registers = re.search(r'REG:(\d+)', sass).group(1)
        spills = len(re.findall(r'\b(?:LDL|STL)\b',
                                sass))  # loads and stores of local memory; the stack alone says less
        what = [kernel.__name__, *(f'{k}={v}' for k, v in constants.items())]
        sys.stdout.write(f"{registers:>4} registers, {spills} spills: sm_{arch} {' '.join(what)}\n")
        assert 'EXIT' in sass and spills == 0, f'{what} spills'


if __name__ == '__main__':
    if sys.argv[1] == 'compile':
        _compile(int(sys.argv[2]))
    else:
        _interpret(*sys.argv[1:])
