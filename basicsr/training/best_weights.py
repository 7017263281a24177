"""The best weights of a run, and what made them the best."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basicsr.metrics import describe
from basicsr.utils.files import write_json
from basicsr.utils.weights import save_weights


def save_best(model: Any, opt: Mapping[str, Any], dataset: str, metric: str, best: Mapping[str, Any]) -> None:
    """Write `best/net_g_best.pth` and `best.json`; nothing of a model that does not show its network.

    `best`: `{better, val, iter}` of the metric on the data set.
    """
    content = model.network_states()
    if not content:
        return
    folder = Path(opt['path']['best'])
    save_weights(folder / 'net_g_best.pth', content | model.identity())
    block = opt['val']['metrics'].get(metric)
    write_json(
        folder / 'best.json', {
            'dataset': dataset, 'metric': metric, 'value': best['val'], 'iter': best['iter'],
            'protocol': describe(block) if block else ''
        })
