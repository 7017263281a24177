"""What docstrings of this project say of arguments: several may stand on a line, `a: one. b, c: two.`"""
from __future__ import annotations

import re
from collections.abc import Iterable


def described(docstring: str, names: Iterable[str]) -> dict[str, str]:
    """Of the names that `Args` of a docstring explains, what it says; `a ... c: text` is of all from a to c."""
    section = re.search(r'^( *)Args:\n(.*?)(?:^\1\S|\Z)', docstring, re.MULTILINE | re.DOTALL)
    names = list(names)
    if not section:
        return {}
    text = ' '.join(section[2].split())
    one = '|'.join(sorted(map(re.escape, names), key=len, reverse=True))
    starts = list(re.finditer(rf'(?:^|(?<=\s))((?:{one})(?:(?:, | \.\.\. )(?:{one}))*): ', text))
    found = {}
    for start, after in zip(starts, [*starts[1:], None]):
        said = text[start.end():after.start() if after else len(text)].strip()
        for name in _spelt_out(start[1], names):
            found[name] = said
    return found


def _spelt_out(title: str, names: list[str]) -> list[str]:
    first, dots, last = title.partition(' ... ')
    if dots:
        return names[names.index(first):names.index(last) + 1]
    return title.split(', ')
