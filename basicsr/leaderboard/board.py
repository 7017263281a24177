"""A board, read from one YAML: a data set, and the weights that are compared on it."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from basicsr.config import find_path, find_yaml, load_options
from basicsr.config.blocks import check_block, check_component
from basicsr.config.files import data_of, resolve_files
from basicsr.config.report import Path as OptionPath
from basicsr.config.report import Problems, Source, raise_mistakes
from basicsr.config.schema import Block
from basicsr.config.yaml_reader import read_yaml
from basicsr.leaderboard.claims import ClaimOptions, claimed, data_sets
from basicsr.leaderboard.data_set import subfolders
from basicsr.metrics.protocol import HONEST
from basicsr.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY
from basicsr.utils import pretrained
from basicsr.utils.errors import UserError, nearest, some
from basicsr.utils.names import checked, namesake
from basicsr.utils.published import Published, read_published
from basicsr.utils.values import Count, PathName


class RowOptions(Block):
    """One row of the table."""
    weights: str = Field(description='file, folder, name of `basicsr list weights`, or address')
    name: str | None = Field(None, coerce_numbers_to_str=True, description='in the table, default: the weights')
    opt: str | None = Field(None, description='option file of the network, where the weights do not say it')
    arch_files: list[str] = Field(default_factory=list, description='further *_arch.py files')
    key: str | None = Field(None, description='entry of the file')
    knobs: dict[str, float] = Field(default_factory=dict,
                                    description="the network's own, such as alpha_s: 1.3 of CIDNet")
    source: str | None = Field(None, description='where the weights come from, default: what the tables know')
    licence: str | None = None
    claim: ClaimOptions | None = Field(None, description='default: what published.json has of the data set `claims`')


class BoardOptions(Block):
    """The file."""
    name: PathName | None = Field(None, description='names the folder, default: the name of the file')
    data: dict[str, Any] = Field(description='a data set, as below `datasets` of an option file')
    claims: str | None = Field(None, description='what published.json calls the data set')
    protocols: list[str] = Field(default_factory=lambda: ['retinexformer'], min_length=1,
                                 description='columns of the table; all are measured')
    metrics: dict[str, Any] = Field(default_factory=dict, description='further ones, as below `val.metrics`')
    batch: Count = Field(1, description='images of one size that are restored together')
    rows: list[Any] = Field(min_length=1)


@dataclass(frozen=True)
class Row:
    """Weights, and what is known of them before they are measured. claim: by the names of `ClaimOptions`, or with a folder's
    behind: 'niqe DICM'."""
    name: str
    weights: str
    opt: str | None
    arch_files: tuple[str, ...]
    key: str | None
    knobs: dict[str, float]
    source: str
    licence: str
    claim: dict[str, Any]

    @property
    def slug(self) -> str:
        """The name as that of a file."""
        return re.sub(r'[^\w.-]+', '_', self.name).strip('_.') or 'row'


@dataclass
class Board:
    """`source`: where each option stands."""
    name: str
    data: dict[str, Any]
    protocols: list[str]
    metrics: dict[str, Any]
    batch: int
    results: Path
    source: Source
    rows: list[Row] = field(default_factory=list)


def read_board(path: str | Path, root: Path) -> Board:
    """Read a board. `root`: the folder of `results/`, in which `benchmarks/` has the boards.

    Raises `UserError` with every mistake of the file: what is unknown, is not there, or is there twice.
    """
    path = find_yaml(path)
    data, source = read_yaml(path)
    problems = Problems(source)
    options = check_block(BoardOptions, data, (), problems) or {}
    listed = options.get('rows', data.get('rows'))
    entries = [
        check_block(RowOptions, row, ('rows', i), problems)
        for i, row in enumerate(listed if isinstance(listed, list) else [])
    ]
    for i, protocol in enumerate(options.get('protocols', [])):
        if protocol not in HONEST:
            problems.add(('protocols', i), f"there is no protocol '{protocol}'.{nearest(protocol, HONEST)}")
    for label in options.get('metrics', {}):
        check_component(options['metrics'], label, METRIC_REGISTRY, ('metrics', ), problems)
    claims, published = options.get('claims'), data_sets()
    if claims and claims not in published:
        meant = nearest(claims, published) or f' It has some of: {some(published, 8)}'
        problems.add(('claims', ), f"published.json has no claims of '{claims}'.{meant}")
    stem = path.name.split('.')[0]
    name = options.get('name') or checked(stem, f"the name of '{path}' before its first dot")
    block = _data_set(options, name, problems)
    folders = subfolders(block)
    rows = [_row(entry, i, claims, folders, path, problems) for i, entry in enumerate(entries) if entry]
    for i, row in enumerate(rows):
        if namesake(row.slug, [other.slug for other in rows[:i]]) is not None:
            problems.add(('rows', i, 'name'), f"there are two rows called '{row.name}'; give one another name")
    raise_mistakes(source.file, problems.texts())
    results = root / 'results' / 'benchmarks' / name
    return Board(name, block, options['protocols'], options['metrics'], options['batch'], results, source, rows)


def _data_set(options: dict[str, Any], name: str, problems: Problems) -> dict[str, Any]:
    """The block of the data set, checked, its paths absolute."""
    holder = {'test': options.get('data')}
    if holder['test'] is None:
        return {}
    opt = {'path': {}, 'datasets': {'data': holder['test']}}
    check_component(opt['datasets'], 'data', DATASET_REGISTRY, (), problems)
    if problems.found:
        return {}
    block: Any = opt['datasets']['data']
    before = data_of(block)
    resolve_files({'path': {}, 'datasets': {'test': block}}, problems, with_train=False, check=False)
    for text, found in zip(before, data_of(block)):
        if not Path(found).exists():
            problems.add(('data', ), f"'{text}' does not exist")
    return {**block, 'phase': 'test', 'block': 'data', 'name': name, 'scale': block.get('scale', 1)}


def _row(entry: dict[str, Any], i: int, data: str | None, folders: dict[str, str], board: Path,
         problems: Problems) -> Row:
    """What the tables know stands where the board says nothing. folders: of the data set, which claims may be of."""

    def there(text: str, *key: str | int) -> str:
        found = find_path(text, beside=board)
        if found is None or not found.is_file():
            problems.add(('rows', i, *key), f"there is no file '{text}'")
        return text if found is None else str(found.resolve())

    weights = entry['weights']
    shipped = pretrained.read_manifest()['weights'].get(weights)
    published = read_published(pretrained.folder()).get(weights)
    if not (shipped or pretrained.is_fetched(weights)):
        file = find_path(weights, beside=board)
        if file is None:
            problems.add(('rows', i, 'weights'), pretrained.unknown(weights))
        weights = weights if file is None else str(file.resolve())
    source, licence = _known(weights, shipped, published)
    claim = entry['claim'] if 'claim' in entry else claimed(published, data, folders)
    arch_files = tuple(there(file, 'arch_files', k) for k, file in enumerate(entry['arch_files']))
    opt = there(entry['opt'], 'opt') if entry.get('opt') else None
    network = shipped['network']['type'] if shipped else published.network if published else None
    if network and entry['knobs'] and not (opt or arch_files):  # else the row's own process knows them
        _check_knobs(network, entry['knobs'], ('rows', i, 'knobs'), problems)
    if opt and not problems.wrong(('rows', i)):
        _check_opt(opt, arch_files, ('rows', i, 'opt'), problems)
    return Row(
        entry.get('name') or entry['weights'], weights, opt, arch_files, entry.get('key'), entry['knobs'],
        entry.get('source') or source,
        entry.get('licence') or licence, {k: v for k, v in claim.items() if v is not None})


def _check_knobs(network: str, knobs: dict[str, float], where: OptionPath, problems: Problems) -> None:
    from basicsr.archs.description import describe  # only now, as it takes torch
    from basicsr.archs.knobs import check
    known = describe(network).knobs
    for name, value in knobs.items():
        if not known:
            problems.add((*where, name), f'{network} has no knobs')
        elif name not in known:
            problems.unknown_key((*where, name), known)
        else:
            try:
                check(name, value, [known[name]])
            except UserError as error:
                problems.add((*where, name), str(error).removeprefix('--'))


def _check_opt(file: str, arch_files: tuple[str, ...], where: OptionPath, problems: Problems) -> None:
    for arch in arch_files:
        ARCH_REGISTRY.add_file(arch)
    try:
        load_options(file, is_train=False, check_files=False)
    except UserError as error:
        problems.add(where, str(error).replace('\n', '\n  '))


def _known(weights: str, shipped: dict[str, Any] | None, published: Published | None) -> tuple[str, str]:
    """Source and licence."""
    if shipped:
        return 'this project', shipped['licence']
    if published:
        where = published.address or (published.by_hand.where if published.by_hand else '')
        return where, published.licence.weights
    return weights if pretrained.is_fetched(weights) else 'a file', ''
