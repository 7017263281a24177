"""The four-direction scan: every backend against the float64 definition."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from basicsr.ops.backend_table import BACKENDS
from basicsr.ops.native import library as native
from basicsr.ops.selective_scan import selective_scan
from basicsr.ops.selective_scan.operator import scan_operator
from basicsr.ops.ss2d import scans_parts, ss2d_part, ss2d_scan
from basicsr.ops.ss2d.operator import ss2d_operator
from basicsr.ops.ss2d.reference import ss2d_reference
from basicsr.ops.ss2d.traversal import traversals

SHAPES = [(1, 1, 1, 1, 1, 1), (2, 5, 7, 20, 5, 3), (3, 16, 9, 33, 4, 2), (1, 40, 3, 16, 8, 1), (1, 1, 130, 17, 6, 4),
          (2, 13, 1, 48, 3, 5)]
HERE = [row.name for row in BACKENDS.values() if row.unfit('ss2d', 'cpu', torch.float32) is None]
RUNS = [f'{name}-{isa}' for name in HERE for isa in (native.supported_isas() if name == 'native' else [''])]


def inputs(batch, height, width, channels, states, rank, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=dtype)

    return [
        draw(batch, height, width, channels),
        draw(batch, height, width, 4, rank + 2 * states),
        draw(4, channels, rank) * 0.3,
        draw(4, channels) - 2, -draw(4 * channels, states).exp(),
        draw(4 * channels)
    ]


@pytest.fixture(params=RUNS)
def backend(request, monkeypatch):
    """Every backend that runs on this CPU, the compiled one with each instruction set."""
    name, _, isa = request.param.partition('-')
    monkeypatch.setenv('BASICSR_SCAN', name)
    if isa:
        monkeypatch.setenv('BASICSR_SCAN_ISA', isa)
    native.best_isa.cache_clear()
    yield name
    native.best_isa.cache_clear()


def assert_equals_definition(args, tolerance=5e-6):
    """Output and all gradients in float32 against the definition in float64, relative to the largest value."""
    ours = [x.clone().requires_grad_() for x in args]
    exact = [x.double().requires_grad_() for x in args]
    y, want = ss2d_scan(*ours), ss2d_reference(*exact)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    pairs = [(y, want), *zip(torch.autograd.grad(y, ours, grad), torch.autograd.grad(want, exact, grad.double()))]
    for a, b in pairs:
        assert (a.double() - b).abs().max() <= tolerance * b.abs().max() + 1e-30


def test_native_kernels_are_built():
    """The test environment has a compiler; without this, the tests below would silently test less."""
    assert native.why_not() is None and native.supported_isas()[0] == 'baseline'


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_forward_and_gradients(backend, shape):
    assert_equals_definition(inputs(*shape))


def test_traversals():
    rows, columns, rows_back, columns_back = traversals(2, 3).tolist()
    assert rows == [0, 1, 2, 3, 4, 5] and columns == [0, 3, 1, 4, 2, 5]
    assert rows_back == rows[::-1] and columns_back == columns[::-1]


@pytest.mark.parametrize('shift', [-100., 21., 1e3])
def test_extreme_steps(backend, shift):
    """Steps that vanish, softplus in its linear branch, decays that underflow."""
    x, x_dbl, dt_w, dt_b, A, D = inputs(1, 6, 5, 9, 3, 2)
    assert_equals_definition([x, x_dbl, dt_w, dt_b + shift, A, D])


def test_zeros_and_long_memory(backend):
    x, x_dbl, dt_w, dt_b, A, D = inputs(1, 9, 8, 7, 3, 2)
    assert torch.equal(ss2d_scan(torch.zeros_like(x), x_dbl, dt_w, dt_b, A, D), torch.zeros_like(x))
    assert_equals_definition([x, x_dbl, dt_w, dt_b, torch.zeros_like(A), D])


def test_non_contiguous_inputs(backend):
    x, x_dbl, dt_w, dt_b, A, D = inputs(2, 6, 5, 8, 3, 2)
    turned = [
        x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        x_dbl.repeat(1, 1, 1, 1, 2)[..., :8],
        dt_w.transpose(1, 2).contiguous().transpose(1, 2),
        dt_b.t().contiguous().t(),
        A.t().contiguous().t(), D
    ]
    assert not any(t.is_contiguous() for t in turned[:5])
    assert_equals_definition(turned)


@pytest.fixture
def poisoned():
    """Fresh memory is filled with NaN, so that a position nobody wrote shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory and torch.empty(3).isnan().all()
    assert torch.zeros(1).new_empty(3).isnan().all() and torch.empty_like(torch.zeros(3)).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize('shape', SHAPES[:3], ids=str)
