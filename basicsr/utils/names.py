"""Names of files: which may become paths, and which are the same.

Whoever makes a path of a name that a user or a file gave asks here first; whoever compares names compares `normal` ones.
"""
from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PureWindowsPath

from basicsr.utils.errors import UserError

LONGEST = 200  # bytes; file systems take 255, and names get a time or a suffix behind them
_COMPONENT, _END = 255, 60  # bytes that file systems take, and those of a longer name's end that are kept

_DEVICE = re.compile('CON|PRN|AUX|NUL|CONIN\\$|CONOUT\\$|(COM|LPT)[0-9¹²³]', re.IGNORECASE)  # with any suffix


def normal(name: str) -> str:
    """One spelling of what looks the same: macOS stores 'é' as two characters (NFD), others as one (NFC)."""
    return name if name.isascii() else unicodedata.normalize('NFC', name)


def namesake(name: str, others: Iterable[str]) -> str | None:
    """The first of `others` that leads to the same folder as `name` on some file system.

    macOS and Windows know no case, macOS no Unicode forms, Windows neither dots nor spaces at the end.
    """
    return next((other for other in others if _on_any_system(other) == _on_any_system(name)), None)


def distinct(files: Sequence[PurePath], suffixes: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A name for what is made of each of several files of one folder, no two of which are one on any file system.

    The file's name without its suffix, and the new one behind it. Where that gives one name to several, the suffix stays
    in the name ('a.jpg.png' beside 'a.png'), and where that does not help, a number follows. The commands that write
    pictures take their names from here.

    Args:
        suffixes: of the new files, e.g. '.png'; '' for a name alone. taken: names that are not to be used.
    """
    short = [file.stem + suffix for file, suffix in zip(files, suffixes)]
    count = Counter(_on_any_system(name) for name in short)
    names = [
        name if count[_on_any_system(name)] == 1 or name == file.name else file.name + suffix
        for name, file, suffix in zip(short, files, suffixes)
    ]
    used = {_on_any_system(name) for name in taken}
    for index in sorted(range(len(names)),
                        key=lambda index: names[index] != short[index]):  # those that keep theirs first
        name, suffix, number = names[index], suffixes[index], 1
        while _on_any_system(name) in used:
            number += 1
            name = f'{names[index].removesuffix(suffix)}_{number}{suffix}'
        names[index] = name
        used.add(_on_any_system(name))
    return names


def _on_any_system(name: str) -> str:
    return normal(normal(name).casefold()).rstrip('. ')


def quoted(name: str, same: str) -> str:
    """A name and its namesake in words."""
    return f"'{name}'" if name == same else f"'{name}', or '{same}', one folder on macOS and Windows,"


def spellings(name: str) -> list[str]:
    """A name as it is and in both Unicode forms."""
    return list(dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in ('NFC', 'NFD'))]))


def name_bytes(name: str) -> bytes:
    """The bytes of a name, also of one that is no UTF-8."""
    return name.encode('utf-8', 'surrogateescape')


def printable(text: str) -> str:
    """Text for those who refuse what is no Unicode: bytes of a name in another encoding become backslash escapes."""
    return text.encode('utf-8', 'backslashreplace').decode()


def check_unicode(path: str | Path, who: str) -> None:
    """Raise `UserError` for a path that is no UTF-8, where `who` has to open it and takes no other."""
    if printable(str(path)) != str(path):
        raise UserError(f"'{path}': {who} takes only paths in UTF-8; rename the file or its folder")


def name_mistake(name: str) -> str:
    """What a name must be to be one component of a path, '' where it is."""
    if not name.strip() or name in ('.', '..'):
        return 'must be a name'
    if any(character in '/\\' or ord(character) < 32 for character in name) or PureWindowsPath(name).drive:
        return "must be a name without '/', '\\', drive and control characters"
    if name != name.rstrip('. '):
        return 'must not end in a dot or a space, which Windows leaves out'
    if _DEVICE.fullmatch(name.partition('.')[0].rstrip()):
        return 'must be a name that is no device of Windows'
    return '' if len(name_bytes(name)) <= LONGEST else f'must have at most {LONGEST} bytes'


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
