"""Check the block `train`: optimizer, schedule, losses, and what they need of the other blocks."""
from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from basicsr.config.blocks import check_block, check_component
from basicsr.config.optimizers import OPTIMIZERS, optimizer_model
from basicsr.config.report import Path, Problems
from basicsr.config.signatures import own_methods, signature_of
from basicsr.registry import ARCH_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY, SCHEDULER_REGISTRY, Registry
from basicsr.utils.errors import counted, nearest

WITH_DISCRIMINATOR = ('SRGANModel', 'ESRGANModel')
OUR_MODELS = ('BaseModel', 'SRModel', 'ImageCleanModel', *WITH_DISCRIMINATOR)
NO_LOSS = 'no loss: give pixel_opt, perceptual_opt or losses'
_SCHEDULER = ('train', 'scheduler')
# methods in which a model of others may know more of a block than is registered
_MADE_BY = {'optim_g': {'get_optimizer', 'setup_optimizers'}, 'scheduler': {'setup_schedulers'}}
_ONE_LOSS = ('pixel_opt', 'perceptual_opt')  # beside the list `losses`


def check_training(opt: dict[str, Any], metrics: dict[str, Any], problems: Problems) -> None:
    """`metrics`: the blocks of `val.metrics`."""
    train, blocks, val = opt.get('train', {}), opt['datasets'], opt['val']
    if not train:
        if not problems.wrong(('train', )):
            problems.add(('train', ), 'is required for training')
        return
    if 'train' not in blocks and not problems.wrong(('datasets', )):
        problems.add(('datasets', 'train'), 'is required for training')
    if not _of_model(opt, 'optim_g', OPTIMIZERS, problems):
        _optimizer(train, 'optim_g', problems)
    if not _of_model(opt, 'scheduler', SCHEDULER_REGISTRY, problems):
        check_component(train, 'scheduler', SCHEDULER_REGISTRY, ('train', ), problems)
    for path, holder, key in loss_places(train):
        check_component(holder, key, LOSS_REGISTRY, path, problems)
        here = (*path, key, 'reduction')
        if isinstance(holder[key], dict) and holder[key].get('reduction') == 'none' and not problems.wrong(here):
            problems.add(here, 'must be mean or sum (training needs one number), not none')
    if opt.get('model_type') in WITH_DISCRIMINATOR:
        _discriminator(opt, train, problems)
    elif opt.get('model_type') in OUR_MODELS and not any(train.get(k) for k in (*_ONE_LOSS, 'losses')):
        problems.add(('train', ), NO_LOSS)
    _schedule_lengths(train, problems)
    if val.get('val_freq') and not any(str(key).startswith('val') for key in blocks):
        problems.notice(('val', 'val_freq'), 'there is no datasets.val, so nothing is validated in training' +
                        (' (test sets are for testing)' if len(blocks) > 1 else ''))
    if isinstance(train.get('early_stop'), dict):
        _early_stop(blocks, train['early_stop'], val, metrics, problems)


def _of_model(opt: dict[str, Any], key: str, known: Container[Any] | Registry, problems: Problems) -> bool:
    """Whether a block is of a type that only the model can make, which then checks it. Said in a notice."""
    block, model = opt['train'].get(key), opt.get('model_type')
    if not isinstance(block, dict) or not isinstance(block.get('type'), str) or block['type'] in known:
        return False
    if not isinstance(model,
                      str) or model not in MODEL_REGISTRY or not own_methods(MODEL_REGISTRY, model) & _MADE_BY[key]:
        return False
    problems.notice(('train', key, 'type'), f"'{block['type']}' is not known here; {model} may make it")
    return True


def _discriminator(opt: dict[str, Any], train: dict[str, Any], problems: Problems) -> None:
    """What a model with a discriminator reads of it."""
    for here, holder in ((('network_d', ), opt), (('train', 'optim_d'), train), (('train', 'gan_opt'), train)):
        if not holder.get(here[-1]) and not problems.wrong(here):
            problems.add(here, f"is required by {opt['model_type']}")
    check_component(opt, 'network_d', ARCH_REGISTRY, (), problems)
    check_component(train, 'gan_opt', LOSS_REGISTRY, ('train', ), problems)
    _optimizer(train, 'optim_d', problems)


def loss_places(train: dict[str, Any]) -> Iterator[tuple[Path, Any, str | int]]:
    """Where `train` holds loss blocks: (path of the holder, holder, key), each block before the `terms` inside it."""
    for key in _ONE_LOSS:
        if train.get(key):
            yield from _with_terms(('train', ), train, key)
    for i in range(len(train['losses']) if isinstance(train.get('losses'), list) else 0):
        yield from _with_terms(('train', 'losses'), train['losses'], i)


def _with_terms(path: Path, holder: Any, key: str | int) -> Iterator[tuple[Path, Any, str | int]]:
    yield path, holder, key
    terms = holder[key].get('terms') if isinstance(holder[key], dict) else None  # after the yield: checking replaces it
    for inner in terms if isinstance(terms, dict) else range(len(terms) if isinstance(terms, list) else 0):
        yield from _with_terms((*path, key, 'terms'), terms, inner)


