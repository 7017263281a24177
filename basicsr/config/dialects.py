"""Option files of upstream BasicSR and of the Restormer/Retinexformer family, read as this toolbox's own.

Where a key means something else here, or nothing, a one-line notice says so. A value that the schema refuses is left
where it is, for the checker to name: converted, it would switch on what nobody asked for.
"""
from __future__ import annotations

import math
import typing
from functools import cache
from importlib.util import find_spec
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from basicsr.config.report import Problems
from basicsr.config.schema import LoaderOptions, Options, PathOptions, TrainOptions, ValOptions
from basicsr.registry import MODEL_REGISTRY
from basicsr.utils.values import NonNegative

# keys that published files carry although no code reads them
_UNREAD = {
    ('datasets', '*', 'use_shuffle'): 'never read: the training sampler always shuffles, validation never does',
    ('datasets', '*', 'num_prefetch_queue'): 'not needed: the loader workers prefetch',
    ('val', 'max_minibatch'): 'never read',
    ('path', 'root'): 'not needed: folders are relative to the working directory or the checkout',
}
_SCHEMAS: dict[str, type[BaseModel]] = {'datasets': LoaderOptions, 'val': ValOptions, 'path': PathOptions}
# keys that only files of the Restormer family have, by their block; None: the file itself
_FAMILY_KEYS = {None: 'use_amp', 'train': 'use_grad_clip', 'val': 'use_image', 'path': 'param_key'}
_CLIPS = ('Dataset_SIDImage', 'Dataset_SMIDImage', 'Dataset_SDSDImage')
_UNREAD_BY_DATASET = (
    (_CLIPS, ('N_frames', 'padding', 'random_reverse', 'border_mode', 'interval_list', 'cache_keys', 'mode'),
     'the networks take single frames'),
    (_CLIPS, ('color', 'io_backend', 'filename_tmpl'), 'frames are .npy files in BGR, found by the folder layout'),
    (_CLIPS, ('geometric_augs', ), 'never read for clips; use_flip and use_rot flip them'),
    (_CLIPS[:2], ('testing_dir', ), 'the split follows from names (SID) or from test_list.txt (SMID)'),
    (('Dataset_GaussianDenoising', ), ('dataroot_lq', 'filename_tmpl'), 'the input is made from the ground truth'),
)
# names of models that train as one of ours does
_MODELS = {'MambaIRModel': 'SRModel'}
# keys that published files of these networks carry, and their code does not read: in the block of the network and below `val`
_UNREAD_BY_NETWORK = {
    'MambaIR': (('window_size', 'interval', 'num_heads'), ('selfensemble_testing', 'patchwise_testing'))
}
_EPS: TypeAdapter[float] = TypeAdapter(NonNegative)
_PROTOCOL_METRICS = ('calculate_psnr', 'calculate_ssim')


def is_restormer_family(data: dict[str, Any]) -> bool:
    """Whether the file is written for the Restormer/Retinexformer/RetinexMamba forks rather than upstream BasicSR."""
    blocks = _blocks(data.get('datasets'))
    return data.get('model_type') == 'ImageCleanModel' or any(
        str(b.get('type', '')).startswith('Dataset_') or 'geometric_augs' in b or 'mini_batch_sizes' in b
        for b in blocks.values())


def adapt(data: dict[str, Any], stem: str, problems: Problems) -> None:
    """Rewrite the fork spellings in place; `stem` is the file name up to its first dot, the forks' run name."""
    if _is_published(data) and data.get('name') not in (None, stem):
        problems.notice(('name', ),
                        f"the run is called '{data['name']}' (the Restormer family would take the file name, '{stem}')")
    if is_restormer_family(data):
        _wandb(_mapping(data, 'logger'), _is_published(data), problems)
    _drop_unread(data, problems)
    _drop_unread_by_dataset(data, problems)
    _drop_unread_by_network(data, problems)
    model = data.get('model_type')
    if isinstance(model, str) and model in _MODELS and model not in MODEL_REGISTRY:
        data['model_type'] = _MODELS[model]
        problems.notice(('model_type', ), f'read as {_MODELS[model]}')
    train, val, path = (_mapping(data, k) for k in ('train', 'val', 'path'))
    if _allows(PathOptions, path, 'param_key'):
        path.setdefault('param_key_g', path.pop('param_key'))
    if _take(Options, data, 'use_amp') and train.get('amp') is None:
        train['amp'] = 'fp16'
        problems.notice(('use_amp', ), "read as train.amp: fp16 ('bf16' needs no loss scaling)")
    if _take(TrainOptions, train, 'use_grad_clip') and train.get('grad_clip_norm') is None:
        train['grad_clip_norm'] = 0.01
    rounded = _take(ValOptions, val, 'use_image')
    for label, metric in _blocks(val.get('metrics')).items():
        if rounded is False and 'protocol' not in metric and metric.get('type') in _PROTOCOL_METRICS:
            metric['protocol'] = 'restormer-rgb3d'
            problems.notice(('val', 'metrics', label),
                            "use_image: false is read as protocol: restormer-rgb3d (values clamped to"
                            ' [0, 1] but not rounded; 3-D SSIM)')
    for key, block in _blocks(data.get('datasets')).items():
        mode = _take(LoaderOptions, block, 'prefetch_mode')
        if mode is not None and _allows(LoaderOptions, block, 'pin_memory', absent=True):
            block['pin_memory'] = bool(block.get('pin_memory')) or mode == 'cuda'
            problems.notice(('datasets', key, 'prefetch_mode'),
                            'not needed: workers prefetch, and pinned memory is copied asynchronously')
        if 'use_flip' in block and block.get('type') == 'PairedImageDataset' and block.get('use_hflip') is None:
            block['use_hflip'] = block.pop('use_flip')
            problems.notice(('datasets', key, 'use_flip'), 'read as use_hflip (NAFNet)')
    pixel = _mapping(train, 'pixel_opt')
    if is_restormer_family(data) and pixel.get('type') == 'CharbonnierLoss' and 'form' not in pixel:
        _square_eps(pixel, problems)
    if not is_restormer_family(data) and data.get('model_type') is None:
        data['model_type'] = 'SRModel'