def test_every_position_is_written(poisoned, backend, shape):
    args = [x.requires_grad_() for x in inputs(*shape)]
    y = ss2d_scan(*args)
    assert all(torch.isfinite(t).all() for t in (y, *torch.autograd.grad(y.sum(), args)))


@pytest.mark.parametrize('length', [1, 63, 64, 65, 1000, 240_000])
def test_sequences_of_any_length(backend, length):
    if backend == 'reference' and length > 1000:
        length = 3000  # the loop itself is the oracle
    g = torch.Generator().manual_seed(0)
    u, delta = (torch.randn(1, 3, length, generator=g) for _ in range(2))
    B, C = (torch.randn(1, 1, 2, length, generator=g) for _ in range(2))
    A, D, bias = -torch.rand(3, 2, generator=g), torch.randn(3, generator=g), torch.zeros(3) - 3
    got = selective_scan(u, delta, A, B, C, D, bias).double().numpy()
    dt = np.logaddexp(0, delta.double().numpy()[0] + bias.double().numpy()[:, None])
    h, want = np.zeros((3, 2)), np.empty((3, length))
    decay = np.exp(dt[:, None] * A.double().numpy()[..., None])
    driven = (dt * u[0].double().numpy())[:, None] * B[0, 0].double().numpy()
    for t in range(length):
        h = decay[..., t] * h + driven[..., t]
        want[:, t] = h @ C[0, 0, :, t].double().numpy()
    want += D.double().numpy()[:, None] * u[0].double().numpy()
    assert np.abs(got[0] - want).max() <= 5e-6 * np.abs(want).max()


@pytest.mark.parametrize('shape', [(1, 24, 20, 80, 4, 3), (3, 9, 11, 33, 3, 2)], ids=str)
@pytest.mark.parametrize('threads_of', ['PyTorch', 'our own'])
def test_two_threads_equal_one(shape, threads_of, monkeypatch, request):
    monkeypatch.setenv('BASICSR_SCAN', 'native')
    theirs = native.openmp_of_torch()
    assert theirs is not None
    request.addfinalizer(lambda: native.library().scan_use_openmp(theirs))
    native.library().scan_use_openmp(theirs if threads_of == 'PyTorch' else None)
    args = [x.requires_grad_() for x in inputs(*shape)]
    results, before = [], torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        y = ss2d_scan(*args)
        results.append([y, *torch.autograd.grad(y.square().sum(), args)])
    torch.set_num_threads(before)
    for other in results[1:]:
        assert torch.equal(results[0][0], other[0])
        for a, b in zip(results[0][1:], other[1:]):  # dx of the directions is added in another order
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * b.abs().max().item())


def test_gradcheck_in_float64():
    args = [x.requires_grad_() for x in inputs(1, 2, 3, 2, 2, 1, dtype=torch.float64)]
    assert torch.autograd.gradcheck(ss2d_scan, args)


@pytest.mark.parametrize('save', [True, False])
@pytest.mark.parametrize('backend', RUNS[1:], indirect=True)  # the reference runs outside the operator
def test_opcheck(backend, save):
    args = [x.requires_grad_(save) for x in inputs(1, 3, 4, 5, 3, 2)]
    torch.library.opcheck(ss2d_operator, (*args, save))
    shapes = ((1, 6, 9), (1, 6, 9), (6, 3), (1, 2, 3, 9), (1, 2, 3, 9), (6, ), (6, ))
    sequence = [(-torch.rand(shape)).requires_grad_(save) for shape in shapes]
    torch.library.opcheck(scan_operator, (*sequence, True, save))


def test_operators_compile_without_graph_breaks():
    args = [x.requires_grad_() for x in inputs(1, 4, 5, 6, 3, 2)]
    compiled = torch.compile(lambda *a: ss2d_scan(*a) * 2, fullgraph=True, backend='aot_eager')
    ours, plain = compiled(*args), ss2d_scan(*args) * 2
    torch.testing.assert_close(ours, plain)
    for a, b in zip(torch.autograd.grad(ours.sum(), args), torch.autograd.grad(plain.sum(), args)):
        torch.testing.assert_close(a, b)


def test_flops_are_counted():
    from torch.utils.flop_counter import FlopCounterMode
    args = [x.requires_grad_() for x in inputs(2, 4, 5, 6, 3, 2)]
    with FlopCounterMode(display=False) as counter:
        ss2d_scan(*args).sum().backward()
    cells = 2 * 4 * 5 * 4 * 6
    forward = cells * (9 * 3 + 2 * 2)
    assert counter.get_total_flops() == 4 * forward


