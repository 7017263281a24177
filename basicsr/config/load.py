"""From an option file and command-line overrides to checked options with folders filled in. Needs no torch."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from addict import Dict

from basicsr.config.base import option_text, read_options
from basicsr.config.check import check_options
from basicsr.config.dialects import adapt
from basicsr.config.files import add_source_files, find_named, find_value, find_yaml, resolve_files
from basicsr.config.overrides import apply_overrides
from basicsr.config.report import Path as OptionPath
from basicsr.config.report import Problems, Source, dotted, raise_mistakes
from basicsr.config.stages import enter_stage, stage_names
from basicsr.utils.errors import UserError, nearest, some
from basicsr.utils.names import checked, name_mistake
from basicsr.utils.places import project_root
from basicsr.utils.pretrained import is_fetched, known_network


@dataclass
class LoadedOptions:
    """Checked options, what to tell the user about them, and where they came from.

    `text`: an option file that says the same as `file`, without needing its bases. `source`: where each option stands.
    `network`: that of the weights to begin with, where the file has no `network_g`.
    """
    opt: dict[str, Any]
    file: Path
    notices: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=lambda: list(sys.argv))
    text: str = ''
    source: Source | None = None
    network: dict[str, Any] | None = None

    @contextmanager
    def naming_places(self) -> Iterator[None]:
        """A mistake that shows only when something is built from a block is told with the file and line of the block."""
        try:
            yield
        except UserError as error:
            path = _find(self.opt, error.block) if isinstance(error.block, dict) and self.source else None
            if not path or self.source is None:
                raise
            said = f'{dotted(path)}: '
            text = f'{self.source.place(path)}: {said}{str(error).removeprefix(said)}'
            raise UserError(text, details=error.details) from error


def load_options(path: str | Path, overrides: list[str] | None = None, **settings: Any) -> LoadedOptions:
    """`load_stages` for one run: the only one or, where the file has stages, the last, whose weights are the result."""
    return load_stages(path, overrides, **settings)[-1]


def load_stages(path: str | Path, overrides: list[str] | None = None, *, is_train: bool | None,
                root: Path | None = None, debug: bool = False, auto_resume: bool = False,
                check_files: bool = True) -> list[LoadedOptions]:
    """Read, adapt, check and complete the options of a run, or of every run of a file with `stages`.

    Args:
        path: YAML file in this toolbox's, BasicSR's or the Restormer family's dialect, perhaps on a `base` in any of them.
        overrides: `path=value` entries.
        is_train: training needs the `train` block; testing ignores what only training reads. None: by that block.
        root: where `experiments/` and `results/` are made, default `project_root()`.
        check_files: also report folders and weight files that do not exist.

    Raises:
        UserError: lists every mistake with file, line, option path and, where it is not one of all, stage.
    """
    path = find_yaml(path)
    data, source = read_options(path)
    whole = option_text(path, data, source)
    problems = Problems(source)
    apply_overrides(data, [o for o in overrides or [] if o.startswith('stages')], problems)
    overrides = [o for o in overrides or [] if not o.startswith('stages')]
    names = stage_names(data, problems)
    raise_mistakes(source.file, problems.texts())
    runs: list[LoadedOptions] = []
    mistakes: dict[str, list[int]] = {}
    for i in range(len(names) or 1):
        problems = Problems(deepcopy(source))
        run = deepcopy(data)
        if names:
            enter_stage(run, i, problems)
        apply_overrides(run, overrides, problems)
        loaded = _load(run, path, problems, names[:i + 1], is_train, root or project_root(), debug, auto_resume,
                       check_files)
        loaded.text = whole if loaded.network is None else option_text(path, data, source, loaded.network)
        runs.append(loaded)
        for text in dict.fromkeys(problems.texts()):
            mistakes.setdefault(text, []).append(i)
    raise_mistakes(
        source.file,
        [text if len(where) == len(runs) else f"stage '{names[where[0]]}': {text}" for text, where in mistakes.items()])
    return runs


def _load(data: dict[str, Any], path: Path, problems: Problems, stages: list[str], is_train: bool | None, root: Path,
          debug: bool, auto_resume: bool, check_files: bool) -> LoadedOptions:
    """One run. `stages`: names up to its own. With mistakes in `problems` the result is not of use."""
    reads_train_data = is_train is not False
    is_train = 'train' in data if is_train is None else is_train
    add_source_files(data, problems)
    if data.pop('base', None) is not None:
        problems.add(('base', ), 'stands in option files alone; an override or a stage comes too late for it')
    stem = path.name.split('.')[0]
    network = _network_of_weights(data, root, problems, check_files)
    adapt(data, stem, problems)
    opt = check_options(data, problems, is_train)
    if stages and is_train and opt['path'].get('resume_state'):
        problems.add(('path', 'resume_state'), 'is for single runs; --auto_resume finds the stage and its state')
    _fine_tuning(opt['path'], root, problems, is_train, check_files)
    if problems.wrong(('path', 'fine_tune_from')):  # which would have said it
        problems.found = [found for found in problems.found if found != (('network_g', ), 'is required')]
    resolve_files(opt, problems, reads_train_data, check_files)
    if problems.found:
        return LoadedOptions(opt, path)
    opt['name'] = _run_name(opt.get('name') or checked(stem, f"the name of '{path}' before its first dot"), debug)
    if stages:
        if len(stages) > 1 and is_train:
            opt['path']['pretrain_network_g'] = str(_last_weights(opt['path'], root, f"{opt['name']}_{stages[-2]}"))
        opt['name'] += f'_{stages[-1]}'
    if name_mistake(opt['name']):  # each of what was joined is a name
        place = ('stages', len(stages) - 1, 'name') if stages else ('name', )
        problems.add(place, f"the run's whole name {name_mistake(opt['name'])}, not {opt['name']!r}")
    opt['is_train'], opt['auto_resume'] = is_train, auto_resume
    for key, block in opt['datasets'].items():
        block['phase'], block['block'] = key.split('_')[0], key
    _folders(opt, root)
    if is_train and 'debug' in opt['name']:
        opt['val']['val_freq'] = 8
        opt['logger'] |= {'print_freq': 1, 'save_checkpoint_freq': 8, 'use_tb_logger': False}
    return LoadedOptions(opt, path, problems.notices, source=problems.source, network=network)


def _find(options: Any, block: dict[str, Any], path: OptionPath = ()) -> OptionPath | None:
    """The path of the first block that says the same as `block`; of a data set, which may be changed, by its key."""
    if not path and block.get('block') in options['datasets']:
        return 'datasets', block['block']
    inner = options.items() if isinstance(options, dict) else enumerate(options) if isinstance(options, list) else ()
    for key, value in inner:
        if value == block:
            return *path, key
        if (found := _find(value, block, (*path, key))) is not None:
            return found
    return None


def freeze(opt: dict[str, Any]) -> Dict:
    """The mapping that models receive: `opt['a']['b']` and `opt.a.b`; reading or adding an unknown key is an error."""
    frozen = Dict(opt)
    frozen.freeze()
    return frozen


def dict2str(opt: dict[str, Any], indent: int = 1) -> str:
    """Options as BasicSR prints them: two spaces per level, nested mappings in `key:[ ... ]`."""
    out = '\n' if indent == 1 else ''
    for key, value in opt.items():
        pad = ' ' * (indent * 2)
        if isinstance(value, dict):
            out += f'{pad}{key}:[\n{dict2str(value, indent + 1)}{pad}]\n'
        else:
            out += f'{pad}{key}: {value}\n'
    return out


def _run_name(name: str, debug: bool) -> str:
    return f'debug_{name}' if debug and not name.startswith('debug') else name


def experiments_of(path: dict[str, Any], root: Path) -> Path:
    """The folder of all training runs, by the options below `path`."""
    return Path(str(path.get('experiments_root') or root / 'experiments')).expanduser()


def _last_weights(path: dict[str, Any], root: Path, run: str) -> Path:
    return experiments_of(path, root) / run / 'models' / 'net_g_latest.pth'


def _fine_tuning(path: dict[str, Any], root: Path, problems: Problems, is_train: bool, check_files: bool) -> None:
    """Turn `fine_tune_from` into `pretrain_network_g`: the last weights of an earlier run, or a file. Training only."""
    given = path.pop('fine_tune_from', None)
    if not isinstance(given, str) or not given or not is_train:
        return
    here = ('path', 'fine_tune_from')
    if path.get('pretrain_network_g'):
        problems.add(here, 'pretrain_network_g says where to start from already; give one of the two')
    if path.get('strict_load_g') is False:
        problems.add(here,
                     'takes all weights or none; for a part of them use pretrain_network_g and strict_load_g: false')
    found, run = _start(given, here, path, root, problems, check_files)
    if found or not check_files:
        path['pretrain_network_g'] = str(found or run or given)
    else:
        runs = sorted(w.parts[-3] for w in experiments_of(path, root).glob('*/models/net_g_latest.pth'))
        where = f" ('{run}' is not there)" if run else ''
        problems.add(
            here, f"'{given}' is neither a weight file nor a run that has ended{where}."
            f"{nearest(given, runs)} Runs: {some(runs, 20) or 'none'}")


def _start(given: str, here: OptionPath, path: dict[str, Any], root: Path, problems: Problems,
           check_files: bool) -> tuple[Path | None, Path | None]:
    """The weight file that `path.fine_tune_from` means, None where there is none; and where the run of its name has one."""
    run = None if name_mistake(given) else _last_weights(path, root, given)
    beside = find_value(given, here, problems.source)
    named = find_named(given, beside) if check_files and not (run and run.is_file()) else None
    return next((f for f in (run, named, beside) if f and f.is_file()), None), run


def _network_of_weights(data: dict[str, Any], root: Path, problems: Problems,
                        check_files: bool) -> dict[str, Any] | None:
    """Without `network_g`, it becomes the network of `path.fine_tune_from`, where these weights say it; that is returned."""
    path = data.get('path')
    given = path.get('fine_tune_from') if isinstance(path, dict) else None
    if 'network_g' in data or not isinstance(given, str) or not given or path is None:
        return None
    here = ('path', 'fine_tune_from')
    found, run = _start(given, here, path, root, problems, check_files or not is_fetched(given))
    network = None if found and found == run else known_network(given)
    if network is None and found:
        from basicsr.utils.weights import load_weights  # needs torch
        try:
            network = load_weights(found, preferred=path.get('param_key_g')).network
        except UserError as error:
            problems.add(here, str(error))
            return None
        if network is None:
            problems.add(here, f"'{given}' does not say its network; give network_g")
    if network is not None:
        data['network_g'] = deepcopy(network)
    return network


def _folders(opt: dict[str, Any], root: Path) -> None:
    path = opt['path']
    if opt['is_train']:
        custom = path.get('experiments_root')
        path['tb_logger'] = str((Path(custom).expanduser() if custom else root) / 'tb_logger' / opt['name'])
        run = experiments_of(path, root) / opt['name']
        path |= {
            'experiments_root': str(run), 'models': str(run / 'models'), 'log': str(run),
            'training_states': str(run / 'training_states'), 'visualization': str(run / 'visualization'),
            'best': str(run / 'best')
        }
    else:
        run = Path(path.get('results_root') or root / 'results').expanduser() / opt['name']
        path |= {'results_root': str(run), 'log': str(run), 'visualization': str(run / 'visualization')}
    path['root'] = str(root)
