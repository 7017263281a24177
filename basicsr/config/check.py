"""Check an option mapping against the schema and against the arguments of every component it names."""
from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from basicsr.config import signatures
from basicsr.config.blocks import check_block
from basicsr.config.report import Path, Problems
from basicsr.config.schema import LoaderOptions, Options
from basicsr.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    SCHEDULER_REGISTRY,
    Registry,
)
from basicsr.utils.errors import nearest

OPTIMIZERS = {
    'Adam': 'torch.optim.adam',
    'AdamW': 'torch.optim.adamw',
    'Adamax': 'torch.optim.adamax',
    'SGD': 'torch.optim.sgd',
    'ASGD': 'torch.optim.asgd',
    'RMSprop': 'torch.optim.rmsprop',
    'Rprop': 'torch.optim.rprop',
}
_BLOCKS = ('datasets', 'path', 'train', 'val')
_ONE_LOSS = ('pixel_opt', 'perceptual_opt')  # beside the list `losses`
OUR_MODELS = ('BaseModel', 'SRModel', 'ImageCleanModel')


def check_options(data: dict[str, Any], problems: Problems, is_train: bool) -> dict[str, Any]:
    """Validate the whole mapping; mistakes go to `problems`. Returns it with types converted and defaults filled in."""
    words = _third_party_words(data, problems)
    opt = check_block(Options, data, (), problems, words)
    if opt is None:  # go on with what has the right form, so that mistakes further inside are found as well
        opt = {k: v for k, v in data.items() if isinstance(v, dict if k in _BLOCKS else (dict, str, int, float))}
    train, val = opt.get('train') or {}, opt.get('val') or {}
    for key in opt.get('datasets') or {}:
        _dataset(opt['datasets'], key, opt.get('scale', 1), is_train, problems)
    _component(opt, 'network_g', ARCH_REGISTRY, (), problems, skip=())
    if opt.get('network_d') and opt.get('model_type') in OUR_MODELS:
        problems.notice(('network_d', ), f"not read by {opt['model_type']}")
    if is_train and isinstance(train, dict):
        _training(opt, train, problems)
    metrics = val['metrics'] if isinstance(val.get('metrics'), dict) else {}
    for label in metrics:
        _component(metrics, label, METRIC_REGISTRY, ('val', 'metrics'), problems, skip=('img', 'img2'),
                   extra={'better': (typing.Literal['higher', 'lower'] | None, None)})
    _known_metric(val.get('best_metric'), metrics, ('val', 'best_metric'), problems)
    if is_train and isinstance(train, dict) and isinstance(train.get('early_stop'), dict):
        _early_stop(opt, train['early_stop'], val, metrics, problems)
    return opt


def _component(holder: dict[str, Any], key: str | int, registry: Registry, path: Path, problems: Problems,
               skip: tuple[str, ...], extra: dict[str, Any] | None = None) -> None:
    """Check `holder[key]`, a mapping with `type` and arguments of the registered object, and convert its values."""
    block = holder.get(key) if isinstance(holder, dict) else holder[key]
    here = (*path, key)
    if not isinstance(block, dict):
        return
    name = block.get('type')
    if name is None:
        problems.add((*here, 'type'), f'is required: the name of a {registry.noun}')
    elif str(name) not in registry:
        problems.add((*here, 'type'), registry.unknown(str(name)))
    else:
        extra = {'type': (str, ...)} | (extra or {})
        checked = check_block(signatures.model_for(registry, name, skip, extra), block, here, problems)
        if checked is not None:
            # only what the file says, so that the class's own defaults stay in one place
            holder[key] = {k: v for k, v in checked.items() if k in block}


def _dataset(blocks: dict[str, Any], key: str, scale: int, is_train: bool, problems: Problems) -> None:
    here, block = ('datasets', key), blocks[key]
    if not isinstance(block, dict):
        problems.add(here, 'must be a mapping (key: value)')
        return
    if str(key).split('_')[0] not in ('train', 'val', 'test'):
        problems.add(
            here, f"unknown dataset block.{nearest(key, ['train', 'val', 'test'])}"
            ' Allowed: train, val, val_1, ..., test, test_1, ...')
    name = block.get('type')
    if name is None or str(name) not in DATASET_REGISTRY:
        problems.add((*here, 'type'), DATASET_REGISTRY.unknown(str(name)) if name else 'is required')
        return
    signature = signatures.read_signature(DATASET_REGISTRY.index()[name])
    loader = {n: (f.annotation, ... if f.is_required() else f.default) for n, f in LoaderOptions.model_fields.items()}
    skip = ('opt', 'phase')
    if signature.takes_opt:
        loader |= {w: (Any, None) for w in signature.words if w.isidentifier() and w not in loader}
    block.setdefault('scale', scale)
    block.setdefault('name', str(key))
    model = signatures.model_for(DATASET_REGISTRY, name, skip, loader)
    checked = check_block(model, block, here, problems)
    if checked is None:
        return
    if is_train and key == 'train':
        _patches(checked, here, problems)
    if block.get('cache'):
        _cache(block, key, here, problems)
    blocks[key] = checked if not signature.takes_opt else {
        k: v for k, v in checked.items() if k in block or v is not None
    }


def _cache(block: dict[str, Any], key: str, here: Path, problems: Problems) -> None:
    if not str(key).startswith('train'):
        problems.add((*here, 'cache'), 'is for training sets')
    unused = [k for k in ('num_worker_per_gpu', 'pin_memory', 'persistent_workers') if block.get(k)]
    if unused:
        problems.notice((*here, 'cache'), f'no workers are needed: {", ".join(unused)} without effect')


