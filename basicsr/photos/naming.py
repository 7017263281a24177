"""Where the results go: a name for each that no other has, and none over a file that is not meant to go."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from basicsr.photos import formats
from basicsr.photos.inputs import STANDARD, Inputs, Source
from basicsr.utils.errors import UserError, counted, some
from basicsr.utils.files import as_stored
from basicsr.utils.image_header import read_header
from basicsr.utils.names import below, distinct, normal
from basicsr.utils.outputs import check_outputs

_SHEET = '_sheet.png'


class Job(NamedTuple):
    """A photo, and the file that is made of it; `target` is None for standard output, in the format `suffix`.

    `sheet`: where before and after go beside one another, None if nowhere.
    """
    source: Source
    target: Path | None
    suffix: str
    sheet: Path | None = None

    @property
    def name(self) -> str:
        """What messages call the result."""
        return str(self.target) if self.target else f'standard output{self.suffix}'


class Jobs(NamedTuple):
    """What is to be done. `there`: how many were left out, as their results are there."""
    todo: list[Job]
    there: int = 0


def plan(inputs: Inputs, output: str, sheet: bool = False, overwrite: bool = False,
         skip_existing: bool = False) -> Jobs:
    """The jobs of these inputs, whose results go into the file or folder `output`.

    Raises:
        UserError: for all that would go wrong later, or destroy a file: see the messages.
    """
    jobs = _jobs(inputs, output, sheet)
    for job in {job.suffix: job for job in jobs}.values():
        formats.of_output(job.name, job.suffix)
    _check_clashes(jobs)
    check_outputs((path for job in jobs for path in _written(job)),
                  (job.source.path for job in jobs if job.source.data is None), '-o')
    _check_grey(jobs)
    _check_places(jobs)
    there = [job for job in jobs if any(map(_is_there, _written(job)))]
    if there and not (overwrite or skip_existing):
        files = [path for job in there for path in _written(job) if _is_there(path)]
        one = len(files) == 1
        what = f"'{files[0]}' exists" if one else f'{len(files)} of the output files exist: {some(files)}'
        raise UserError(
            f"{what}; --skip_existing leaves {'it as it is' if one else 'them as they are'}, --overwrite replaces"
            f" {'it' if one else 'them'}", details=list(map(str, files)))
    if overwrite:
        return Jobs(jobs)
    done = [job for job in there if job.target and _is_there(job.target)]
    todo = [job._replace(sheet=None) if job.sheet and _is_there(job.sheet) else job for job in jobs if job not in done]
    return Jobs(todo, len(done))


def _is_there(path: Path) -> bool:
    """Also a link to a file that is not."""
    return os.path.lexists(path)


def _written(job: Job) -> list[Path]:
    return [path for path in (job.target, job.sheet) if path]


def _jobs(inputs: Inputs, output: str, sheet: bool) -> list[Job]:
    sources = inputs.sources
    if output == STANDARD:
        if len(sources) > 1:
            raise UserError(f'-o - writes one photo to standard output, not {len(sources)}')
        if sheet:
            raise UserError('-o - has no place for a sheet; name a file')
        return [Job(sources[0], None, _suffix(sources[0]))]
    target = Path(as_stored(output))
    named = bool(target.suffix) and not target.is_dir() and not output.endswith(('/', os.sep))
    if named and len(sources) == 1 and not inputs.folders:
        sheets = distinct([target], [_SHEET], [target.name])
        return [Job(sources[0], target, target.suffix, _beside(target, sheets[0]) if sheet else None)]
    if named and formats.by_suffix(target.suffix):
        what = f"'{sources[0].path.parent}' is a folder" if inputs.folders else f'there are {len(sources)} inputs'
        raise UserError(f"{what}, so -o must name a folder, not the file '{target}'")
    if target.exists() and not target.is_dir():
        raise UserError(
            f"-o '{target}' is a file; name a folder, or a file of a known type: {', '.join(formats.WRITTEN)}")
    return _in_folder(sources, target, sheet)


def _in_folder(sources: Sequence[Source], target: Path, sheet: bool) -> list[Job]:
    """The files of one folder get names that differ, those of several must have them."""
    by_folder: dict[Path, list[Source]] = {}
    for source in sources:
        by_folder.setdefault(source.path.parent, []).append(source)
    jobs = {}
    for group in by_folder.values():
        own = _own_names(group)
        # on some file systems names that differ in case alone are one
        names = distinct(own, [name.suffix for name in own])
        sheets = distinct([Path(name) for name in names], [_SHEET] * len(names), names)
        for source, name, beside in zip(group, names, sheets):
            path = below(target, str(source.inside.parent), name, what='-o')
            jobs[source.path] = Job(source, path, path.suffix, _beside(path, beside) if sheet else None)
    return [jobs[source.path] for source in sources]


def _own_names(group: Sequence[Source]) -> list[PurePath]:
    """The name of each photo's result, its own. Where the suffix changes it stays in it: 'a.dng.png'.

    Whatever lies beside a photo does not change the name, else --skip_existing would take another's result for its own.
    Raises `UserError` where two have one name all the same.
    """
    names: dict[str, Source] = {}
    for source in group:
        suffix = _suffix(source)
        name = source.inside.name + ('' if suffix == source.inside.suffix else suffix)
        other = names.setdefault(normal(name), source)
        if other is not source:
            raise UserError(
                f"'{other.path}' and '{source.path}' would both be written as '{name}'; rename one of them, or"
                ' enhance one after the other')
    return [PurePath(name) for name in names]


def _beside(path: Path, name: str) -> Path:
    return below(path.parent, name, what='--sheet')


def _suffix(source: Source) -> str:
    """That of the result: the photo's own, where such files can be written."""
    suffix = source.inside.suffix
    if suffix.lower() in formats.WRITTEN:
        return suffix
    try:
        return formats.suffix_for(suffix, source.beginning())
    except OSError:  # reading tells
        return formats.suffix_for(suffix, b'')


