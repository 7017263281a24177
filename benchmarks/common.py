"""What the benchmarks share: alternating repetitions, the machine's name, the result file."""
from __future__ import annotations

import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


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
        cpu += ' AVX-512' if 'avx512f' in text else ' AVX2' if 'avx2' in text else ''
    if 'torch' in sys.modules and sys.modules['torch'].cuda.is_available():
        cpu += f", {sys.modules['torch'].cuda.get_device_name()}"
    return f'{cpu}, {os.cpu_count()} cores'


def report(topic: str, rows: list[dict[str, Any]], **settings: Any) -> None:
    """Print rows as a table and store them under `topic` in results/<machine>.json."""
    columns = list(dict.fromkeys(k for row in rows for k in row))
    cells = [[_text(row.get(c, '')) for c in columns] for row in rows]
    widths = [max(len(c), *(len(r[i]) for r in cells)) for i, c in enumerate(columns)]
    print(f'{topic} on {machine()}')
    for line in [columns, *cells]:
        print('  '.join(text.ljust(w) for text, w in zip(line, widths)).rstrip())
    name = re.sub(r'[^a-z0-9]+', '-', machine().lower()).strip('-')
    file = ROOT / 'benchmarks' / 'results' / f'{name}.json'
    content = json.loads(file.read_text()) if file.is_file() else {'machine': machine()}
    torch = sys.modules.get('torch')
    content[topic] = {'date': time.strftime('%Y-%m-%d'), 'python': platform.python_version(),
                      **({'torch': torch.__version__, 'threads': torch.get_num_threads()} if torch else {}),
                      **settings, 'rows': rows}  # yapf: disable
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + '\n')


def _text(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
