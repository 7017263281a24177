"""Registries of networks, datasets, models, losses and metrics.

A registry knows what exists *without importing it*: files are found by suffix (`basicsr/archs/*_arch.py`, ...) and
read as syntax trees, so that options can be checked and names suggested before torch is loaded. A module is
imported when one of its names is asked for. What a source does not show, such as names registered in a loop, is known
once it is imported: for a name that is not found otherwise, and no sooner.

    @ARCH_REGISTRY.register()
    class MyNet(nn.Module): ...
"""
from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError, nearest
from basicsr.utils.imports import PACKAGE, import_file
from basicsr.utils.places import project_root, shipped_root
from basicsr.utils.registrations import Entry, registers_more, scan


class Registry:
    """Maps names to classes or functions.

    Args:
        name: the decorator's prefix in upper case and the word in messages, e.g. 'arch' for `ARCH_REGISTRY`.
        noun: what users call such a thing, e.g. 'network'.
        folder, suffix: files `<folder>/*<suffix>` below the package are searched; none when they are empty.
        beside: a folder of the checkout that is searched as well.
        filled_in: arguments that the program gives to the objects, not the options.
    """

    def __init__(self, name: str, noun: str = '', folder: str = '', suffix: str = '', beside: str = '',
                 filled_in: tuple[str, ...] = ()):
        self.name, self.noun, self.folder, self.suffix, self.beside = name, noun or name, folder, suffix, beside
        self.filled_in = filled_in
        self._objects: dict[str, Any] = {}
        self._extra: list[Path] = []
        self._index: dict[str, Entry] | None = None
        self._failed: list[str] = []

    def register(self, obj: Any = None, *, name: str | None = None, suffix: str | None = None) -> Any:
        """Decorator `@X_REGISTRY.register()`, or call `X_REGISTRY.register(obj)`; `name` adds an alias.

        `suffix` appends `_<suffix>` to the name, as BasicSR does. What comes from outside of the package replaces what is
        in it. Raises `KeyError` when the name is taken otherwise.
        """

        def add(target: Any) -> Any:
            key = name or target.__name__
            key = f'{key}_{suffix}' if suffix else key
            taken = self._objects.get(key)
            if taken is not None and _origin(taken) != _origin(target):
                taken_ours, ours = (_origin(obj)[0].is_relative_to(PACKAGE) for obj in (taken, target))
                if taken_ours == ours:
                    raise KeyError(f"{self.noun} '{key}' is registered twice: {_origin(taken)} and {_origin(target)}")
                if ours:
                    return target
            self._objects[key] = target
            return target

        return add if obj is None else add(obj)

    def add_file(self, path: str | Path) -> None:
        """Make the objects of a file outside the package known, e.g. one named in the option `arch_files`."""
        path = Path(path).expanduser().resolve()
        if not path.is_file():
            raise UserError(f"{self.name}_files: there is no file '{path}'")
        if path not in self._extra:
            self._extra.append(path)
            self._index = None

    def index(self) -> dict[str, Entry]:
        """Every known name with its place in the source; imports nothing."""
        if self._index is None:
            self._index = {}
            for file in self.files():
                for entry in scan(file, f'{self.name.upper()}_REGISTRY', self.folder, undecorated=file in self._extra):
                    self._index.setdefault(entry.name, entry)
                    # as in BasicSR, whose own suffix need not be written
                    self._index.setdefault(entry.name.removesuffix('_basicsr'), entry)
        return self._index

    def files(self) -> list[Path]:
        """Files that may define objects; the user's own come first, so they can replace ours by name."""
        folders = [PACKAGE / self.folder] if self.folder else []
        folders += [root / self.beside
                    for root in dict.fromkeys((project_root(), shipped_root()))] if self.beside else []
        return [*self._extra, *(file for folder in folders for file in sorted(folder.glob(f'*{self.suffix}')))]

    def get(self, name: str) -> Any:
        """The object called `name`, importing its file when needed. Raises `UserError` with the nearest spelling."""
        if name not in self:
            raise UserError(self.unknown(name))
        if name not in self._objects:
            entry = self.index()[name]
            module = import_file(entry.file, self.folder)
            if name not in self._objects:  # a class without decorator, as the Restormer family writes them
                self._objects[name] = getattr(module, entry.node.name)
        return self._objects[name]

    def imported(self, name: str) -> Any:
        """The object that imported code has registered, where no source that is read here shows it; else None."""
        obj, entry = self._objects.get(name), self.index().get(name)
        return obj if obj is not None and (entry is None or _origin(obj)[0] != entry.file.resolve()) else None

    def where(self, name: str) -> str:
        """The file of an object relative to the working tree, for logs."""
        obj, root = self.imported(name), PACKAGE.parent
        file = self.index()[name].file if obj is None else _origin(obj)[0]
        return str(file.relative_to(root) if file.is_relative_to(root) else file)

    def unknown(self, name: str) -> str:
        """The sentence for a name that is not registered."""
        known = self.keys()
        places = [f'basicsr/{self.folder}/*{self.suffix}', *([f'{self.beside}/*{self.suffix}'] if self.beside else [])]
        return (f"there is no {self.noun} called '{name}'.{self._meant(name)} Known: {', '.join(known) or 'none'}."
                f" Searched: {', '.join([*places, *map(str, self._extra)])}."
                f"{''.join(f' What it may register is not known: {text}.' for text in self._failed)}")

    def _meant(self, name: str) -> str:
        """' Did you mean X?' for a name that is nearly right, or the name of the file that defines X."""
        word, ending = name.lower().removesuffix('.py'), self.suffix.removesuffix('.py')
        found = [key for key in self.keys() if key.lower() == word] or [
            key for key, entry in self.index().items()
            if word in (entry.file.stem, entry.file.stem.removesuffix(ending), key.lower().removesuffix(self.name))
        ]
        if 0 < len(found) <= 3:
            return f" Did you mean {' or '.join(map(repr, found))}?"
        return nearest(name, self.keys())

    def keys(self) -> list[str]:
        return sorted({*self.index(), *self._objects})

    def __contains__(self, name: str) -> bool:
        if name in self._objects:
            return True
        entry = self.index().get(name)
        if entry is None or entry.file.is_relative_to(PACKAGE):
            self._import_hidden(name, everywhere=entry is None)
        return name in self._objects or entry is not None

    def _import_hidden(self, name: str, everywhere: bool) -> None:
        """Import the files that may register the name although their source does not show it.

        `everywhere`: any file from outside, and those in the package that register by other means. Else, for one of ours that
        they may replace: files from outside that register by other means and hold the name.
        """

        def may_register(file: Path, outside: bool, scanned: bool) -> bool:
            more = (everywhere and outside) or registers_more(file, f'{self.name.upper()}_REGISTRY', scanned)
            return more and (everywhere or name in file.read_text(encoding='utf-8'))

        self._failed = []
        for registry in dict.fromkeys((*REGISTRIES, self)):
            for file in registry.files() if everywhere else registry._extra:
                try:
                    if may_register(file, file in registry._extra, registry is self):
                        import_file(file, registry.folder)
                except UserError as error:
                    self._failed.append(str(error))

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, self.get(name)) for name in self.keys())


