"""Mistakes in options: collected while checking, printed together."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from basicsr.config.hints import meant
from basicsr.utils.errors import UserError, counted

Path = tuple[str | int, ...]
Where = TypeVar('Where')


def dotted(path: Sequence[str | int]) -> str:
    """('train', 'scheduler', 'periods', 0) -> 'train.scheduler.periods[0]'."""
    out = ''
    for part in path:
        out += f'[{part}]' if isinstance(part, int) else f'.{part}' if out else str(part)
    return out


class Line(NamedTuple):
    file: str
    number: int

    def __str__(self) -> str:
        return f'{self.file}:{self.number}'


@dataclass
class Source:
    """Where each option came from: a line of the file or of one of its bases, or an override on the command line.

    `bases`: the files that the option file builds on, the nearest first.
    """
    file: str
    lines: dict[Path, Line] = field(default_factory=dict)
    overrides: dict[Path, str] = field(default_factory=dict)
    bases: list[str] = field(default_factory=list)

    def override(self, path: Path, text: str, made: int) -> None:
        """Note that `path`, all below it, and the blocks made for it come from the override `text`.

        `made`: length of the shortest path that did not exist before, as `set_option` tells.
        """
        self._replace(path, made, {}, {path: text})

    def move(self, origin: Path, path: Path, made: int) -> None:
        """Note that `path` and all below it come from where `origin`, or something that it is a part of, was written."""
        lines, overrides = _moved(self.lines, origin, path), _moved(self.overrides, origin, path)
        if path not in lines and path not in overrides:
            wholes = [origin[:end] for end in range(1, len(origin)) if origin[:end] in self.overrides]
            if wholes:
                overrides[path] = self.overrides[wholes[-1]]
        self._replace(path, made, lines, overrides)

    def take(self, path: Path, other: Source) -> None:
        """Note that `path` and all below it come from where `other` has them."""
        self._replace(path, len(path), {p: line for p, line in other.lines.items() if p[:len(path)] == path}, {})

    def _replace(self, path: Path, made: int, lines: dict[Path, Line], overrides: dict[Path, str]) -> None:
        """Forget what was written at `path` and below before; note `lines` and `overrides` instead."""
        _put(self.lines, path, made, lines)
        _put(self.overrides, path, made, overrides)

    def place(self, path: Path) -> str:
        """'X.yml:12' for the option itself or, when it is absent, the block it belongs to."""
        while path:
            if path in self.overrides:
                return f"override '{self.overrides[path]}'"
            if path in self.lines:
                return str(self.lines[path])
            path = path[:-1]
        return self.file

    def file_of(self, path: Path) -> str:
        """The file in which an option stands; for an override the option file."""
        while path and path not in self.overrides:
            if path in self.lines:
                return self.lines[path].file
            path = path[:-1]
        return self.file

    def order(self, path: Path) -> tuple[int, int]:
        """By this options are in the order of the file, before those of its bases."""
        line = self.lines.get(path) or self.lines.get(path[:-1]) or Line(self.file, 0)
        return [self.file, *self.bases].index(line.file), line.number


def _moved(places: dict[Path, Where], origin: Path, path: Path) -> dict[Path, Where]:
    """What is at `origin` and below, as it is called at `path`."""
    return {(*path, *p[len(origin):]): where for p, where in places.items() if p[:len(origin)] == origin}


def _put(places: dict[Path, Where], path: Path, made: int, new: dict[Path, Where]) -> None:
    for old in [p for p in places if p[:len(path)] == path]:
        del places[old]
    places |= new
    if path in new:
        places |= {path[:end]: new[path] for end in range(made, len(path))}


@dataclass
class Problems:
    """Collects every mistake of one option file, and notices about keys that are read differently."""
    source: Source
    found: list[tuple[Path, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def add(self, path: Path, message: str) -> None:
        self.found.append((path, message))

    def unknown_key(self, path: Path, allowed: Iterable[str], others: Iterable[str] = ()) -> None:
        """`others`: what may be meant as well, although it is not known to be a key."""
        allowed = sorted(allowed)
        said = meant(str(path[-1]), [*allowed, *others])
        self.add(path, f"unknown key '{path[-1]}'.{said} Allowed here: {', '.join(allowed)}")

    def wrong(self, path: Path) -> bool:
        """Whether there is a mistake at `path` or below."""
        return any(found[:len(path)] == path for found, _ in self.found)

    def notice(self, path: Path, message: str) -> None:
        self.notices.append(f'{self.source.place(path)}: {dotted(path)}: {message}')

    def texts(self) -> list[str]:
        """Place, option and message of every mistake, in the order of the file."""
        ordered = sorted(self.found, key=lambda p: self.source.order(p[0]))
        return [f'{self.source.place(path)}: {dotted(path) or "options"}: {text}' for path, text in ordered]


def raise_mistakes(file: str, texts: list[str]) -> None:
    """Raise one `UserError` that lists all mistakes, if there are any."""
    if texts:
        raise UserError(f"{counted(len(texts), 'mistake')} in {file}\n" + '\n'.join(f'  {text}' for text in texts))
