"""Every number in options has a range, and a value out of it is one sentence with file, line and path."""
from __future__ import annotations

import ast
import json
import math
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from conftest import GOOD_OPTIONS, ROOT
from pydantic import TypeAdapter, ValidationError

from basicsr.config import load_options
from basicsr.config.optimizers import OPTIMIZERS, optimizer_model
from basicsr.config.schema import Block, LoaderOptions, Options
from basicsr.config.signatures import read_signature
from basicsr.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, SCHEDULER_REGISTRY
from basicsr.train import main
from basicsr.utils.errors import UserError

# registry: path of a block that names one of its things
PLACES = {
    ARCH_REGISTRY: ('network_g', ),
    DATASET_REGISTRY: ('datasets', 'train'),
    LOSS_REGISTRY: ('train', 'pixel_opt'),
    METRIC_REGISTRY: ('val', 'metrics', 'psnr'),
    SCHEDULER_REGISTRY: ('train', 'scheduler'),
}
OURS = [(registry, name) for registry in PLACES for name, entry in registry.index().items()
        if entry.file.is_relative_to(ROOT / 'basicsr') or entry.file.is_relative_to(ROOT / 'Ablation_Model')]
TRIED = (-8, -1, 0, 0.5, 1, 2, 10**9, math.nan, math.inf)
MARK = '@value@'


