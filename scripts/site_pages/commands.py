"""A page for each command: what its parser knows, its recipe of docs/how_to.md, and the pages that use it."""
from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

from basicsr import cli

NAMES = list(cli._COMMANDS)
_WIDTH = '80'  # of the usage


def page_of(name: str) -> str:
    return f'reference/commands/{name}.md'


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser that `basicsr NAME --help` prints."""
    found: list[argparse.ArgumentParser] = []
    with mock.patch.object(argparse.ArgumentParser, 'print_help', lambda self, file=None: found.append(self)), _argv():
        with suppress(SystemExit):
            cli.main([name, '--help'])
    return found[0]


def render(name: str, docs: Path) -> str:
    parser = parser_of(name)
    one_line = cli._COMMANDS[name][1]
    with mock.patch.dict(os.environ, {'COLUMNS': _WIDTH, 'NO_COLOR': '1'}):
        usage = parser.format_usage().removeprefix('usage: ').strip()
        parts = [f'# basicsr {name}', f'{one_line[0].upper()}{one_line[1:]}.', recipe(name, docs)]
        parts += ['## What it takes', f'```text\n{usage}\n```', _plain(parser.description), _table(parser)]
        parts += [_plain(parser.epilog), f'This is what `basicsr {name} --help` says.', _pages(name, docs)]
    return '\n\n'.join(part for part in parts if part) + '\n'


def recipe(name: str, docs: Path) -> str:
    """Its section of docs/how_to.md."""
    text = (docs / 'how_to.md').read_text(encoding='utf-8')
    section = re.search(rf'^## {re.escape(name)}\n(.*?)(?=^## |\Z)', text, re.MULTILINE | re.DOTALL)
    return _from_here(section[1].strip(), docs) if section else ''


def _table(parser: argparse.ArgumentParser) -> str:
    rows = ['| argument | meaning |', '|---|---|']
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
            words = formatter._expand_help(action) if action.help else ''
            rows.append(f'| `{formatter._format_action_invocation(action)}` | {_words(words)} |')
    return '\n'.join(rows) if len(rows) > 2 else 'It takes no arguments.'


def _words(text: str) -> str:
    """Of a help text, with what Markdown would take for its own outside of code."""
    parts = re.split(r'(`[^`]*`)', ' '.join(text.split()))
    return ''.join(part if part.startswith('`') else re.sub(r'([\[\]*_|])', r'\\\1', part.replace('<', '&lt;'))
                   for part in parts)


def _plain(text: str | None) -> str:
    """Words of a help text; its paragraphs stay apart."""
    return '\n\n'.join(_words(part) for part in re.split(r'\n\s*\n', (text or '').strip()) if part)


def _pages(name: str, docs: Path) -> str:
    """The pages with most commands of this kind."""
    counts = {}
    for page in sorted(docs.glob('*.md')):
        text = page.read_text(encoding='utf-8')
        if page.name not in ('commands.md', 'how_to.md') and (count := len(re.findall(rf'\bbasicsr {name}\b', text))):
            counts[page] = (count, re.search(r'^# (.*)$', text, re.MULTILINE)[1])  # type: ignore[index]
    best = sorted(counts.items(), key=lambda item: -item[1][0])[:6]
    rows = [f'- [{title}](../../{page.name})' for page, (_, title) in best]
    return '\n'.join(['## Pages that use it', '', *rows]) if rows else ''


def _from_here(text: str, docs: Path) -> str:
    """Links of a page of docs/ as a page two folders below has them."""
    return re.sub(r'\]\((?!\w+:)([\w./]+\.md)', r'](../../\1', text)


@contextmanager
def _argv() -> Iterator[None]:
    before = list(sys.argv)
    try:
        yield
    finally:
        sys.argv[:] = before
