"""What of a run's options is not as it was when its state was written, and what of that takes effect."""
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from addict import Dict

from basicsr.config import freeze
from basicsr.config.report import Path as OptionPath
from basicsr.config.report import dotted
from basicsr.engine.schedule import follows_options
from basicsr.models.training_states import plain
from basicsr.training.resume import Resume, noted_options
from basicsr.utils.errors import counted

# folders, logs, machines and validations may differ between two starts of a run; whatever else an option says, a model of
# others may read
_OF_A_START = ('name', 'path', 'val', 'logger', 'num_gpu', 'dist_params', 'find_unused_parameters', 'is_train',
               'auto_resume', 'dist', 'rank', 'world_size', 'launcher', 'debug', 'root', 'stages', 'base', 'arch_files',
               'model_files', 'dataset_files', 'loss_files', 'metric_files')
# how fast and how long, not what
_NOT_COMPARED = ('time_limit', 'compile', 'cuda_graphs', 'cudnn_benchmark', 'early_stop', 'num_worker_per_gpu',
                 'worker_timeout', 'pin_memory', 'persistent_workers', 'prefetch_mode', 'cache', 'phase', 'block')
_RATES = (('train', 'scheduler'), ('train', 'optim_g'), ('train', 'optim_d'))
# what a schedule's state calls its options, where it is another name
_OPTION_NAMES = {'weights': 'restart_weights'}
_OF_A_SCHEDULE = ('periods', 'milestones', 'gamma', 'restarts', 'restart_weights', 'eta_min', 'eta_mins', 'T_max')


def differences(opt: Dict, resume: Resume, model: Any) -> list[str]:
    """Sentences for the log: which options have changed since the state was written, and whether that takes effect.

    To be asked before the run notes its options anew, and before the model has taken the state.
    """
    state, found = resume.state, _found(opt, resume, model)
    lines: dict[str, list[str]] = {}
    for path, old, new in found:
        effect = 'without effect, the state decides' if _past(path, model) else 'in force from here on'
        lines.setdefault(effect, []).append(f'{dotted(path)} was {_spell(old)} and is {_spell(new)}')
    said = [
        f"{counted(len(changes), 'option')} changed since '{resume.file.name}', iteration {state['iter']} ({effect}):"
        f" {'; '.join(changes)}" for effect, changes in lines.items()
    ]
    if any(path == ('manual_seed', ) for path, _, _ in found):
        said.append('manual_seed orders the samples from here on; random numbers go on from the state')
    return said


def in_force(opt: Dict, resume: Resume, model: Any) -> Dict:
    """The options, where some take no effect with what the state decides instead: what the run notes of itself.

    To be asked when `differences` is.
    """
    data = opt.to_dict()
    for path, old, _ in _found(opt, resume, model):
        if _past(path, model):
            block = data
            for part in path[:-1]:
                block = block[part]
            block.pop(path[-1], None)
            if old is not None:
                block[path[-1]] = old
    return freeze(data)


def forget_other_best(opt: Dict, resume: Resume) -> list[str]:
    """Take best values out of the state that were measured otherwise than now, and say so: no later one compares with them."""
    before, now = noted_options(resume), plain(opt)
    if before is None or not resume.state.get('best'):
        return []
    old, new = (_measured(options) for options in (before, now))
    gone = [(name, label) for name, found in resume.state['best'].items() for label in found
            if new[0].get(name) != old[0].get(name) or new[1].get(label) != old[1].get(label)]
    for name, label in gone:
        del resume.state['best'][name][label]
    if gone:
        (resume.state.get('run_state') or {}).pop('early_stop', None)
    said = ', '.join(f'{label} on {name}' for name, label in gone)
    return [f'the best values of {said} begin anew: the images or the metric have changed'] if gone else []


def _measured(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Validation sets by name, and metrics by label, without what changes no value."""
    sets = {
        block.get('name'): {k: v for k, v in block.items() if k not in _NOT_COMPARED}
        for key, block in options.get('datasets', {}).items() if key.startswith('val')
    }
    return sets, (options.get('val') or {}).get('metrics') or {}


def _found(opt: Dict, resume: Resume, model: Any) -> list[tuple[OptionPath, Any, Any]]:
    """Where an option is not as it was: its place, the old and the new value."""
    before = noted_options(resume)
    return _differences(before, plain(opt)) if before else _of_optimizers(model, resume.state)


def _past(path: OptionPath, model: Any) -> bool:
    return path[:2] in _RATES and not _in_force(str(path[1]), model)


def _in_force(option: str, model: Any) -> bool:
    """Whether a changed schedule or optimizer counts: without a formula, rates follow from those before."""
    if option == 'scheduler':
        return all(map(follows_options, model.schedulers))
    optimizers = [getattr(model, option.replace('optim', 'optimizer'), None)]
    if optimizers == [None]:  # by BasicSR's custom the generator's comes first
        optimizers = model.optimizers[:1] if option == 'optim_g' else model.optimizers[1:]
    return all(any(s.optimizer is o and follows_options(s) for s in model.schedulers) for o in optimizers)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[OptionPath, Any, Any]]:
    old, new = ({k: v for k, v in options.items() if k not in _OF_A_START and v is not None}
                for options in (before, now))
    for options in (old, new):
        options['datasets'] = {k: v for k, v in options.get('datasets', {}).items() if k == 'train'}
    return list(_changed(old, new))


def _changed(old: Any, new: Any, path: OptionPath = ()) -> Iterator[tuple[OptionPath, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            if key not in _NOT_COMPARED:
                yield from _changed(old.get(key), new.get(key), (*path, key))
    elif old != new:
        yield path, old, new


def _of_optimizers(model: Any, state: dict[str, Any]) -> list[tuple[OptionPath, Any, Any]]:
    """What the states of the first optimizer and schedule, of a program that noted no options, say otherwise."""
    found: list[tuple[OptionPath, Any, Any]] = []
    for optimizer, theirs in list(zip(getattr(model, 'optimizers', []), state['optimizers']))[:1]:
        old, new = theirs['param_groups'][0], optimizer.param_groups[0]
        for key, option in (('initial_lr', 'lr'), ('betas', ) * 2, ('weight_decay', ) * 2, ('momentum', ) * 2):
            if key in old and key in new:
                found += _changed(_listed(old[key]), _listed(new[key]), ('train', 'optim_g', option))
    for scheduler, theirs in list(zip(getattr(model, 'schedulers', []), state['schedulers']))[:1]:
        for key, value in vars(scheduler).items():
            name = _OPTION_NAMES.get(key, key)
            held = next((theirs[k] for k in (key, name) if k in theirs), None)
            if name in _OF_A_SCHEDULE and held is not None:
                found += _changed(_listed(held), _listed(value), ('train', 'scheduler', name))
    return found


def _listed(value: Any) -> Any:
    """Sequences as lists; the milestones that PyTorch counts, sorted."""
    if isinstance(value, dict):
        return sorted(key for key, count in value.items() for _ in range(count))
    return list(value) if isinstance(value, (list, tuple)) else value


def _spell(value: Any) -> str:
    return 'not given' if value is None else json.dumps(value) if isinstance(value, (dict, list, bool)) else str(value)
