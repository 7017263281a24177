"""Markdown as code hosting reads it, in the words of Python-Markdown."""
from __future__ import annotations

import re
from collections.abc import Callable

_FENCE = re.compile(r'^ *(`{3,})[^`\n]*\n.*?^ *\1`*[ \t]*$', re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r'(\d+\.|[-*]) +\S')


def outside_fences(text: str, change: Callable[[str], str]) -> str:
    """The text with what stands outside blocks of code changed."""
    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [change(text[end:fence.start()]), fence[0]]
        end = fence.end()
    return ''.join([*parts, change(text[end:])])


def from_hosting(text: str) -> str:
    """Comments go, what belongs to an item of a list is indented by four, and a list has an empty line before it."""
    text = outside_fences(text, lambda part: _tables(re.sub(r'^ *<!--.*?-->[ \t]*\n?', '\n', part, flags=re.M | re.S)))
    return '\n'.join(_lists(text.split('\n')))


def _lists(lines: list[str]) -> list[str]:
    """Lists as Python-Markdown wants them."""
    found: list[str] = []
    fence, width = '', 0  # of the block of code, and of the sign of the item, that the line belongs to
    for line in lines:
        empty_before = not (found and found[-1].strip())
        mark = re.match(r' *(`{3,})', line)
        item = None if fence else _ITEM.match(line)
        if item:
            if not empty_before and not width:
                found.append('')
            width = item.end() - 1
        elif width and line.startswith(' ' * width):
            line = ' ' * 4 + line[width:]
        elif line.strip() and not fence and (empty_before or mark):
            width = 0  # what begins at the margin is none of the item's, unless it goes on with a sentence
        if mark:
            fence = ('' if line.strip() == fence else fence) if fence else mark[1]
        found.append(line)
    return found


def _tables(text: str) -> str:
    """A bar inside code does not need its backslash."""
    return re.sub(r'^\|.*$', lambda row: re.sub(r'`[^`]*`', lambda code: code[0].replace(r'\|', '|'), row[0]), text,
                  flags=re.MULTILINE)
