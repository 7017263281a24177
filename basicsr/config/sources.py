"""Classes and their base classes in source files, followed from import to import; nothing is imported."""
from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from basicsr.utils.imports import PACKAGE, module_file
from basicsr.utils.registrations import Entry, parsed

_HOPS = 8  # from module to module until a class is found; two that import from each other have no end


def words(tree: ast.AST) -> frozenset[str]:
    """The text constants, among which are all keys that code reads by name."""
    return frozenset(n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def constructor(entry: Entry) -> ast.FunctionDef | None:
    """`__init__` of the class, or of the first base class that has one."""
    for item in entry.node.body:
        if isinstance(item, ast.FunctionDef) and item.name == '__init__':
            return item
    return next((found for base in base_classes(entry) if (found := constructor(base)) is not None), None)


def base_classes(entry: Entry) -> Iterator[Entry]:
    """Those whose source is found."""
    for base in getattr(entry.node, 'bases', []):
        found = find_class(ast.unparse(base), entry.file, entry.package)
        if found is not None and (found.node.lineno, found.file) != (entry.node.lineno, entry.file):
            yield found


def find_class(name: str, file: Path, package: str, hops: int = _HOPS) -> Entry | None:
    """The class that `name`, `Base` or `module.Base`, means in a file that is a member of `basicsr.<package>`."""
    holder, _, last = name.rpartition('.')
    for item in parsed(file).body if hops else ():
        if isinstance(item, ast.ClassDef) and item.name == name:
            return Entry(name, file, item, package)
        if not isinstance(item, (ast.Import, ast.ImportFrom)):
            continue
        for alias in item.names:
            if (alias.asname or alias.name) != (holder or name):
                continue
            level, original = getattr(item, 'level', 0), last
            if isinstance(item, ast.Import):
                module = alias.name
            elif holder:
                module = '.'.join(filter(None, (item.module, alias.name)))
            else:
                module, original = item.module or '', alias.name
            where = module_file(module, _places(file, package, level))
            return find_class(original, where, _package(where, package), hops - 1) if where else None
    return None


def _places(file: Path, package: str, level: int) -> list[Path]:
    """Folders that an import in the file looks in. Relative names of files from outside are those of the package, too."""
    if not level:
        return [PACKAGE.parent, file.parent, *map(Path, sys.path)]
    home = PACKAGE.joinpath(*package.split('.'))
    return [[folder, *folder.parents][level - 1] for folder in (home, file.parent)]


def _package(file: Path, outside: str) -> str:
    return '.'.join(file.parent.relative_to(PACKAGE).parts) if file.is_relative_to(PACKAGE) else outside