def _origin(obj: Any) -> tuple[Path, str]:
    """File and qualified name: the same class imported twice is no conflict."""
    file = getattr(sys.modules.get(obj.__module__), '__file__', None) or obj.__module__
    return Path(file).resolve(), getattr(obj, '__qualname__', repr(obj))


def build(registry: Registry, opt: dict, *args: Any) -> Any:
    """`registry.get(opt['type'])(*args, **rest)` with the remaining keys of `opt` as keyword arguments."""
    kwargs = {k: v for k, v in opt.items() if k != 'type'}
    factory: Callable = registry.get(opt['type'])
    return factory(*args, **kwargs)


ARCH_REGISTRY = Registry('arch', 'network', 'archs', '_arch.py', beside='Ablation_Model')
DATASET_REGISTRY = Registry('dataset', 'dataset', 'data', '_dataset.py', filled_in=('opt', 'phase'))
MODEL_REGISTRY = Registry('model', 'model', 'models', '_model.py')
LOSS_REGISTRY = Registry('loss', 'loss', 'losses', '_loss.py')
METRIC_REGISTRY = Registry('metric', 'metric', 'metrics', '.py', filled_in=('img', 'img1', 'img2'))
SCHEDULER_REGISTRY = Registry('scheduler', 'scheduler', 'engine', 'schedule.py',
                              filled_in=('optimizer', 'total_iter', 'last_epoch'))
REGISTRIES = (ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY)
