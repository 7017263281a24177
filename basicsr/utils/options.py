"""The module name of BasicSR for reading option files: as they are, or checked and ready for its models."""
from __future__ import annotations

import argparse
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from basicsr.config import LoadedOptions, dict2str, load_options
from basicsr.config.command_line import parse_command_line
from basicsr.config.yaml_reader import parse_value, read_yaml
from basicsr.training.launch import start_run

__all__ = ['copy_opt_file', 'dict2str', 'parse', 'parse_options', 'yaml_load']


def yaml_load(f: str | Path) -> Any:
    """What a YAML file, or YAML text, holds. Raises `UserError` for a file that cannot be read."""
    return read_yaml(f)[0] if Path(f).is_file() else parse_value(str(f))


def parse(opt_path: str | Path, is_train: bool = True) -> dict[str, Any]:
    """The options of a file as `build_model` takes them, checked, for one process (Restormer family).

    Raises `UserError` with every mistake. Random numbers are seeded by `manual_seed`.
    """
    return _started(load_options(opt_path, is_train=is_train), 'none')


def parse_options(root_path: str | Path, is_train: bool = True) -> tuple[dict[str, Any], argparse.Namespace]:
    """Options and arguments of a program with BasicSR's command line, as `parse`; joins the process group it names.

    `root_path`: folder of `experiments/` or `results/`.
    """
    args = parse_command_line('Train a network.' if is_train else 'Test a network.')
    loaded = load_options(args.opt, args.overrides, is_train=is_train, root=Path(root_path), debug=args.debug,
                          auto_resume=args.auto_resume)
    return _started(loaded, args.launcher), args


def copy_opt_file(opt_file: str | Path, experiments_root: str | Path) -> None:
    """Copy an option file into the folder of its run, unless it lies there."""
    with suppress(shutil.SameFileError):
        shutil.copyfile(opt_file, Path(experiments_root) / Path(opt_file).name)


def _started(loaded: LoadedOptions, launcher: str) -> dict[str, Any]:
    opt = start_run(loaded, launcher).to_dict()
    return opt | {'root_path': opt['path']['root']}
