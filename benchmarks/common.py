"""What the benchmarks share: alternating repetitions, the machine's name, the result file."""
from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from basicsr.utils.files import atomic_write


def alternate(functions: dict[str, Callable[[], Any]], repeats: int = 5) -> dict[str, float]:
    """Median seconds of each function; they take turns, so that a slow spell of the machine hits all."""
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> str:
    """CPU and, where there is one, GPU."""
    cpu = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.is_file():
        text = info.read_text()
        name = re.search(r'model name\s*:\s*(.*)', text)
        cpu = name.group(1).strip() if name else cpu
        # what PyTorch is told to do without on a CPU that has it
        told = os.environ.get('ATEN_CPU_CAPABILITY') == 'avx2'
        cpu += ' AVX-512' if 'avx512f' in text and not told else ' AVX2' if 'avx2' in text else ''
    if 'torch' in sys.modules and sys.modules['torch'].cuda.is_available():
        cpu += f", {sys.modules['torch'].cuda.get_device_name()}"
    return f'{cpu}, {os.cpu_count()} cores'


def report(topic: str, rows: list[dict[str, Any]], **settings: Any) -> None:
    """Print rows as a table and store them under `topic` in results/<machine>.json."""
    print_table(topic, rows)
    store(topic, rows, results_file(), **settings)


def print_table(topic: str, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(k for row in rows for k in row))
    cells = [[_text(row.get(c, '')) for c in columns] for row in rows]
    widths = [max(len(c), *(len(r[i]) for r in cells)) for i, c in enumerate(columns)]
    print(f'{topic} on {machine()}')
    for line in [columns, *cells]:
        print('  '.join(text.ljust(w) for text, w in zip(line, widths)).rstrip())


def results_file() -> Path:
    name = re.sub(r'[^a-z0-9]+', '-', machine().lower()).strip('-')
    return ROOT / 'benchmarks' / 'results' / f'{name}.json'


def store(topic: str, rows: list[dict[str, Any]], file: Path, finished: bool = True, **settings: Any) -> None:
    """Replace `topic` in a result file; other topics stay. A kill leaves the old file or the new one.

    While it is not `finished`, what an earlier run found stays beside it as 'TOPIC before'.
    """
    content = json.loads(file.read_text()) if file.is_file() else {'machine': machine()}
    earlier = content.get(topic)
    if finished:
        content.pop(f'{topic} before', None)
    elif earlier and not earlier.get('unfinished'):
        content[f'{topic} before'] = earlier
    content[topic] = {**_versions(), **settings, **({} if finished else {'unfinished': True}), 'rows': rows}
    with atomic_write(file, 'w') as out:
        out.write(json.dumps(content, indent=1) + '\n')


@cache
def _versions() -> dict[str, Any]:
    """What the figures depend on; a commit only where git knows one."""
    found: dict[str, Any] = {'date': time.strftime('%Y-%m-%d'), 'python': platform.python_version()}
    commit = _output('git', '-C', str(ROOT), 'rev-parse', '--short', 'HEAD')
    if commit:
        found['commit'] = commit
    torch = sys.modules.get('torch')
    if torch:
        found |= {'torch': torch.__version__, 'threads': torch.get_num_threads()}
        if torch.cuda.is_available():
            found |= {
                'gpu': torch.cuda.get_device_name(), 'cuda': torch.version.cuda,
                'driver': _output('nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader'),
                'triton': metadata.version('triton') if find_spec('triton') else ''
            }
    return found


def _output(*command: str) -> str:
    """First line of what a program says; nothing where it is missing or fails."""
    with suppress(OSError, subprocess.SubprocessError, IndexError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.splitlines()[0].strip()
    return ''


def _text(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
