"""Which photos are meant: files, folders, patterns that no shell has expanded, standard input; and what is passed over."""
from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from natsort import natsorted, ns

from basicsr.photos import formats
from basicsr.utils.errors import UserError, counted
from basicsr.utils.files import as_stored, scan_images

STANDARD = '-'  # standard input, or output
_SUFFIXES = tuple(suffix for row in formats.FORMATS for suffix in row.suffixes)


class Source(NamedTuple):
    """A photo to read.

    Attributes:
        path: of the file, or what messages call standard input. inside: its path within the folder that was given.
        data: what standard input held; None for a file.
    """
    path: Path
    inside: PurePath
    data: bytes | None = None

    def beginning(self) -> bytes:
        """Enough of it to tell its format. Raises `OSError`."""
        if self.data is not None:
            return self.data
        with self.path.open('rb') as file:
            return file.read(1 << 16)


class Inputs(NamedTuple):
    """What was found. `passed_over`: a line for each folder that holds something else. `folders`: there were any."""
    sources: list[Source]
    passed_over: list[str]
    folders: bool


def find(given: Sequence[str], recursive: bool = False, output: str | Path | None = None) -> Inputs:
    """The photos of these words. A file that is named is one, whatever its suffix; of folders those of known suffixes are.

    Args:
        recursive: look into subfolders.
        output: a folder that is not looked into, where it lies in one that is.

    Raises:
        UserError: for what is not there, and where no photo is.
    """
    sources: dict[str, Source] = {}
    lines, folders = [], False
    for word in given:
        for path in _paths(word):
            if path.is_dir():
                folders = True
                found, line = _folder(path, recursive, output)
                lines += [line] if line else []
            else:
                found = [_standard_input()] if word == STANDARD else [Source(path, PurePath(path.name))]
            for source in found:
                sources.setdefault(os.path.abspath(source.path), source)  # named twice is once
    if not sources:
        raise UserError(f"there are no images in {', '.join(map(repr, given))} (known types: {', '.join(_SUFFIXES)})" +
                        ''.join(f'; {line}' for line in lines))
    return Inputs(list(sources.values()), lines, folders)


def _paths(word: str) -> list[Path]:
    """What a word stands for; several paths where it is a pattern, and no file of that name is there."""
    path = Path(as_stored(word))
    if word == STANDARD or path.exists():
        return [path]
    if not glob.has_magic(word):
        raise UserError(f"there is no file or folder '{word}'")
    found = natsorted(sorted(glob.glob(word, recursive=True)), alg=ns.PATH | ns.IGNORECASE)
    if not found:
        raise UserError(f"no file or folder fits '{word}'")
    return [Path(name) for name in found]


def _folder(path: Path, recursive: bool, output: str | Path | None) -> tuple[list[Source], str]:
    """The photos of a folder, and a line on what else it holds; ''."""
    found = scan_images(path, recursive, _SUFFIXES)
    own = _within(path, output)
    if own is not None:  # what an earlier call has written is no input of this one
        found = found._replace(images=[image for image in found.images if not image.is_relative_to(own)],
                               others=[other for other in found.others if not other.is_relative_to(own)],
                               folders=[folder for folder in found.folders if folder != own])
    others = found.passed_over()
    hint = '; --recursive looks into subfolders' if found.folders and not recursive else ''
    line = f"'{path}': {counted(len(found.images), 'image')}; passed over: {others}{hint}" if others else ''
    return [Source(path / image, image) for image in found.images], line


def _within(folder: Path, output: str | Path | None) -> Path | None:
    """The output's path in a folder; None where it lies elsewhere, or is the folder itself."""
    if output is None or str(output) == STANDARD:
        return None
    there, root = Path(os.path.realpath(output)), Path(os.path.realpath(folder))
    return there.relative_to(root) if there.is_relative_to(root) and there != root else None


def _standard_input() -> Source:
    data = sys.stdin.buffer.read()
    return Source(Path('standard input'), PurePath('stdin' + formats.suffix_for('', data)), data)
