"""Names that become paths: what they may be. Whoever makes a path of a name that a user or a file gave asks here first."""
from __future__ import annotations

import hashlib
from pathlib import Path, PurePath, PureWindowsPath

from basicsr.utils.errors import UserError

LONGEST = 200  # bytes; file systems take 255, and names get a time or a suffix behind them
_COMPONENT, _END = 255, 60  # bytes that file systems take, and those of a longer name's end that are kept


def name_mistake(name: str) -> str:
    """What a name must be to be one component of a path, '' where it is."""
    if not name.strip() or name in ('.', '..'):
        return 'must be a name'
    if any(character in '/\\' or ord(character) < 32 for character in name) or PureWindowsPath(name).drive:
        return "must be a name without '/', '\\', drive and control characters"
    return '' if len(name.encode(errors='surrogateescape')) <= LONGEST else f'must have at most {LONGEST} bytes'


def checked(name: str, what: str) -> str:
    """`name` itself. Raises `UserError`, which begins with `what`, where it cannot be one component of a path."""
    mistake = name_mistake(name)
    if mistake:
        raise UserError(f'{what}: {mistake}, not {name!r}')
    return name


def below(folder: str | Path, *names: str, what: str) -> Path:
    """A path below `folder`; a name may have several parts, or be empty.

    A part that is too long for a file system is shortened in its middle, always in the same way, and differently for
    different names. Raises `UserError`, which begins with `what`, for a name that leads out of the folder.
    """
    for name in names:
        path = PurePath(name)
        if path.anchor or '..' in path.parts or '\0' in name:
            raise UserError(f"{what}: {name!r} is no name of a file below '{folder}'")
    return Path(folder, *(_fitting(part) for name in names for part in PurePath(name).parts))


def _fitting(part: str) -> str:
    """A name's beginning and its end, with the suffix, around a digest of all of it; short names stay as they are."""
    data = part.encode(errors='surrogateescape')
    if len(data) <= _COMPONENT:
        return part
    digest = f'~{hashlib.sha256(data).hexdigest()[:10]}~'
    start, end = data[:_COMPONENT - _END - len(digest)], data[-_END:]
    return digest.join(piece.decode(errors='ignore') for piece in (start, end))  # a letter that is cut is left out
