"""Are the kernels right on this GPU? Outputs and gradients against the float64 definition, memory poisoned before.

An error is |ours - true| / |true| as L2 norms. `right` means: the output within LIMITS of its type, gradients within five times
that. Networks are compared with golden files of the published ones, where a folder of them is given.
"""
from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from gpu_run import Compilers, Context, Row, Task
from gpu_scan import dtype_name, kind_of, named
from scan import Shape, problem, project
from torch import Tensor

from basicsr.ops.backend import VARIABLE
from basicsr.ops.cuda.plans import Plan, candidates, forced
from basicsr.ops.selective_scan import selective_scan
from basicsr.ops.selective_scan.reference import selective_scan_reference
from basicsr.ops.ss2d import ss2d_scan, torch_ss2d
from basicsr.ops.ss2d.reference import ss2d_reference

LIMITS = {torch.float32: 2e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}
# of the networks, and odd ones: one pixel, one channel block that is not full, states that are no power of two
IMAGES: list[Shape] = [(2, 24, 20, 80, 16, 3), (1, 13, 17, 33, 5, 2), (1, 20, 20, 320, 64, 10), (2, 1, 1, 8, 4, 1),
                       (1, 16, 18, 360, 16, 12), (1, 12, 20, 216, 16, 7), (1, 9, 14, 72, 10, 3)]
OFFICIAL, ODD = IMAGES[:2]
LONG: Shape = (1, 400, 600, 8, 16, 1)
# batch, groups, channels of a group, states, length, softplus
SEQUENCES = [(2, 2, 40, 16, 300, True), (1, 1, 9, 13, 37, False)]
TINY: list[Shape] = [(2, 4, 3, 8, 3, 2), (1, 3, 5, 9, 2, 1)]
GRADIENTS = {'image': ('x', 'x_dbl', 'dt_w', 'dt_b', 'A', 'D'), 'sequence': ('u', 'delta', 'A', 'B', 'C', 'D', 'bias')}
# gradients that are zero but for rounding, of which a golden file holds the norm
ROUNDING = {'MASRNet': 'k_proj.bias'}


