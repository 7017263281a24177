"""Several data sets as one: networks are often trained on all that there is."""
from __future__ import annotations

import inspect
from bisect import bisect_right
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import MinLen
from torch.utils.data import ConcatDataset

from basicsr.data import construct
from basicsr.data.loader import Samples
from basicsr.data.protocol import Size, about
from basicsr.utils.errors import UserError, counted, nearest
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr.utils.values import Count

_SHARED = ('gt_size', 'use_hflip', 'use_vflip', 'use_rot', 'geometric_augs')


@DATASET_REGISTRY.register()
class JoinedDataset(ConcatDataset):
    """The samples of several data sets, one set after the other.

    Args:
        sets: {name: {type, ...}}, the options of each data set.
        repeats: {name: times}, how often an epoch goes through a set; once where it is not named.
        gt_size, use_hflip, use_vflip, use_rot, geometric_augs: for every set that says nothing else.
        scale, phase: of all sets.

    Items: those of the sets; `name`, else that of the file, begins with that of the set, e.g. 'lol_v1/7'.

    Raises:
        UserError: naming the set, for what the set refuses, for a shared option that it does not have, and for repeats
            of a set that is not there.
    """

    def __init__(self, sets: Annotated[dict[str, dict[str, Any]], MinLen(1)], repeats: dict[str, Count] | None = None,
                 gt_size: Count | None = None, use_hflip: bool = False, use_vflip: bool = False, use_rot: bool = False,
                 geometric_augs: bool = False, scale: Count = 1, phase: str = 'train'):
        for name in repeats or {}:
            if name not in sets:
                raise UserError(f"repeats: there is no set '{name}'.{nearest(name, sets)}")
        values = (gt_size, use_hflip, use_vflip, use_rot, geometric_augs)
        shared = {key: value for key, value in zip(_SHARED, values) if value}
        self.parts = {
            name: _build(name, block, shared, {'scale': scale, 'phase': phase}) for name, block in sets.items()
        }
        self.repeats = repeats or {}
        self.order = [name for name in sets for _ in range(self.repeats.get(name, 1))]
        every: list[Any] = [self.parts[name] for name in self.order]  # whatever has a length and items
        super().__init__(every)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        item = super().__getitem__(index)
        own = item.get('name') or Path(item.get('lq_path', '')).stem
        return item | {'name': f'{self._place(index)[0]}/{own}'} if own else item

    def input_size(self, index: int) -> Size | None:
        name, index = self._place(index)
        return about(self.parts[name]).input_size(index)

    def has_gt(self) -> bool:
        return any(about(part).has_gt() for part in self.parts.values())

    def absent(self) -> list[str]:
        return [folder for part in self.parts.values() for folder in about(part).absent()]

    def stored(self) -> Samples:
        every: list[Any] = [about(part).stored() for part in self.parts.values()]
        return ConcatDataset(every)

    def summary(self) -> str:
        return '\n'.join(f"  {name}: {counted(len(part), 'sample')}, {times}x" for name, part in self.parts.items()
                         for times in [self.repeats.get(name, 1)])

    def _place(self, index: int) -> tuple[str, int]:
        """The set of a sample, and its number there."""
        part = bisect_right(self.cumulative_sizes, index)
        return self.order[part], index - [0, *self.cumulative_sizes][part]


def _build(name: str, block: dict[str, Any], shared: dict[str, Any], of_all: dict[str, Any]) -> Samples:
    known = inspect.signature(DATASET_REGISTRY.get(block['type'])).parameters
    for key in shared if list(known) != ['opt'] else ():
        if key not in known:
            raise UserError(f"sets.{name}: {block['type']} has no {key}; give it at the sets that have it")
    try:
        return construct(shared | block | of_all)
    except (UserError, ValueError) as error:
        raise UserError(f'sets.{name}: {error}') from error
