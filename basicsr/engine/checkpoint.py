"""Training states: what is needed beside the weights to continue a run as if it had never stopped."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError
from basicsr.utils.restricted_unpickling import read_file


class Finished(Exception):
    """What is to be resumed has ended. The text says so."""


def newest_state(folder: str | Path) -> Path | None:
    """The `.state` file of the highest iteration; files with other names are ignored."""
    return next(iter(states(folder)), None)


def states(folder: str | Path) -> list[Path]:
    """The `.state` files of a run, the newest first."""
    found = [(int(p.stem), p) for p in Path(folder).glob('*.state') if re.fullmatch(r'\d+', p.stem)]
    return [path for _, path in sorted(found, reverse=True)]


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


def weights_beside(state_file: str | Path, models: str | Path, net_label: str, iteration: int) -> Path:
    """The weight file of a network that a state does not hold itself, `models/<net_label>_<iteration>.pth`, or where it
    should be: in the folder `models` of the run, else beside the folder of the state."""
    name = f'{net_label}_{iteration}.pth'
    folders = (Path(models), Path(state_file).parent.parent / 'models')
    return next((folder / name for folder in folders if (folder / name).is_file()), folders[0] / name)
