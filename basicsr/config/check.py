"""Check an option mapping against the schema and against the arguments of every component it names."""
from __future__ import annotations

import typing
from typing import Any

from basicsr.config import signatures
from basicsr.config.blocks import check_block, check_component, note_unread
from basicsr.config.readers import NOBODY, Reader
from basicsr.config.report import Path, Problems
from basicsr.config.schema import ALWAYS, LoaderOptions, Options
from basicsr.config.training import OUR_MODELS, WITH_DISCRIMINATOR, check_training, known_metric
from basicsr.config.wording import spell
from basicsr.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from basicsr.utils.errors import nearest
from basicsr.utils.names import name_mistake, namesake, quoted

_BLOCKS = ('datasets', 'train', *ALWAYS)
_OF_DISCRIMINATORS = (('network_d', ), ('train', 'optim_d'), ('train', 'gan_opt'))
_OF_OTHER_MODELS = (*_OF_DISCRIMINATORS, ('train', 'ldl_opt'), ('train', 'feature_matching_opt'))
_BETTER = {'better': (typing.Literal['higher', 'lower'] | None, None)}  # what a metric block may say beside arguments


def check_options(data: dict[str, Any], problems: Problems, is_train: bool) -> dict[str, Any]:
    """Validate the whole mapping; mistakes go to `problems`. Returns it with types converted and defaults filled in.

    The result holds `datasets`, `path`, `val`, `logger` and `dist_params`, and `train` where it is for training. What is
    None by default is absent from them.
    """
    model = _model_reader(data, problems)
    opt = check_block(Options, data, (), problems, model)
    if opt is None:  # go on with what has the right form, so that mistakes further inside are found as well
        opt = {k: v for k, v in data.items() if isinstance(v, dict if k in _BLOCKS else (dict, str, int, float))}
        opt |= {k: {} for k in _BLOCKS if k not in opt}
    if opt.get('train') is None:
        opt.pop('train', None)
    for key in opt['datasets']:
        _dataset(opt, key, is_train, problems, model)
    _own_names(opt['datasets'], ('val', ) if is_train else ('val', 'test'), problems)
    check_component(opt, 'network_g', ARCH_REGISTRY, (), problems)
    _unread(opt, problems)
    metrics = opt['val']['metrics'] if isinstance(opt['val'].get('metrics'), dict) else {}
    for label in metrics:
        check_component(metrics, label, METRIC_REGISTRY, ('val', 'metrics'), problems, _BETTER)
    known_metric(opt['val'].get('best_metric'), metrics, ('val', 'best_metric'), problems)
    if is_train:
        check_training(opt, metrics, problems)
    return opt


def _unread(opt: dict[str, Any], problems: Problems) -> None:
    """What options may hold for models of others."""
    read = _OF_DISCRIMINATORS if opt.get('model_type') in WITH_DISCRIMINATOR else ()
    for path in _OF_OTHER_MODELS if opt.get('model_type') in OUR_MODELS else ():
        if path in read:
            continue
        block = opt
        for part in path[:-1]:
            block = block.get(part) or {}
        if block.get(path[-1]):
            problems.notice(path, f"not read by {opt['model_type']}")


def _own_names(blocks: dict[str, Any], measured: tuple[str, ...], problems: Problems) -> None:
    """Sets that are measured together have columns and folders by their names."""
    owners: dict[str, str] = {}
    for key, block in blocks.items():
        if isinstance(block, dict) and str(key).startswith(measured):
            name = str(block.get('name'))
            same = namesake(name, owners)
            if same is not None:
                said = f'{quoted(name, same)} is the name of datasets.{owners[same]} already'
                problems.add(('datasets', key, 'name'), said)
            owners.setdefault(name, key)