def _patches(block: dict[str, Any], here: Path, problems: Problems) -> None:
    """Progressive training: three lists of one length, no stage larger than what the loader delivers."""
    lists = {k: block.get(k) for k in ('mini_batch_sizes', 'gt_sizes', 'iters')}
    given = {k: v for k, v in lists.items() if v}
    if given and len({len(v) for v in given.values()} | ({0} if len(given) < 3 else set())) > 1:
        problems.add(here, 'mini_batch_sizes, gt_sizes and iters must be given together and have one length')
    for key, limit in (('mini_batch_sizes', 'batch_size_per_gpu'), ('gt_sizes', 'gt_size')):
        if given.get(key) and block.get(limit) and max(given[key]) > block[limit]:
            problems.add((*here, key), f'{max(given[key])} is larger than {limit}: {block[limit]}')
    if block.get('gt_size') and block['gt_size'] % block.get('scale', 1):
        problems.add((*here, 'gt_size'), f"{block['gt_size']} is not a multiple of scale: {block['scale']}")


def _training(opt: dict[str, Any], train: dict[str, Any], problems: Problems) -> None:
    if not opt.get('train'):
        problems.add(('train', ), 'is required for training')
        return
    if 'train' not in (opt.get('datasets') or {}):
        problems.add(('datasets', 'train'), 'is required for training')
    _optimizer(train, 'optim_g', problems)
    _component(train, 'scheduler', SCHEDULER_REGISTRY, ('train', ), problems,
               skip=('optimizer', 'total_iter', 'last_epoch'))
    for path, holder, key in loss_places(train):
        _component(holder, key, LOSS_REGISTRY, path, problems, skip=())
    if opt.get('model_type') in OUR_MODELS and not any(train.get(k) for k in (*_ONE_LOSS, 'losses')):
        problems.add(('train', ), 'no loss: give pixel_opt, perceptual_opt or losses')
    _schedule_lengths(train, problems)
    val, blocks = opt.get('val') or {}, opt.get('datasets') or {}
    if val.get('val_freq') and not any(str(key).startswith('val') for key in blocks):
        problems.notice(('val', 'val_freq'), 'there is no datasets.val, so nothing is validated in training' +
                        (' (test sets are for testing)' if len(blocks) > 1 else ''))


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


def _known_metric(label: Any, metrics: dict[str, Any], where: Path, problems: Problems) -> None:
    if label is not None and label not in list(metrics):
        problems.add(where, f"'{label}' is none of the metrics: {', '.join(map(str, metrics)) or 'there are none'}")


def _early_stop(opt: dict[str, Any], block: dict[str, Any], val: dict[str, Any], metrics: dict[str, Any],
                problems: Problems) -> None:
    here = ('train', 'early_stop')
    _known_metric(block.get('metric'), metrics, (*here, 'metric'), problems)
    if not any(str(key).startswith('val') for key in opt.get('datasets') or {}):
        problems.add(here, 'needs a validation set: give datasets.val')
    elif not metrics or not val.get('val_freq'):
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
    signature = signatures.torch_signature(OPTIMIZERS[name], name)
    if signature is None:  # another layout of torch: the constructor itself will complain
        return
    fields = {k: v for k, v in signature.fields.items() if k != 'params'}
    fields |= {'type': (str, ...), 'lr': (float, ...)}
    if 'betas' in fields:
        fields['betas'] = (tuple[float, float], (0.9, 0.999))
    if 'weight_decay' in fields:
        fields['weight_decay'] = (float, 0.)
    checked = check_block(signatures.to_model(name, fields, signature.open), block, here, problems)
    if checked is not None:
        train[key] = {k: v for k, v in checked.items() if k in block}


def _schedule_lengths(train: dict[str, Any], problems: Problems) -> None:
    scheduler, total = train.get('scheduler'), train.get('total_iter')
    warmup = scheduler.get('warmup_iter') if isinstance(scheduler, dict) else None
    if isinstance(warmup, int) and isinstance(total, int) and warmup >= total:
        problems.add(('train', 'scheduler', 'warmup_iter'), f'{warmup} is not less than total_iter: {total}')
    if isinstance(warmup, int) and train.get('warmup_iter', -1) not in (-1, 0):
        problems.add(('train', 'warmup_iter'), 'the scheduler has a warmup_iter of its own; give one of the two')
    periods = scheduler.get('periods') if isinstance(scheduler, dict) else None
    if not isinstance(periods, list) or not all(isinstance(p, int) for p in periods):
        return
    if isinstance(total, int) and total > sum(periods):
        problems.add(('train', 'total_iter'),
                     f'{total} iterations, but the periods of the scheduler end after {sum(periods)}')
    for key in ('restart_weights', 'eta_mins'):
        values = scheduler.get(key)
        if isinstance(values, list) and len(values) != len(periods):
            problems.add(('train', 'scheduler', key), f'{len(values)} values for {len(periods)} periods')


def _third_party_words(data: dict[str, Any], problems: Problems) -> frozenset[str]:
    """Keys that the source of a model class from outside mentions; a mistyped key is not among them."""
    name = data.get('model_type')
    if name is None:
        return frozenset()
    if str(name) not in MODEL_REGISTRY:
        problems.add(('model_type', ), MODEL_REGISTRY.unknown(str(name)))
        return frozenset()
    if name in OUR_MODELS:
        return frozenset()
    return signatures.read_signature(MODEL_REGISTRY.index()[name]).words
