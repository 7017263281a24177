"""A study of Optuna in a database that several processes share and that survives their end."""
from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from basicsr.config.overrides import flatten
from basicsr.search.space import PrunerOptions, SamplerOptions
from basicsr.utils.errors import UserError
from basicsr.utils.seed import mix_seed

# a running trial gives a sign of life every minute; after two without, its process is taken for dead
HEARTBEAT, GRACE = 60, 120
ERROR = 'error'  # user attribute of a trial that failed by itself; others that failed were interrupted, and do not count


def open_study(storage: str, name: str, direction: Any, identity: dict[str, Any]) -> optuna.Study:
    """Create a study or continue it.

    Args:
        storage: URL of a database, e.g. 'sqlite:///search.db'.
        identity: what must be the same in every process and at every start; nested mappings of plain values.

    Raises:
        UserError: the database cannot be used, or holds a study of that name with another identity.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=_open(storage), study_name=name, direction=direction, load_if_exists=True)
    mine = flatten(json.loads(json.dumps(identity)))
    theirs = study.user_attrs.get('identity')
    if theirs is None:
        study.set_user_attr('identity', mine)
    elif theirs != mine:
        keys = [k for k in dict.fromkeys([*theirs, *mine]) if theirs.get(k) != mine.get(k)]
        changes = ', '.join(f'{k}: {theirs.get(k)} then, {mine.get(k)} now' for k in keys[:4])
        raise UserError(f"'{storage}' holds a study '{name}' of other options or another space ({changes}"
                        f"{', ...' if len(keys) > 4 else ''}); go on with those, or give another --study")
    return study


def make_sampler(options: SamplerOptions, trials_so_far: int) -> optuna.samplers.BaseSampler:
    """Without a seed every process draws differently."""
    seed = None if options.seed is None else mix_seed(options.seed, trials_so_far)
    if options.type == 'random':
        return optuna.samplers.RandomSampler(seed=seed)
    with quiet():
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)  # processes do not try the same at once


def make_pruner(options: PrunerOptions, val_freq: int, total_iter: int) -> optuna.pruners.BasePruner:
    """Steps are iterations; nothing is pruned before `min_iter`, by default the first validation."""
    start = options.min_iter or val_freq
    if options.type == 'median':
        return optuna.pruners.MedianPruner(options.startup_trials, n_warmup_steps=start)
    if options.type == 'hyperband':
        return optuna.pruners.HyperbandPruner(min(start, total_iter), total_iter, options.reduction_factor)
    return optuna.pruners.NopPruner()


def fail_dead_trials(study: optuna.Study) -> None:
    """Mark running trials as failed whose process was killed."""
    with quiet():
        optuna.storages.fail_stale_trials(study)


def finished(trial: FrozenTrial) -> bool:
    """Completed, pruned, or failed by itself."""
    failed = trial.state == TrialState.FAIL and ERROR in trial.user_attrs
    return failed or trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def taken(study: optuna.Study, before: int | None = None) -> int:
    """Trials that are finished or running; those with a number below `before`, if given."""
    return sum(1 for t in study.get_trials(deepcopy=False)
               if (before is None or t.number < before) and (finished(t) or t.state == TrialState.RUNNING))


def _open(url: str) -> optuna.storages.RDBStorage:
    waits = {'connect_args': {'timeout': 60}} if url.startswith('sqlite') else {}  # for other processes that write
    attempts = 100  # the faster process may be slow itself, on a busy machine
    for attempt in range(attempts):
        try:
            with quiet():
                return optuna.storages.RDBStorage(url, waits, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
        except (SQLAlchemyError, ImportError, RuntimeError) as error:
            # two processes may be making the tables of a new database at once: the slower one tries again
            if attempt == attempts - 1 or ('already exists' not in str(error) and 'UNIQUE' not in str(error)):
                reason = str(getattr(error, 'orig', None) or error).partition('\n')[0]
                raise UserError(f"--storage '{url}' cannot be used: {reason}; "
                                'a file is given as sqlite:///FILE.db') from error
            time.sleep(0.2)
    raise AssertionError


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings that what is used here may change one day."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
        yield