def _is_published(data: dict[str, Any]) -> bool:
    """Whether the file has what only those of the Restormer family have; ours share the model and much of the data."""
    return any(str(b.get('type', '')).startswith('Dataset_') for b in _blocks(data.get('datasets')).values()) or any(
        key in (data if block is None else _mapping(data, block)) for block, key in _FAMILY_KEYS.items())


def _wandb(logger: dict[str, Any], is_published: bool, problems: Problems) -> None:
    """Published files of the family name a project although its code never starts wandb."""
    here = ('logger', 'wandb', 'project')
    block = _mapping(logger, 'wandb')
    asked_for = any(here[:len(path)] == path for path in problems.source.overrides)
    if not block.get('project') or asked_for or not (is_published or find_spec('wandb') is None):
        return
    why = "this family's code never starts wandb" if is_published else 'wandb is not installed: pip install wandb'
    problems.notice(here, f"ignored ({why}); '{'.'.join(here)}={block['project']}' on the command line starts it")
    block['project'] = None


def _square_eps(pixel: dict[str, Any], problems: Problems) -> None:
    given = pixel.get('eps')
    try:
        eps = _EPS.validate_python(1e-3 if given is None else given)
    except ValidationError:
        return
    square = eps * eps
    if not eps:  # refused as it stands
        return
    if not (square and math.isfinite(square)):
        problems.add(('train', 'pixel_opt', 'eps'), f'{given} is squared there, and the square is no number above 0')
        return
    pixel['eps'] = square
    problems.notice(('train', 'pixel_opt'), f'eps is squared there, so it is {square:g} here; loss_weight counts')


@cache
def _schema(model: type[BaseModel], key: str) -> TypeAdapter:
    return TypeAdapter(typing.get_type_hints(model, include_extras=True)[key])


def _allows(model: type[BaseModel], holder: dict[str, Any], key: str, absent: bool = False) -> bool:
    """Whether the schema takes the value of `key`. `absent`: what is said of one that is not there."""
    if key not in holder:
        return absent
    try:
        _schema(model, key).validate_python(holder[key])
    except ValidationError:
        return False
    return True


def _take(model: type[BaseModel], holder: dict[str, Any], key: str) -> Any:
    """Take `key` out; its value as the schema reads it. None where it is not there or stays."""
    return _schema(model, key).validate_python(holder.pop(key)) if _allows(model, holder, key) else None


def _drop_unread(data: dict[str, Any], problems: Problems) -> None:
    for (block, *rest), why in _UNREAD.items():
        holders = _blocks(data.get(block)) if rest[0] == '*' else {None: _mapping(data, block)}
        for key, holder in holders.items():
            if _allows(_SCHEMAS[block], holder, rest[-1]):
                del holder[rest[-1]]
                problems.notice(tuple(p for p in (block, key, rest[-1]) if p is not None), f'ignored ({why})')


def _drop_unread_by_dataset(data: dict[str, Any], problems: Problems) -> None:
    for key, block in _blocks(data.get('datasets')).items():
        for types, unread, why in _UNREAD_BY_DATASET:
            for option in unread if block.get('type') in types else ():
                if option in block:
                    del block[option]
                    problems.notice(('datasets', key, option), f'ignored ({why})')


def _drop_unread_by_network(data: dict[str, Any], problems: Problems) -> None:
    network = _mapping(data, 'network_g').get('type')
    of_network, of_val = _UNREAD_BY_NETWORK.get(network, ((), ())) if isinstance(network, str) else ((), ())
    for block, unread in (('network_g', of_network), ('val', of_val)):
        for option in unread:
            if option in _mapping(data, block):
                del data[block][option]
                problems.notice((block, option), f'ignored (never read by the code of {network})')


def _mapping(data: dict[str, Any], key: str) -> dict[str, Any]:
    return data[key] if isinstance(data.get(key), dict) else {}


def _blocks(value: Any) -> dict[str, dict[str, Any]]:
    return {k: v for k, v in value.items() if isinstance(v, dict)} if isinstance(value, dict) else {}
