"""The CUDA kernels without a GPU: run on the CPU against the definition, and compiled for real GPUs."""
from __future__ import annotations

import ctypes
import locale
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from basicsr.ops import kernel_cache, side_by_side
from basicsr.ops.cuda import driver, plans, prepare, ss2d
from basicsr.ops.cuda.plans import ROOMY, SCARCE, Kind, Plan
from basicsr.ops.ss2d.reference import ss2d_reference
from basicsr.utils.errors import UserError

# an address that a GPU would refuse ends the process here, too
FLAGS = ['-O1', '-std=c++17', '-fPIC', '-shared', '-w', '-fsanitize=alignment', '-fsanitize-undefined-trap-on-error']
START = '''
extern "C" void start(const char *name, int blocks, int threads, int shared, const Problem *p) {
    auto kernel = !strcmp(name, "ends") ? ends : !strcmp(name, "adjoint_ends") ? adjoint_ends : !strcmp(name, "carry") ? carry :
                  !strcmp(name, "output") ? output : !strcmp(name, "sum_chunks") ? sum_chunks : gradients;
    run(kernel, blocks, threads, shared, p);
}
'''
# batch, height, width, channels, states, rank; type; plan: several chunks, groups of states and blocks of channels, odd sizes
CASES = [
    ((1, 5, 9, 20, 16, 3), torch.float32, Plan(32, tile=4, half=4, part=8, warps=2)),
    ((2, 7, 9, 33, 16, 3), torch.float32, Plan(48, warps=2)),
    ((1, 7, 9, 33, 20, 5), torch.bfloat16, Plan(24, part=8, warps=1)),
    ((1, 7, 9, 34, 5, 2), torch.float16, Plan(48, half=2, part=16, warps=3)),
    ((1, 3, 4, 9, 64, 10), torch.float32, Plan(36)),
    ((1, 3, 4, 8, 40, 2), torch.bfloat16, Plan(24, tile=4, half=2, part=24, warps=1)),
    ((1, 3, 4, 9, 3, 0), torch.float32, Plan(48, tile=8, half=4, part=16, warps=1)),
    ((1, 3, 4, 6, 4, 40), torch.float32, Plan(24, part=8, warps=1)),
    ((1, 1, 1, 1, 1, 1), torch.float32, Plan(48)),
]


class OnCpu:
    """Takes the place of `driver.Module`: the same program, compiled for the CPU."""

    def __init__(self, kind: Kind, plan: Plan, folder: Path):
        source, library = folder / 'scan.cpp', folder / 'scan.so'
        source.write_text(f'#include "{ROOT}/tests/cuda_on_cpu.h"\n{plans.source()}{START}')
        macros = [f'-D{name}={value}' for name, value in plans.constants(kind, plan).items()]
        subprocess.run(['g++', *FLAGS, *macros, '-o', library, source], check=True)
        self.library = ctypes.CDLL(str(library))

    def launch(self, name, programs, threads, shared, problem):
        self.library.start(name.encode(), programs, threads, shared, ctypes.byref(problem))


def drawn(batch, height, width, channels, states, rank):
    g = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=g)

    return [
        draw(batch, height, width, channels),
        draw(batch, height, width, 4, rank + 2 * states),
        draw(4, channels, rank),
        draw(4, channels), -draw(4 * channels, states).exp(),
        draw(4 * channels)
    ]