def known_metric(label: Any, metrics: dict[str, Any], where: Path, problems: Problems) -> None:
    if isinstance(label, str) and label not in metrics:
        problems.add(where, f"'{label}' is none of the metrics: {', '.join(map(str, metrics)) or 'there are none'}")


def _early_stop(blocks: dict[str, Any], block: dict[str, Any], val: dict[str, Any], metrics: dict[str, Any],
                problems: Problems) -> None:
    here = ('train', 'early_stop')
    known_metric(block.get('metric'), metrics, (*here, 'metric'), problems)
    if not any(str(key).startswith('val') for key in blocks):
        problems.add(here, 'needs a validation set: give datasets.val')
    elif not (metrics and val.get('val_freq')) and not problems.wrong(('val', )):
        problems.add(here, 'needs validations to look at: give val.val_freq and val.metrics')


def _optimizer(train: dict[str, Any], key: str, problems: Problems) -> None:
    block = train.get(key)
    if not isinstance(block, dict):
        return
    here, name = ('train', key), block.get('type')
    if str(name) not in OPTIMIZERS:
        known = ', '.join(OPTIMIZERS)
        problems.add((*here, 'type'),
                     f"there is no optimizer called '{name}'.{nearest(str(name), OPTIMIZERS)} Known: {known}")
        return
    model = optimizer_model(name)
    checked = check_block(model, block, here, problems) if model else None
    if checked is not None:
        train[key] = {k: v for k, v in checked.items() if k in block}


def _schedule_lengths(train: dict[str, Any], problems: Problems) -> None:
    scheduler = train['scheduler'] if isinstance(train.get('scheduler'), dict) else {}
    here, total = _SCHEDULER, train.get('total_iter')
    total = total if isinstance(total, int) and not problems.wrong(('train', 'total_iter')) else None
    warmup, periods = scheduler.get('warmup_iter'), scheduler.get('periods')
    if isinstance(warmup, int):
        if total and warmup >= total:
            problems.add((*here, 'warmup_iter'), f'{warmup} is not less than total_iter: {total}')
        if train.get('warmup_iter', -1) not in (-1, 0):
            problems.add(('train', 'warmup_iter'), 'the scheduler has a warmup_iter of its own; give one of the two')
    _lists_of_one_length(scheduler, problems)
    _too_late(scheduler, train.get('warmup_iter'), total, problems)
    if not isinstance(periods, list) or not all(isinstance(p, int) for p in periods):
        return
    end = None if problems.wrong((*here, 'periods')) else sum(periods)
    if total and end is not None and total > end:
        problems.add(('train', 'total_iter'), f'{total} iterations, but the periods of the scheduler end after {end}')
    if total and end is not None and total < end:
        problems.notice(('train', 'total_iter'),
                        f'{total} iterations end before the periods of the scheduler do, after {end}')


def _lists_of_one_length(scheduler: dict[str, Any], problems: Problems) -> None:
    """One weight and minimum for each period or restart; what is left out has as many as the default of the schedule."""
    name = str(scheduler.get('type'))
    fields = signature_of(SCHEDULER_REGISTRY, name).fields if name in SCHEDULER_REGISTRY else {}
    leader = next((key for key in ('periods', 'restarts') if key in fields), None)
    lengths = {
        key: len(value) for key, (_, default) in fields.items()
        if isinstance(value := scheduler.get(key, default), (list, tuple))
    }
    for key in ('restart_weights', 'eta_mins'):
        if leader is None or key not in lengths or not lengths.get(leader) or lengths[key] == lengths[leader]:
            continue
        wanted = counted(lengths[leader], leader.removesuffix('s'))
        if key in scheduler:
            problems.add((*_SCHEDULER, key), f"{counted(lengths[key], 'value')} for {wanted}")
        elif not problems.wrong((*_SCHEDULER, leader)):
            problems.add((*_SCHEDULER, key), f"is required: {counted(lengths[leader], 'value')} for {wanted}")


def _too_late(scheduler: dict[str, Any], warmup: Any, total: int | None, problems: Problems) -> None:
    """Say what of a schedule the run does not reach."""
    if not total:
        return
    if isinstance(warmup, int) and warmup >= total and not problems.wrong(('train', 'warmup_iter')):
        problems.notice(('train', 'warmup_iter'),
                        f'the run ends after {total} iterations, before or with the warm-up of {warmup}')
    for key in ('milestones', 'restarts'):
        values = scheduler.get(key)
        late = [v for v in values if isinstance(v, int) and v >= total] if isinstance(values, list) else []
        if late and not problems.wrong((*_SCHEDULER, key)):
            problems.notice((*_SCHEDULER, key),
                            f"without effect, as the run ends after {total} iterations: {', '.join(map(str, late))}")
