"""What data sets of several degradations share: samples that carry their task."""
from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from basicsr.data.all_in_one_tasks import TASKS, Found, Sample
from basicsr.data.reading import ImageReader, ToTensor, read_all
from basicsr.data.synthetic import add_gaussian_noise, noise_generator
from basicsr.data.transforms import center_crop, check_shapes, check_sizes, paired_random_crop, random_augmentation
from basicsr.utils.errors import UserError

_NAMES = 20  # files that a message lists


class Incomplete(UserError):
    """Images of some tasks are missing or do not pair. `dataset` reads those that do."""

    def __init__(self, message: str, dataset: TaskSamples):
        super().__init__(message, details=dataset.cut_short())
        self.dataset = dataset


class TaskSamples(Dataset):
    """Reads, crops, augments and, where a task has no stored input, adds its noise. Says all that `SaysMore` asks.

    Args:
        found: look-up of each task; raises `Incomplete` with a report on all of them when anything is wrong with any.
        gt_size: side of the square training patch; None trains on whole images.
        geometric_augs: one of eight dihedral modes.
        crop_multiple: centre-crop images to multiples of this first.
        seed: of the test noise, which depends on it and the file's name without suffix alone.
        training: crop, augment and draw noise anew; else whole images.
    """

    def __init__(self, found: list[Found], gt_size: int | None, geometric_augs: bool, crop_multiple: int, seed: int,
                 training: bool):
        self.samples = [s for f in found for s in f.samples]
        self.found, self.training, self.seed = found, training, seed
        self.gt_size, self.geometric_augs, self.crop_multiple = gt_size, geometric_augs, crop_multiple
        self.reader, self.to_tensor = ImageReader(None, {'lq': '', 'gt': ''}), ToTensor()
        mistakes = self.mistakes()
        if mistakes:
            raise Incomplete(mistakes, self)

    def summary(self) -> str:
        """One line per task: pairs, folders, and what is not there; below it mistakes, with some names each."""
        return '\n'.join(f'  {f.show(_NAMES)}' for f in self.found)

    def mistakes(self) -> str:
        """The summary under a heading where anything is wrong with any task, else ''."""
        wrong = [f.task for f in self.found if f.mistakes]
        return f"the images of {', '.join(wrong)} are not complete:\n{self.summary()}" if wrong else ''

    def cut_short(self) -> list[str]:
        """The files of all lists that `mistakes` cuts, a line each."""
        return [
            f'{f.task}, {m.text}: {file}' for f in self.found for m in f.mistakes if len(m.files) > _NAMES
            for file in m.files
        ]

    def absent(self) -> list[str]:
        """Folders of the published tree that are not there, although others of their task are."""
        return list(dict.fromkeys(folder for f in self.found for folder in f.absent))

    def stored(self) -> TaskSamples:
        """Every stored pair once and whole, as in a test."""
        view = copy.copy(self)
        view.training, view.samples = False, [s for f in self.found for s in f.samples]
        return view

    def tasks(self) -> list[str]:
        """The task of each sample."""
        return [s.task for s in self.samples]

    def input_size(self, index: int) -> tuple[int, int]:
        lq_path, gt_path, _ = self.samples[index]
        height, width = size = self.reader.size(gt_path, 'gt')
        if lq_path:
            check_shapes(size, self.reader.size(lq_path, 'lq'), 1, gt_path)
        return height - height % self.crop_multiple, width - width % self.crop_multiple

    def has_gt(self) -> bool:
        return True

    def pick(self, index: int) -> Sample:
        return self.samples[index]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        lq_path, gt_path, task = self.pick(index) if self.training else self.samples[index]
        reads = [partial(self.reader.read, path, root) for path, root in ((gt_path, 'gt'), (lq_path, 'lq')) if path]
        gt, *lqs = read_all(*reads)
        lq = lqs[0] if lqs else gt  # noise comes last; until then the clean image takes the input's place
        check_sizes(gt, lq, 1, gt_path)
        gt, lq = center_crop(gt, self.crop_multiple), center_crop(lq, self.crop_multiple)
        if self.training:
            if self.gt_size:
                gt, lq = paired_random_crop(gt, lq, self.gt_size)
            if self.geometric_augs:
                gt, lq = random_augmentation(gt, lq)
        if lq_path is None:
            rng = np.random if self.training else noise_generator(Path(gt_path).stem, self.seed)
            lq = add_gaussian_noise(gt, TASKS[task].sigma, rng)
        return {
            'lq': self.to_tensor(lq), 'gt': self.to_tensor(gt), 'lq_path': lq_path or gt_path, 'gt_path': gt_path,
            'task': task
        }
