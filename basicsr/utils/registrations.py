"""What source files register, read without importing them."""
from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from basicsr.utils.errors import UserError


@dataclass(frozen=True)
class Entry:
    """Where an object is defined, as read from the source. `package`: the folder of `basicsr` that it is a member of."""
    name: str
    file: Path
    node: ast.ClassDef | ast.FunctionDef
    package: str = ''


def scan(file: Path, decorator: str, package: str, undecorated: bool) -> Iterator[Entry]:
    """What a file registers by `decorator`; of `undecorated` files all classes and functions with public names."""
    for node in parsed(file).body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            continue
        names = [n for d in node.decorator_list if (n := _registered_name(d, decorator, node.name))]
        if not names and undecorated and not node.name.startswith('_'):
            names = [node.name]
        yield from (Entry(n, file, node, package) for n in names)


def parsed(file: Path) -> ast.Module:
    """A source file as it is now; read once. Raises `UserError` where it is no Python."""
    state = file.stat()
    return _parsed(file, state.st_mtime_ns, state.st_size)


@lru_cache(1024)
def _parsed(file: Path, *_: int) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding='utf-8'), filename=str(file))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read '{file}': {error}") from error


def registers_more(file: Path, decorator: str, shown: bool) -> bool:
    """Whether a file registers otherwise than `scan` reads: by a call, below `if`, under another name of the registry.

    `shown`: the file is one of those that are scanned.
    """
    if decorator not in file.read_text(encoding='utf-8', errors='replace'):
        return False
    tree = parsed(file)
    renamed = {
        a.asname for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names if a.name == decorator
    }
    lists = [getattr(item, 'decorator_list', []) for item in tree.body] if shown else []
    read = {id(node.func) for decorators in lists for node in decorators if isinstance(node, ast.Call)}
    used = (n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == 'register')
    owners = ((getattr(n.value, 'id', getattr(n.value, 'attr', '')), id(n) in read) for n in used)
    return any(owner in renamed or (owner == decorator and not is_read) for owner, is_read in owners)


def _registered_name(node: ast.expr, decorator: str, default: str) -> str | None:
    """The name under which `@X_REGISTRY.register(...)` registers, None for another decorator."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == 'register'):
        return None
    owner = node.func.value
    if (owner.id if isinstance(owner, ast.Name) else getattr(owner, 'attr', None)) != decorator:
        return None
    given = {k.arg: str(k.value.value) for k in node.keywords if isinstance(k.value, ast.Constant) and k.value.value}
    name = given.get('name') or default
    return f'{name}_{given["suffix"]}' if 'suffix' in given else name
