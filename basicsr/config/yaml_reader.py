"""YAML with line numbers, with `1e-4` as a number, and without silent duplicates; and the same written."""
from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from basicsr.config.report import Line, Source
from basicsr.utils.errors import UserError, some
from basicsr.utils.files import read_bytes
from basicsr.utils.names import printable

# YAML 1.1 wants a dot in a float, so PyYAML reads 1e-4 as a string; this is the number syntax of YAML 1.2
_FLOAT = re.compile(r'^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$')

if TYPE_CHECKING:
    _SafeLoader = yaml.SafeLoader
else:  # many times as fast, where PyYAML was built with it
    _SafeLoader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)

# a drive or a server, and a backslash that is not doubled
_WINDOWS_PATH = re.compile(r'"((?:[A-Za-z]:|\\\\)(?:[^"\\]|\\\\)*\\(?!\\)[^"]*)"?')

_MERGE = 'tag:yaml.org,2002:merge'


class _Loader(_SafeLoader):
    """The safe loader; a subclass so that the extra resolver does not leak into other users of PyYAML."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # '!!float abc', or a date such as 2024-13-01
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error


class _Dumper(yaml.SafeDumper):
    """Blocks line by line, lists of values in one line, nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        flat = not any(isinstance(value, dict) for value in sequence)
        return super().represent_sequence(tag, sequence, flow_style=flat)


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver('tag:yaml.org,2002:float', _FLOAT, list('-+.0123456789'))


def parse_value(text: str) -> Any:
    """The value of an override as YAML reads it: '1e-4' is a float, '[1, 2]' a list, '~' None."""
    if printable(text) != text:  # a path in another encoding; YAML is Unicode
        return text
    return yaml.load(text, Loader=_Loader)


def dump_yaml(data: dict[str, Any]) -> str:
    """YAML that `read_yaml` reads as `data` again."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def read_yaml(path: str | Path) -> tuple[dict[str, Any], Source]:
    """Read a mapping from a YAML file.

    Returns the mapping as it stands there, `base` and all, and the line of every option in it. Raises `UserError` for a
    missing file, a syntax error, a duplicate key, or a document that is no mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no option file '{path}'" + _others(path))
    try:
        text = read_bytes(path).decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not a text file in UTF-8") from error
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        source = Source(str(path))
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"'{path}' holds no options (expected 'key: value' lines)")
        _mark(node, (), source)
        _check_escapes(node, text, source.file)
        data = loader.construct_document(node)
    except RecursionError:
        raise UserError(f"'{path}': an alias (*name) refers to itself") from None
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        where = f'{path}:{mark.line + 1}' if mark else str(path)
        words = getattr(error, 'problem', None) or str(error)
        line = next(iter(text.splitlines()[mark.line:]), '') if mark else ''
        quoted = _WINDOWS_PATH.search(line) or ('escape' in words and re.search(r'"([^"]*\\[^"]*)', line))
        if quoted:
            raise UserError(f'{where}: {_escaped(quoted[1])}') from error
        raise UserError(f'{where}: not valid YAML: {words}') from error
    finally:
        loader.dispose()
    return data, source


def _mark(node: yaml.Node, path: tuple, source: Source) -> None:
    """Record the line of every key and list element below `node`."""
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        # merged blocks ('<<: *name') before the keys that replace some of theirs
        for key, value in sorted(node.value, key=lambda item: item[0].tag != _MERGE):
            line = Line(source.file, key.start_mark.line + 1)
            if key.tag == _MERGE:
                for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    _mark(merged, path, source)
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f'{line}: a key must be a word')
            if key.value in first:
                raise UserError(f"{line}: '{key.value}' is given twice, first on line {first[key.value]}")
            here = (*path, key.value)
            first[key.value], source.lines[here] = line.number, line
            _mark(value, here, source)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            source.lines.setdefault((*path, i), Line(source.file, value.start_mark.line + 1))
            _mark(value, (*path, i), source)


def _check_escapes(node: yaml.Node, text: str, file: str) -> None:
    """Raise `UserError` for a Windows path in double quotes, in which YAML reads a tab in D:\\train."""
    if isinstance(node, yaml.ScalarNode) and node.style == '"':
        written = text[node.start_mark.index + 1:node.end_mark.index - 1]
        no_text = ' ' not in written and any(ord(character) < 32 for character in node.value)
        if '\\' in written and (no_text or _WINDOWS_PATH.match(f'"{written}"')):
            raise UserError(f'{file}:{node.start_mark.line + 1}: {_escaped(written)}')
    elif isinstance(node, yaml.CollectionNode):
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item, ):
                _check_escapes(part, text, file)


def _escaped(written: str) -> str:
    return 'in double quotes \\ begins an escape; write ' + written.replace('\\', '/') + ', or use single quotes'


def _others(path: Path) -> str:
    """Names what does exist, for a mistyped path."""
    folder = path.parent if path.parent.is_dir() else None
    names = sorted(p.name for p in folder.glob('*.y*ml')) if folder else []
    return f". Option files in '{folder}': {some(names, 20)}" if names else ''