def _check_clashes(jobs: Sequence[Job]) -> None:
    taken: dict[str, Job] = {}
    for job in jobs:
        for path in _written(job):
            other = taken.setdefault(os.path.abspath(path).casefold(), job)
            if other is not job:
                raise UserError(
                    f"'{other.source.path}' and '{job.source.path}' would both be written to '{path}'; name the folder"
                    ' above them with --recursive, or enhance one after the other')


def _check_grey(jobs: Sequence[Job]) -> None:
    """A name in .pgm is refused for a photo in colours before weights are loaded, as far as its header tells."""
    for job in jobs:
        if job.suffix.lower() == formats.ONLY_GREY:
            data = job.source.beginning()
            if formats.by_content(data):
                formats.check_grey(job.name, job.suffix, read_header(data).kind.startswith('grey'))


def _check_places(jobs: Sequence[Job]) -> None:
    """Whether the results' folders are there, or can be made, and may be written to."""
    for folder in dict.fromkeys(path.parent for job in jobs for path in _written(job)):
        there = next((above for above in (folder, *folder.parents) if above.exists()), Path())
        if not there.is_dir():
            raise UserError(f"cannot write to '{folder}': '{there}' is a file, no folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"cannot write to '{folder}': there is no permission to write to '{there}'")
    for path in (path for job in jobs for path in _written(job) if path.is_dir()):
        raise UserError(f"cannot write '{path}': there is a folder of that name")


def summary(jobs: Jobs, failed: int, output: str) -> str:
    """The last line of several photos."""
    count = len(jobs.todo)
    there = f'; {counted(jobs.there, "other")} {"was" if jobs.there == 1 else "were"} there' if jobs.there else ''
    return f'{count - failed} of {counted(count, "image")} written to {output}{there}'
