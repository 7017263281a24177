"""Training batches cut from images that all lie in the memory of the device: no worker, no disk, no copy of pixels."""
from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from basicsr.data.exposure import expose
from basicsr.data.gamma import raise_
from basicsr.data.loader import Samples, SeededSamples
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.samplers import EnlargedSampler, SampleIndex
from basicsr.data.transforms import Turn, pad_to_size, random_window
from basicsr.utils.decoder import decoding_in_threads
from basicsr.utils.dist import get_dist_info
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.utils.notes import Note, collect_notes
from basicsr.utils.seed import one_batch, seeded

_AT_ONCE = 256  # pairs that are read by threads before anything is told


class Window(NamedTuple):
    """What is cut out of an image, and how it is turned: a square by its corner."""
    image: int
    top: int
    left: int
    turn: Turn


class Album:
    """8-bit BGR images of any sizes in one piece of device memory, cut there.

    Args:
        images: arrays (H, W, 3), uint8.
    """

    def __init__(self, images: Sequence[np.ndarray], device: torch.device):
        self.widths = [img.shape[1] for img in images]
        self.starts = np.cumsum([0, *(img.size for img in images)]).tolist()
        self.pixels = torch.cat([torch.from_numpy(img).flatten() for img in images]).to(device)
        self.bgr = torch.tensor([2, 1, 0], device=device).view(1, 3, 1, 1)

    def cut(self, windows: Sequence[Window], size: int) -> Tensor:
        """RGB patches (B, 3, size, size), float32 in [0, 1]: the values that `ToTensor` gives."""
        rows = [(self.starts[w.image], self.widths[w.image], w.top, w.left, *w.turn) for w in windows]
        numbers = torch.tensor(rows).to(self.pixels.device, non_blocking=True)  # the only thing that travels
        start, width, top, left, hflip, vflip, transpose = numbers.T.reshape(7, -1, 1, 1)
        along = torch.arange(size, device=self.pixels.device)
        i, j = along[:, None], along[None, :]
        row, column = torch.where(transpose.bool(), j, i), torch.where(transpose.bool(), i, j)
        row = torch.where(vflip.bool(), size - 1 - row, row)
        column = torch.where(hflip.bool(), size - 1 - column, column)
        first = start + ((top + row) * width + left + column) * 3
        return self.pixels[first[:, None] + self.bgr].float().div_(255.)


class ResidentLoader:
    """Stands in for an `ImageLoader` of a training set, `cache: device`, and gives the same batches, bit for bit.

    Args:
        dataset: pairs that are cropped and turned, nothing else.
        opt: its block; `batch_size_per_gpu`, `gt_size` and `scale` are read.
        sampler: order of the samples, and their seeds.
        batch_size: samples of one batch; the last incomplete one of an epoch is dropped.

    Raises:
        UserError: for data sets of other kinds, for whole images (no `gt_size`), for images of 16 bits.
    """

    def __init__(self, dataset: Samples, opt: dict[str, Any], sampler: EnlargedSampler, batch_size: int,
                 device: torch.device):
        if type(dataset) is not PairedImageDataset or dataset.maps or not dataset.to_tensor.is_plain:
            raise UserError(
                'datasets.train.cache: device is for PairedImageDataset, without dataroot_sem, color, mean and'
                ' std')
        if not dataset.gt_size:
            raise UserError('datasets.train.cache: device needs gt_size: batches are cut from the images')
        self.dataset, self.pairs = SeededSamples(dataset, opt), dataset
        self.sampler, self.batch_size = sampler, batch_size
        self.gt_size, self.scale = dataset.gt_size, dataset.scale
        lqs, gts = zip(*self._read())
        self.shapes = [lq.shape[:2] for lq in lqs]
        self.lqs, self.gts = Album(lqs, device), Album(gts, device)

    def _read(self) -> list[tuple[np.ndarray, np.ndarray]]:
        found: list[tuple[np.ndarray, np.ndarray]] = []
        quiet = True if get_dist_info()[0] else None
        bar = tqdm(total=len(self.pairs), unit='pair', desc='read', leave=False, disable=quiet)
        with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(self.pairs), _AT_ONCE):
                some = range(start, min(start + _AT_ONCE, len(self.pairs)))
                with decoding_in_threads() as heard:
                    read = list(pool.map(self._pair, some))
                if heard:  # one after the other, so that each decoder's words are told with their file
                    read = list(map(self._pair, some))
                for note in dict.fromkeys(note for _, notes in read for note in notes):
                    get_root_logger().warning(note.text)
                found += [pair for pair, _ in read]
                bar.update(len(some))
        return found

    def _pair(self, index: int) -> tuple[tuple[np.ndarray, np.ndarray], list[Note]]:
        with collect_notes() as notes:
            lq, gt = self.pairs.trimmed_pair(index)
        for img, path in zip((lq, gt), self.pairs.paths[index]):
            if img.dtype != np.uint8:
                raise UserError(f"'{path}' has 16 bits; datasets.train.cache: device holds 8-bit images")
        side = self.gt_size // self.scale
        return (pad_to_size(lq, side, side), pad_to_size(gt, self.gt_size, self.gt_size)), notes

    def __len__(self) -> int:
        return len(self.sampler) // self.batch_size

    def __iter__(self) -> Generator[dict[str, Any], None, None]:
        chosen = []
        for index in self.sampler:
            chosen.append(index)
            if len(chosen) == self.batch_size:
                yield self._batch(chosen)
                chosen = []

    def _batch(self, indices: list[SampleIndex]) -> dict[str, Any]:
        side, windows, exposures, gammas = self.gt_size // self.scale, [], [], []
        for index in indices:
            # the draws of `PairedImageDataset`, in its order
            with one_batch(indices[0].seed), seeded(index.seed):
                height, width = self.shapes[index]
                top, left = random_window(height, width, side)
                windows.append(Window(int(index), top, left, self.pairs.random_turn()))
                exposures.append(self.pairs.random_exposure(self.gt_size, self.gt_size))
                gammas.append(self.pairs.random_gamma())
        larger = [Window(w.image, w.top * self.scale, w.left * self.scale, w.turn) for w in windows]
        lq_paths, gt_paths = zip(*(self.pairs.paths[i] for i in indices))
        lq, gt = self.lqs.cut(windows, side), self.gts.cut(larger, self.gt_size)
        made = [i for i, exposure in enumerate(exposures) if exposure]
        if made:
            rows = torch.tensor(made).to(gt.device, non_blocking=True)
            levels = gt[rows].mul(255).round().permute(0, 2, 3, 1).flip(-1)  # as in the files: BGR, channels last
            dark = expose(levels, [e for e in exposures if e])
            lq[rows] = dark.flip(-1).permute(0, 3, 1, 2).float().div_(255.)
        raise_(lq, gammas)
        return {'lq': lq, 'gt': gt, 'lq_path': list(lq_paths), 'gt_path': list(gt_paths)}