def takes(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def good(kind: Any) -> Any:
    """A value that an annotation allows."""
    if typing.get_origin(kind) is typing.Literal:
        return typing.get_args(kind)[0]
    one = next((v for v in (1, 0.5, 2, 'derain', 'train', {}) if takes(kind, v)), None)
    if one is not None:
        return one
    inner = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    return [good(typing.get_args(inner)[0])] * length(kind, 1)


def length(kind: Any, otherwise: int) -> int:
    """How many values a list takes at least."""
    marks = typing.get_args(kind)[1:] if typing.get_origin(kind) is Annotated else ()
    return max((n for n in (getattr(mark, 'min_length', 0) for mark in marks) if n), default=otherwise)


def wrong(kind: Any, inside: bool = False) -> Iterator[tuple[Any, str]]:
    """Values that hold one number out of range, and its path below the option, for every number in an annotation."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if (origin is Annotated and args[0] in (int, float)) or kind in (int, float):
        refused = [v for v in TRIED if not takes(kind, v) and (isinstance(v, int) or args[0] is float)]
        assert refused, f'{kind} has no range'
        yield from ((v, '') for v in (refused[0], refused[-1], True))  # true would count as 1
    elif origin is Annotated and length(kind, 2) > 2:
        item = typing.get_args(args[0])[0]
        yield from (([good(item), value, *[good(item)] * (length(kind, 2) - 2)], f'[1]{path}')
                    for value, path in wrong(item))
    elif origin is Annotated:
        yield from wrong(args[0])
    elif origin is Literal and all(isinstance(a, int) and not isinstance(a, bool) for a in args):
        yield from ((v, '') for v in (-8, True))
    elif origin in (typing.Union, types.UnionType):
        yield from (found for a in args for found in wrong(a))
    elif origin in (list, Sequence):
        yield from (([good(args[0]), value], f'[1]{path}') for value, path in wrong(args[0]))
    elif origin is tuple:
        for i, a in enumerate(args):
            yield from (([*map(good, args[:i]), value, *map(good, args[i + 1:])], f'[{i}]{path}')
                        for value, path in wrong(a))
    elif origin is dict:
        yield from (({'derain': value}, f'.derain{path}') for value, path in wrong(args[1]))


def said(file: Path, options: dict[str, Any], value: Any) -> tuple[str, int]:
    """What loading says when `value` stands where `options` hold the mark, and the line of it."""
    text = yaml.safe_dump(options, sort_keys=False)
    line = text[:text.index(MARK)].count('\n') + 1
    spelt = json.dumps(value).replace('NaN', '.nan').replace('Infinity', '.inf')
    file.write_text(text.replace(f"'{MARK}'", spelt))
    with pytest.raises(UserError) as caught:
        load_options(file, is_train=True, check_files=False)
    return str(caught.value), line


def check(file: Path, options: dict[str, Any], path: tuple, fields: dict[str, tuple[Any, Any]]) -> int:
    """Try every number of the arguments of the block at `path`. Returns how many values were tried."""
    tried = 0
    block = options
    for part in path:
        block = block[part]
    for name, (kind, _) in fields.items():
        for value, below in wrong(kind):
            before = dict(block)
            block[name] = MARK
            text, line = said(file, options, value)
            block.clear()
            block.update(before)
            head, *rest = text.splitlines()
            place = f'{".".join(map(str, (*path, name)))}{below}'
            assert head == f'1 mistake in {file}' and len(rest) == 1, (value, text)
            assert rest[0].startswith(f'  {file}:{line}: {place}: '), (value, text)
            tried += 1
    return tried


def options_with(path: tuple, name: str, fields: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Good options with a block of what is called `name` at `path`."""
    options = yaml.safe_load(GOOD_OPTIONS)
    holder = options
    for part in path[:-1]:
        holder = holder[part]
    required = {k: good(kind) for k, (kind, default) in fields.items() if default is ... and k != 'type'}
    if 'sets' in required:  # what a data set is made of has to be one
        required['sets'] = {'derain': {'type': 'SingleImageDataset', 'dataroot_lq': '.'}}
    holder[path[-1]] = {'type': name, **required}
    if path == PLACES[SCHEDULER_REGISTRY]:  # two of each, as the values out of range are tried beside a good one
        two = {'periods': [60, 40], 'restarts': [0, 50], 'restart_weights': [1, 1], 'eta_mins': [0, 0]}
        holder[path[-1]] |= {k: v for k, v in two.items() if k in fields}
    return options


@pytest.mark.parametrize('registry, name', OURS, ids=[name for _, name in OURS])
def test_every_argument_knows_its_values(registry, name, tmp_path):
    entry = registry.index()[name]
    signature = read_signature(entry)
    fields = {k: v for k, v in signature.fields.items() if k not in registry.filled_in}
    for argument, (kind, _) in fields.items():
        assert kind is not Any, f'{argument} of {name} has no annotation that the checker of options understands'
    options = options_with(PLACES[registry], name, fields)
    for model in ('SRModel', 'ImageCleanModel') if registry is LOSS_REGISTRY else ('SRModel', ):  # two dialects
        check(tmp_path / 'run.yml', options | {'model_type': model}, PLACES[registry], fields)


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_every_argument_of_an_optimizer_knows_its_values(name, tmp_path):
    fields = _fields(optimizer_model(name))
    for argument, (kind, _) in fields.items():
        assert kind is not Any, f'{argument} of {name} has no range in basicsr/config/optimizers.py'
    assert check(tmp_path / 'run.yml', options_with(('train', 'optim_g'), name, fields), ('train', 'optim_g'),
                 fields) > 3


def _fields(model: type) -> dict[str, tuple[Any, Any]]:
    hints = typing.get_type_hints(model, include_extras=True)
    return {f.alias or n: (hints[n], ... if f.is_required() else f.default) for n, f in model.model_fields.items()}


def blocks(model: type[Block], path: tuple = ()) -> Iterator[tuple[tuple, type[Block]]]:
    yield path, model
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(kind, type) and not typing.get_origin(kind) and issubclass(kind, Block):
                yield from blocks(kind, (*path, name))


SCHEMA = [*blocks(Options), (('datasets', 'train'), LoaderOptions)]


@pytest.mark.parametrize('path, model', SCHEMA, ids=[model.__name__ for _, model in SCHEMA])
def test_every_option_of_the_schema_knows_its_values(path, model, tmp_path):
    options = yaml.safe_load(GOOD_OPTIONS)
    options['train']['early_stop'] = {'patience': 3}
    options['train']['mixing_augs'] = {'mixup': True}
    options['dist_params'] = {'backend': 'nccl'}
    options['logger']['wandb'] = {'project': None}
    options['datasets']['train'] |= {'mini_batch_sizes': [1, 1], 'gt_sizes': [16, 16], 'iters': [50, 50]}
    for family in ('SRModel', 'ImageCleanModel'):
        check(tmp_path / 'run.yml', options | {'model_type': family}, path, _fields(model))


SWITCHES = ('use_amp', 'train.use_grad_clip', 'val.use_image', 'datasets.train.use_shuffle')


@pytest.mark.parametrize(('path', 'value', 'says'), [
    *((path, value, f'must be true or false, not {value!r}') for path in SWITCHES for value in ('abc', -1)),
    ('datasets.train.prefetch_mode', 'abc', "'abc' is not allowed; one of: cpu or cuda."),
    ('datasets.train.num_prefetch_queue', 0, 'must be greater than 0, not 0'),
    ('val.max_minibatch', 'abc', "must be a whole number, not 'abc'"),
    ('path.root', [1], 'must be text, not a list'),
    ('path.param_key', [1], 'must be text, not a list'),
])
def test_keys_of_other_programs_are_checked_before_they_are_read(path, value, says, tmp_path):
    (tmp_path / 'run.yml').write_text(GOOD_OPTIONS)
    override = f'{path}={json.dumps(value)}'
    with pytest.raises(UserError) as caught:
        load_options(tmp_path / 'run.yml', [override], is_train=True, check_files=False)
    assert str(caught.value).splitlines()[1:] == [f"  override '{override}': {path}: {says}"]


def test_a_switch_in_quotes_is_the_switch(tmp_path):
    (tmp_path / 'run.yml').write_text(GOOD_OPTIONS)
    for value in (True, False):
        overrides = [f'{key}="{str(value).lower()}"' for key in ('use_amp', 'train.use_grad_clip')]
        train = load_options(tmp_path / 'run.yml', overrides, is_train=True, check_files=False).opt['train']
        assert (train.get('amp') == 'fp16', train.get('grad_clip_norm') == 0.01) == (value, value)


def test_signatures_are_written_with_annotations():
    """A class from outside may have none; `Any` would hide an argument from the test above as well."""
    for registry, name in OURS:
        node = registry.index()[name].node
        functions = [node] if isinstance(node, ast.FunctionDef) else [
            n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == '__init__'
        ]
        for function in functions:
            for arg in (*function.args.args[isinstance(node, ast.ClassDef):], *function.args.kwonlyargs):
                assert arg.annotation is not None, f'{arg.arg} of {name}'


@pytest.mark.parametrize(('override', 'line'), [
    ('datasets.train.gt_size=-5', 'datasets.train.gt_size: must be greater than 0, not -5'),
    ('datasets.train.batch_size_per_gpu=-3', 'datasets.train.batch_size_per_gpu: must be greater than 0, not -3'),
    ('datasets.train.num_worker_per_gpu=-1', 'num_worker_per_gpu: must be greater than or equal to 0, not -1'),
    ('datasets.train.dataset_enlarge_ratio=0', 'dataset_enlarge_ratio: must be greater than 0, not 0'),
    ('datasets.train.resize=[8]', 'datasets.train.resize: needs at least 2 values, not 1'),
    ('datasets.train.resize=[8, 8, 8]', 'datasets.train.resize: needs at most 2 values, not 3'),
    ('datasets.train.mean=[]', 'datasets.train.mean: needs at least 1 value, not 0'),
    ('datasets.train.std=[1, 1, 1, 1]', 'datasets.train.std: needs at most 3 values, not 4'),
    ('network_g={type: RetinexMamba, num_blocks: [1]}', 'network_g.num_blocks: needs at least 3 values, not 1'),
    ('network_g={type: RetinexFormer, num_blocks: []}', 'network_g.num_blocks: needs at least 3 values, not 0'),
    ('network_g={type: Restormer, heads: [1, 2, 4]}', 'network_g.heads: needs at least 4 values, not 3'),
    ('network_g={type: ISALux, heads: [1, 2, 4, 8, 8]}', 'network_g.heads: needs at most 4 values, not 5'),
    ('network_g={type: MASRNet, moe_hidden: [[1], [2], []]}', 'network_g.moe_hidden[2]: needs at least 1 value, not 0'),
    ('network_g={type: MASRNet, quant_noise: [0]}', 'network_g.quant_noise: needs at least 4 values, not 1'),
    ('train.losses=[{type: MixedLoss, terms: []}]', 'train.losses[0].terms: needs at least 1 value, not 0'),
    ('train.perceptual_opt={type: PerceptualLoss, layer_weights: {}}', 'layer_weights: needs at least 1 value, not 0'),
    ('train.scheduler={type: MultiStepLR, milestones: [], restarts: []}', 'restarts: needs at least 1 value, not 0'),
    ('train.scheduler={type: CosineAnnealingRestartLR, periods: []}', 'periods: needs at least 1 value, not 0'),
    ('train.mixing_augs={mixup: true, mixup_beta: 1e-40}', 'mixup_beta: must be greater than or equal to 0.001'),
    ('manual_seed=99999999999999999999', 'manual_seed: must be less than or equal to 9223372036854775807'),
    ('datasets.train.pair_range=twelve',
     "pair_range: must be a slice such as ':460' or '460:' (a number alone is no slice), not 'twelve'"),
    ('datasets.train.std=[1, 0, 1]', 'datasets.train.std[1]: must be greater than 0, not 0'),
    ('train.optim_g.lr=-1', 'train.optim_g.lr: must be greater than or equal to 0, not -1'),
    ('train.optim_g.betas=[0.9, 1]', 'train.optim_g.betas[1]: must be less than 1, not 1'),
    ('train.scheduler.periods=[-4]', 'train.scheduler.periods[0]: must be greater than 0, not -4'),
    ('network_g={type: RetinexMamba, n_feat: -8}', 'network_g.n_feat: must be greater than 0, not -8'),
    ('network_g={type: RetinexMamba, in_channels: 1}', 'network_g.in_channels: 1 is not allowed; one of: 3.'),
    ('network_g={type: RetinexMamba, num_blocks: [1, 2, -2]}',
     'num_blocks[2]: must be greater than or equal to 0, not -2'),
    ('network_g={type: RetinexMamba, num_blocks: 4}', 'num_blocks: must be a list, not 4'),
    ('network_g={type: RetinexMamba, num_blocks: many}', "num_blocks: must be a list, not 'many'"),
    ('datasets.val={type: CDD11Dataset, dataroot: lq, subset: tripel}', "Did you mean 'triple'?"),
    ('datasets.val={type: AllInOneDataset, dataroot: lq, de_type: []}', 'de_type: needs at least 1 value, not 0'),
    ('datasets.val={type: AllInOneDataset, dataroot: lq, de_type: [derain], ratios: {derian: 2}}', "mean 'derain'?"),
    ('datasets.val={type: GaussianDenoisingDataset, dataroot_gt: gt, sigma_range: [-1, 5]}',
     'datasets.val.sigma_range[0]: must be greater than or equal to 0, not -1'),
])
def test_missing_folders_hide_no_value_out_of_range(override, line, tmp_path, capsys):
    (tmp_path / 'run.yml').write_text(GOOD_OPTIONS)
    assert main(['--opt', str(tmp_path / 'run.yml'), override, 'logger.print_freq=0']) == 2
    lines = capsys.readouterr().err.splitlines()
    found = [text for text in lines if line in text]
    assert len(found) == 1 and found[0].startswith(f"  override '{override}': "), lines
    folders = [text for text in lines if 'does not exist' in text]
    assert len(folders) >= 3 and any('logger.print_freq: must be greater than 0' in text for text in lines)
    restart_weights = 'periods=' in override  # two stand in the file for one period
    assert lines[0].startswith(f'error: {len(folders) + 2 + restart_weights} mistakes in ')


def test_a_dataset_without_type_is_checked_as_far_as_it_goes(tmp_path):
    (tmp_path / 'run.yml').write_text(GOOD_OPTIONS)
    with pytest.raises(UserError) as caught:
        load_options(tmp_path / 'run.yml', ['datasets.train={num_worker_per_gpu: -1, gt_sizes: [1]}'], is_train=True,
                     check_files=False)
    text = str(caught.value)
    assert text.startswith('3 mistakes') and 'num_worker_per_gpu: must be' in text
    assert 'datasets.train.type: is required' in text and 'must be given together' in text


def test_numbers_in_quotes_are_numbers(tmp_path):
    (tmp_path / 'run.yml').write_text(GOOD_OPTIONS)
    overrides = ['datasets.train.gt_size="3.2e1"', 'train.scheduler.periods=["6e1", 40]', 'network_g.num_feat="8"']
    opt = load_options(tmp_path / 'run.yml', overrides, is_train=True, check_files=False).opt
    assert opt['datasets']['train']['gt_size'] == 32 and type(opt['datasets']['train']['gt_size']) is int
    assert (opt['train']['scheduler']['periods'], opt['network_g']['num_feat']) == ([60, 40], 8)


def test_the_json_schema_knows_the_ranges():
    jsonschema = pytest.importorskip('jsonschema')
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / 'Options' / 'schema.json').read_text()))
    for part, value in (('network_g', {'type': 'RetinexMamba',
                                       'n_feat': -8}), ('network_g', {'type': 'RetinexMamba', 'num_blocks': [1, 2,
                                                                                                             -2]}),
                        ('network_g', {'type': 'RetinexMamba',
                                       'num_blocks': [1]}), ('val', {'val_freq': 0}), ('path', {'resume_state': ''})):
        options = yaml.safe_load(GOOD_OPTIONS)
        options['train']['optim_g']['lr'] = 1e-4  # YAML 1.1 reads a text
        options['train']['scheduler']['eta_min'] = 1e-7
        assert validator.is_valid(options)
        assert not validator.is_valid(options | {part: value}), value
    for path, value in ((('optim_g', 'lr'), -1), (('optim_g', 'betas'), [0.9, 1]), (('scheduler', 'periods'), [-4]),
                        (('scheduler', 'periods'), []), (('optim_g', 'differentiable'), True), (('pixel_opt',
                                                                                                 'reduction'), 'none')):
        options = yaml.safe_load(GOOD_OPTIONS)
        options['train']['optim_g']['lr'], options['train']['scheduler']['eta_min'] = 1e-4, 0
        options['train'][path[0]][path[1]] = value
        assert not validator.is_valid(options), path


def test_a_caller_from_python_is_told_of_periods_without_length():
    import torch

    from basicsr.engine.schedule import CosineAnnealingRestartCyclicLR
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.)
    with pytest.raises(ValueError, match='periods'):
        CosineAnnealingRestartCyclicLR(optimizer, [-4])
