"""The list `stages` of an option file: runs one after the other, each from the last weights of the one before.

A stage is a name and the options that change, by their paths: `{name: all, train.total_iter: 5e5}`. What the file says
beside the list holds for every stage; what the command line says holds for every stage as well and wins.
"""
from __future__ import annotations

import re
from typing import Any

from basicsr.config.overrides import set_option, split_path
from basicsr.config.report import Problems
from basicsr.utils.errors import UserError
from basicsr.utils.names import name_mistake, namesake, quoted

_START = ('path.pretrain_network_g', 'path.fine_tune_from')


def stage_names(data: dict[str, Any], problems: Problems) -> list[str]:
    """Names of the stages in their order, [] for a file without. Entries that are no stages go to `problems`."""
    stages = data.get('stages')
    if stages is None:
        return []
    if not isinstance(stages, list) or not stages:
        problems.add(('stages', ), 'must be a list of stages, each a name and options to change')
        return []
    names: list[str] = []
    for i, stage in enumerate(stages):
        name = stage.get('name') if isinstance(stage, dict) else None
        if not re.fullmatch(r'[\w.-]+', str(name)) or name is None:
            problems.add(('stages', i), 'must be a mapping with a name of letters, digits, _ . - and options to change')
        elif name_mistake(str(name)):
            problems.add(('stages', i, 'name'), f'{name_mistake(str(name))}, not {str(name)!r}')
        elif (same := namesake(str(name), names)) is not None:
            problems.add(('stages', i, 'name'), f'there are two stages called {quoted(str(name), same)}'.rstrip(','))
        names.append(str(name))
    return names


def enter_stage(data: dict[str, Any], index: int, problems: Problems) -> None:
    """Take the list out of `data` and make the changes of stage `index`; messages name the lines of the stage."""
    for key, value in data.pop('stages')[index].items():
        where, path = ('stages', index, str(key)), split_path(str(key))
        if key == 'name':
            continue
        if path[0] == 'stages' or (index and '.'.join(map(str, path)) in _START):
            problems.add(where, 'cannot change: a stage starts from the weights of the stage before')
            continue
        try:
            path, made = set_option(data, path, value)
            problems.source.move(where, path, made)
        except UserError as error:
            problems.add(where, str(error))
