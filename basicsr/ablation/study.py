"""An ablation study, read from one YAML: base options, variants, and the runs that come of them."""
from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from basicsr.config import find_path, find_yaml, load_options
from basicsr.config.base import read_options
from basicsr.config.blocks import check_block
from basicsr.config.overrides import as_overrides
from basicsr.config.report import Problems, raise_mistakes
from basicsr.config.schema import Block, with_defaults
from basicsr.config.shorten import shortened
from basicsr.config.yaml_reader import dump_yaml, read_yaml
from basicsr.utils.errors import UserError, nearest
from basicsr.utils.files import atomic_write, write_json
from basicsr.utils.names import checked, namesake
from basicsr.utils.ownership import check_free
from basicsr.utils.values import Count, PathName

OTHERWISE = 'give this study another name, or wait for its end'


class PaperNumbers(Block):
    """Claimed figures, printed beside the measured ones."""
    psnr: float | None = None
    ssim: float | None = None
    source: str | None = Field(None, description='who claims them')


class VariantOptions(Block):
    """One row of the table: an option file, or changes of the base options, or both."""
    name: str = Field(coerce_numbers_to_str=True)
    opt: str | None = Field(None, description='option file that takes the place of the base')
    arch_files: list[str] | None = Field(None, description='further *_arch.py files')
    overrides: dict[str, Any] = Field(default_factory=dict, description='option path: value')
    paper: PaperNumbers | None = None


class StudyOptions(Block):
    """The study file."""
    name: PathName | None = Field(None, description='names the folders, default: the name of the file')
    base: str | dict[str, Any] | None = Field(None, description='option file, or the options themselves')
    overrides: dict[str, Any] = Field(default_factory=dict, description='for every variant: option path: value')
    total_iter: Count | None = Field(None, description='iterations of each run; schedules shrink in proportion')
    reference: str | None = Field(None, description='variant that differences refer to, default the first')
    variants: list[Any] = Field(min_length=1)


@dataclass
class Run:
    """One variant with one seed: a normal training run in folders of its own."""
    variant: str
    seed: int
    file: Path
    overrides: list[str]
    opt: dict[str, Any]
    results: Path

    @property
    def name(self) -> str:
        return self.opt['name']

    @property
    def weights(self) -> Path:
        """The last weights, which are there once training has ended."""
        return Path(self.opt['path']['models']) / 'net_g_latest.pth'

    @property
    def record(self) -> Path:
        """The options that the run was started with."""
        return self.folder.with_name(f'{self.folder.name}.json')  # a suffix would replace the end of 'lr_0.1_seed0'

    @property
    def log(self) -> Path:
        """What the processes of the run printed."""
        return self.folder.with_name(f'{self.folder.name}.log')

    @property
    def folder(self) -> Path:
        """Of weights, states and curves; a process that trains owns it."""
        return Path(self.opt['path']['experiments_root'])

    @property
    def metrics(self) -> Path:
        return self.results / 'metrics.json'

    def start_record(self) -> None:
        write_json(self.record, self.opt)


@dataclass
class Study:
    """`paper`: claimed figures by variant. `results`: folder of tables and evaluations."""
    name: str
    reference: str
    results: Path
    paper: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def by_variant(self) -> dict[str, list[Run]]:
        out: dict[str, list[Run]] = {}
        for run in self.runs:
            out.setdefault(run.variant, []).append(run)
        return out


