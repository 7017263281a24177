"""Low-light video sets of `.npy` frames, used frame by frame (Retinexformer family): SID, SMID, SDSD."""
from __future__ import annotations

import random
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from natsort import natsorted
from torch.utils.data import Dataset

from basicsr.data.frame_cache import FrameReader
from basicsr.data.reading import ToTensor, accepts_opt, read_all
from basicsr.data.transforms import check_shapes, check_sizes, paired_random_crop
from basicsr.utils.errors import UserError, nearest, some
from basicsr.utils.files import read_text
from basicsr.utils.names import normal
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr.utils.values import Count, NonNegative, Size


class Pair(NamedTuple):
    name: str  # clip/frame
    lq: str
    gt: str


@accepts_opt
class ClipDataset(Dataset, ABC):
    """Frames below `dataroot_lq/<clip>/*.npy` and their ground truth below `dataroot_gt/<clip>/`.

    Subclasses say which clips are for testing (`is_test`) and which ground truth belongs to a frame (`partners`).

    Args:
        dataroot_gt, dataroot_lq: folders of clips.
        train_size: [width, height] that frames are resized to, in training and test; None keeps their size.
        gt_size: side of the random training patch; None trains on whole frames.
        use_flip, use_rot: horizontal and vertical flip, each with probability 1/2; nothing is turned by 90 degrees.
        cache_data: keep resized frames in memory, up to `cache_gib` GiB over all workers of the loader.
        phase: 'train' takes the training clips; others the test clips, in whole frames.

    Items: `lq`, `gt` float32 (3, H, W) RGB in [0, 1]; `lq_path`, `gt_path`; `name`: 'clip/frame', unique in the set.
    """

    def __init__(self, dataroot_gt: str, dataroot_lq: str, train_size: Size | None = (960, 512),
                 gt_size: Count | None = None, use_flip: bool = False, use_rot: bool = False, cache_data: bool = False,
                 cache_gib: NonNegative = 4.0, phase: str = 'train'):
        if train_size is not None and (len(train_size) != 2 or min(train_size) < 1):
            raise UserError(f'train_size: {list(train_size)} must be [width, height]')
        if cache_gib < 0:
            raise UserError(f'cache_gib: {cache_gib} must not be negative; cache_data: false keeps no frames')
        self.training, self.gt_size, self.use_flip, self.use_rot = phase == 'train', gt_size, use_flip, use_rot
        self.dataroot_gt, self.dataroot_lq = Path(dataroot_gt), Path(dataroot_lq)
        self.reader = FrameReader((train_size[0], train_size[1]) if train_size else None,
                                  cache_gib if cache_data else 0)
        self.to_tensor = ToTensor()
        self.pairs = self._find_pairs()

    @abstractmethod
    def is_test(self, clip: str) -> bool:
        """Whether a clip belongs to the test split."""

    def check_names(self, clips: list[str]) -> None:
        """Raises `UserError` for a test clip given by name that is none of `clips`: it would be trained on."""

    def partners(self, lqs: list[Path], gts: list[Path]) -> list[Path]:
        """The ground truth of each input frame of a clip: by default the first one, the only one in SID."""
        return gts[:1] * len(lqs)

    def use_frame(self, frame: Path) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        name, lq_path, gt_path = self.pairs[index]
        lq, gt = read_all(partial(self.reader.read, lq_path), partial(self.reader.read, gt_path))
        if self.training:
            if self.gt_size:
                gt, lq = paired_random_crop(gt, lq, self.gt_size, gt_path=gt_path)
            if self.use_flip and random.random() < 0.5:
                gt, lq = gt[:, ::-1], lq[:, ::-1]
            if self.use_rot and random.random() < 0.5:
                gt, lq = gt[::-1], lq[::-1]
        check_sizes(gt, lq, 1, gt_path)
        return {
            'lq': self.to_tensor(lq), 'gt': self.to_tensor(gt), 'lq_path': lq_path, 'gt_path': gt_path, 'name': name
        }

    def input_size(self, index: int) -> tuple[int, int]:
        _, lq_path, gt_path = self.pairs[index]
        lq, gt = self.reader.shape(lq_path), self.reader.shape(gt_path)
        check_shapes(gt, lq, 1, gt_path)
        return lq

    def _find_pairs(self) -> list[Pair]:
        lqs, gts = _clips(self.dataroot_lq, 'dataroot_lq'), _clips(self.dataroot_gt, 'dataroot_gt')
        wanted = [c for c in natsorted({*lqs, *gts}) if self.is_test(c) != self.training]
        self.check_names([*lqs, *gts])
        split = 'training' if self.training else 'test'
        if not wanted:
            raise UserError(f"'{self.dataroot_lq}' holds {len(lqs)} clips, none of them for {split}:"
                            f' {some(list(lqs))}')
        pairs, mistakes = [], []
        for clip in wanted:
            if clip not in lqs or clip not in gts:
                mistakes.append(f"clip '{clip}' is in {'dataroot_gt' if clip in gts else 'dataroot_lq'} only")
                continue
            try:
                pairs += self._pairs_of(clip, lqs[clip], gts[clip])
            except UserError as error:
                mistakes.append(str(error))
        if mistakes:
            raise UserError(
                f"clips of '{self.dataroot_lq}' and '{self.dataroot_gt}' do not pair: {some(mistakes, sep='; ')}",
                details=mistakes)
        return pairs

    def _pairs_of(self, clip: str, lq: Path, gt: Path) -> list[Pair]:
        lqs, gts = ([f for f in natsorted(folder.glob('*.npy'), key=lambda p: p.name) if self.use_frame(f)]
                    for folder in (lq, gt))
        for folder, frames in ((lq, lqs), (gt, gts)):
            if not frames:
                raise UserError(f"there are no .npy frames in '{folder}'")
        return [Pair(f'{clip}/{a.stem}', str(a), str(b)) for a, b in zip(lqs, self.partners(lqs, gts))]


