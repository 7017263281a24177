"""What a command writes is none of what it reads, and takes the place of nothing unasked."""
from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError, some
from basicsr.utils.files import identity, scan_images


def check_outputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path], option: str) -> None:
    """Raise `UserError` where something to be written is there already and is something to be read, by whatever path.

    Args:
        outputs: files; folders for files of any name, which therefore must hold no input.
        inputs: files; folders, whose images are read, those of their subfolders as well.
        option: what names the outputs, the beginning of the message: '-o'.
    """
    there: dict[Any, str | Path] = {found: path for path in outputs if (found := identity(path))}
    if not there:  # what is new takes the place of nothing
        return
    for given in map(Path, inputs):
        for path in (given, *_below(given)):
            output = there.get(identity(path))
            if output is not None:
                where = '' if str(output) == str(path) else f", as '{path}',"
                raise UserError(
                    f"{option}: '{output}' {'holds what is' if path.is_dir() else 'is'} to be read{where} and"
                    ' would be written over; choose another name')


def check_new(outputs: Iterable[str | Path], overwrite: bool) -> None:
    """Raise `UserError` where something to be written is there already, be it a link to nowhere, but with `overwrite`."""
    there = [] if overwrite else [str(path) for path in outputs if os.path.lexists(path)]
    if there:
        raise UserError(f'{some(there)} would be replaced; choose another name, or give --overwrite', details=there)


def check_stays(folder: str | Path, inputs: Iterable[str | Path]) -> None:
    """Raise `UserError` where something to be read lies in a folder that is renamed before it is read."""
    if not Path(folder).exists():
        return
    for path in inputs:
        if Path(path).resolve().is_relative_to(Path(folder).resolve()):
            raise UserError(
                f"'{path}' is to be read, and lies in '{folder}', which is renamed for the new run; give this"
                ' run another name=')


def _below(path: Path) -> Iterator[Path]:
    """The images of a folder and the folders that hold them; of a file the folder that holds it."""
    if not path.is_dir():
        yield path.parent
        return
    images = scan_images(path, recursive=True).images
    yield from dict.fromkeys(path / image.parent for image in images)
    yield from (path / image for image in images)
