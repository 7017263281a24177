"""Where the Restormer family keeps its networks: `basicsr.models.archs.x_arch` is `basicsr.archs.x_arch` itself.

A second import of the same file would make a second class of the same name.
"""
from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from basicsr.archs import build_network

__all__ = ['build_network']
__path__ = []  # its modules are found by name


class _Finder(MetaPathFinder, Loader):

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.startswith(f'{__name__}.') else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module itself in the place of the one that was made for its other name."""
        inner = module.__name__.removeprefix(f'{__name__}.')
        sys.modules[module.__name__] = importlib.import_module(f'basicsr.archs.{inner}')


sys.meta_path.append(_Finder())
