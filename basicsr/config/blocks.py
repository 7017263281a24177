"""Check one mapping against a pydantic model, in the user's words: nearest keys, one message per mistake."""
from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from basicsr.config.report import Path, Problems
from basicsr.utils.errors import nearest


def check_block(model: type[BaseModel], data: Any, path: Path, problems: Problems,
                words: frozenset[str] = frozenset()) -> dict[str, Any] | None:
    """Validate one mapping. Returns the converted values, or None when there were mistakes.

    `words`: keys accepted although the schema does not list them, because a third-party class reads them.
    """
    try:
        return _dump(model.model_validate(data))
    except ValidationError as error:
        extra, wrong = [], False
        for item in error.errors():
            loc = tuple(item['loc'])
            if item['type'] == 'extra_forbidden' and loc[-1] in words:
                extra.append((loc, item['input']))
            else:
                wrong = True
                _explain(item, model, path, problems)
    if wrong:
        return None
    for loc, _ in extra:
        del _descend(data, loc[:-1])[loc[-1]]
    checked = check_block(model, data, path, problems, words)
    for loc, value in extra:
        _descend(data, loc[:-1])[loc[-1]] = value
        if checked is not None:
            _descend(checked, loc[:-1])[loc[-1]] = value
    return checked


def _explain(item: dict[str, Any], model: type[BaseModel], path: Path, problems: Problems) -> None:
    """Turn one pydantic error into the user's words."""
    loc = []
    for part in item['loc']:  # names of union members that pydantic inserts are no part of the option path
        if isinstance(part, int) or not (part.startswith(('literal[', 'list[', 'tuple[', 'function-', 'dict['))
                                         or part in ('int', 'float', 'str', 'bool', 'constrained-int')):
            loc.append(part)
    here = (*path, *loc)
    told = [f for f in problems.found if f[0] == here and item['type'] != 'extra_forbidden']
    if told and item['type'].endswith(('_type', '_parsing', 'literal_error')):
        return  # one message for all members of a union ...
    problems.found = [f for f in problems.found if f not in told]  # ... the one whose type fits, where there is one
    given = repr(item['input']) if not isinstance(item['input'], (dict, list)) else type(item['input']).__name__
    if item['type'] == 'extra_forbidden':
        problems.unknown_key(here, _keys_at(model, loc[:-1]))
    elif item['type'] == 'invalid_key':
        problems.add((*here[:-1], str(here[-1])), f'a key must be a word, not {given}; put it in quotes')
    elif item['type'] == 'missing':
        problems.add(here, 'is required')
    elif item['type'] == 'literal_error':
        expected = item['ctx']['expected'].replace("'", '')
        close = nearest(str(item['input']), expected.replace(' or ', ', ').split(', '))
        problems.add(here, f'{given} is not allowed; one of: {expected}.{close}')
    else:
        message = item['msg'].replace('Input should be', 'must be').replace('dictionary', 'mapping (key: value)')
        message = message.partition(' or instance of ')[0]  # a class of ours
        problems.add(here, f'{message}, not {given}')


def _keys_at(model: type[BaseModel], loc: list[str | int]) -> list[str]:
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
