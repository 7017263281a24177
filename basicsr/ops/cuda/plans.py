"""How the CUDA kernels of a scan are made: what is compiled for a number of states and rank and a type of image.

`python benchmarks/gpu.py --tune` measures the candidates on the GPU that it finds and writes the fastest to `tuned.json` beside
this file; on a kind of GPU that has not been measured, the first candidate runs.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch

from basicsr.ops.cuda.driver import LEAST_SHARED, compiled, shared_memory
from basicsr.utils.errors import UserError
from basicsr.utils.files import atomic_write
from basicsr.utils.logger import get_root_logger

FOLDER = Path(__file__).parent
SOURCES = ('gpu.cuh', 'scan.cuh', 'forward.cuh', 'gradients.cuh')  # one program, in this order
TUNED = FOLDER / 'tuned.json'
THREADS = {'carry': 128, 'sum_chunks': 1024}  # of a block, whatever the plan; of the other kernels it says so
TYPES = {torch.float32: 'float', torch.bfloat16: 'bf16', torch.float16: 'fp16'}
MUCH = 220 << 10  # bytes of shared memory of a multiprocessor, from which on long chunks leave room for two blocks


@dataclass(frozen=True)
class Kind:
    """What the kernels are compiled for: states, rank, type of the image, whether its channels come in pairs."""
    states: int
    rank: int
    dtype: torch.dtype = torch.float32
    even: bool = True

    @property
    def states_4(self) -> int:
        """States of a channel in memory."""
        return -(-self.states // 4) * 4

    @property
    def row(self) -> int:
        """Step, B and C of one position and direction."""
        return self.rank + 2 * self.states

    @property
    def name(self) -> str:
        """In the table of what was measured."""
        return f'{self.states} states, rank {self.rank}, {str(self.dtype).removeprefix("torch.")}'


@dataclass(frozen=True)
class Plan:
    """Sizes that the kernels are compiled with.

    Attributes:
        chunk: positions between saved states. The same for all candidates, because the operator's outputs depend on it.
        tile: positions whose states a thread holds at once in the backward.
        half: those of them whose sums over channels are made together.
        part: positions that the forward works on at once.
        warps: of a block, 16 channels each.
        ends, output, gradients: blocks of each kernel that shall fit on a multiprocessor, which limits their registers.
    """
    chunk: int
    tile: int = 6
    half: int = 3
    part: int = 12
    warps: int = 5
    ends: int = 4
    output: int = 4
    gradients: int = 2


# (at most so many states, of such a rank, plans), for GPUs with much shared memory and with little. What is tuned is how many
# positions the forward works on at once, and how many of its blocks run side by side.
ANY = 1 << 30
ROOMY = (
    (16, 8, (Plan(48), Plan(48, part=16), Plan(48, part=8), Plan(48, part=24, output=3))),
    (16, ANY, (Plan(48, ends=3, output=3), Plan(48, part=16, ends=3, output=3))),
    (32, ANY, (Plan(36, ends=3, output=3), Plan(36, ends=4, output=3), Plan(36, part=36, ends=3, output=3))),
    (ANY, ANY, (
        Plan(32, tile=4, half=2, part=8, ends=3, output=3),
        Plan(32, tile=4, half=2, part=16, ends=3, output=2),
    )),
)
SCARCE = (
    (16, 8, (Plan(24), Plan(24, part=8), Plan(24, part=24, output=3))),
    (16, ANY, (Plan(24, ends=3, output=3), )),
    (ANY, ANY, (Plan(24, tile=4, half=4, ends=2, output=2), )),
)


@cache
def roomy() -> bool:
    """Whether every GPU of this process has MUCH shared memory; true without one, where kernels are only compiled."""
    return all(shared_memory(i)[1] > MUCH for i in range(torch.cuda.device_count()))


def candidates(kind: Kind) -> tuple[Plan, ...]:
    return next(plans for states, rank, plans in (ROOMY if roomy() else SCARCE)
                if kind.states <= states and kind.rank <= rank)


_forced: list[Plan] = []  # no context variable: the backward runs in a thread of autograd's, which would not see it


@contextmanager
def forced(plan: Plan | None) -> Iterator[None]:
    """Inside, this plan runs, whatever was measured; None forces nothing."""
    before = _forced[:]
    _forced[:] = [plan] if plan else before
    try:
        yield
    finally:
        _forced[:] = before


def choose(kind: Kind, arch: str) -> Plan:
    """The plan of a kind on an architecture ('sm_90'): the candidate that was found fastest, else the first.

    Raises `UserError` for a scan that no block of this GPU has room for.
    """
    return _forced[0] if _forced else _fastest(kind, arch)


@cache
def _fastest(kind: Kind, arch: str) -> Plan:
    listed, row = candidates(kind), tuned().get(arch, {}).get(kind.name)
    plan = next((p for p in listed if asdict(p) == row), listed[0])  # whatever else stands in the file is not run
    narrower = (replace(plan, warps=warps) for warps in range(plan.warps - 1, 0, -1))
    found = next((p for p in (plan, *narrower) if shared_bytes('gradients', kind, p) <= room()), None)
    if found is None:
        raise UserError(
            f'a scan with {kind.states} states of rank {kind.rank} does not fit into the shared memory of this'
            ' GPU; BASICSR_SCAN=triton runs it without the CUDA kernels')
    return found


@cache
def room() -> int:
    """Bytes of shared memory that a block may have on every GPU of this process; the least that is supported without one."""
    return min((shared_memory(i)[0] for i in range(torch.cuda.device_count())),
               default=227 << 10 if roomy() else LEAST_SHARED)


@cache
def tuned() -> dict[str, dict[str, dict[str, int]]]:
    """Architecture and kind to the fastest plan, as measured. A file that cannot be read is as good as none."""
    try:
        content = json.loads(TUNED.read_text(encoding='utf-8')) if TUNED.is_file() else {}
        return {arch: dict(rows) for arch, rows in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        get_root_logger().warning(f"'{TUNED}' is damaged and not used; python benchmarks/gpu.py --tune writes it")
        return {}


def forget() -> None:
    """Read the table again when it is next needed."""
    tuned.cache_clear()
    _fastest.cache_clear()


def store(arch: str, kind: Kind, plan: Plan) -> None:
    """Write what was found fastest; other entries stay."""
    content = deepcopy(tuned())
    content.setdefault(arch, {})[kind.name] = asdict(plan)
    with atomic_write(TUNED, 'w') as file:  # every scan reads the table, so half of one must never be there
        file.write(json.dumps(content, indent=1, sort_keys=True) + '\n')
    forget()


def constants(kind: Kind, plan: Plan) -> dict[str, object]:
    """The macros that `scan.cuh` is compiled with."""
    return {
        'STATES': kind.states, 'RANK': kind.rank, 'TYPE': TYPES[kind.dtype], 'EVEN': int(kind.even),
        'CHUNK': plan.chunk, 'TILE': plan.tile, 'HALF': plan.half, 'PART': plan.part, 'WARPS': plan.warps,
        'ENDS_BLOCKS': plan.ends, 'OUTPUT_BLOCKS': plan.output, 'GRADIENT_BLOCKS': plan.gradients
    }


def shared_bytes(kernel: str, kind: Kind, plan: Plan) -> int:
    """Dynamic shared memory of a kernel, as its first lines lay it out."""
    pairs, block, rank_4, groups = plan.warps * 8, plan.warps * 16, -(-kind.rank // 4) * 4, -(-kind.states // 16)
    if kernel in THREADS:
        return {'carry': 0, 'sum_chunks': 4096}[kernel]
    if kernel == 'gradients':
        made = plan.chunk * pairs * 4 * (2 if groups > 1 else 1)
        saved = max(plan.warps * (plan.chunk // plan.tile) * 256, 4 * (kind.rank + 2) * block)
        spread = max(plan.warps * plan.half * 2 * 144, kind.rank * block)
        return 4 * (made + saved + spread + plan.chunk * (32 + block + 2 + rank_4 + 1))
    rows, y = (32, block) if kernel == 'output' else (16, 0)
    rates = groups * 2 * 4 * 32 * plan.warps if groups > 2 else 0
    return 4 * (plan.part * (2 * (pairs * 4 + rows) + y) + plan.chunk * (rank_4 + 1) + rates)


@cache
def source() -> str:
    """The program, without the header of the machine it runs on."""
    return '\n'.join(f'#line 1 "{name}"\n{(FOLDER / name).read_text(encoding="utf-8")}' for name in SOURCES[1:])


@cache
def machine_code(kind: Kind, plan: Plan, arch: str) -> bytes:
    return compiled((FOLDER / SOURCES[0]).read_text(encoding='utf-8') + source(), arch, **constants(kind, plan))