def read_study(path: str | Path, seeds: int, total_iter: int | None, root: Path) -> Study:
    """Read a study file and make its runs.

    Args:
        seeds: runs of each variant, with the options' `manual_seed` and those after it.
        total_iter: iterations of each run; None as the study says, else as the options say.
        root: folder of `experiments/` and `results/`.

    Raises:
        UserError: lists every mistake of the study file and of the options of its variants, or says which process is at
            this study.
    """
    path = find_yaml(path)
    data, source = read_yaml(path)
    problems = Problems(source)
    options = check_block(StudyOptions, data, (), problems) or {}
    listed: Any = options.get('variants', data.get('variants'))
    entries = [
        check_block(VariantOptions, v, ('variants', i), problems)
        for i, v in enumerate(listed if isinstance(listed, list) else [])
    ]
    variants = [variant or {} for variant in entries]  # what has mistakes is nothing; they are raised below
    names = [v['name'] for v in variants if v]
    for i, variant in enumerate(variants):
        if variant and namesake(_slug(variant['name']), [_slug(v['name']) for v in variants[:i] if v]) is not None:
            problems.add(('variants', i, 'name'), f"there are two variants called '{variant['name']}'")
    reference = options.get('reference') or (names or [''])[0]
    if names and reference not in names:
        problems.add(('reference', ), f"'{reference}' is none of the variants.{nearest(reference, names)}")
    for i, variant in enumerate(variants):
        if variant and not variant.get('opt') and not options.get('base') and options:
            problems.add(('variants', i), 'needs an option file (opt), as the study has no base')
    raise_mistakes(source.file, problems.texts())

    stem = path.name.split('.')[0]
    study = Study(options.get('name') or checked(stem, f"the name of '{path}' before its first dot"), reference, Path())
    study.results = root / 'results' / study.name
    check_free(study.results, otherwise=OTHERWISE)
    base = options.get('base')
    if isinstance(base, dict):
        with atomic_write(study.results / 'base.yml', 'w') as out:
            out.write(dump_yaml(base))
        base = str(study.results / 'base.yml')
    mistakes: dict[str, list[int]] = {}
    for i, variant in enumerate(variants):
        study.paper[variant['name']] = variant.get('paper') or {}
        changes = options['overrides'] | variant['overrides']
        try:
            file = _find(str(variant.get('opt') or base), path)
            if variant.get('arch_files'):
                changes['arch_files'] = [str(_find(f, path).resolve()) for f in variant['arch_files']]
            study.runs += _runs(study, variant['name'], file, changes, seeds, total_iter or options.get('total_iter'),
                                root)
        except UserError as error:
            mistakes.setdefault(str(error), []).append(i)
    for text, where in mistakes.items():
        text = text.replace('\n', '\n  ')
        if len(where) == len(variants) > 1:
            problems.add(('variants', ), f'every variant: {text}')
        else:
            problems.add(('variants', where[0]), ', '.join(f"variant '{names[i]}'" for i in where) + f': {text}')
    raise_mistakes(source.file, problems.texts())
    return study


def _find(text: str, study: Path) -> Path:
    found = find_path(text, beside=study)
    if found is None:
        raise UserError(f"there is no file '{text}'")
    return found


def _runs(study: Study, variant: str, file: Path, changes: dict[str, Any], seeds: int, total_iter: int | None,
          root: Path) -> list[Run]:
    """The runs of one variant. Raises `UserError` for mistakes in its options, and for runs made with other options."""
    if read_options(file)[0].get('stages'):
        raise UserError(f"'{file}' has stages; a study takes files of one run")

    def load(changes: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
        overrides = as_overrides(changes)
        return overrides, load_options(file, overrides, is_train=True, root=root).opt

    _, opt = load(changes)
    if opt['train'].get('time_limit'):
        raise UserError('train.time_limit interrupts runs; leave it out of a study, which goes on where it was stopped')
    if not any(not key.startswith('train') for key in opt['datasets']):
        raise UserError(f"'{file}' has no val or test data set")
    changes = changes | (shortened(opt, total_iter) if total_iter else {})
    changes['path.experiments_root'] = str(root / 'experiments' / study.name)
    if opt['num_gpu'] != 0:
        changes['num_gpu'] = 'auto'  # a run sees one GPU, or none
    runs = []
    for seed in range(opt.get('manual_seed') or 0, (opt.get('manual_seed') or 0) + seeds):
        changes |= {'name': f'{_slug(variant)}_seed{seed}', 'manual_seed': seed}
        overrides, loaded = load(changes)
        loaded = json.loads(json.dumps(loaded))  # tuples as lists: as they are read back
        run = Run(variant, seed, file.resolve(), overrides, loaded, study.results / loaded['name'])
        _check_record(run)
        runs.append(run)
    return runs


def _check_record(run: Run) -> None:
    """Folders of a run with other options are neither continued nor taken for this one."""
    started = run.weights.is_file() or any(Path(run.opt['path']['training_states']).glob('*.state'))
    if not started:
        return
    before = with_defaults(json.loads(run.record.read_text(encoding='utf-8'))) if run.record.is_file() else {}
    different = _differences(before, run.opt)
    if different:
        raise UserError(f"'{run.folder}' was trained with other options ({', '.join(different[:5])}); give the study"
                        ' another name, or remove the folder')


def _differences(a: Any, b: Any, path: str = '') -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in sorted({*a, *b}) for d in _differences(a.get(k), b.get(k), f'{path}.{k}' if path else k)]
    return [] if a == b else [path]


def _slug(name: str) -> str:
    """A variant's name as part of a folder's."""
    return re.sub(r'[^\w.-]+', '_', name).strip('_')
