"""Tables of a network's options: names, types, defaults and ranges by its signature, words by its docstring."""
from __future__ import annotations

import ast
import re
from typing import Any

from site_pages.arguments import described

from basicsr.config.signatures import model_for, signature_of
from basicsr.config.sources import base_classes
from basicsr.registry import ARCH_REGISTRY

# in a page: what is between the two is for those who read it without the site
_PLACE = re.compile(r'^<!-- options (?P<names>[\w, ]+) -->\n(?P<own>.*?)^<!-- end -->$', re.MULTILINE | re.DOTALL)
_BOUNDS = {'minimum': 'at least', 'exclusiveMinimum': 'above', 'maximum': 'at most', 'exclusiveMaximum': 'below'}
_MANY = {'integer': 'whole numbers', 'number': 'numbers', 'array': 'lists', 'string': 'words'}
_ONE = {'integer': 'whole number', 'number': 'number', 'string': 'word', 'boolean': 'true or false', 'null': 'null'}


def fill_in(text: str) -> str:
    """The page with tables of the networks that it names in `<!-- options A, B -->`."""
    return _PLACE.sub(lambda place: '\n' + tables(place['names'].split(', '), own_words(place['own'])), text)


def own_words(text: str) -> dict[str, str]:
    """Of the options in a hand-written table, what its last column says."""
    rows = re.findall(r'^\| ((?:`\w+`(?:, )?)+)[^|]*\|.*\| ([^|]*) \|$', text, re.MULTILINE)
    return {name: words for names, words in rows for name in re.findall(r'`(\w+)`', names)}


def tables(names: list[str], own: dict[str, str]) -> str:
    titles = [f'**`{name}`**\n\n' if len(names) > 1 else '' for name in names]
    return '\n'.join(title + table(name, own) for title, name in zip(titles, names))


def table(name: str, own: dict[str, str]) -> str:
    rows = ['| option | type | default | range | meaning |', '|---|---|---|---|---|']
    properties = model_for(ARCH_REGISTRY, name).model_json_schema(by_alias=True)['properties']
    fields, words = signature_of(ARCH_REGISTRY, name).fields, meanings(name)
    for option, schema in properties.items():
        default = fields[option][1]
        shown = 'required' if default is ... else f'`{spelt(default)}`'
        said = (words.get(option) or own.get(option, '')).replace('|', r'\|')
        rows.append(f'| `{option}` | {kind(schema)} | {shown} | {limits(schema)} | {said} |')
    return '\n'.join(rows) + '\n'


def meanings(name: str) -> dict[str, str]:
    """By its docstring and those of its base classes, and by that of another network where it says `as in X`."""
    entry = ARCH_REGISTRY.index()[name]
    options = list(signature_of(ARCH_REGISTRY, name).fields)
    found: dict[str, str] = {}
    for cls in (entry, *base_classes(entry)):
        found = described(ast.get_docstring(cls.node) or '', options) | found
    for option, said in found.items():
        other = re.fullmatch(r'as in `(\w+)`(.*)', said)
        if other:
            found[option] = meanings(other[1]).get(option, said) + other[2].replace('; `dim` a', ' `dim` is a')
    return found


def spelt(value: Any) -> str:
    """As an option file has it."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(spelt, value))}]"
    if value is None or isinstance(value, bool):
        return {True: 'true', False: 'false', None: 'null'}[value]
    return str(value) or "''"


def kind(schema: dict[str, Any]) -> str:
    if 'anyOf' in schema:
        return ' or '.join(dict.fromkeys(kind(choice) for choice in schema['anyOf']))
    if schema.get('type') == 'array':
        least, most = schema.get('minItems'), schema.get('maxItems')
        many = '' if least is None else f'{least} ' if least == most else f'{least} to {most} ' if most else ''
        inner = schema.get('items', {}).get('type', '')
        return f"{many}{_MANY.get(inner, 'values')}"
    types = schema.get('type', 'any')
    if not isinstance(types, str):  # a switch, which null turns off as well
        types = next(t for t in types if t != 'null')
    return _ONE.get(types, types)


def limits(schema: dict[str, Any]) -> str:
    """The range in words; '' where any value of the type goes."""
    if 'anyOf' in schema:
        return ', or '.join(filter(None, (limits(choice) for choice in schema['anyOf'])))
    if 'const' in schema:
        return f'{spelt(schema["const"])} alone'
    if 'enum' in schema:
        return ', '.join(f'`{spelt(choice)}`' for choice in schema['enum'])
    if schema.get('type') == 'array':
        inner = limits(schema.get('items', {}))
        return f'each {inner}' if inner else 'at least one' if schema.get('minItems') == 1 else ''
    if schema.get('type') == 'integer' and 'exclusiveMinimum' in schema:
        return f"at least {max(schema['exclusiveMinimum'] + 1, schema.get('minimum', 0))}"
    return ', '.join(f'{words} {schema[bound]:g}' for bound, words in _BOUNDS.items() if bound in schema)
