"""The files and folders that options name: where they are looked for."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from basicsr.config.overrides import split_path
from basicsr.config.report import Path as OptionPath
from basicsr.config.report import Problems, Source
from basicsr.config.training import loss_places
from basicsr.config.wording import EMPTY
from basicsr.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)
from basicsr.utils.files import as_stored
from basicsr.utils.places import project_root, shipped_root
from basicsr.utils.pretrained import find_weights, is_fetched, read_manifest

_SOURCES = {
    'arch_files': ARCH_REGISTRY,
    'model_files': MODEL_REGISTRY,
    'dataset_files': DATASET_REGISTRY,
    'loss_files': LOSS_REGISTRY,
    'metric_files': METRIC_REGISTRY,
}
# beginnings of keys whose values are files, wherever they stand
_FILE_KEYS = ('dataroot', 'meta_info', 'roots', 'pretrain_network', 'resume_state', 'fine_tune_from', 'weights')


def find_path(text: str, beside: Path | None = None) -> Path | None:
    """An existing file or folder, '' is none.

    As given, else below the checkout, else beside the option file, else among what an installed package has.
    """
    if not text:  # would be the working directory
        return None
    given = Path(text).expanduser()
    near = [beside.parent / given] if beside else []
    for candidate in (given, project_root() / given, *near, shipped_root() / given):
        found = Path(as_stored(candidate))
        if found.exists():
            return found
    return None


def find_yaml(path: str | Path) -> Path:
    """An option file, a study or a board: as given, else among what an installed package has."""
    given = Path(as_stored(Path(path).expanduser()))
    inside = shipped_root() / given
    return inside if not given.exists() and inside.is_file() else given


def find_value(text: str, where: OptionPath, source: Source) -> Path | None:
    """`find_path` for the value of an option: beside the file where it stands, a base perhaps, then the option file."""
    found = (find_path(text, beside=file) for file in _beside(where, source))
    return next((path for path in found if path is not None), None)


def looked_in(files: Iterable[Path]) -> str:
    folders = (Path.cwd(), project_root(), *(file.resolve().parent for file in files))
    return ', '.join(dict.fromkeys(f"'{folder}'" for folder in folders))


def add_source_files(data: dict[str, Any], problems: Problems) -> None:
    """Make the classes of `arch_files` and its like known to the registries."""
    for key, registry in _SOURCES.items():
        given = data.get(key)
        for i, file in enumerate(given if isinstance(given, list) else []):
            if file == '':  # the schema says so
                continue
            found = find_value(str(file), (key, i), problems.source)
            if found is None or not found.is_file():
                places = looked_in(_beside((key, i), problems.source))
                problems.add((key, i), f"there is no file '{file}' (looked in {places})")
            else:
                registry.add_file(found)


def resolve_files(opt: dict[str, Any], problems: Problems, with_train: bool, check: bool) -> None:
    """Make data and weight paths absolute, so that they work from any working directory. `check`: they must exist."""
    files = ['pretrain_network_g', 'pretrain_network_d'] + ['resume_state'] * with_train
    named: list[tuple[OptionPath, Any]] = [(('path', key), opt['path']) for key in files]
    for key, block in opt['datasets'].items():
        if isinstance(block, dict) and (with_train or key.split('_')[0] != 'train'):
            named += _data_of(block, ('datasets', key))
    for place, blocks, key in loss_places(opt.get('train', {})) if with_train else ():
        if isinstance(blocks[key], dict) and str(blocks[key].get('weights')).endswith(('.pth', '.safetensors')):
            named.append(((*place, key, 'weights'), blocks[key]))
    for where, holder in named:
        if where[-1] in holder:
            holder[where[-1]] = _absolute(holder[where[-1]], where, problems, check)


def _data_of(block: dict[str, Any], where: OptionPath) -> Iterator[tuple[OptionPath, dict[str, Any]]]:
    """Places of what a data set reads, and of what the sets read that it is made of."""
    yield from (((*where, key), block) for key in block
                if str(key).startswith(('dataroot', 'meta_info')) or key == 'roots')
    for name, inner in (block['sets'] if isinstance(block.get('sets'), dict) else {}).items():
        if isinstance(inner, dict):
            yield from _data_of(inner, (*where, 'sets', name))


def data_of(block: dict[str, Any]) -> list[str]:
    """The folders, databases and lists that a data set reads, by its block of options."""
    return [text for where, holder in _data_of(block, ()) for text in _texts(holder[str(where[-1])])]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def find_named(value: str, found: Path | None = None) -> Path | None:
    """The weight file of a name or address, which is fetched where it is not here; of a folder of the hub (`found`)."""
    if found is None:
        return find_weights(value) if value in read_manifest()['weights'] or is_fetched(value) else None
    return found / 'model.safetensors' if (found / 'model.safetensors').is_file() else None


def pin_files(value: Any, source: Source, where: OptionPath = ()) -> Any:
    """Options with files that are found beside an option file only made absolute, for an option file elsewhere."""
    if isinstance(value, dict):
        return {k: pin_files(v, source, (*where, str(k))) for k, v in value.items()}
    if isinstance(value, list):
        return [pin_files(v, source, (*where, i)) for i, v in enumerate(value)]
    # part by part, as of `roots: {rain: folder}` and of the keys of stages
    keys = [str(key) for part in where for key in split_path(str(part))]
    named = any(key.startswith(_FILE_KEYS) or key.endswith('_files') for key in keys)
    if isinstance(value, str) and named and find_path(value) is None:
        found = find_value(value, where, source)
        return value if found is None else str(found.resolve())
    return value


def _beside(where: OptionPath, source: Source) -> list[Path]:
    return [Path(file) for file in dict.fromkeys((source.file_of(where), source.file))]


def _absolute(value: Any, where: OptionPath, problems: Problems, check: bool) -> Any:
    """A path, or the paths in a list or mapping, made absolute; one that does not exist is reported and kept."""
    if isinstance(value, list):
        return [_absolute(v, (*where, i), problems, check) for i, v in enumerate(value)]
    if isinstance(value, dict):
        return {k: _absolute(v, (*where, k), problems, check) for k, v in value.items()}
    if not isinstance(value, str):
        return value
    if not value and not problems.wrong(where):
        problems.add(where, EMPTY)
    found = find_value(value, where, problems.source)
    if value and str(where[-1]).startswith('pretrain_network'):
        if found is None and not check and is_fetched(value):  # whoever uses it fetches it
            return value
        found = find_named(value, found) or found
    if found is None and value and check:
        problems.add(where, f"'{value}' does not exist (looked in {looked_in(_beside(where, problems.source))})")
    return value if found is None else str(found.resolve())
