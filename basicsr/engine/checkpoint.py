"""Training states: what is needed beside the weights to continue a run as if it had never stopped."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError
from basicsr.utils.weights import read_file


class Finished(Exception):
    """What is to be resumed has ended. The text says so."""


def newest_state(folder: str | Path) -> Path | None:
    """The `.state` file of the highest iteration; files with other names are ignored."""
    found = [(int(p.stem), p) for p in Path(folder).glob('*.state') if re.fullmatch(r'\d+', p.stem)]
    return max(found)[1] if found else None


def read_state(path: str | Path) -> dict[str, Any]:
    """A `.state` file of this toolbox, of BasicSR or of the Restormer family. Raises `UserError` when it is none."""
    state = read_file(path)
    missing = [
        k for k in ('epoch', 'iter', 'optimizers', 'schedulers') if not isinstance(state, dict) or k not in state
    ]
    if missing:
        raise UserError(f"'{path}' is no training state (it lacks {', '.join(missing)}); weights belong in"
                        ' path.pretrain_network_g')
    return state


def weights_beside(state_file: str | Path, models: str | Path, iteration: int) -> Path:
    """The weights of a state that does not hold them itself: `models/net_g_<iteration>.pth`."""
    name = f'net_g_{iteration}.pth'
    for folder in (Path(models), Path(state_file).parent.parent / 'models'):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"'{state_file}' holds no weights, and there is no '{Path(models) / name}' beside it")
