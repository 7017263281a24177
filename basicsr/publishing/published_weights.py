"""Weights that others have published, as `basicsr list weights` shows them."""
from __future__ import annotations

import json
from pathlib import Path

from basicsr.utils import pretrained
from basicsr.utils.published import Claim, Published, read_published


def listing() -> list[str]:
    """A few lines for each; none where the table is not there."""
    rows = read_published(pretrained.folder())
    width = max(map(len, rows), default=0) + 2
    return [line for name, row in rows.items() for line in _lines(name, row, width)]


def _lines(name: str, row: Published, width: int) -> list[str]:
    size = f', {row.bytes:,d} bytes' if row.bytes else ''
    lines = [f'  {name:<{width}}{row.network}{size}, {_where(pretrained.file_of(name, row), row)}']
    place = row.address or (f"'{row.by_hand.file}' in {row.by_hand.where}" if row.by_hand else '')
    lines.append(f'    {place}; SHA-256 {row.sha256 or "not known before the first use"}')
    if row.arguments:
        lines.append('    ' + ', '.join(f'{key}: {json.dumps(value)}' for key, value in row.arguments.items()))
    lines.append(f'    trained on {row.trained_on}; licence: {row.licence.weights}; of the code: {row.licence.code}')
    lines += [f'    claimed by {text}' for text in _claims(row.claimed)]
    lines.append(f'    measured by us, {_figures(row.measured)}' if row.measured else '    not measured by us')
    return lines + ([f'    {row.note}'] if row.note else [])


def _where(file: Path | None, row: Published) -> str:
    if file:
        return 'here'
    return 'to be got by hand' if row.by_hand else 'fetched on first use'


def _claims(claims: tuple[Claim, ...]) -> list[str]:
    """One text for those of the same people and protocol."""
    found: dict[tuple[str, str], list[str]] = {}
    for claim in claims:
        found.setdefault((claim.by, claim.protocol), []).append(_figures(claim))
    return [f"{by} ({protocol}): {'; '.join(texts)}" for (by, protocol), texts in found.items()]


def _figures(claim: Claim) -> str:
    return f'{claim.data} ' + ', '.join(f'{value:g} {name}' for name, value in claim.figures.items())