def _dataset(opt: dict[str, Any], key: str, is_train: bool, problems: Problems, model_reader: Reader) -> None:
    blocks, here = opt['datasets'], ('datasets', key)
    block = blocks[key]
    if not isinstance(block, dict):
        if not problems.wrong(here):
            problems.add(here, f'must be a mapping (key: value), not {spell(block)}')
        return
    if str(key).split('_')[0] not in ('train', 'val', 'test'):
        problems.add(
            here, f"unknown dataset block.{nearest(key, ['train', 'val', 'test'])}"
            ' Allowed: train, val, val_1, ..., test, test_1, ...')
    elif mistake := _key_mistake(str(key)):
        problems.add(here, f'{mistake}, not {key!r}')
    block.setdefault('scale', 1 if problems.wrong(('scale', )) else opt.get('scale', 1))
    block.setdefault('name', str(key))
    name = block.get('type')
    signature, reader = None, NOBODY
    hints = typing.get_type_hints(LoaderOptions, include_extras=True)
    loader = {n: (hints[n], ... if f.is_required() else f.default) for n, f in LoaderOptions.model_fields.items()}
    if name is not None and str(name) in DATASET_REGISTRY:
        signature = signatures.signature_of(DATASET_REGISTRY, name)
        reader = _dataset_reader(name, model_reader)
        model = signatures.model_for(DATASET_REGISTRY, name, loader)
    else:
        problems.add((*here, 'type'), DATASET_REGISTRY.unknown(str(name)) if name else 'is required')
        model = signatures.to_model('Dataset', loader | {'type': (Any, None)}, allow=True)
    checked = check_block(model, block, here, problems, reader)
    if signature is not None:
        note_unread(signature, block, here, problems)
    if is_train and key == 'train':
        _patches(checked or block, here, problems)
    if block.get('cache'):
        _cache(block, key, here, problems)
    if checked is not None:
        blocks[key] = checked
    sets = blocks[key].get('sets') if signature is not None and 'sets' in signature.fields else None
    for inner in sets if isinstance(sets, dict) else ():  # a data set made of others
        check_component(sets, inner, DATASET_REGISTRY, (*here, 'sets'), problems)


def _key_mistake(key: str) -> str:
    """What is wrong with a key, which is the name of its set where the block gives none; behind `val_` stands a name."""
    return name_mistake(key) or (name_mistake(key.partition('_')[2]) if '_' in key else '')


def _cache(block: dict[str, Any], key: str, here: Path, problems: Problems) -> None:
    if not str(key).startswith('train'):
        problems.add((*here, 'cache'), 'is for training sets')
    unused = [k for k in ('num_worker_per_gpu', 'pin_memory', 'persistent_workers') if block.get(k)]
    if unused:
        problems.notice((*here, 'cache'), f'no workers are needed: {", ".join(unused)} without effect')


def _patches(block: dict[str, Any], here: Path, problems: Problems) -> None:
    """Progressive training: three lists of one length, no stage larger than what the loader delivers."""
    lists = {k: block.get(k) for k in ('mini_batch_sizes', 'gt_sizes', 'iters')}
    given = {k: v for k, v in lists.items() if v and isinstance(v, list)}
    if given and len({len(v) for v in given.values()} | ({0} if len(given) < 3 else set())) > 1:
        problems.add(here, 'mini_batch_sizes, gt_sizes and iters must be given together and have one length')
    numbers = {k: v for k, v in block.items() if isinstance(v, int) and not problems.wrong((*here, k))}
    for key, limit in (('mini_batch_sizes', 'batch_size_per_gpu'), ('gt_sizes', 'gt_size')):
        largest = max((v for v in given.get(key, []) if isinstance(v, int)), default=0)
        if limit not in numbers or largest <= numbers[limit]:
            continue
        if key == 'gt_sizes':
            problems.add((*here, key), f'{largest} is larger than {limit}: {numbers[limit]}')
        else:
            problems.notice((*here, key), f'{largest} is more than {limit}: {numbers[limit]}, and read as that')
    scale = numbers.get('scale', 1)
    if 'gt_size' in numbers and numbers['gt_size'] % scale:
        problems.add((*here, 'gt_size'), f"{numbers['gt_size']} is not a multiple of scale: {scale}")


def _model_reader(data: dict[str, Any], problems: Problems) -> Reader:
    """What the model reads beside the schema: one from outside any key, of ours none."""
    name = data.get('model_type')
    if not isinstance(name, str):  # absent, or a mistake that the schema names
        return NOBODY
    if name not in MODEL_REGISTRY:
        problems.add(('model_type', ), MODEL_REGISTRY.unknown(name))
        return NOBODY
    if name in OUR_MODELS and MODEL_REGISTRY.imported(name) is None:
        return Reader(name)
    return Reader(name, True, signatures.signature_of(MODEL_REGISTRY, name).words)


def _dataset_reader(name: str, model: Reader) -> Reader:
    """What reads keys of a data set beside its arguments: itself, when it is from outside, or a model from outside."""
    of = {n: signatures.signature_of(DATASET_REGISTRY, n) for n in DATASET_REGISTRY.keys()}
    others = frozenset(key for signature in of.values() for key in signature.fields)
    if of[name].takes_opt or signatures.is_outside(DATASET_REGISTRY, name):
        return Reader(name, True, of[name].words | model.words, others)
    return model._replace(others=others) if model.outside else Reader(name, others=others)
