"""What others claim of weights, beside what is measured of them."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from basicsr.config.schema import Block
from basicsr.utils import pretrained
from basicsr.utils.published import Published, read_published


class ClaimOptions(Block):
    """Figures that somebody claims, printed beside the measured ones; `gt_mean_...` with the answer's brightness."""
    psnr: float | None = None
    ssim: float | None = None
    gt_mean_psnr: float | None = None
    gt_mean_ssim: float | None = None
    niqe: float | None = None
    brisque: float | None = None
    source: str | None = Field(None, description='who claims them, and how they were measured')


_FIGURES = [name for name in ClaimOptions.model_fields if name != 'source']
_WORDS = {'psnr': 'PSNR', 'ssim': 'SSIM', 'gt_mean_psnr': 'PSNR, GT-mean', 'gt_mean_ssim': 'SSIM, GT-mean'}


def data_sets() -> list[str]:
    """What published.json calls the data sets that it has claims of."""
    rows = read_published(pretrained.folder()).values()
    return list(dict.fromkeys(claim.data for row in rows for claim in row.claimed))


def claimed(published: Published | None, data: str | None, folders: Mapping[str, str]) -> dict[str, Any]:
    """What published.json has of a data set, and of those that folders are named after, see `subfolders`: 'niqe DICM'."""
    names = {folder.casefold(): behind for folder, behind in folders.items()} | ({data.casefold(): ''} if data else {})
    found: dict[str, Any] = {}
    for claim in published.claimed if published else ():
        place = names.get(claim.data.casefold())
        prefix = 'gt_mean_' if 'GT-mean' in claim.protocol else ''
        figures = {prefix + key: value for key, value in claim.figures.items() if prefix + key in _FIGURES}
        if place is not None and figures:
            found |= {f'{key}{place}': value for key, value in figures.items()}
            found.setdefault('source', f'{claim.by}; {claim.protocol}')
    return found


def columns(claims: Iterable[dict[str, Any]]) -> list[str]:
    """The figures that any of them has, by metric and folder."""
    there = dict.fromkeys(key for claim in claims for key in claim if key != 'source')
    return sorted(there, key=lambda key: (_FIGURES.index(key.partition(' ')[0]), key))


def heading(column: str) -> str:
    """'claimed PSNR, GT-mean', 'claimed niqe DICM'."""
    return f'claimed {_WORDS.get(column, column)}'


def digits(column: str) -> str:
    """How many of a figure, measured or claimed, are shown."""
    return '.2f' if 'psnr' in column else '.3f' if column.startswith(('niqe', 'brisque')) else '.4f'
