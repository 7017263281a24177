"""Input, result and ground truth side by side, and how much the metrics gain from input to result."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from basicsr.metrics import better, calculate_metric, describe, measure
from basicsr.metrics.tasks import Means, mean
from basicsr.utils.errors import UserError
from basicsr.utils.files import atomic_write, write_json
from basicsr.utils.matlab_functions import enlarged

PROTOCOL = 'all-in-one-uniform'
_LABELS = {'psnr': 'PSNR', 'ssim': 'SSIM', 'lpips': 'LPIPS'}
_BLOCKS: dict[str, dict[str, str]] = {
    'psnr': {'type': 'calculate_psnr', 'protocol': PROTOCOL}, 'ssim': {'type': 'calculate_ssim', 'protocol': PROTOCOL},
    'lpips': {'type': 'calculate_lpips'}
}
COMPARED = {f'{k} of --comparison': _BLOCKS[k]
            for k in ('psnr', 'ssim')}  # LPIPS is left out where it cannot be measured
_PANEL, _DPI = 4.0, 300  # inches; three panels are 3600 pixels


class Comparison:
    """Collects the images of one data set; writes `comparison_0001.png` ..., `test_results.txt` and `.json`.

    Args:
        folder: where the files go.
        images: write the pictures, too.
        note: what was done to the results before they were measured.

    `missing` says why there is no LPIPS, '' where there is.
    """

    def __init__(self, folder: Path, images: bool = True, note: str = ''):
        self.folder, self.images, self.note = folder, images, note
        self.names: list[str] = []
        self.original: list[Means] = []
        self.enhanced: list[Means] = []
        self.missing, self.enlarges = '', False

    def add(self, name: str, lq: np.ndarray, result: np.ndarray, gt: np.ndarray) -> None:
        """Measure RGB images (H, W, 3) in [0, 1] and draw them; an input that is smaller is enlarged, bicubic."""
        if result.shape[0] >= 2 * lq.shape[0]:
            lq, self.enlarges = enlarged(lq, result), True
        if not lq.shape == result.shape == gt.shape:
            raise UserError(
                f"--comparison: input {lq.shape}, result {result.shape} and ground truth {gt.shape} of '{name}'"
                ' differ in size or channels')
        self.names.append(name)
        self.original.append(self._values(lq, gt))
        self.enhanced.append(self._values(result, gt))
        if self.images:
            _draw(
                self.folder / f'comparison_{len(self.names):04d}.png', {
                    _title('Original Image', self.original[-1]): lq,
                    _title('Enhanced Image', self.enhanced[-1]): result,
                    'Ground Truth\n(Reference)': gt,
                })

    def summary(self) -> dict[str, float]:
        """Means over the images; a positive improvement is a better result, also of LPIPS, which is a distance."""
        metrics = ['psnr', 'ssim'] if self.missing else list(_LABELS)
        original, enhanced = (mean({k: row[k] for k in metrics} for row in rows)
                              for rows in (self.original, self.enhanced))
        out: dict[str, float] = {'total_images': len(self.names)}
        for group in (metrics[:2], metrics[2:]):
            out |= {f'avg_original_{k}': original[k] for k in group}
            out |= {f'avg_enhanced_{k}': enhanced[k] for k in group}
            sign = {'higher': 1, 'lower': -1}
            out |= {f'{k}_improvement': sign[better(_BLOCKS[k])] * (enhanced[k] - original[k]) for k in group}
        return out

    def write(self) -> None:
        """`test_results.txt` for people, `test_results.json` for programs."""
        summary = self.summary()
        metrics = [k for k in _LABELS if f'avg_original_{k}' in summary]
        lines = [
            f'images: {len(self.names)}' + (f' ({self.note})' if self.note else ''),
            f'PSNR and SSIM: RGB, not rounded, SSIM with a uniform 7x7 window (protocol {PROTOCOL})'
        ]
        if self.enlarges:
            lines.append("original: the input enlarged by MATLAB's bicubic imresize")
        lines += [
            f'LPIPS: left out, {self.missing}'
            if self.missing else f"LPIPS: {describe(_BLOCKS['lpips'])}, {better(_BLOCKS['lpips'])} is better", ''
        ]
        for title, key in (('original', 'avg_original_{}'), ('enhanced', 'avg_enhanced_{}')):
            lines += [f'{title} {_LABELS[k]}: {summary[key.format(k)]:.4f}' for k in metrics]
        lines += [f'{_LABELS[k]} improvement: {summary[f"{k}_improvement"]:+.4f}' for k in metrics]
        lines += [
            '', 'number  ' + ''.join(f'{_LABELS[k] + " original":>16}{"enhanced":>10}' for k in metrics) + '  image'
        ]
        for i, name in enumerate(self.names):
            values = ''.join(f'{self.original[i][k]:16.4f}{self.enhanced[i][k]:10.4f}' for k in metrics)
            lines.append(f'{i + 1:04d}    {values}  {name}')
        with atomic_write(self.folder / 'test_results.txt', 'w') as file:
            file.write('\n'.join(lines) + '\n')
        write_json(self.folder / 'test_results.json', summary)

    def _values(self, img: np.ndarray, gt: np.ndarray) -> Means:
        values = {k: measure(img, gt, _BLOCKS[k]) for k in ('psnr', 'ssim')}
        if not self.missing:
            bgr = [np.clip(x, 0, 1)[..., ::-1] * 255. for x in (img, gt)]  # not rounded, as published
            try:
                values['lpips'] = calculate_metric({'img': bgr[0], 'img2': bgr[1]}, _BLOCKS['lpips'])
            except (UserError, ValueError) as error:  # no weights; images too small
                self.missing = str(error)
        return values


def _title(name: str, values: Means) -> str:
    return f'{name}\nPSNR: {values["psnr"]:.2f} dB, SSIM: {values["ssim"]:.4f}'


def _draw(path: Path, panels: dict[str, np.ndarray]) -> None:
    """One row of titled RGB images."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    height, width = next(iter(panels.values())).shape[:2]
    figure = Figure(figsize=(_PANEL * len(panels), _PANEL * height / width + 0.42), layout='constrained')
    FigureCanvasAgg(figure)  # no window, whatever the machine has
    for axis, (title, image) in zip(figure.subplots(1, len(panels)), panels.items()):
        axis.imshow(np.clip(np.broadcast_to(image, (*image.shape[:2], 3)), 0, 1))  # grey ones, too
        axis.set_title(title, fontsize=9)
        axis.axis('off')
    with atomic_write(path) as file:
        figure.savefig(file, format='png', dpi=_DPI)
