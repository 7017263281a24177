"""Low-light pairs in four folders, one for each stage of a project."""
from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Literal

import torch
from natsort import natsorted
from torch.utils.data import ConcatDataset

from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.reading import accepts_opt
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.utils.errors import UserError
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr.utils.values import Count

STAGES = {'train': '1_train', 'valid': '2_valid', 'bench': '3_bench', 'infer': '4_infer'}


@DATASET_REGISTRY.register()
@accepts_opt
class StagedImageDataset(ConcatDataset):
    """Reads `<dataroot>/<stage>/{low,high}`, or `<dataroot>/<stage>/<set>/{low,high}` of several sets together (IllRecNet).

    Images may lie in subfolders; pairs have the same name.

    Args:
        dataroot: holds the folders 1_train, 2_valid, 3_bench and 4_infer, those that are used.
        stage: which of them; 'infer' does not need `high`, and has no ground truth then.
        gt_size, use_hflip, use_rot, geometric_augs, phase: as in `PairedImageDataset`.

    Items: those of `PairedImageDataset` or `SingleImageDataset`; `name`, e.g. '7', with several sets 'LOLv1/7'.
    """

    def __init__(self, dataroot: str, stage: Literal['train', 'valid', 'bench', 'infer'], gt_size: Count | None = None,
                 use_hflip: bool = False, use_rot: bool = False, geometric_augs: bool = False, phase: str = 'train'):
        parts: list[PairedImageDataset | SingleImageDataset] = []
        self.names, folders = zip(*_sets(Path(dataroot), stage).items())
        for folder in folders:
            if stage == 'infer' and not (folder / 'high').is_dir():
                parts.append(SingleImageDataset(str(folder / 'low'), recursive=True))
            else:
                parts.append(
                    PairedImageDataset(str(folder / 'high'), str(folder / 'low'), gt_size=gt_size, use_hflip=use_hflip,
                                       use_rot=use_rot, geometric_augs=geometric_augs, recursive=True, phase=phase))
        self.parts = parts
        super().__init__(parts)

    def input_size(self, index: int) -> tuple[int, int]:
        part = bisect_right(self.cumulative_sizes, index)
        return self.parts[part].input_size(index - ([0, *self.cumulative_sizes])[part])

    def has_gt(self) -> bool:
        return any(isinstance(part, PairedImageDataset) for part in self.parts)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        item = super().__getitem__(index)
        name = self.names[bisect_right(self.cumulative_sizes, index)]
        return item | {'name': f'{name}/{item["name"]}'} if name else item


def _sets(dataroot: Path, stage: str) -> dict[str, Path]:
    """Folders that hold `low` by the name of their set, '' for one without a name."""
    if stage not in STAGES:
        raise UserError(f"stage '{stage}' is not supported; one of: {', '.join(STAGES)}")
    folder = dataroot / STAGES[stage]
    if (folder / 'low').is_dir():
        return {'': folder}
    found = natsorted(p.name for p in folder.iterdir() if (p / 'low').is_dir()) if folder.is_dir() else []
    if not found:
        what = 'there is no such folder' if not folder.is_dir() else 'it holds neither low nor folders that do'
        raise UserError(f"dataroot: stage '{stage}' is read from '{folder}/low' or '{folder}/<set>/low', but {what}")
    return {name: folder / name for name in found}
