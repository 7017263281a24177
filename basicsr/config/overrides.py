"""Overrides from the command line: `train.total_iter=100`, or BasicSR's `train:total_iter=100`."""
from __future__ import annotations

import json
import re
from typing import Any

import yaml

from basicsr.config.report import Path, Problems
from basicsr.config.yaml_reader import parse_value
from basicsr.utils.errors import UserError


def apply_overrides(data: dict[str, Any], overrides: list[str], problems: Problems) -> None:
    """Set `path=value` entries in `data`. Path parts are separated by '.' or ':', list elements are numbers.

    The value is read as YAML ('!!float 1e-4', '~', lists), so numbers and nulls need no quoting. Blocks that do
    not exist yet are created; a mistyped path is reported later by the schema, like a mistyped line of the file.
    """
    for text in overrides:
        key, eq, value = text.partition('=')
        if not eq or not key.strip():
            raise UserError(f"override '{text}' is not of the form path=value, e.g. train.total_iter=100")
        parts = split_path(key.strip())
        if parts[0] == 'stages' and len(parts) > 3:  # the keys of a stage are themselves paths
            parts = (*parts[:2], '.'.join(map(str, parts[2:])))
        try:
            path, made = set_option(data, parts, parse_value(value))
        except yaml.YAMLError as error:
            raise UserError(f"override '{text}': '{value}' is not a YAML value") from error
        except UserError as error:
            raise UserError(f"override '{text}': {error}") from error
        problems.source.override(path, text, made)


def split_path(text: str) -> Path:
    """'train.scheduler.periods.0' -> ('train', 'scheduler', 'periods', 0); ':' separates as well."""
    return tuple(int(p) if p.isdecimal() else p for p in re.split(r'[.:]', text))


def set_option(data: Any, parts: Path, value: Any) -> tuple[Path, int]:
    """Set one value in nested options. Blocks on the way are created. None takes a block or a list away.

    Raises `UserError` where there can be no such path.

    Returns the path as options have it, where the keys of a mapping are words, '5' too, and the length of the shortest
    path that is new: `len(parts)` where no block was created.
    """
    made, path = len(parts), list(parts)
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if isinstance(data, list):
            if not isinstance(part, int) or part >= len(data):
                raise UserError(f"'{part}' is no position in a list of {len(data)}")
        elif isinstance(data, dict):
            part = path[i] = str(part)
            if not last and data.get(part) is None:
                data[part] = {}
                made = min(made, i + 1)
        else:
            raise UserError(f"'{parts[i - 1]}' holds a single value, it has no '{part}'")
        if last and value is None and isinstance(data, dict) and isinstance(data.get(part), (dict, list)):
            del data[part]  # as a file takes a block or list of its base away
        elif last:
            data[part] = value
        else:
            data = data[part]
    return tuple(path), made


def as_overrides(changes: dict[str, Any]) -> list[str]:
    """`path=value` entries of a mapping of option paths to values."""
    return [f'{path}={json.dumps(value)}' for path, value in changes.items()]


def flatten(value: Any, path: str = '') -> dict[str, Any]:
    """{'train': {'lr': 1}} to {'train.lr': 1}; an empty mapping stays a value."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {
        k: v for key, inner in value.items() for k, v in flatten(inner, f'{path}.{key}' if path else str(key)).items()
    }