def test_half_precision_keeps_a_float32_state():
    args = inputs(1, 6, 7, 9, 4, 2)
    for dtype in (torch.bfloat16, torch.float16):
        low = [x.to(dtype) for x in args]
        y, want = ss2d_scan(*low), ss2d_reference(*(x.double() for x in low))
        assert y.dtype == dtype
        assert (y.double() - want).abs().max() < 5e-3 * want.abs().max()


def test_wrong_shapes_are_named():
    x, x_dbl, dt_w, dt_b, A, D = inputs(1, 4, 5, 6, 3, 2)
    with pytest.raises(ValueError, match=r'x_dbl has shape \(1, 4, 5, 4, 7\), expected \(1, 4, 5, 4, 8\)'):
        ss2d_scan(x, x_dbl[..., 1:], dt_w, dt_b, A, D)
    with pytest.raises(ValueError, match='D has shape'):
        ss2d_scan(x, x_dbl, dt_w, dt_b, A, D[1:])


def in_parts(args, rows, columns):
    """`ss2d_scan` by `ss2d_part`, so many lines at a time."""
    x, x_dbl, dt_w, dt_b, A, D = args
    y = torch.zeros_like(x)
    A, D = A.unflatten(0, (4, -1)), D.unflatten(0, (4, -1))
    for k, (dim, lines) in enumerate(((1, rows), (2, columns))):
        state = x.new_zeros(2, len(x), x.shape[3], A.shape[2])
        for start in range(0, x.shape[dim], lines):
            count = min(lines, x.shape[dim] - start)
            low = torch.stack([
                x_dbl.narrow(dim, start, count)[:, :, :, k],
                x_dbl.narrow(dim, x.shape[dim] - start - count, count)[:, :, :, k + 2]
            ])
            ss2d_part(x, low, dt_w[k::2], dt_b[k::2], A[k::2].flatten(0, 1), D[k::2].flatten(), k == 1, start, state, y)
    return y


@pytest.mark.parametrize('rows, columns', [(1, 1), (2, 3), (4, 5), (8, 5), (100, 100)])
@pytest.mark.parametrize('shape', SHAPES[:4], ids=str)
def test_parts_make_up_the_whole(backend, shape, rows, columns):
    args = inputs(*shape)
    if not scans_parts(args[0], args[4]):
        assert backend == 'reference'
        return
    want = ss2d_reference(*(x.double() for x in args))
    assert (in_parts(args, rows, columns) - want).abs().max() <= 5e-6 * want.abs().max()


@pytest.mark.parametrize('threads', [1, 3])
def test_sides_of_a_part_that_meet_do_not_lose_what_the_other_adds(threads):
    args = inputs(1, 30, 40, 33, 4, 2)
    want, before = ss2d_scan(*args), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for lines in (7, 16, 21):  # the last strips overlap in some or all lines
            assert (in_parts(args, lines, lines) - want).abs().max() <= 5e-6 * want.abs().max()
    finally:
        torch.set_num_threads(before)


def test_parts_in_float64():
    args = inputs(2, 9, 7, 5, 3, 2, dtype=torch.float64)
    want = ss2d_reference(*args)
    assert (in_parts(args, 2, 3) - want).abs().max() <= 1e-12 * want.abs().max()


@pytest.mark.parametrize('shift', [-30.0, 30.0])
def test_parts_carry_long_and_short_memories(backend, shift):
    args = inputs(1, 12, 11, 17, 5, 2)
    args[3] += shift
    if scans_parts(args[0], args[4]):
        want = ss2d_reference(*(x.double() for x in args))
        assert (in_parts(args, 4, 4) - want).abs().max() <= 1e-5 * want.abs().max()


def test_flops_of_parts_are_those_of_the_whole():
    from torch.utils.flop_counter import FlopCounterMode
    args = inputs(1, 6, 8, 5, 3, 2)
    with FlopCounterMode(display=False) as counter:
        ss2d_scan(*args)
    whole = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        in_parts(args, 2, 4)
    assert counter.get_total_flops() == whole


def test_parts_with_gaps_in_memory_are_refused():
    x = torch.zeros(1, 4, 4, 6)
    args = torch.zeros(2, 1, 1, 4, 8), torch.zeros(2, 3, 2), torch.zeros(2, 3), torch.zeros(6, 3), torch.zeros(6)
    with pytest.raises(ValueError, match='x must be contiguous'):
        ss2d_part(x[..., :3], *args, False, 0, torch.zeros(2, 1, 3, 3), torch.zeros(1, 4, 4, 3))
