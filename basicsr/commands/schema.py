"""Write the JSON schema of option files, or check that the one in the tree is current: basicsr schema [FILE] [--check]"""
from __future__ import annotations

import argparse
from pathlib import Path

from basicsr.utils.errors import UserError, run_main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', nargs='?', help='default: Options/schema.json of the checkout')
    parser.add_argument('--check', action='store_true', help='only compare; exit code 2 when the file is stale')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from basicsr.config import project_root
    from basicsr.config.json_schema import render
    from basicsr.utils.files import atomic_write
    file = Path(args.file) if args.file else project_root() / 'Options' / 'schema.json'
    text = render()
    if args.check:
        if not file.is_file() or file.read_text(encoding='utf-8') != text:
            raise UserError(f"'{file}' is stale; run: basicsr schema")
        return
    with atomic_write(file, 'w') as stream:
        stream.write(text)
    print(f'wrote {file}')


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))
