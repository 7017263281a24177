"""The options a component accepts are the arguments of its constructor, read from its source without importing it."""
from __future__ import annotations

import ast
import importlib.util
import inspect
import operator
import sys
import typing
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen, MinLen, MultipleOf
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from basicsr.config.sources import base_classes, constructor, words
from basicsr.registry import Registry
from basicsr.utils import values
from basicsr.utils.imports import PACKAGE, is_ours
from basicsr.utils.registrations import Entry, parsed


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
    'Sequence': Sequence, 'int': values.Int, 'float': values.Float, 'bool': values.Switch, 'str': str, 'list': list,
    'tuple': tuple, 'dict': dict, 'None': None, 'Path': Path, 'Annotated': _Marked, 'Literal': _Choice
} | {mark.__name__: mark for mark in (Ge, Gt, Le, Len, Lt, MaxLen, MinLen, MultipleOf)} | values.KNOWN
# whose names may be spelt with the module's, e.g. typing.Optional
_MODULES = ('typing', 't', 'annotated_types', 'at', 'abc', 'collections', 'pathlib', 'values')

# of literals; powers would let a source take any time
_ARITHMETIC: dict[type, typing.Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv
}
_LONGEST = 1000  # of a list that is written as a product


class Unread(str):
    """A default that is no literal: its source, such as `nn.GELU`. Which value that is, the class knows once it is imported."""

    def __repr__(self) -> str:
        return str(self)


