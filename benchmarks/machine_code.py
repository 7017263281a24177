"""What the compiled scan kernels cost, read from their machine code; needs no GPU.

python benchmarks/machine_code.py [--arch 90 ...] [--states 16 --rank 3] [--dtype float32 ...]

For every candidate of `basicsr/ops/selective_scan/triton_candidates.py`: registers, local memory (spills), shared memory,
and the instructions of its loops for each state update (one position, channel and state).
"""
from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import common  # noqa: F401  finds the checkout
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from basicsr.ops.selective_scan import triton_candidates, triton_launch
from basicsr.ops.selective_scan.triton_compile import ScanKind, launches

POINTERS = {torch.float32: '*fp32', torch.bfloat16: '*bf16', torch.float16: '*fp16'}
CUOBJDUMP = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'


def compile_for(item: triton_launch.Launch, arch: int) -> Any:
    """The compiled kernel of a launch, for a GPU that need not be here."""
    constants = {k: v for k, v in item.arguments.items() if k.isupper()}
    types = {k: POINTERS[t.dtype] for k, t in item.tensors.items()}
    types |= {k: 'constexpr' if k in constants else 'i32' for k in item.arguments}
    source = ASTSource(
        fn=item.kernel, signature={k: types[k]
                                   for k in item.kernel.arg_names}, constexprs=constants, attrs={})
    return triton.compile(source, target=GPUTarget('cuda', arch, 32), options=item.options)


def disassemble(compiled: Any) -> tuple[int, list[tuple[int, str]]]:
    """(registers, (address, instruction) of each line)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'kernel.cubin')
        file.write_bytes(compiled.asm['cubin'])
        text = subprocess.run([CUOBJDUMP, '-sass', '-res-usage', file], capture_output=True, text=True,
                              check=True).stdout
    lines = re.findall(r'/\*([0-9a-f]{4,})\*/\s+(.*?);', text)
    return int(re.search(r'REG:(\d+)', text).group(1)), [(int(address, 16), line.strip()) for address, line in lines]


def opcode(line: str) -> str:
    return re.sub(r'^@!?U?P[T\d]+\s+', '', line).split()[0].split('.')[0]


def innermost_loops(lines: list[tuple[int, str]]) -> Iterator[Counter]:
    """Instructions by name of each loop that holds no other."""
    jumps = [(int(m.group(1), 16), address) for address, line in lines
             if (m := re.search(r'\bBRA\b.*?(0x[0-9a-f]+)', line))]
    loops = {(first, last) for first, last in jumps if first < last}
    for first, last in sorted(loops):
        if not any((a, b) != (first, last) and first <= a and b <= last for a, b in loops):
            yield Counter(opcode(line) for address, line in lines if first <= address <= last)


def measure(item: triton_launch.Launch, candidate: triton_candidates.Candidate, pad: int, arch: int) -> dict[str, Any]:
    compiled = compile_for(item, arch)
    registers, lines = disassemble(compiled)
    found = [loop for loop in innermost_loops(lines) if loop['MUFU']]  # those that update states
    # updates of a thread in one turn of a loop: a sweep works on one position, the others on a tile
    updates = candidate.tile * max(1, candidate.states(pad) * candidate.block // (32 * item.options['num_warps']))
    total = sum(found, Counter())
    return {
        'kernel': item.kernel.fn.__name__, 'mode': mode(item.arguments), 'block': candidate.block, 'tile': candidate.tile,
        'warps': item.options['num_warps'], 'registers': registers, 'most': candidate.registers or '',
        'spills': sum(opcode(line) in ('LDL', 'STL') for _, line in lines), 'shared': compiled.metadata.shared,
        'instructions': round(total.total() / updates, 1), 'exponentials': round(total['MUFU'] / updates, 2),
        'memory': round(sum(total[k] for k in ('LDG', 'STG')) / updates, 2),
        'on chip': round(sum(total[k] for k in ('LDS', 'STS', 'LDSM', 'STSM', 'SHFL')) / updates, 2),
        'barriers': round(total['BAR'] / updates, 2),
    }  # yapf: disable


def mode(arguments: dict[str, Any]) -> str:
    name = arguments.get('MODE') or {True: 'output', False: 'ends'}.get(arguments.get('OUTPUT'), 'gradients')
    return name + (' of the adjoint' if arguments.get('ADJOINT') else '')


def work(kind: ScanKind) -> Iterator[tuple[triton_launch.Launch, triton_candidates.Candidate]]:
    """Each kernel of each candidate."""
    table, seen = triton_candidates.CANDIDATES, set()
    rows = [(f, table['gradient'][0]) for f in table['forward']] + [(table['forward'][0], g) for g in table['gradient']]
    for forward, gradient in rows:
        with triton_candidates.forced(forward=forward, gradient=gradient):
            found = launches(kind, torch.device('cpu'))
        for item in found:
            if item.kernel.fn.__name__ != 'carry_kernel' and item.identity not in seen:
                seen.add(item.identity)
                tiles = item.arguments.get('MODE') == 'tiles'
                is_forward = item.kernel.fn.__name__ in ('sweep_kernel', 'pass_kernel')
                yield item, triton_candidates.Candidate(
                    'sweep', tile=1, share=32) if tiles else (forward if is_forward else gradient)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--arch', type=int, nargs='+', default=[90])
    parser.add_argument('--states', type=int, default=16)
    parser.add_argument('--rank', type=int, default=3)
    parser.add_argument('--dtype', nargs='+', default=['float32'])
    args = parser.parse_args()
    for arch in args.arch:
        for dtype in args.dtype:
            table(ScanKind(args.states, args.rank, getattr(torch, dtype)), arch)


def table(kind: ScanKind, arch: int) -> None:
    """Compile all candidates side by side and print a row of each kernel."""
    pad = triton.next_power_of_2(kind.states)
    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(lambda pair: measure(*pair, pad, arch), work(kind)))
    print(f'\nsm_{arch}, {triton_candidates.key(kind.states, kind.rank, kind.dtype)}; a state update:')
    rows.insert(0, {name: name for name in rows[0]})
    widths = [max(len(str(row[name])) for row in rows) for name in rows[0]]
    for row in rows:
        print('  '.join(str(value).rjust(width) for value, width in zip(row.values(), widths)), flush=True)


if __name__ == '__main__':
    main()
