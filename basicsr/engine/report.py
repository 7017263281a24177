"""Test results per image as CSV, and the means with their protocol as JSON."""
from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from basicsr.metrics import describe
from basicsr.utils.files import atomic_write


def write_report(opt: dict[str, Any], dataset: str, model: Any) -> None:
    """`results/<name>/<dataset>.csv` and `.json` from the model's last validation (rank 0 only)."""
    results = getattr(model, 'metric_results', None)
    if not results or opt['rank'] != 0:
        return
    folder = Path(opt['path']['results_root'])
    tasks = getattr(model, 'task_results', None) or {}
    with atomic_write(folder / f'{dataset}.csv', 'w') as file:
        writer = csv.writer(file)
        writer.writerow([*(['task'] if tasks else []), 'image', *results])
        for task, name, values in getattr(model, 'image_results', []):
            writer.writerow([*([task] if tasks else []), name, *(f'{values[k]:.6f}' for k in results)])
    summary = {}
    for label, value in results.items():
        summary[label] = {'mean': value, 'protocol': describe(opt['val']['metrics'][label])}
        if tasks:
            summary[label]['tasks'] = {task: values[label] for task, values in tasks.items()}
    content = {'dataset': dataset, 'weights': opt['path'].get('pretrain_network_g'), 'metrics': summary}
    with atomic_write(folder / f'{dataset}.json', 'w') as file:
        json.dump(content, file, indent=2)
