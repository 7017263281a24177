"""The four-direction scan on the CUDA kernels: buffers and launches."""
from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from basicsr.ops.cuda.driver import Module, architecture
from basicsr.ops.cuda.plans import THREADS, Kind, Plan, candidates, choose, machine_code, shared_bytes
from basicsr.utils.errors import UserError

TENSORS = ('value', 'dy', 'rows', 'weight', 'bias', 'rate', 'direct', 'starts', 'arriving', 'sums', 'total', 'out',
           'd_rows', 'of_block', 'of_chunk', 'd_rest')
SIZES = ('batch', 'height', 'width', 'channels', 'chunks', 'blocks', 'parameters', 'direction', 'adjoint')


class Problem(ctypes.Structure):
    """The argument of all kernels, as in `scan.cuh`."""
    _fields_ = [(name, ctypes.c_void_p) for name in TENSORS] + [(name, ctypes.c_int) for name in SIZES]


@cache
def module(kind: Kind, plan: Plan, device: torch.device) -> Module:
    return Module(machine_code(kind, plan, architecture(device)), device)


def plan_of(kind: Kind, device: torch.device) -> Plan:
    return choose(kind, architecture(device))


def state_count(batch: int, height: int, width: int, channels: int, states: int) -> int:
    """Floats that the forward saves for the backward."""
    kind = Kind(states, 1)
    return batch * 4 * -(-height * width // candidates(kind)[0].chunk) * channels * kind.states_4


class Scan:
    """One four-direction scan: its tensors, and the launches of its kernels."""

    def __init__(self, x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor):
        self.batch, height, width, self.channels = x.shape
        self.kind = Kind(A.shape[1], dt_w.shape[2], x.dtype, self.channels % 2 == 0)
        if height * width * max(4 * self.kind.row, self.channels) >= 1 << 32:
            raise UserError(f'an image of {width}x{height} is too large for the scan on a GPU; work on it in tiles')
        self.plan = plan_of(self.kind, x.device)
        self.module = module(self.kind, self.plan, x.device)
        self.chunks = -(-height * width // self.plan.chunk)
        self.blocks = -(-self.channels // (16 * self.plan.warps))
        # gradients of A, of the step's weight and bias and of D, in rows from which four can be written at once
        self.parameters = -(-self.channels * (self.kind.states_4 + self.kind.rank + 2) // 4) * 4
        self.sizes = {
            'batch': self.batch, 'height': height, 'width': width, 'channels': self.channels, 'chunks': self.chunks,
            'blocks': self.blocks, 'parameters': self.parameters
        }
        self.tensors = {'value': aligned(x), 'rows': x_dbl.contiguous()}
        for name, tensor in (('weight', dt_w), ('bias', dt_b), ('rate', A), ('direct', D)):
            self.tensors[name] = aligned(tensor.float())

    @property
    def programs(self) -> int:
        """Blocks of one direction."""
        return self.blocks * self.chunks * self.batch

    def new(self, *shape: int) -> Tensor:
        return self.tensors['rate'].new_empty(shape)

    def launch(self, kernel: str, programs: int, direction: int = 0, adjoint: bool = False) -> None:
        if programs:
            problem = Problem(**{name: t.data_ptr() for name, t in self.tensors.items()}, **self.sizes,
                              direction=direction, adjoint=int(adjoint))
            threads = THREADS.get(kernel, 32 * self.plan.warps)
            self.module.launch(kernel, programs, threads, shared_bytes(kernel, self.kind, self.plan), problem)

    def carried(self, adjoint: bool) -> Tensor:
        """The states before each chunk, or the adjoints that arrive after it."""
        size = self.channels * self.kind.states_4
        name = 'arriving' if adjoint else 'starts'
        self.tensors[name] = self.new(self.batch, 4, self.chunks, size)
        self.tensors['sums'] = self.new(self.batch, 4, self.chunks, self.channels)
        self.launch('adjoint_ends' if adjoint else 'ends', 4 * self.programs)
        self.launch('carry', -(-size // THREADS['carry']) * 4 * self.batch, adjoint=adjoint)
        return self.tensors[name]

    def into(self, like: Tensor) -> Tensor:
        """Where a result goes, and the float32 in which the directions are added up."""
        out = self.tensors['out'] = torch.empty_like(like)
        self.tensors['total'] = out if out.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)
        return out


def aligned(x: Tensor) -> Tensor:
    """Contiguous, and from an address on from which pairs can be read at once."""
    x = x.contiguous()
    return x if x.data_ptr() % 16 == 0 else x.clone()


def forward(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor,
            save: bool) -> tuple[Tensor, Tensor]:
    """See `basicsr.ops.ss2d.ss2d_scan`; also returns the saved states (empty unless `save`)."""
    scan = Scan(x, x_dbl, dt_w, dt_b, A, D)
    starts = scan.carried(adjoint=False)
    y = scan.into(scan.tensors['value'])
    for direction in range(4):
        scan.launch('output', scan.programs, direction)
    return y, starts.flatten() if save else starts.new_empty(0)


def backward(dy: Tensor, x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor,
             starts: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the six inputs."""
    scan = Scan(x, x_dbl, dt_w, dt_b, A, D)
    kind, tensors = scan.kind, scan.tensors
    tensors |= {'dy': aligned(dy.to(x.dtype)), 'starts': aligned(starts)}
    scan.carried(adjoint=True)
    dx, d_rows = scan.into(tensors['value']), torch.empty_like(tensors['rows'])
    tensors['d_rows'] = d_rows
    tensors['of_block'] = scan.new(scan.blocks, *x_dbl.shape) if scan.blocks > 1 else scan.new(0)
    tensors['of_chunk'] = scan.new(scan.batch * scan.chunks, scan.parameters)
    d_rest = tensors['d_rest'] = scan.new(4, scan.parameters)
    for direction in range(4):
        scan.launch('gradients', scan.programs, direction)
        scan.launch('sum_chunks', -(-scan.parameters // 32), direction)
    if scan.blocks > 1:
        d_rows = tensors['of_block'].sum(0).to(x_dbl.dtype)
    dA, rest = d_rest[:, :scan.channels * kind.states_4], d_rest[:, scan.channels * kind.states_4:]
    dA = dA.unflatten(1, (-1, kind.states_4))[..., :kind.states].reshape(A.shape)
    rest = rest[:, :scan.channels * (kind.rank + 2)].unflatten(1, (-1, kind.rank + 2))
    d_weight, d_bias, d_direct = rest.split([kind.rank, 1, 1], dim=2)
    return (dx, d_rows, d_weight.to(dt_w.dtype).contiguous(), d_bias[..., 0].to(dt_b.dtype).contiguous(),
            dA.to(A.dtype).contiguous(), d_direct[0, :, 0].to(D.dtype).repeat(4))
