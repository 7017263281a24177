"""One option file on another: `base: other.yml`, and then only what differs.

Blocks are merged key by key; values and lists take the place of the base's. A block with another `type` than the base's
does so as a whole, since its keys are the arguments of another class. `key: ~` takes a block or a list of the base away.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from basicsr.config.files import find_path, looked_in, pin_files
from basicsr.config.report import Path as OptionPath
from basicsr.config.report import Source
from basicsr.config.yaml_reader import dump_yaml, read_yaml
from basicsr.utils.errors import UserError, nearest


def read_options(path: str | Path) -> tuple[dict[str, Any], Source]:
    """What an option file and its bases say together, without `base`, and where each option stands.

    Raises `UserError` as `read_yaml` does, and for a base that is missing or leads back to a file that builds on it.
    """
    files = [Path(path)]
    layers = [read_yaml(path)]
    while (given := layers[-1][0].pop('base', None)) is not None:
        where = f"{layers[-1][1].place(('base', ))}: base"
        file = _find_base(given, files[-1], where)
        if any(file.samefile(other) for other in files):
            raise UserError(f"{where}: goes in a circle: {' -> '.join(map(str, [*files, file]))}")
        files.append(file)
        try:
            layers.append(read_yaml(file))
        except UserError as error:
            raise UserError(f'{where}: {error}') from error
    data, source = layers.pop()
    while layers:
        own, above = layers.pop()
        data.pop('name', None)  # each file names its own run
        data = _merge(data, source, own, above, ())
        above.lines, above.bases = source.lines, [source.file, *source.bases]
        source = above
    return data, source


def option_text(path: Path, data: dict[str, Any], source: Source, network: dict[str, Any] | None = None) -> str:
    """An option file that needs no other: its own text or, where it has bases, what they say together.

    `network`: what takes the place of a `network_g` that the file leaves to the weights it begins with.
    """
    if network is not None:
        data = data | {'network_g': network}
    elif not source.bases:
        return path.read_text(encoding='utf-8-sig')
    return f"# {' on '.join([source.file, *source.bases])}\n" + dump_yaml(pin_files(data, source))


def _find_base(given: Any, file: Path, where: str) -> Path:
    """Beside the file first: what is in the working directory by chance is not what the file is about."""
    if not isinstance(given, str):
        raise UserError(f'{where}: must be the path of one option file')
    beside = file.parent / Path(given).expanduser()
    found = beside if beside.exists() else find_path(given)
    if found is None or not found.is_file():
        close = nearest(given, (other.name for other in file.parent.glob('*.y*ml') if other != file))
        raise UserError(f"{where}: there is no option file '{given}' (looked in {looked_in([file])}){close}")
    short = Path(os.path.normpath(found))  # for messages: without a/../b, unless a is a link to elsewhere
    return short if short.is_file() and short.samefile(found) else found


def _merge(base: dict[str, Any], source: Source, own: dict[str, Any], above: Source,
           path: OptionPath) -> dict[str, Any]:
    """`base` with what `own` says otherwise. `source`, of the base, takes the lines of `above`, those of `own`."""
    merged = dict(base)  # a block may stand in the base twice, by an alias
    for key, value in own.items():
        here, before = (*path, str(key)), base.get(key)
        if isinstance(value, dict) and isinstance(before, dict) and _of_one_type(value, before):
            merged[key] = _merge(before, source, value, above, here)
            if here in above.lines:
                source.lines[here] = above.lines[here]
            continue
        source.take(here, above)
        if value is None and isinstance(before, (dict, list)):
            del merged[key]
        else:
            merged[key] = value
    return merged


def _of_one_type(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return 'type' not in a or 'type' not in b or a['type'] == b['type']
