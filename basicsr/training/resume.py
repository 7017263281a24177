"""The state from which a run goes on."""
from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from addict import Dict

from basicsr.engine.checkpoint import Finished, is_of, read_state, states
from basicsr.engine.optimizer import check_optimizer_state
from basicsr.engine.schedule import check_schedule
from basicsr.utils.errors import UserError, counted
from basicsr.utils.logger import get_root_logger, timestamp
from basicsr.utils.seed import set_rng_state, undrawn

_MOMENTS_OF = ({'Adam', 'AdamW'}, )  # optimizers that understand each other's moments
_OF_A_KIND = ('betas', 'momentum', 'alpha', 'rho', 'etas', 'lambd', 'momentum_decay')  # options of some optimizers only


class Resume(NamedTuple):
    """Where a run goes on: a `.state` file and its content. `damaged`: newer states of the run that cannot be read."""
    file: Path
    state: dict[str, Any]
    damaged: tuple[Path, ...] = ()


def find_resume_state(opt: Dict | dict[str, Any]) -> Resume | None:
    """The state to continue from: `path.resume_state`, or with `auto_resume` the newest of this run that can be read.

    Raises `Finished` for a run that has ended, and `UserError` for a state beyond the end of this one.
    """
    own = _newest_readable(opt) if opt.get('auto_resume') else None
    given = opt['path'].get('resume_state')
    if own is None and given is None:
        return None
    found = own or Resume(Path(given), read_state(given))
    state, total = found.state, opt['train']['total_iter']
    last = Path(opt['path']['models']) / 'net_g_latest.pth'
    unended = own is not None and not last.is_file()  # it may have been stopped in the last validation
    if state['iter'] < total or (unended and state['iter'] == total):
        return found
    if own and not unended:
        raise Finished(f"'{opt['name']}' is finished: {state['iter']} of {total} iterations, its weights are '{last}';"
                       ' nothing is left to do')
    raise UserError(
        f"'{found.file}' is from iteration {state['iter']}; train.total_iter is {total}, so nothing is left to do")


def _newest_readable(opt: Dict | dict[str, Any]) -> Resume | None:
    """A newer one that is damaged is told. Raises `UserError` when all are."""
    damaged: dict[Path, UserError] = {}
    for file in states(opt['path']['training_states']):
        try:
            found = Resume(file, read_state(file), tuple(damaged))
        except UserError as error:
            damaged[file] = error
            continue
        for mistake in damaged.values():
            get_root_logger().warning(f"{mistake}. The run goes on from '{file}' before it")
        return found
    if damaged:
        raise next(iter(damaged.values()))
    return None


def set_aside(files: Iterable[Path], word: str) -> None:
    """Give states another name: the run writes theirs again, and nothing of a user's is removed."""
    for file in files:
        new = file.replace(file.with_name(f'{file.name}.{word}_{timestamp()}'))
        get_root_logger().info(f"'{file.name}' is now '{new.name}'")


def is_own(opt: Dict, resume: Resume) -> bool:
    """Whether a state is the run's own, so that its folder goes on; with another's, a new run begins."""
    return is_of(resume.file, opt['path']['training_states'])


def later_states(opt: Dict, resume: Resume) -> list[Path]:
    """States of the run after the one that it goes on from, which are of another course of it."""
    return [file for file in states(opt['path']['training_states']) if int(file.stem) > resume.state['iter']]


def check_fits(opt: Dict, resume: Resume, model: Any) -> None:
    """Raise `UserError` where the model cannot go on from a state: its optimizers, schedules and random numbers."""
    before, now = (noted_options(resume) or {}).get('train', {}), opt['train']
    for key in ('optim_g', 'optim_d'):
        old, new = ((train.get(key) or {}).get('type') for train in (before, now))
        if old and new and old != new and not any({old, new} <= kinds for kinds in _MOMENTS_OF):
            raise UserError(
                f"train.{key}.type: '{resume.file}' holds what {old} has gathered, with which {new} cannot go on;"
                ' start a run of another name with path.fine_tune_from')
    for kind, noun in (('optimizers', 'optimizer'), ('schedulers', 'schedule')):
        held, made = len(resume.state[kind]), len(getattr(model, kind, []))
        if held != made:
            raise UserError(f"'{resume.file}' is of a model with {counted(held, noun)}, {opt['model_type']} has {made}")
    for mine, theirs in zip(model.optimizers, resume.state['optimizers']):
        missing = [key for key in _OF_A_KIND if (key in mine.defaults) != (key in theirs['param_groups'][0])]
        if missing:
            raise UserError(
                f"'{resume.file}' holds what another kind of optimizer has gathered, one that"
                f" {'lacks' if missing[0] in mine.defaults else 'has'} {missing[0]}: {type(mine).__name__} cannot go"
                ' on from there; start a run of another name with path.fine_tune_from')
    for kind, check in (('optimizers', check_optimizer_state), ('schedulers', check_schedule)):
        for number, (mine, theirs) in enumerate(zip(getattr(model, kind), resume.state[kind])):
            try:
                check(mine, theirs)
            except ValueError as error:
                raise UserError(f"'{resume.file}' does not fit this run: {kind}[{number}]: {error}") from error
    _try_random_numbers(opt, resume)


def _try_random_numbers(opt: Dict, resume: Resume) -> None:
    held = resume.state.get('rng') or []
    if len(held) == opt['world_size']:
        try:
            with undrawn():
                set_rng_state(held[opt['rank']])
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"'{resume.file}' is no training state that a run can go on from: rng[{opt['rank']}] is no state of"
                f' generators ({type(error).__name__}: {error})') from error


def noted_options(resume: Resume) -> dict[str, Any] | None:
    """The options that a state was trained with: its own, or those that its run noted; BasicSR notes none."""
    if resume.state.get('options'):
        return resume.state['options']
    try:
        options = json.loads((resume.file.parent.parent / 'options.json').read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return options if isinstance(options, dict) else None
