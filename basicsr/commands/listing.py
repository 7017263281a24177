"""List what can be named: basicsr list [networks|datasets|models|losses|metrics|schedulers|protocols|weights]"""
from __future__ import annotations

import argparse
from collections.abc import Iterable

from basicsr.config.signatures import read_signature
from basicsr.registry import REGISTRIES, SCHEDULER_REGISTRY
from basicsr.utils.errors import run_main

_KINDS = {f'{r.noun}s' if not r.noun.endswith('s') else 'losses': r for r in (*REGISTRIES, SCHEDULER_REGISTRY)}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('kind', nargs='?', choices=[*_KINDS, 'protocols', 'weights'], help='default: everything')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    for kind, registry in _KINDS.items():
        if args.kind in (None, kind):
            print(f'{kind}:')
            names = registry.keys()
            for name in names:
                print(f'  {name:<{_width(names)}}{registry.where(name)}\n    {_arguments(registry, name)}')
    if args.kind in (None, 'protocols'):
        from basicsr.metrics.protocol import PROTOCOLS
        print('protocols:')
        for protocol in PROTOCOLS.values():
            print(f'  {protocol.name:<{_width(PROTOCOLS)}}{protocol.summary}')
    if args.kind in (None, 'weights'):
        from basicsr.publishing.shipped_weights import listing
        print('weights:', *listing(), sep='\n')


def _width(names: Iterable[str]) -> int:
    """Of a column that the next one stays apart from."""
    return max(map(len, names), default=0) + 2


def _arguments(registry, name: str) -> str:
    fields = {k: v for k, v in read_signature(registry.index()[name]).fields.items() if k not in registry.filled_in}
    return ', '.join(k if default is ... else f'{k}={default!r}' for k, (_, default) in fields.items())


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_main(lambda: run(args))
