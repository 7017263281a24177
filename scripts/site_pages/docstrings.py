"""For mkdocstrings: arguments that share a line of a docstring get one each."""
from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path[:0] = [path for path in [str(Path(__file__).resolve().parents[1])] if path not in sys.path]

from site_pages.arguments import described


class OneEach(griffe.Extension):
    """`a: one. b, c: two.` becomes three lines, as Google's style has them."""

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        names = [parameter.name for parameter in func.parameters]
        if func.docstring and (found := described(func.docstring.value, names)):
            lines = ''.join(f'    {name}: {words}\n' for name, words in found.items())
            func.docstring.value = re.sub(r'^Args:\n(?:(?: .*)?(?:\n|\Z))*', lambda _: f'Args:\n{lines}\n',
                                          func.docstring.value, count=1, flags=re.MULTILINE)
