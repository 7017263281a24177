"""The options a component accepts are the arguments of its constructor, read from its source without importing it."""
from __future__ import annotations

import ast
import importlib.util
import typing
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen, MinLen, MultipleOf
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from basicsr.registry import Entry, Registry
from basicsr.utils import values


class _Marked:
    """`Annotated`, with the bounds before the conversion of a number, as in `utils.values`."""

    def __class_getitem__(cls, parts: tuple[Any, ...]) -> Any:
        kind, *marks = parts
        kind, *before = typing.get_args(kind) if typing.get_origin(kind) is Annotated else (kind, )
        marks = sorted([*before, *marks], key=lambda mark: isinstance(mark, BeforeValidator))
        annotated: Any = Annotated
        sorted_parts = (kind, *marks)
        return annotated[sorted_parts]


class _Choice:
    """`Literal`, where true is not the number 1."""

    def __class_getitem__(cls, parts: Any) -> Any:
        literal: Any = Literal
        choice = literal[parts]
        kinds = {type(part) for part in typing.get_args(choice)}
        return Annotated[choice, BeforeValidator(values.no_truth)] if int in kinds and bool not in kinds else choice


# what annotations may name; anything else (torch.Tensor, a class of ours) is not checked
_NAMES = {n: getattr(typing, n) for n in ('Any', 'Dict', 'List', 'Optional', 'Sequence', 'Tuple', 'Union')} | {
    'Sequence': Sequence, 'int': values.Int, 'float': values.Float, 'bool': bool, 'str': str, 'list': list,
    'tuple': tuple, 'dict': dict, 'None': None, 'Path': Path, 'Annotated': _Marked, 'Literal': _Choice
} | {mark.__name__: mark for mark in (Ge, Gt, Le, Len, Lt, MaxLen, MinLen, MultipleOf)} | values.KNOWN
# whose names may be spelt with the module's, e.g. typing.Optional
_MODULES = ('typing', 't', 'annotated_types', 'at', 'abc', 'collections', 'pathlib', 'values')


class Signature(typing.NamedTuple):
    """`fields`: argument -> (annotation, default), `...` where required. `open`: takes `**kwargs` as well.
    `unread`: argument -> its annotation, where it names more than is known here, so that any value is taken."""
    fields: dict[str, tuple[Any, Any]]
    open: bool
    unread: dict[str, str]
    takes_opt: bool  # BasicSR style: one argument `opt` that is the whole option block
    words: frozenset[str]  # keys that such code can read: string constants of the file, arguments of its base classes


def model_for(registry: Registry, name: str, extra: dict[str, Any] | None = None) -> type[BaseModel]:
    """A pydantic model of the options that `registry[name]` accepts.

    `extra`: more fields, e.g. those of the data loader; they win over arguments of the same name.
    """
    signature = read_signature(registry.index()[name])
    fields = {k: v for k, v in signature.fields.items() if k not in registry.filled_in}
    return to_model(name, fields | (extra or {}), signature.open)


def to_model(name: str, fields: dict[str, tuple[Any, Any]], allow: bool = False) -> type[BaseModel]:
    config = ConfigDict(extra='allow' if allow else 'forbid', protected_namespaces=(), arbitrary_types_allowed=True)
    # pydantic refuses some names ('copy', '_x'), so fields get neutral names and the real ones as aliases
    aliased: dict[str, Any] = {
        f'f_{k}': (a, Field(alias=k) if d is ... else Field(default=d, alias=k)) for k, (a, d) in fields.items()
    }
    return create_model(name, __config__=config, **aliased)