class Signature(typing.NamedTuple):
    """`fields`: argument -> (annotation, default), `...` where required, `Unread` where the source is no literal.
    `open`: takes `**kwargs` as well.
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
    signature = signature_of(registry, name)
    fields = {k: v for k, v in signature.fields.items() if k not in registry.filled_in}
    return to_model(name, fields | (extra or {}), signature.open)


def to_model(name: str, fields: dict[str, tuple[Any, Any]], allow: bool = False) -> type[BaseModel]:
    config = ConfigDict(extra='allow' if allow else 'forbid', protected_namespaces=(), arbitrary_types_allowed=True)
    # pydantic refuses some names ('copy', '_x'), so fields get neutral names and the real ones as aliases
    aliased: dict[str, Any] = {
        f'f_{k}': (a, Field(alias=k) if d is ... else Field(default=None if isinstance(d, Unread) else d, alias=k))
        for k, (a, d) in fields.items()
    }
    return create_model(name, __config__=config, **aliased)


def signature_of(registry: Registry, name: str) -> Signature:
    """From the source where a file is known, from the object where imported code has registered it."""
    obj = registry.imported(name)
    return read_signature(registry.index()[name]) if obj is None else inspected_signature(obj)


def is_outside(registry: Registry, name: str) -> bool:
    """Whether it is none of ours."""
    return registry.imported(name) is not None or not registry.index()[name].file.is_relative_to(PACKAGE)


def own_methods(registry: Registry, name: str) -> frozenset[str]:
    """What a class from outside defines itself, or in base classes from outside; nothing of ours."""
    obj = registry.imported(name)
    if obj is not None:
        return frozenset(key for cls in obj.__mro__ if not is_ours(cls.__module__) for key in vars(cls))
    entries, found = [registry.index()[name]], set[str]()
    for entry in entries:
        if not entry.file.is_relative_to(PACKAGE):
            found |= {item.name for item in entry.node.body if isinstance(item, ast.FunctionDef)}
            entries += base_classes(entry)
    return frozenset(found)


@cache
def inspected_signature(obj: Any) -> Signature:
    """Arguments of a class or function that has been imported; its annotations are not checked."""
    parameters = inspect.signature(obj).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    defaults = {p.name: ... if p.default is p.empty else p.default for p in named}
    fields = {k: (_annotation(None, default), default) for k, default in defaults.items()}
    modules = {c.__module__ for c in getattr(obj, '__mro__', [obj])}
    modules = {m for m in modules if m.partition('.')[0] not in (*sys.stdlib_module_names, 'torch')}
    files = {file for m in modules if (file := getattr(sys.modules.get(m), '__file__', None))}
    known = frozenset[str]().union(*(words(parsed(Path(file))) for file in files))
    return Signature(fields, len(named) < len(parameters), {}, list(fields) == ['opt'], known)


@cache
def read_signature(entry: Entry) -> Signature:
    """Arguments of a class constructor (following base classes whose source is found) or of a function."""
    known = words(parsed(entry.file))
    if isinstance(entry.node, ast.FunctionDef):
        return Signature(*_arguments(entry.node, not entry.file.is_relative_to(PACKAGE)), False, known)
    for base in base_classes(entry):
        above = read_signature(base)
        known |= above.words if above.takes_opt else above.fields.keys()
    function = constructor(entry)
    if function is None:
        return Signature({}, True, {}, False, known)
    fields, is_open, unread = _arguments(function, True, skip=1)
    return Signature(fields, is_open, unread, list(fields) == ['opt'], known)


@cache
def torch_signature(module: str, name: str) -> Signature | None:
    """The constructor of a torch class such as ('torch.optim.adam', 'Adam'), without importing torch."""
    spec = importlib.util.find_spec('torch')
    if spec is None or not spec.origin:
        return None
    file = Path(spec.origin).parent.joinpath(*module.split('.')[1:]).with_suffix('.py')
    if not file.is_file():
        return None
    node = next((n for n in parsed(file).body if isinstance(n, ast.ClassDef) and n.name == name), None)
    return None if node is None else read_signature(Entry(name, file, node))


def _arguments(function: ast.FunctionDef, takes_rest: bool,
               skip: int = 0) -> tuple[dict[str, tuple[Any, Any]], bool, dict[str, str]]:
    """`fields`, `open` and `unread` of a `Signature`.

    takes_rest: `**kwargs` stand for any key, also where nothing reads them: those of a metric of ours only swallow what
    other metrics read. skip: arguments in front that nobody gives, as `self`.
    """
    args = function.args
    positional = [*args.posonlyargs, *args.args][skip:]
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    pairs = [*zip(positional, defaults), *zip(args.kwonlyargs, args.kw_defaults)]
    fields, unread = {}, {}
    for arg, default in pairs:
        value = ... if default is None else _default(default)
        try:
            fields[arg.arg] = (_annotation(arg.annotation, value), value)
        except (NameError, SyntaxError, AttributeError, TypeError, ValueError):
            fields[arg.arg] = (Any, value)
            unread[arg.arg] = ast.unparse(arg.annotation) if arg.annotation else ''
    rest = takes_rest or any(
        isinstance(n, ast.Name) and args.kwarg and n.id == args.kwarg.arg for n in ast.walk(function))
    return fields, args.kwarg is not None and rest, unread


def _default(node: ast.expr) -> Any:
    try:
        return _literal(node)
    except (ValueError, TypeError, ArithmeticError):
        return Unread(ast.unparse(node))


def _literal(node: ast.expr) -> Any:
    """The value of literals and of arithmetic on them, such as `(6, ) * 6`. Raises `ValueError` for anything else."""
    if not isinstance(node, ast.BinOp):
        return ast.literal_eval(node)
    if type(node.op) not in _ARITHMETIC:
        raise ValueError(ast.unparse(node))
    left, right = _literal(node.left), _literal(node.right)
    for items, times in ((left, right), (right, left)):
        if isinstance(node.op, ast.Mult) and hasattr(items, '__len__') and len(items) * times > _LONGEST:
            raise ValueError(ast.unparse(node))
    return _ARITHMETIC[type(node.op)](left, right)


def _annotation(node: ast.expr | None, default: Any) -> Any:
    if node is None:
        # '1e-4' in quotes for an argument with a numeric default is still a number; other types are left to the class
        return Annotated[Any, BeforeValidator(values.as_number)] if type(default) is float else Any
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode='eval').body
    source = ast.unparse(_Plain().visit(deepcopy(node)))
    # names of our own tables only, and no builtins: an annotation cannot run anything
    annotation = eval(source, {'__builtins__': {}}, dict(_NAMES))
    may_be_none = default is None or isinstance(default, Unread)
    return annotation | None if may_be_none and annotation is not Any else annotation


class _Plain(ast.NodeTransformer):
    """`typing.Optional` and the like to `Optional`."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        above = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, 'id', None)
        return ast.Name(node.attr, ast.Load()) if above in _MODULES else node