def on_a_grid(x: Tensor) -> Tensor:
    """Multiples of 1/32 up to 4, which every type holds exactly: one definition serves them all."""
    return (x * 32).round().clamp(-128, 128) / 32


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return on_a_grid(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def poison(device: str) -> None:
    """Free memory full of NaN: what is read before it is written shows up."""
    if device == 'cuda':
        torch.cuda.empty_cache()
        junk = [torch.full((1 << 26, ), float('nan'), device=device)]
        junk += [torch.full((1 << 17, ), float('nan'), device=device) for _ in range(64)]
        del junk


@lru_cache(2)
def image(shape: Shape, device: str, definition: Callable[..., Tensor] = ss2d_reference) -> tuple[list, Tensor, list]:
    """(inputs, gradient of the output, [output, gradients]) of an image, in float64."""
    tensors = project(*problem(shape))
    tensors = [t.double().to(device) for t in [*map(on_a_grid, tensors[:2]), *tensors[2:]]]
    return exact(definition, tensors, drawn(*tensors[0].shape).double().to(device))


@lru_cache(1)
def sequence(shape: tuple, device: str) -> tuple[list, Tensor, list]:
    batch, groups, width, states, length, softplus = shape
    e = groups * width
    u, delta, B, C = (drawn(batch, *s, length, seed=i)
                      for i, s in enumerate([(e, ), (e, ), (groups, states), (groups, states)]))
    rate = -torch.arange(1., states + 1).repeat(e, 1)
    tensors = [u, delta if softplus else delta.abs() / 4, rate, B, C, drawn(e), drawn(e).abs()]
    tensors = [t.double().to(device) for t in tensors]
    return exact(partial(selective_scan_reference, delta_softplus=softplus), tensors, tensors[0].flip(-1))


def exact(definition: Callable[..., Tensor], tensors: list[Tensor], dy: Tensor) -> tuple[list, Tensor, list]:
    leaves = [t.requires_grad_() for t in tensors]
    y = definition(*leaves)
    return [t.detach() for t in leaves], dy, [y.detach(), *torch.autograd.grad(y, leaves, dy)]


def errors(scan: Callable[..., Tensor], short: tuple[int, ...], true: tuple[list, Tensor, list], dtype: torch.dtype,
           names: tuple[str, ...], device: str) -> Row:
    """A row's figures; the inputs at the positions `short` are in `dtype`, the others float32."""
    tensors, dy, right = true
    poison(device)
    leaves = [t.to(dtype if i in short else torch.float32).requires_grad_() for i, t in enumerate(tensors)]
    y = scan(*leaves)
    ours = [y, *torch.autograd.grad(y, leaves, dy.to(y.dtype))]
    # what is zero, as the gradient of A for a single pixel, is compared as it is
    found = [((a.double() - b).norm() / (b.norm() or 1)).item() for a, b in zip(ours, right)]
    limit = LIMITS[dtype]
    good = found[0] <= limit and max(found[1:]) <= 5 * limit  # a NaN is not good
    return {
        'dtype': dtype_name(dtype), 'output': found[0], **dict(zip(names, found[1:])), 'limit': limit,
        'right': 'yes' if good else 'no'
    }


def check_image(shape: Shape, context: Context, compilers: Compilers, dtypes: tuple = tuple(LIMITS),
                plan: Plan | None = None) -> Iterator[Row]:
    for dtype in dtypes:
        compilers.ready(kind_of(shape, dtype), plan)
        with forced(plan):
            row = errors(ss2d_scan, (0, 1), image(shape, context.device), dtype, GRADIENTS['image'], context.device)
        yield {'what': 'image', 'shape': 'x'.join(map(str, shape)), 'plan': named(plan) if plan else ''} | row


def check_triton(shape: Shape, context: Context) -> Iterator[Row]:
    """The portable kernels, compiled as they are needed."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = 'torch' if context.tiny else 'triton'
    try:
        row = errors(ss2d_scan, (0, 1), image(shape, context.device), torch.float32, GRADIENTS['image'], context.device)
    finally:
        os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before})
    yield {'what': 'triton', 'shape': 'x'.join(map(str, shape))} | row


def check_sequence(shape: tuple, context: Context) -> Iterator[Row]:
    for dtype in LIMITS:
        scan = partial(selective_scan, delta_softplus=shape[5])
        row = errors(scan, (0, 1, 3, 4), sequence(shape, context.device), dtype, GRADIENTS['sequence'], context.device)
        yield {'what': 'sequence', 'shape': 'x'.join(map(str, shape[:5]))} | row


def chunked(*tensors: Tensor) -> Tensor:
    """The plain backend in float64, whatever would be chosen; differentiable."""
    return _Chunked.apply(*tensors)


class _Chunked(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        y, starts = torch_ss2d.forward(*tensors, True)
        ctx.save_for_backward(*tensors, starts)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        *tensors, starts = ctx.saved_tensors
        return torch_ss2d.backward(dy, *tensors, starts)


def check_long(context: Context, compilers: Compilers) -> Iterator[Row]:
    """A photograph against the plain backend in float64, which is compared with the definition at a small size first."""
    small, long = (TINY[0], TINY[1]) if context.tiny else (ODD, LONG)
    plain, true = image(small, context.device, chunked), image(small, context.device)
    worst = max(((a - b).norm() / b.norm()).item() for a, b in zip(plain[2], true[2]))
    yield {
        'what': 'plain backend', 'shape': 'x'.join(map(str, small)), 'dtype': 'float64', 'output': worst,
        'limit': 1e-11, 'right': 'yes' if worst <= 1e-11 else 'no'
    }
    for dtype in LIMITS:
        compilers.ready(kind_of(long, dtype))
        row = errors(ss2d_scan, (0, 1), image(long, context.device, chunked), dtype, GRADIENTS['image'], context.device)
        yield {'what': 'long image', 'shape': 'x'.join(map(str, long))} | row


def check_golden(file: Path, context: Context) -> Iterator[Row]:
    """A network with the weights of a golden file."""
    import golden  # found beside the golden files

    from basicsr.archs import build_network
    from basicsr.registry import ARCH_REGISTRY
    case = golden.load_case(file)
    if case.options['type'] not in ARCH_REGISTRY.index():
        return
    torch.backends.cudnn.allow_tf32 = False
    net = build_network(case.options).to(context.device)
    golden.fill_(net.eval(), case.meta['seed'], tuple(case.meta['skip']))
    y = net(*(t.to(context.device) for t in case.arguments()))
    y = y[0] if isinstance(y, (tuple, list)) else y
    norms, worst = case.meta.get('grad_norm') or {}, 0.
    if norms:
        (y - golden.image(y.shape, case.meta['seed'] + 1).to(y.device)).square().mean().backward()
        ours = {k: p.grad.norm().item() for k, p in net.named_parameters() if p.grad is not None}
        rounding, floor = ROUNDING.get(case.options['type']), 1e-6 * max(norms.values())
        worst = max(
            abs(ours.get(k, 0.) - v) / (v + floor) for k, v in norms.items()
            if not (rounding and k.endswith(rounding)) and not (case.options.get('top_k') == 1 and 'gating_fc' in k))
    error = golden.max_rel_err(y.detach().cpu(), case.output)
    yield {
        'what': 'network', 'shape': file.stem, 'dtype': 'float32', 'output': error, 'gradients': worst, 'limit': 1e-4,
        'right': 'yes' if error <= 1e-4 and worst <= 1e-3 else 'no'
    }


def tasks(context: Context) -> list[Task]:
    compilers, images = Compilers(context.device), TINY if context.tiny else IMAGES
    found: list[Task] = []
    for shape in images:
        found.append((f'image {shape}', partial(check_image, shape, context, compilers)))
        for dtype in LIMITS:
            compilers.submit(kind_of(shape, dtype))
    for shape in images[:3]:
        for plan in candidates(kind_of(shape, torch.float32))[1:2 if context.tiny else None]:
            compilers.submit(kind_of(shape, torch.float32), plan)
            found.append(
                (f'{named(plan)} at {shape}', partial(check_image, shape, context, compilers, (torch.float32, ), plan)))
    found.append(('long image', partial(check_long, context, compilers)))
    found.append((f'triton {images[0]}', partial(check_triton, images[0], context)))
    for shape in [(1, 2, 3, 2, 7, True)] if context.tiny else SEQUENCES:
        found.append((f'sequence {shape}', partial(check_sequence, shape, context)))
    if context.options.get('golden'):
        folder = Path(context.options['golden'])
        places = [p for p in (folder, folder.parent / 'tools') if (p / 'golden.py').is_file()]
        sys.path[:0] = map(str, places)
        importlib.invalidate_caches()
        networks = sorted(folder.glob('*.npz'), key=lambda f: (not f.stem.startswith('retinex'), f.stem))
        found[:0] = [(f'network {f.stem}', partial(check_golden, f, context)) for f in networks]  # they see everything
    return found
