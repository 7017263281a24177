"""Cells of text as a table: for a terminal, in Markdown, in LaTeX. The first row is the heading, the first column a name."""
from __future__ import annotations

import re
from collections.abc import Sequence

Cells = Sequence[Sequence[str]]


def without_empty(cells: Cells) -> list[list[str]]:
    """Columns in which nothing stands below the heading are left out, but not the first."""
    kept = [i for i in range(len(cells[0])) if i == 0 or any(row[i] for row in cells[1:])]
    return [[row[i] for i in kept] for row in cells]


def aligned(cells: Cells, texts: bool = False) -> str:
    """`texts`, here and below: what stands in the columns is read from the left."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    sides = ['<', *('<' if texts else '>' for _ in widths[1:])]
    lines = ('  '.join(f'{c:{side}{w}}' for c, side, w in zip(row, sides, widths)) for row in cells)
    return '\n'.join(line.rstrip() if texts else line for line in lines)


def markdown(cells: Cells, texts: bool = False) -> str:
    head, *rows = ([cell.replace('|', r'\|') for cell in row] for row in cells)
    rule = ['---'] + ['---' if texts else '---:'] * (len(head) - 1)
    return '\n'.join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def latex(cells: Cells, notes: Sequence[str] = (), texts: bool = False) -> str:
    """A `tabular` for `booktabs`, below comments."""
    head, *rows = ([_tex(cell) for cell in row] for row in cells)
    lines = [rf'{" & ".join(row)} \\' for row in rows]
    return '\n'.join([
        *(f'% {note}' for note in notes), rf'\begin{{tabular}}{{l{("l" if texts else "r") * (len(head) - 1)}}}',
        r'\toprule', rf'{" & ".join(head)} \\', r'\midrule', *lines, r'\bottomrule', r'\end{tabular}', ''
    ])


def _tex(text: str) -> str:
    for character in '&%$#_{}':
        text = text.replace(character, f'\\{character}')
    text = re.sub(r'^([+-])(?=\d)', r'$\1$', text)
    return text.replace('±', r'$\pm$').replace(' - ', ' $-$ ')
