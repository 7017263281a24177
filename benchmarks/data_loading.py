"""Paired loading with 128 crops against a bare cv2.imread + crop loop, one core, 400x600 PNG pairs made on the spot."""
from __future__ import annotations

import random
import tempfile
from pathlib import Path

import cv2
import numpy as np
from common import alternate, report

from basicsr.data.paired_image_dataset import PairedImageDataset

PAIRS, SIZE = 16, 128


def main() -> None:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make(folder)
        dataset = PairedImageDataset(str(folder / 'gt'), str(folder / 'lq'), gt_size=SIZE, geometric_augs=True)
        paths = dataset.paths

        def bare() -> None:
            for lq_path, gt_path in paths:
                lq, gt = cv2.imread(lq_path), cv2.imread(gt_path)
                y, x = random.randint(0, lq.shape[0] - SIZE), random.randint(0, lq.shape[1] - SIZE)
                lq[y:y + SIZE, x:x + SIZE], gt[y:y + SIZE, x:x + SIZE]

        def ours() -> None:
            for i in range(len(dataset)):
                dataset[i]

        times = alternate({'cv2.imread + crop': bare, 'PairedImageDataset': ours}, repeats=9)
    rows = [{'what': k, 'pairs per second': PAIRS / v, 'ratio': times['cv2.imread + crop'] / v}
            for k, v in times.items()]
    report('data loading', rows, size='400x600', crop=SIZE)


def _make(folder: Path) -> None:
    """Smooth pictures with a little noise, which compress about as photographs do."""
    rng = np.random.RandomState(0)
    for side in ('lq', 'gt'):
        (folder / side).mkdir()
    for i in range(PAIRS):
        base = cv2.resize(rng.rand(10, 15, 3), (600, 400), interpolation=cv2.INTER_CUBIC) * 255
        gt = np.clip(base + rng.normal(0, 4, base.shape), 0, 255)
        cv2.imwrite(str(folder / 'gt' / f'{i}.png'), gt.astype(np.uint8))
        cv2.imwrite(str(folder / 'lq' / f'{i}.png'), (gt / 6).astype(np.uint8))


if __name__ == '__main__':
    main()
