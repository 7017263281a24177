"""Training states: what is needed beside the weights to continue a run as if it had never stopped."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from torch import Tensor

from basicsr.config.report import dotted
from basicsr.config.wording import sentence
from basicsr.utils.errors import UserError
from basicsr.utils.restricted_unpickling import read_file

# NumPy's, too, as programs of this family write them
_Whole = Annotated[int,
                   Field(strict=True, ge=0),
                   BeforeValidator(lambda value: getattr(value, 'item', lambda: value)())]
_Weights = dict[str, Tensor]


class _Part(BaseModel):
    model_config = ConfigDict(extra='allow', arbitrary_types_allowed=True)


class _Group(_Part):
    params: list[Any]


class _Optimizer(_Part):
    state: dict[Any, dict[str, Any]]
    param_groups: Annotated[list[_Group], Field(min_length=1)]


class _Best(_Part):
    val: Annotated[float, Field(strict=True)]
    iter: _Whole


class _EarlyStop(_Part):
    best: Annotated[float, Field(strict=True)] | None
    iter: _Whole
    waited: _Whole


class _RunState(_Part):
    epoch: _Whole = 0
    batches_done: _Whole = 0
    images: _Whole = 0
    processes: _Whole = 0
    batch_size: _Whole = 0
    batches: _Whole = 0
    early_stop: _EarlyStop | None = None


class _Options(_Part):
    train: dict[str, Any] = {}
    datasets: dict[str, Any] = {}
    val: dict[str, Any] = {}


class _State(_Part):
    """What is read of a state; the first four are all that BasicSR's have."""
    epoch: _Whole
    iter: _Whole
    optimizers: list[_Optimizer]
    schedulers: list[dict[str, Any]]
    params: _Weights = {}
    params_ema: _Weights = {}
    networks: dict[str, _Weights] | None = None
    parameters: list[list[Tensor]] | None = None
    rng: list[dict[str, Any]] | None = None
    best: dict[str, dict[str, _Best]] | None = None
    run_state: _RunState | None = None
    options: _Options | None = None
    amp_scaler: dict[str, Any] | None = None


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
    """A `.state` file of this toolbox, of BasicSR or of the Restormer family.

    Raises `UserError` when it is none, or a part of it is of another type or out of its range.
    """
    state = read_file(path)
    needed = [name for name, field in _State.model_fields.items() if field.is_required()]
    missing = [k for k in needed if not isinstance(state, dict) or k not in state]
    if missing:
        raise UserError(f"'{path}' is no training state (it lacks {', '.join(missing)}); weights belong in"
                        ' path.pretrain_network_g')
    try:
        _State.model_validate(state)
    except ValidationError as error:
        first = error.errors()[0]
        wrong = 'is missing' if first['type'] == 'missing' else sentence(first).replace(
            'an instance of Tensor', 'a tensor')
        raise UserError(
            f"'{path}' is no training state that a run can go on from: {dotted(first['loc'])} {wrong}") from error
    return state


def is_of(state_file: Path, training_states: str | Path) -> bool:
    """Whether a state lies in this folder of states, by whatever path."""
    return state_file.resolve().parent == Path(training_states).resolve()


def weights_beside(state_file: str | Path, net_label: str, iteration: int, models: str | Path | None = None) -> Path:
    """The weight file of a network that a state does not hold itself, `models/<net_label>_<iteration>.pth`, or where it
    should be: beside the folder of the state. `models`: where to look first, of the run whose state it is."""
    name = f'{net_label}_{iteration}.pth'
    beside = Path(state_file).resolve().parent.parent / 'models'
    folders = [*([] if models is None else [Path(models)]), beside]
    return next((folder / name for folder in folders if (folder / name).is_file()), folders[0] / name)
