"""Source files as modules: those of the package, and files from outside as members of it."""
from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from basicsr.utils.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]


def import_file(file: Path, folder: str) -> Any:
    """Import a source file of the package, or one from outside as if it had been dropped into the package's `folder`.

    So `from .arch_util import ...` finds our module, and other neighbours of the file are found beside it.
    """
    if file.is_relative_to(PACKAGE) and not file.is_relative_to(PACKAGE / 'shipped'):
        try:
            return importlib.import_module('.'.join(file.relative_to(PACKAGE.parent).with_suffix('').parts))
        except ImportError as error:  # a package that only this file needs
            raise UserError(f"cannot import '{file}': {type(error).__name__}: {error}") from error
    package = importlib.import_module('.'.join(filter(None, ('basicsr', folder))))
    name = f'{package.__name__}.{_free_name(file, package)}'
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"cannot import '{file}': it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    beside = str(file.parent)
    if beside not in package.__path__:
        package.__path__.append(beside)
    sys.path.append(beside)  # its neighbours may be imported by plain name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"cannot import '{file}': {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(beside)
    return module


class Aliases(MetaPathFinder, Loader):
    """Modules below one package that are those of another, imported once: `package.x` is `home.x` itself.

    A second import of the same file would make second classes of the same names. `renamed`: names that differ.
    """

    def __init__(self, package: str, home: str, renamed: Mapping[str, str] | None = None):
        self.package, self.home, self.renamed = f'{package}.', home, renamed or {}

    def find_spec(self, name: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.startswith(self.package) else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module itself in the place of the one that was made for its other name."""
        inner = module.__name__.removeprefix(self.package)
        sys.modules[module.__name__] = importlib.import_module(f'{self.home}.{self.renamed.get(inner, inner)}')


def is_ours(module: str) -> bool:
    """Whether a module that has been imported is of this package, and no file from outside that was made a member."""
    file = getattr(sys.modules.get(module), '__file__', None)
    return file is not None and Path(file).resolve().is_relative_to(PACKAGE)


def _free_name(file: Path, package: ModuleType) -> str:
    """The name of a file from outside among the modules of a package: its own, unless another file has it."""
    name = re.sub(r'\W', '_', file.stem)
    there = getattr(sys.modules.get(f'{package.__name__}.{name}'), '__file__', file)
    ours = PACKAGE.joinpath(*package.__name__.split('.')[1:], name)
    if Path(str(there)) == file and not ours.is_dir() and not ours.with_suffix('.py').is_file():
        return name
    return f'{name}_{hashlib.sha256(os.fsencode(file)).hexdigest()[:8]}'


def module_file(name: str, folders: Iterable[Path]) -> Path | None:
    """The source file of a module below the first of `folders` that has it; nothing is imported."""
    places, found = list(map(str, folders)), None
    for part in name.split('.'):
        found = PathFinder.find_spec(part, places)
        if found is None:
            return None
        places = list(found.submodule_search_locations or ())
    return Path(found.origin) if found and found.origin and found.origin.endswith('.py') else None