@cache
def read_signature(entry: Entry) -> Signature:
    """Arguments of a class constructor (following base classes of the same tree) or of a function."""
    tree = ast.parse(entry.file.read_text(encoding='utf-8'))
    words = frozenset(n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    if isinstance(entry.node, ast.FunctionDef):
        return Signature(*_arguments(entry.node, method=False), False, words)
    for base, where in _bases(entry.node, tree, entry.file):
        above = read_signature(Entry(base.name, where, base))
        words |= above.words if above.takes_opt else above.fields.keys()
    function = _constructor(entry.node, tree, entry.file)
    if function is None:
        return Signature({}, True, {}, False, words)
    fields, is_open, unread = _arguments(function, method=True)
    return Signature(fields, is_open, unread, 'opt' in fields and len(fields) == 1, words)


@cache
def torch_signature(module: str, name: str) -> Signature | None:
    """The constructor of a torch class such as ('torch.optim.adam', 'Adam'), without importing torch."""
    spec = importlib.util.find_spec('torch')
    if spec is None or not spec.origin:
        return None
    file = Path(spec.origin).parent.joinpath(*module.split('.')[1:]).with_suffix('.py')
    if not file.is_file():
        return None
    tree = ast.parse(file.read_text(encoding='utf-8'))
    node = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)
    return None if node is None else read_signature(Entry(name, file, node))


def _constructor(node: ast.ClassDef, tree: ast.Module, file: Path) -> ast.FunctionDef | None:
    """`__init__` of the class, or of the first base class in this package or file that has one."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == '__init__':
            return item
    for base, where in _bases(node, tree, file):
        init = _constructor(base, ast.parse(where.read_text(encoding='utf-8')), where)
        if init is not None:
            return init
    return None


def _bases(node: ast.ClassDef, tree: ast.Module, file: Path) -> Iterator[tuple[ast.ClassDef, Path]]:
    """Base classes that this package or file defines, with their files."""
    for base in node.bases:
        found, where = _find_class(base.id, tree, file) if isinstance(base, ast.Name) else (None, file)
        if found is not None and (found.lineno, where) != (node.lineno, file):
            yield found, where


def _find_class(name: str, tree: ast.Module, file: Path) -> tuple[ast.ClassDef | None, Path]:
    for item in tree.body:
        if isinstance(item, ast.ClassDef) and item.name == name:
            return item, file
        if isinstance(item, ast.ImportFrom) and item.module and any((a.asname or a.name) == name for a in item.names):
            if not item.module.startswith('basicsr.'):
                return None, file
            where = Path(__file__).parents[2].joinpath(*item.module.split('.')).with_suffix('.py')
            original = next(a.name for a in item.names if (a.asname or a.name) == name)
            if where.is_file():
                return _find_class(original, ast.parse(where.read_text(encoding='utf-8')), where)
    return None, file


def _arguments(function: ast.FunctionDef, method: bool) -> tuple[dict[str, tuple[Any, Any]], bool, dict[str, str]]:
    """`fields`, `open` and `unread` of a `Signature`."""
    args = function.args
    positional = [*args.posonlyargs, *args.args][1 if method else 0:]
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    pairs = [*zip(positional, defaults), *zip(args.kwonlyargs, args.kw_defaults)]
    fields, unread = {}, {}
    for arg, default in pairs:
        value = ... if default is None else _literal(default)
        try:
            fields[arg.arg] = (_annotation(arg.annotation, value), value)
        except (NameError, SyntaxError, AttributeError, TypeError, ValueError):
            fields[arg.arg] = (Any, value)
            unread[arg.arg] = ast.unparse(arg.annotation) if arg.annotation else ''
    used = method or any(isinstance(n, ast.Name) and args.kwarg and n.id == args.kwarg.arg for n in ast.walk(function))
    return fields, args.kwarg is not None and used, unread  # a metric's **kwargs only swallow what other metrics read


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None  # an expression such as nn.GELU: not a value that a YAML file would repeat


def _annotation(node: ast.expr | None, default: Any) -> Any:
    if node is None:
        # '1e-4' in quotes for an argument with a numeric default is still a number; other types are left to the class
        return Annotated[Any, BeforeValidator(values.as_number)] if type(default) is float else Any
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode='eval').body
    source = ast.unparse(_Plain().visit(deepcopy(node)))
    # names of our own tables only, and no builtins: an annotation cannot run anything
    annotation = eval(source, {'__builtins__': {}}, dict(_NAMES))
    return annotation | None if default is None and annotation is not Any else annotation


class _Plain(ast.NodeTransformer):
    """`typing.Optional` and the like to `Optional`."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        above = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, 'id', None)
        return ast.Name(node.attr, ast.Load()) if above in _MODULES else node
