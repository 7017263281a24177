"""What the compiled kernels of the scan cost, read from their machine code; needs no GPU.

python benchmarks/machine_code.py [--arch sm_90 ...] [--states 16 --rank 3] [--dtype float32 ...]

For every plan of `basicsr/ops/cuda/plans.py`: registers, spilled registers, shared memory, and the instructions for each state
update (one position, channel and state) of the loops that work on states. What is made once for all states comes on top.
"""
from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import common  # noqa: F401  finds the checkout
import torch
import triton
from common import print_table
from gpu_scan import named

from basicsr.ops.cuda.plans import THREADS, Kind, Plan, candidates, machine_code, shared_bytes

CUOBJDUMP = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'
OF_STATES = 16  # exponentials from which on a loop is one over positions and states


def disassembled(code: bytes) -> Iterator[tuple[str, int, list[tuple[int, str]]]]:
    """(kernel, registers, (address, instruction) of each line)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'kernel.cubin')
        file.write_bytes(code)
        text = subprocess.run([CUOBJDUMP, '-sass', '-res-usage', file], capture_output=True, text=True,
                              check=True).stdout
    registers = dict(re.findall(r'Function (\w+):\s+REG:(\d+)', text))
    for name, body in re.findall(r'Function : (\w+)(.*?)(?=Function :|$)', text, re.S):
        lines = re.findall(r'/\*([0-9a-f]{4,})\*/\s+(.*?);', body)
        yield name, int(registers[name]), [(int(address, 16), line.strip()) for address, line in lines]


def loops_over_states(lines: list[tuple[int, str]]) -> Iterator[list[str]]:
    """Instructions of the innermost loops that work on states."""
    inner = -1
    for i, (_, line) in enumerate(lines):
        jump = re.search(r'BRA.*?(0x[0-9a-f]+)', line)
        begin = next((j for j, (a, _) in enumerate(lines) if jump and a == int(jump.group(1), 16)), i + 1)
        if inner < begin <= i:
            inner = i
            loop = [code for _, code in lines[begin:i + 1]]
            if updates(loop) >= OF_STATES:
                yield loop


def updates(loop: list[str]) -> int:
    """Each update of a state takes one exponential."""
    return sum('MUFU.EX2' in code for code in loop)


def spills(lines: Iterable[str]) -> int:
    """Loads and stores of local memory."""
    return sum(bool(re.search(r'\b(LDL|STL)\b', line)) for line in lines)


def rows(kind: Kind, plan: Plan, arch: str) -> Iterator[dict[str, Any]]:
    for kernel, registers, lines in disassembled(machine_code(kind, plan, arch)):
        if kernel not in THREADS:
            loops = [f'{len(loop) / updates(loop):.1f}' for loop in loops_over_states(lines)]
            yield {
                'arch': arch, 'plan': named(plan), 'kernel': kernel, 'registers': registers,
                'spills': spills(line for _, line in lines), 'shared KiB': shared_bytes(kernel, kind, plan) / 1024,
                'instructions an update': ', '.join(loops)
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--arch', nargs='+', default=['sm_90'])
    parser.add_argument('--states', type=int, default=16)
    parser.add_argument('--rank', type=int, default=3)
    parser.add_argument('--dtype', nargs='+', default=['float32'], choices=['float32', 'bfloat16', 'float16'])
    args = parser.parse_args()
    for dtype in args.dtype:
        kind = Kind(args.states, args.rank, getattr(torch, dtype))
        print_table(f'machine code, {kind.name}',
                    [row for arch in args.arch for plan in candidates(kind) for row in rows(kind, plan, arch)])


if __name__ == '__main__':
    main()