@DATASET_REGISTRY.register()
@DATASET_REGISTRY.register(name='Dataset_SIDImage')
class SIDDataset(ClipDataset):
    """SID (See-in-the-Dark, Chen et al. 2018) as frames: one long exposure for all short ones of a clip.

    Clips whose name starts with 1 are for testing, those with 0 and 2 for training. Options and items: `ClipDataset`.
    """

    def is_test(self, clip: str) -> bool:
        return clip.startswith('1')


@DATASET_REGISTRY.register()
@DATASET_REGISTRY.register(name='Dataset_SMIDImage')
class SMIDDataset(ClipDataset):
    """SMID (Seeing Motion in the Dark, Chen et al. 2019): the clip's first long exposure is every frame's ground truth.

    Test clips are listed in `test_list.txt`, beside the folder of the ground truth or inside it; frames with '.ARW' or
    'half' in their name are skipped. Options and items: `ClipDataset`.
    """

    def is_test(self, clip: str) -> bool:
        return clip in self._test_clips()

    def use_frame(self, frame: Path) -> bool:
        return '.ARW' not in frame.name and 'half' not in frame.name

    def _test_clips(self) -> set[str]:
        if not hasattr(self, 'listed'):
            # published code reads the first place; its instructions name 'text_list.txt' inside
            root = self.dataroot_gt
            places = [d / n for d in (root.parent, root) for n in ('test_list.txt', 'text_list.txt')]
            file = next((p for p in places if p.is_file()), None)
            if file is None:
                raise UserError("there is no list of the test clips, one name a line; looked for"
                                f" {', '.join(map(repr, map(str, places)))}")
            lines = read_text(file).splitlines()
            self.listed = {normal(Path(line.split()[0]).name) for line in lines if line.strip()}
            absent = natsorted(self.listed - {*_clips(root, 'dataroot_gt')})
            if absent:  # in training as well: a misspelt test clip would be trained on
                raise UserError(f"'{file}' lists {_lacking(absent, root)}")
        return self.listed


@DATASET_REGISTRY.register()
@DATASET_REGISTRY.register(name='Dataset_SDSDImage')
@accepts_opt
class SDSDDataset(ClipDataset):
    """SDSD (Wang et al. 2021): every frame has its ground truth.

    Args:
        testing_dir: test clips, comma-separated or a list; a name also takes the parts '<name>_2...' of that clip.

    Further options and items: `ClipDataset`. Frames pair by name; where no name is common, by their order.
    """

    def __init__(self, dataroot_gt: str, dataroot_lq: str, testing_dir: str | list[str],
                 train_size: Size | None = (960, 512), gt_size: Count | None = None, use_flip: bool = False,
                 use_rot: bool = False, cache_data: bool = False, cache_gib: NonNegative = 4.0, phase: str = 'train'):
        names = testing_dir.split(',') if isinstance(testing_dir, str) else testing_dir
        self.testing = {normal(str(n).strip()) for n in names} - {''}
        super().__init__(dataroot_gt, dataroot_lq, train_size, gt_size, use_flip, use_rot, cache_data, cache_gib, phase)

    def is_test(self, clip: str) -> bool:
        return clip in self.testing or _whole(clip) in self.testing

    def check_names(self, clips: list[str]) -> None:
        absent = self.testing - {*clips, *map(_whole, clips)}
        if absent:
            raise UserError(f'testing_dir lists {_lacking(natsorted(absent), self.dataroot_gt)}')

    def partners(self, lqs: list[Path], gts: list[Path]) -> list[Path]:
        by_name = {normal(p.stem): p for p in gts}
        names = {normal(p.stem) for p in lqs}
        if len(lqs) == len(gts) and (names == by_name.keys() or not names & by_name.keys()):
            return [by_name.get(normal(p.stem), gt) for p, gt in zip(lqs, gts)]
        alone = natsorted(names ^ by_name.keys())
        raise UserError(
            f"'{lqs[0].parent}' has {len(lqs)} frames and '{gts[0].parent}' {len(gts)}; without partner:"
            f' {some(alone)}', details=alone)


def _whole(clip: str) -> str:
    """The clip that 'pair3_2' and further parts belong to."""
    return clip.split('_2')[0]


def _lacking(names: list[str], root: Path) -> str:
    """The rest of a message on names that are no clips of a folder, with similar ones that are."""
    clips = list(_clips(root, 'dataroot_gt'))
    hints = dict.fromkeys(nearest(name, clips) for name in names)
    return f"clips that '{root}' lacks: {some(names)}.{''.join(list(hints)[:5])}"


def _clips(root: Path, option: str) -> dict[str, Path]:
    if not root.is_dir():
        raise UserError(f"{option}: '{root}' is not a folder")
    clips = {
        normal(p.name): p for p in natsorted(root.iterdir(), key=lambda p: p.name) if p.is_dir() and p.name[0] != '.'
    }
    if not clips:
        raise UserError(f"{option}: there are no clips (folders of .npy frames) in '{root}'")
    return clips
