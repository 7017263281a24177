"""CDD-11: eleven single and mixed degradations of the same pictures."""
from __future__ import annotations

import random
from pathlib import Path

from basicsr.data.all_in_one_tasks import Found, Mistake, Sample, no_images, pair_stems
from basicsr.data.reading import accepts_opt
from basicsr.data.task_samples import TaskSamples
from basicsr.utils.errors import UserError, nearest
from basicsr.utils.files import list_images
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr.utils.task_names import CDD11
from basicsr.utils.values import CDD11Subset, Count

_DEGREES = {'single': 1, 'double': 2, 'triple': 3}


@DATASET_REGISTRY.register()
@accepts_opt
class CDD11Dataset(TaskSamples):
    """CDD-11 (OneRestore, Guo et al. 2024): `{train,test}/{clear,<degradation>}` with the same names in all folders.

    Args:
        dataroot: folder that holds `train` and `test`, or its parent, where it is called `CDD11` or `cdd11`.
        subset: 'all', 'single', 'double', 'triple', or one folder, e.g. 'low_haze'.
        gt_size: side of the square training patch; None trains on whole images.
        geometric_augs: one of eight dihedral modes in training.
        phase: 'train' draws a degradation, then a picture of it, both uniformly; an epoch has twice as many samples as
            there are degraded images. Others give all pairs of `test`, whole.

    Items: as of `AllInOneDataset`; `task` is the folder's name.
    """

    def __init__(self, dataroot: str, subset: CDD11Subset = 'all', gt_size: Count | None = 128,
                 geometric_augs: bool = True, phase: str = 'train'):
        folder = _split_folder(dataroot, 'train' if phase == 'train' else 'test')
        super().__init__([_look_up(folder, f) for f in _chosen(subset)], gt_size, geometric_augs, 1, 0,
                         phase == 'train')

    def pick(self, index: int) -> Sample:
        return random.choice(random.choice(self.found).samples)

    def __len__(self) -> int:
        return len(self.samples) * (2 if self.training else 1)


def _chosen(subset: str) -> list[str]:
    if subset not in ('all', *_DEGREES, *CDD11):
        known = ['all', *_DEGREES, *CDD11]
        raise UserError(f"subset: there is no '{subset}'.{nearest(subset, known)} Known: {', '.join(known)}")
    return [f for f in CDD11 if subset in ('all', f) or f.count('_') + 1 == _DEGREES.get(subset)]


def _split_folder(dataroot: str, split: str) -> Path:
    places = [Path(dataroot, parent, split) for parent in ('', 'CDD11', 'cdd11')]
    found = next((p for p in places if p.is_dir()), None)
    if found is None:
        raise UserError(f"dataroot: there is none of {', '.join(f'{str(p)!r}' for p in places)}")
    return found


def _look_up(folder: Path, degradation: str) -> Found:
    sides = [folder / degradation, folder / 'clear']
    missing = [str(s) for s in sides if not s.is_dir()]
    if missing:
        return Found(degradation, mistakes=[Mistake(f"there is no folder {', '.join(map(repr, missing))}")])
    found = pair_stems(list_images(sides[0]), list_images(sides[1]), degradation)
    found.folders = [str(sides[0])]
    if not found.samples and not found.mistakes:
        found.mistakes.append(no_images(sides))
    return found
