"""The JSON schema of option files, from which editors complete and check them.

What a file may say and what it must say are two parts: on a `base` it must say nothing.
"""
from __future__ import annotations

import json
from typing import Any

from basicsr.config import signatures
from basicsr.config.optimizers import OPTIMIZERS, RANGES
from basicsr.config.schema import LoaderOptions, Options
from basicsr.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    SCHEDULER_REGISTRY,
    Registry,
)

_COMPLETE = 'Complete'  # begins the names of definitions that say what is required
_HOLDERS = ('then', 'items', 'additionalProperties')  # of one schema
_BOUNDS = ('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum')


def option_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of an option file with everything that is registered in the tree."""
    schema = Options.model_json_schema()
    definitions = schema['$defs']
    definitions |= {
        'Network': _component(ARCH_REGISTRY),
        'Loss': _component(LOSS_REGISTRY),
        'Metric': _component(METRIC_REGISTRY, extra={'better': {'enum': ['higher', 'lower']}}),
        'Scheduler': _component(SCHEDULER_REGISTRY),
        'Dataset': _component(DATASET_REGISTRY, extra=_loader_keys()),
        'Optimizer': _optimizer(),
    }
    definitions |= {
        k: v for part in ('Network', 'Loss', 'Metric', 'Scheduler', 'Dataset')
        for k, v in definitions[part].pop('$defs').items()
    }
    top, train = schema['properties'], definitions['TrainOptions']['properties']
    top['model_type']['examples'] = MODEL_REGISTRY.keys()
    top['network_g'] = _ref('Network')
    schema['required'].remove('network_g')  # the weights of path.fine_tune_from may say it
    top['datasets'] = {'type': 'object', 'additionalProperties': _or_none(_ref('Dataset'))}
    train['optim_g'], train['scheduler'] = _ref('Optimizer'), _ref('Scheduler')
    train['pixel_opt'] = train['perceptual_opt'] = _or_none(_ref('Loss'))
    train['losses'] = _or_none({'type': 'array', 'items': _ref('Loss')})
    for case in definitions['Loss']['allOf']:  # a loss made of losses
        if 'terms' in case['then']['properties']:
            case['then']['properties']['terms'] = {
                'anyOf': [{'type': 'array', 'items': _ref('Loss')},
                          {'type': 'object', 'additionalProperties': _ref('Loss')}]
            }
    for case in definitions['Dataset']['allOf']:  # a data set made of data sets
        if 'sets' in case['then']['properties']:
            case['then']['properties']['sets'] = {'type': 'object', 'additionalProperties': _ref('Dataset')}
    metrics = {'type': 'object', 'additionalProperties': _or_none(_ref('Metric'))}
    definitions['ValOptions']['properties']['metrics'] = _or_none(metrics)
    return {'$schema': 'https://json-schema.org/draft/2020-12/schema', **_complete_without_base(schema)}


def render() -> str:
    return json.dumps(_plain(option_schema()), indent=1, sort_keys=True) + '\n'


def _complete_without_base(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema, with everything that it requires in definitions of their own, for files that have no base."""
    complete = {_COMPLETE + name: _required(body) for name, body in schema['$defs'].items()}
    complete |= {f'{_COMPLETE}Options': _required({k: v for k, v in schema.items() if k != '$defs'})}
    schema = _allowed(schema)
    schema['$defs'] |= complete
    on_base = {'properties': {'base': {'type': 'string'}}, 'required': ['base']}
    return schema | {'if': on_base, 'else': _ref(f'{_COMPLETE}Options')}


def _allowed(node: Any) -> Any:
    """A schema without what it requires, but for the conditions in it."""
    if isinstance(node, list):
        return [_allowed(x) for x in node]
    if not isinstance(node, dict):
        return node
    return {k: v if k == 'if' else _allowed(v) for k, v in node.items() if k != 'required'}


def _required(node: dict[str, Any]) -> dict[str, Any]:
    """Of a schema only what it requires; the same of what it refers to. Alternatives need no choice: what an object must
    have says nothing about a list or null."""
    out: dict[str, Any] = {}
    if '$ref' in node:
        out = {'$ref': node['$ref'].replace('$defs/', f'$defs/{_COMPLETE}')}
    if node.get('required'):
        out['required'] = node['required']
    inner = {name: part for name, body in node.get('properties', {}).items() if (part := _required(body))}
    if inner:
        out['properties'] = inner
    for key in _HOLDERS:
        if isinstance(node.get(key), dict) and (part := _required(node[key])):
            out[key] = part
    parts = [part for body in (*node.get('allOf', []), *node.get('anyOf', [])) if (part := _required(body))]
    if parts:
        out['allOf'] = parts
    return out | {'if': node['if']} if 'if' in node and 'then' in out else out


def _plain(node: Any) -> Any:
    """The same schema without what only some versions of pydantic say: 0.0 for 0 as a bound, a constant as a choice of one
    too, and that an object may have any keys."""
    if isinstance(node, list):
        return [_plain(x) for x in node]
    if not isinstance(node, dict):
        return node
    once = 'const' in node and node.get('enum') == [node['const']]
    kept = {
        k: v for k, v in node.items() if not ((k == 'enum' and once) or (k == 'additionalProperties' and v is True))
    }
    return {
        k: int(v) if k in _BOUNDS and isinstance(v, float) and v.is_integer() else _plain(v) for k, v in kept.items()
    }


def _ref(name: str) -> dict[str, str]:
    return {'$ref': f'#/$defs/{name}'}


def _or_none(schema: dict[str, Any]) -> dict[str, Any]:
    return {'anyOf': [schema, {'type': 'null'}]}


def _loader_keys() -> dict[str, Any]:
    return {k: v for k, v in LoaderOptions.model_json_schema()['properties'].items() if k != 'type'}


def _optimizer() -> dict[str, Any]:
    """Any argument that an optimizer may have: which one has which depends on the version of torch."""
    ranges = signatures.to_model('Optimizer', {name: (kind, ...) for name, kind in RANGES.items()}).model_json_schema()
    return {
        'type': 'object', 'required': ['type', 'lr'],
        'properties': {'type': {'enum': list(OPTIMIZERS)}, **ranges['properties']}
    }


def _component(registry: Registry, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """`{type: NAME, ...}`: the keys allowed beside `type` follow from the name."""
    cases, inner = [], dict[str, Any]()  # blocks inside blocks are referred to by name
    for name in registry.keys():
        model = signatures.model_for(registry, name)
        body = model.model_json_schema(by_alias=True)
        inner |= body.pop('$defs', {})
        properties = {'type': {'const': name}, **body.get('properties', {}), **(extra or {})}
        then = {'properties': properties, 'required': body.get('required', [])}
        if not body.get('additionalProperties', False):
            then['additionalProperties'] = False
        cases.append({'if': {'properties': {'type': {'const': name}}, 'required': ['type']}, 'then': then})
    return {
        'type': 'object', 'required': ['type'], 'properties': {'type': {'enum': registry.keys()}}, 'allOf': cases,
        '$defs': inner
    }
