"""List what can be named: basicsr list [networks|datasets|models|losses|metrics|schedulers|optimizers|protocols|weights]"""
from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterable
from typing import Any

from basicsr.config.signatures import signature_of
from basicsr.registry import MODEL_REGISTRY, REGISTRIES, SCHEDULER_REGISTRY, Registry
from basicsr.utils.errors import run_main

_KINDS = {f'{r.noun}s' if not r.noun.endswith('s') else 'losses': r for r in (*REGISTRIES, SCHEDULER_REGISTRY)}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('kind', nargs='?', choices=[*_KINDS, 'optimizers', 'protocols', 'weights'],
                        help='default: everything')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    for kind, registry in _KINDS.items():
        if args.kind in (None, kind):
            print(f'{kind}:')
            names = registry.keys()
            for name in names:
                print(f'  {name:<{_width(names)}}{registry.where(name)}')
                _wrapped(_arguments(registry, name))
    if args.kind in (None, 'optimizers'):
        from basicsr.config.optimizers import OPTIMIZERS, optimizer_model
        print('optimizers:')
        for name, module in OPTIMIZERS.items():
            print(f'  {name:<{_width(OPTIMIZERS)}}{module}')
            model = optimizer_model(name)
            fields = {f.alias or k: f for k, f in (model.model_fields if model else {}).items()}
            _wrapped({k: ... if f.is_required() else f.default for k, f in fields.items() if k != 'type'})
    if args.kind in (None, 'protocols'):
        from basicsr.metrics.protocol import PROTOCOLS
        print('protocols:')
        for protocol in PROTOCOLS.values():
            print(f'  {protocol.name:<{_width(PROTOCOLS)}}{protocol.summary}')
    if args.kind in (None, 'weights'):
        from basicsr.publishing import published_weights, shipped_weights
        print('weights:', *shipped_weights.listing(), sep='\n')
        others = published_weights.listing()
        if others:
            print('weights of others:', *others, sep='\n')


def _width(names: Iterable[str]) -> int:
    """Of a column that the next one stays apart from."""
    return max(map(len, names), default=0) + 2


def _wrapped(arguments: dict[str, Any]) -> None:
    """On lines of the terminal's width."""
    width = shutil.get_terminal_size((120, 24)).columns
    text = ', '.join(k if default is ... else f'{k}={default!r}' for k, default in arguments.items())
    if text:
        print(
            textwrap.fill(text, max(width, 40), initial_indent='    ', subsequent_indent='    ', break_long_words=False,
                          break_on_hyphens=False))


def _arguments(registry: Registry, name: str) -> dict[str, Any]:
    """Arguments that options can give, and their defaults; those of a data set or model that takes `opt` it reads itself."""
    signature = signature_of(registry, name)
    hidden = {*registry.filled_in, 'opt'} if signature.takes_opt or registry is MODEL_REGISTRY else registry.filled_in
    return {k: default for k, (_, default) in signature.fields.items() if k not in hidden}


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))
