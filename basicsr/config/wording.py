"""What pydantic finds wrong with one value, in the words of option files: null and true, lists and mappings."""
from __future__ import annotations

import datetime
import math
from typing import Any

from pydantic_core import ErrorDetails

from basicsr.utils.errors import counted, nearest

EMPTY = 'must not be empty'
_LONGEST = 80  # of a text that is repeated in a message
# how an error's type begins, and what the value must be
_KINDS = {
    'int_': 'a whole number', 'float_': 'a number', 'finite_number': 'a finite number', 'bool_': 'true or false',
    'string_type': 'text', 'string_sub_type': 'text', 'path_type': 'text', 'list_type': 'a list',
    'tuple_type': 'a list', 'sequence_str': 'a list', 'set_type': 'a list', 'iterable_type': 'a list',
    'dict_type': 'a mapping (key: value)', 'mapping_type': 'a mapping (key: value)',
    'model_type': 'a mapping (key: value)', 'model_attributes_type': 'a mapping (key: value)',
    'none_required': 'null'
}  # yapf: disable
_CONTAINERS: dict[type, str] = {dict: 'a mapping', list: 'a list', tuple: 'a list', set: 'a set', bytes: 'binary data'}


def spell(value: Any) -> str:
    """A value as YAML writes it; for a long one what it is."""
    if type(value) in _CONTAINERS:
        return _CONTAINERS[type(value)]
    if value is None or isinstance(value, bool):
        return {None: 'null', True: 'true', False: 'false'}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return '.nan' if math.isnan(value) else '.inf' if value > 0 else '-.inf'
    if isinstance(value, (datetime.date, datetime.datetime)):
        return str(value)
    text = repr(value)
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST]} ...'


def sentence(error: ErrorDetails) -> str:
    """Of every type of error but an unknown, a missing and a wrong key."""
    kind, value, context = error['type'], error['input'], error.get('ctx', {})
    if kind == 'literal_error':
        return _choice(value, context['expected'])
    if kind in ('too_short', 'too_long'):
        bound = (f"at least {counted(context['min_length'], 'value')}"
                 if kind == 'too_short' else f"at most {counted(context['max_length'], 'value')}")
        return f"needs {bound}, not {context['actual_length']}"
    if kind == 'string_too_short' and context.get('min_length') == 1:
        return EMPTY
    if kind == 'is_instance_of' and context.get('class') == 'Sequence':
        kind = 'list_type'
    wanted = next((words for begins, words in _KINDS.items() if kind.startswith(begins)), None)
    if wanted:
        return f'must be {wanted}, not {spell(value)}'
    message = error['msg'].replace('Input should be', 'must be').partition(' or instance of ')[0]  # a class of ours
    return f'{message}, not {spell(value)}'


def _choice(value: Any, expected: str) -> str:
    words = expected.replace("'", '').replace('True', 'true').replace('False', 'false')
    if isinstance(value, (dict, list)):
        return f'must be one of: {words}; not {spell(value)}'
    return f"{spell(value)} is not allowed; one of: {words}.{nearest(str(value), words.replace(' or ', ', ').split(', '))}"
