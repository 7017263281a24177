"""Options of a run in pieces: where its data are on this machine, and what its first piece has chosen for all."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError
from basicsr.utils.names import below


def read_json(path: str | Path, *keys: str) -> dict[str, Any]:
    """What this tool has written, with these keys. Raises `UserError` where it is not there, or damaged."""
    if not Path(path).is_file():
        raise UserError(f"there is no file '{path}'")
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not content.keys() >= set(keys):
        raise UserError(f"'{path}' is damaged; make it again")
    return content


def named_data(file: str, overrides: list[str]) -> dict[str, str]:
    """Option path and value of everything that names data, as the file and the command line say it."""
    from basicsr.config.base import read_options
    content = read_options(file)[0]
    if content.get('stages'):
        raise UserError(f"'{file}' has stages; only files of one run can be trained in pieces")
    blocks = content.get('datasets') if isinstance(content.get('datasets'), dict) else {}
    found = {
        f'datasets.{name}.{key}': value for name, block in blocks.items() if isinstance(block, dict)
        for key, value in block.items()
    }
    found |= by_path(overrides)
    named = ('dataroot', 'meta_info', 'roots')
    found = {k: v for k, v in found.items() if k.startswith('datasets.') and k.split('.')[2].startswith(named)}
    several = [key for key, value in found.items() if not isinstance(value, str)]
    if several:
        raise UserError(f'{", ".join(several)}: only data sets of single folders and files can be carried')
    return found


def places(file: str, overrides: list[str], root: Path) -> list[str]:
    """Overrides: where the run is, and where the data are that were carried here. They go behind all others."""
    from basicsr.config.overrides import as_overrides
    listing = root / '.pieces' / 'data' / 'names.json'
    names = read_json(listing) if listing.is_file() else {}
    found = {
        key: str(below(listing.parent, str(names[text]), what=f"'{listing}'"))
        for key, text in named_data(file, overrides).items() if text in names
    }
    return as_overrides(found | {'path.experiments_root': str(root / 'experiments')})


def begun_with(kept: dict[str, Any], total_iter: int | None, overrides: list[str]) -> dict[str, Any]:
    """`kept`, what the first piece has chosen. Raises `UserError` for a later piece that asks for anything else.

    The overrides of the first piece may be repeated; `name`, which says which run is meant, has to be.
    """
    if total_iter and total_iter != kept['total_iter']:
        raise UserError(f"total_iter {total_iter} is not what this run was begun with ({kept['total_iter']}); leave out"
                        ' --total_iter')
    begun = by_path(kept['overrides'])
    stay = f" but name={begun['name']}" if 'name' in begun else ''
    for path, value in by_path(overrides).items():
        if begun.get(path) != value:
            was = f'{path}={begun[path]}' if path in begun else f'without {path}'
            raise UserError(
                f'{path}={value} is not what this run was begun with ({was}); leave out all overrides{stay}')
    return kept


def by_path(overrides: list[str]) -> dict[str, str]:
    """`path=value` entries, of which the last of a path counts."""
    return dict(entry.split('=', 1) for entry in overrides if '=' in entry)