@pytest.fixture
def poisoned(monkeypatch):
    """Fresh memory full of NaN: what is read before it is written shows up."""

    def wrapped(allocate):
        return lambda *args, **kwargs: allocate(*args, **kwargs).fill_(float('nan'))

    monkeypatch.setattr(torch, 'empty_like', wrapped(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, 'new_empty', wrapped(torch.Tensor.new_empty))


@pytest.mark.parametrize('shape, dtype, plan', CASES, ids=str)
def test_kernels_equal_the_definition(tmp_path, monkeypatch, poisoned, shape, dtype, plan):
    inputs = drawn(*shape)
    inputs[:2] = [t.to(dtype) for t in inputs[:2]]
    here = OnCpu(Kind(shape[4], shape[5], dtype, shape[3] % 2 == 0), plan, tmp_path)
    monkeypatch.setattr(ss2d, 'module', lambda *_: here)
    monkeypatch.setattr(ss2d, 'plan_of', lambda *_: plan)
    dy = torch.randn(shape[:4], generator=torch.Generator().manual_seed(1)).to(dtype)
    y, starts = ss2d.forward(*inputs, True)
    ours = y, *ss2d.backward(dy, *inputs, starts)
    assert ss2d.forward(*inputs, False)[1].numel() == 0
    exact = [t.double().requires_grad_() for t in inputs]
    true = ss2d_reference(*exact)
    for mine, right, like in zip(ours, (true, *torch.autograd.grad(true, exact, dy.double())), (y, *inputs)):
        assert mine.shape == like.shape and mine.dtype == like.dtype and mine.is_contiguous()
        limit = {torch.float32: 2e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}[mine.dtype]
        assert (mine.double() - right).norm() <= limit * right.norm() + 1e-12


def test_saved_states_are_as_many_as_the_operator_says():
    for states in (3, 16, 64):
        plan = plans.candidates(Kind(states, 1))[0]
        chunks = -(-5 * 17 // plan.chunk)
        assert ss2d.state_count(2, 5, 17, 9, states) == 2 * 4 * chunks * 9 * -(-states // 4) * 4
    for table in (ROOMY, SCARCE):  # whatever the rank, because the operator does not know it
        for most in {most for most, _, _ in table}:
            assert len({plan.chunk for states, _, rows in table for plan in rows if states == most}) == 1
        assert all(plan.chunk % plan.tile == plan.tile % plan.half == plan.chunk % plan.part == plan.part % 4 == 0
                   for *_, rows in table for plan in rows)


# what PyTorch's CPU build does not bring
needs_compiler = pytest.mark.skipif(torch.version.cuda is None, reason='PyTorch without CUDA')


@needs_compiler
@pytest.mark.parametrize('arch', ['sm_80', 'sm_90', 'sm_100'])
def test_every_plan_compiles_without_spilled_registers(tmp_path, monkeypatch, arch):
    """None in a loop over states; some assemblers put a few values aside before and after the loops."""
    pytest.importorskip('triton')  # brings the disassembler
    monkeypatch.syspath_prepend(str(ROOT / 'benchmarks'))
    import machine_code
    monkeypatch.setattr(kernel_cache, 'folder', lambda: tmp_path)
    if arch not in driver.architectures():  # the compiler is older: nothing to disassemble, but code for the driver
        assert b'.target sm_' in plans.machine_code(Kind(16, 3), plans.candidates(Kind(16, 3))[0], arch)
        return
    checked = {16: Kind(16, 3), 32: Kind(32, 5, torch.bfloat16), plans.ANY: Kind(64, 10)}
    for states, rank, rows in SCARCE if arch == 'sm_80' else ROOMY:
        kind = replace(checked[states], rank=12) if (states, rank) == (16, plans.ANY) else checked[states]
        for plan in rows if arch == 'sm_90' else rows[:1]:
            found = {name: lines for name, _, lines in machine_code.disassembled(plans.machine_code(kind, plan, arch))}
            assert found.keys() == {'adjoint_ends', 'carry', 'ends', 'gradients', 'output', 'sum_chunks'}
            for name, lines in found.items():
                loops = list(machine_code.loops_over_states(lines))
                assert len(loops) >= {'gradients': 2, 'carry': 0, 'sum_chunks': 0}.get(name, 1), name
                inside, all_in_all = map(machine_code.spills,
                                         ([line for loop in loops for line in loop], [line for _, line in lines]))
                assert inside == 0 and all_in_all <= 12, f'{arch} {kind} {plan} {name}: {inside} of {all_in_all} in loops'


@needs_compiler
def test_what_is_compiled_ahead_is_on_disk_and_does_not_depend_on_the_image(tmp_path, monkeypatch, messages):
    monkeypatch.setattr(kernel_cache, 'folder', lambda: tmp_path / 'kernels')
    monkeypatch.setattr(prepare, 'architecture', lambda device: 'sm_90')
    monkeypatch.setattr(side_by_side, 'QUIET_SECONDS', 0)
    plans.machine_code.cache_clear()
    kinds = [Kind(2, 1), Kind(2, 1, torch.bfloat16), Kind(2, 1)]
    assert prepare.compile_kinds(kinds, torch.device('cuda')) == 2
    assert messages[0] == 'compiling the scan for this GPU, 0 of 2' and messages[-1].startswith('compiled in')
    files = sorted((tmp_path / 'kernels').iterdir())
    assert len(files) == 2
    plans.machine_code.cache_clear()
    monkeypatch.setattr(driver, '_compile', None)  # nothing is compiled again, whatever the size
    started = []

    class NoGpu:

        def __init__(self, code, device):
            assert code in [f.read_bytes() for f in files]

        def launch(self, *arguments):
            started.append(arguments[0])

    monkeypatch.setattr(ss2d, 'Module', NoGpu)
    monkeypatch.setattr(ss2d, 'architecture', lambda device: 'sm_90')
    for size in ((1, 1, 1, 2), (2, 5, 7, 10), (1, 33, 64, 4)):
        inputs = drawn(*size, 2, 1)
        y, starts = ss2d.forward(*inputs, True)
        ss2d.backward(y, *inputs, starts)
    assert started == 3 * ['ends', 'carry', *4 * ['output'], 'adjoint_ends', 'carry', *4 * ['gradients', 'sum_chunks']]
    ss2d.module.cache_clear()


@needs_compiler
def test_a_gpu_newer_than_the_compiler_gets_code_that_its_driver_translates(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_cache, 'folder', lambda: tmp_path)
    before = locale.nl_langinfo(locale.CODESET)
    assert b'.target sm_' in driver.compiled('extern "C" __global__ void f(float *x) { *x = 1; }', 'sm_999')
    with pytest.raises(driver.CudaError, match='expected a'):
        driver.compiled('__global__ void f() { = }', 'sm_90')
    assert locale.nl_langinfo(locale.CODESET) == before  # which old versions change


@needs_compiler
@pytest.mark.parametrize('damage', [b'', b'garbage', None])
def test_a_damaged_or_unreadable_cache_only_costs_time(tmp_path, monkeypatch, damage):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    compiled = []
    monkeypatch.setattr(driver, '_compile', lambda *_: compiled.append(1) or b'machine code')
    assert driver.compiled('source', 'sm_90') == driver.compiled('source', 'sm_90') == b'machine code'
    file, = (tmp_path / 'basicsr' / 'kernels').iterdir()
    if damage is None:  # what reading raises in a folder of somebody else
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(damage)
    assert driver.compiled('source', 'sm_90') == b'machine code' and len(compiled) == 2


@needs_compiler
def test_without_a_home_nothing_is_kept(monkeypatch):

    def no_home():
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setattr(kernel_cache.Path, 'home', no_home)
    monkeypatch.setattr(driver, '_compile', lambda *_: b'machine code')
    assert driver.compiled('source', 'sm_90') == b'machine code'


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, 'TUNED', tmp_path / 'tuned.json')
    plans.forget()
    yield plans.TUNED
    plans.forget()


def test_a_plan_that_was_measured_is_chosen(table):
    kind = Kind(16, 3)
    first, other, *_ = ROOMY[0][2]
    assert plans.choose(kind, 'sm_90') == first
    plans.store('sm_90', kind, other)
    assert plans.choose(kind, 'sm_90') == other and plans.choose(kind, 'sm_100') == first
    with plans.forced(first):
        assert plans.choose(kind, 'sm_90') == first


@pytest.mark.parametrize('text', [
    '', '{', '[]', '{"sm_90": 1}', '{"sm_90": {"16 states, rank 3, float32": {"chunk": 48, "tile": 5}}}',
    '{"sm_90": {"16 states, rank 3, float32": {"chunk": 48, "warps": 5.5}}}'
])
def test_a_damaged_table_is_not_run(table, text):
    table.write_text(text)
    assert plans.choose(Kind(16, 3), 'sm_90') == ROOMY[0][2][0]


def test_blocks_of_large_ranks_are_narrower(monkeypatch, table):
    for bytes_of_block in (99 << 10, 227 << 10):
        monkeypatch.setattr(plans, 'room', lambda size=bytes_of_block: size)
        monkeypatch.setattr(plans, 'roomy', lambda size=bytes_of_block: size > 200 << 10)
        plans.forget()
        warps = [plans.choose(Kind(16, rank), 'sm_90').warps for rank in (3, 24, 48, 64)]
        assert warps[0] == 5 and warps == sorted(warps, reverse=True)
        assert all(
            plans.shared_bytes('gradients', kind, plans.choose(kind, 'sm_90')) <= bytes_of_block
            for kind in (Kind(16, 64), Kind(64, 10), Kind(16, 12)))
        with pytest.raises(UserError, match='256 states of rank 4000 does not fit'):
            plans.choose(Kind(256, 4000), 'sm_90')
