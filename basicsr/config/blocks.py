"""Check one mapping against a pydantic model, in the user's words: nearest keys, one message per mistake."""
from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from basicsr.config import signatures
from basicsr.config.readers import NOBODY, Reader
from basicsr.config.report import Path, Problems, Source, dotted
from basicsr.config.wording import sentence, spell
from basicsr.registry import Registry

# how pydantic calls the members of a union, and what else it puts into the place of an error
_KINDS = ('literal[', 'list[', 'tuple[', 'function-', 'dict[', 'constrained-')
_MARKS = ('int', 'float', 'str', 'bool', '[key]', 'nullable')


def check_block(model: type[BaseModel], data: Any, path: Path, problems: Problems,
                reader: Reader = NOBODY) -> dict[str, Any] | None:
    """Validate one mapping. Returns the converted values, or None when there were mistakes.

    `reader`: what else may read keys that the schema does not list.
    """
    try:
        values = _dump(model.model_validate(data))
    except ValidationError as error:
        errors = error.errors()
    else:
        _note_null(data, values, path, problems)
        return values
    extra = [(tuple(e['loc']), e['input']) for e in errors if e['type'] == 'extra_forbidden' and reader.may_read((
        *path, *e['loc']), _keys_at(model, tuple(e['loc'][:-1])), problems)]
    taken = {loc for loc, _ in extra}
    wrong = [e for e in errors if tuple(e['loc']) not in taken]
    for item, loc in _one_each(wrong):
        _explain(item, loc, model, path, problems, reader)
    if wrong:
        return None
    for loc, _ in extra:
        del _descend(data, loc[:-1])[loc[-1]]
    checked = check_block(model, data, path, problems)
    for loc, value in extra if reader.outside else ():  # what ours does not read is dropped
        _descend(data, loc[:-1])[loc[-1]] = value
        if checked is not None:
            _descend(checked, loc[:-1])[loc[-1]] = value
    return checked


def _note_null(data: Any, checked: dict[str, Any], path: Path, problems: Problems) -> None:
    """Say where a switch is off because nothing stands behind its name."""
    for key in data if isinstance(data, dict) else ():
        if isinstance(checked.get(key), dict):
            _note_null(data[key], checked[key], (*path, key), problems)
        elif checked.get(key) is False and data[key] is None:
            problems.notice((*path, key), 'null is read as false, as in BasicSR')


def check_component(holder: Any, key: str | int, registry: Registry, path: Path, problems: Problems,
                    extra: dict[str, Any] | None = None) -> None:
    """Check `holder[key]`, a mapping with `type` and arguments of the registered object, and convert its values.

    Other forms are left to the schema. `holder`: a mapping or a list. `extra`: fields beside the arguments.
    """
    block = holder.get(key) if isinstance(holder, dict) else holder[key]
    here = (*path, key)
    if not isinstance(block, dict):
        return
    name = block.get('type')
    if name is None:
        problems.add((*here, 'type'), f'is required: the name of a {registry.noun}')
    elif str(name) not in registry:
        problems.add((*here, 'type'), registry.unknown(str(name)))
    else:
        model = signatures.model_for(registry, name, {'type': (str, ...), **(extra or {})})
        checked = check_block(model, block, here, problems)
        signature = signatures.signature_of(registry, name)
        note_unread(signature, block, here, problems)
        if signature.open and signatures.is_outside(registry, name):
            for word in block.keys() - {'type', *signature.fields, *signature.words, *(extra or {})}:
                problems.notice((*here, word), f'no code here reads it; {name} may')
        if checked is not None:
            # only what the file says, so that the class's own defaults stay in one place
            holder[key] = {k: v for k, v in checked.items() if k in block}


def checked_component(registry: Registry, block: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """`check_component` of a block that stands in no option file: its values, and each mistake as 'argument: what'."""
    problems, holder = Problems(Source('')), {'': dict(block)}
    check_component(holder, '', registry, (), problems)
    return holder[''], [f"{dotted(path[1:])}: {text.removesuffix('.')}" for path, text in problems.found]


def note_unread(signature: signatures.Signature, block: dict[str, Any], path: Path, problems: Problems) -> None:
    """Say which values are taken as they are, because an annotation is not understood."""
    for name, annotation in signature.unread.items():
        if name in block:
            problems.notice((*path, name), f"not checked: the annotation '{annotation}' names what options do not know")


def _one_each(errors: list[ErrorDetails]) -> Iterator[tuple[ErrorDetails, tuple]]:
    """Errors with their places. Where every member of a union complains, only the one whose type fits, else the first."""
    places = [_place(e['loc']) for e in errors]
    of_type = [e['type'].endswith(('_type', '_parsing', 'literal_error')) for e in errors]
    for i, (item, loc) in enumerate(zip(errors, places)):
        inside = any(len(p) > len(loc) and p[:len(loc)] == loc for p in places)
        fits = any(p == loc and not wrong_type for p, wrong_type in zip(places, of_type))
        if not of_type[i] or not (inside or fits or loc in places[:i]):
            yield item, loc


def _place(loc: tuple) -> tuple:
    """The place of an error without what pydantic inserts: names of union members, and marks of keys."""
    return tuple(part for part in loc if isinstance(part, int) or not (part.startswith(_KINDS) or part in _MARKS))


def _explain(item: ErrorDetails, loc: tuple, model: type[BaseModel], path: Path, problems: Problems,
             reader: Reader) -> None:
    """Turn one pydantic error into the user's words."""
    here = (*path, *loc)
    if item['type'] == 'extra_forbidden':
        problems.unknown_key(here, _keys_at(model, loc[:-1]), reader.likely_keys())
    elif item['type'] == 'invalid_key' or '[key]' in item['loc']:
        key = (*here[:-1], str(here[-1]))
        if item['type'] in ('invalid_key', 'string_type'):
            problems.add(key, f"a key must be a word, not {spell(item['input'])}; put it in quotes")
        else:
            problems.add(key, sentence(item))
    elif item['type'] == 'missing':
        problems.add(here, 'is required')
    else:
        problems.add(here, sentence(item))


def _keys_at(model: type[BaseModel], loc: tuple) -> list[str]:
    """Keys allowed at `loc` below `model`."""
    for part in loc:
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        if field is None:
            return []
        inner = [
            a for a in (field.annotation, *typing.get_args(field.annotation))
            if isinstance(a, type) and issubclass(a, BaseModel)
        ]
        if not inner:
            return []
        model = inner[0]
    return [f.alias or n for n, f in model.model_fields.items()]


def _dump(block: BaseModel) -> dict[str, Any]:
    """Values by option name. Defaults that are None are left out, as absent keys are in BasicSR's own mappings."""
    out = {}
    for name, field in type(block).model_fields.items():
        value = getattr(block, name)
        if value is None and name not in block.model_fields_set:
            continue
        out[field.alias or name] = _dump(value) if isinstance(value, BaseModel) else value
    return out | (block.model_extra or {})


def _descend(data: Any, loc: tuple) -> Any:
    for part in loc:
        data = data[part]
    return data
