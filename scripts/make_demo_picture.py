"""The picture of the README: dark input, enhanced photo and ground truth of the held-out pair, from a finished demo."""
from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import matplotlib
import matplotlib.pyplot as plt

from basicsr.metrics import calculate_psnr
from basicsr.utils.errors import run_main
from basicsr.utils.files import atomic_write
from basicsr.utils.img import imread


def main() -> None:
    folder = ROOT / 'data' / 'demo' / 'test'
    gt = imread(folder / 'target' / 'peaks.png')
    panels = [('dark input', imread(folder / 'input' / 'peaks.png')),
              ('enhanced', imread(ROOT / 'results' / 'demo' / 'peaks.png')), ('ground truth', gt)]
    matplotlib.use('Agg')
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.3), layout='constrained')
    for axis, (title, img) in zip(axes, panels):
        axis.imshow(img[..., ::-1])
        axis.set_title(title if img is gt else f'{title}, {calculate_psnr(img, gt):.2f} dB')
        axis.set_axis_off()
    with atomic_write(ROOT / 'docs' / 'demo.png') as file:
        figure.savefig(file, format='png', dpi=80)


if __name__ == '__main__':
    sys.exit(run_main(main))
