"""Validation and testing of a model: the same code and the same metrics for both."""
from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from basicsr.data.loader import sample_name
from basicsr.engine.early_stop import better_is, improves
from basicsr.metrics import describe, measure, needs_gt
from basicsr.metrics.tasks import mean, means_by_task, task_of
from basicsr.utils.dist import gather, get_dist_info
from basicsr.utils.files import atomic_write
from basicsr.utils.img import imwrite, pad_to_multiple, tensor2img
from basicsr.utils.logger import get_root_logger
from basicsr.utils.weights import save_weights


class ImageResult(NamedTuple):
    """The metrics of one image; `task` is '' where the data set has no tasks."""
    task: str
    name: str
    values: dict[str, float]


class ValidationMixin:
    """`nondist_validation` and `dist_validation` for models with `feed_data`, `test` and `get_current_visuals`.

    Attributes:
        metric_results: mean of each metric over the images of the last validation; when its items have tasks, the mean
            over the means of the tasks, however many images each has.
        task_results: the mean of each metric for each task, empty without tasks.
        image_results: every image.
        guides: what the network is given beside `lq`, of its size.
        best_metric_results: per dataset and metric `{better, val, iter}`.
    """
    best_metric_results: dict[str, dict[str, Any]] = {}
    guides: Sequence[torch.Tensor] = ()

    def dist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        self.nondist_validation(dataloader, current_iter, tb_logger, save_img)

    def nondist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Restore and measure each image; with several processes, each takes its share and all get the result."""
        val = self.opt.get('val') or {}
        metrics = val.get('metrics') or {}
        name = dataloader.dataset.opt['name']
        rows: list[ImageResult] = []
        bar = tqdm(total=len(dataloader), unit='image', desc=f'validate {name}', leave=False,
                   disable=get_dist_info()[0] != 0 or not val.get('pbar', True) or None)
        for i, data in enumerate(dataloader):
            self.feed_data(data)
            self.padded_test()
            visuals = self.get_current_visuals()
            task, stem = task_of(data), sample_name(data)
            result, gt = (_array(visuals[k]) if k in visuals else None for k in ('result', 'gt'))
            measured = {k: m for k, m in metrics.items() if gt is not None or not needs_gt(m)}
            if measured:
                values = {k: measure(result, gt, dict(m), self.device) for k, m in measured.items()}
                rows.append(ImageResult(task, stem, values))
            if save_img:
                self._save_image(visuals, task, stem, name, current_iter)
            if tb_logger is not None and i < val.get('save_images_to_tb', 2):
                tb_logger.add_image('/'.join(filter(None, (name, task, stem))), _sheet(visuals), current_iter)
            bar.update()
        bar.close()
        rows = [row for part in gather(rows) for row in part]
        self.image_results = sorted(rows, key=lambda row: row[:2])
        means = means_by_task((row.task, row.values) for row in rows)
        self.task_results = means if any(means) else {}
        self.metric_results = OrderedDict(mean(means.values())) if means else OrderedDict()
        unmeasured = [label for label in metrics if label not in self.metric_results]
        if unmeasured:
            get_root_logger().info(f"Validation {name}: no ground truth, so no {', '.join(unmeasured)}")
        if self.metric_results:
            self._log_validation_metric_values(current_iter, name, tb_logger)

    def padded_test(self) -> None:
        """`test()` on the input padded to `val.window_size`; the result is cropped back."""
        window = (self.opt.get('val') or {}).get('window_size', 0)
        h, w = self.lq.shape[-2:]
        original, guides, scale = self.lq, self.guides, self.opt.get('scale', 1)
        if window > 1:
            self.lq, *self.guides = (pad_to_multiple(t, window) for t in (original, *guides))
        self.test()
        self.lq, self.guides = original, guides
        self.output = self.output[..., :h * scale, :w * scale]

    def _log_validation_metric_values(self, current_iter: int | str, dataset_name: str, tb_logger: Any) -> None:
        """One line per metric with its protocol; keeps the best, and the best weights by `val.best_metric`."""
        options = self.opt['val']['metrics']
        lines = [f'Validation {dataset_name}']
        for label, value in self.metric_results.items():
            protocol = describe(options[label])
            line = f'\t # {label}: {value:.4f}' + (f' ({protocol})' if protocol else '')
            if self.is_train:
                best = self._update_best_metric_result(dataset_name, label, value, current_iter)
                line += f'\tBest: {best["val"]:.4f} @ {best["iter"]} iter'
            lines.append(line)
            if tb_logger is not None:
                tb_logger.add_scalar(f'metrics/{dataset_name}/{label}', value, current_iter)
            for task, values in self.task_results.items():
                lines.append(f'\t #   {task}: {values[label]:.4f}')
                if tb_logger is not None:
                    tb_logger.add_scalar(f'metrics/{dataset_name}/{task}/{label}', values[label], current_iter)
        get_root_logger().info('\n'.join(lines))

    def _update_best_metric_result(self, dataset_name: str, metric: str, val: float,
                                   current_iter: int) -> dict[str, Any]:
        if 'best_metric_results' not in self.__dict__:
            self.best_metric_results = {}
        table = self.best_metric_results.setdefault(dataset_name, {})
        better = better_is(self.opt['val']['metrics'], metric)
        best = table.get(metric)
        if best is None or improves(val, best['val'], better):
            best = table[metric] = {'better': better, 'val': val, 'iter': current_iter}
            chosen = self.opt['val'].get('best_metric') or next(iter(self.opt['val']['metrics']))
            first = next((name for name, best in self.best_metric_results.items() if chosen in best), None)
            if metric == chosen and dataset_name == first:
                self.save_best(dataset_name, metric, best)
        return best

    def save_best(self, dataset_name: str, metric: str, best: dict[str, Any]) -> None:
        """Write `best/net_g_best.pth` and what made it the best."""
        if get_dist_info()[0] != 0:
            return
        folder = Path(self.opt['path']['best'])
        content = {'params': self.cpu_state(self.net_g)}
        if getattr(self, 'net_g_ema', None) is not None:
            content['params_ema'] = self.cpu_state(self.net_g_ema)
        save_weights(folder / 'net_g_best.pth', content | self.identity())
        with atomic_write(folder / 'best.json', 'w') as file:
            json.dump(
                {
                    'dataset': dataset_name, 'metric': metric, 'value': best['val'], 'iter': best['iter'],
                    'protocol': describe(self.opt['val']['metrics'][metric])
                }, file, indent=2)

    def _save_image(self, visuals: dict[str, torch.Tensor], task: str, stem: str, dataset: str,
                    current_iter: int | str) -> None:
        folder = Path(self.opt['path']['visualization'])
        rgb2bgr = (self.opt.get('val') or {}).get('rgb2bgr', True)
        if self.is_train:
            target = folder / task / stem / f'{Path(stem).name}_{current_iter}.png'
        else:
            suffix = (self.opt.get('val') or {}).get('suffix') or self.opt['name']
            target = folder / dataset / task / f'{stem}_{suffix}.png'
        imwrite(tensor2img(visuals['result'], rgb2bgr=rgb2bgr), target)


def _array(image: torch.Tensor) -> np.ndarray:
    """(1, C, H, W) to (H, W, C) float64."""
    return image[0].permute(1, 2, 0).double().numpy()


def _sheet(visuals: dict[str, torch.Tensor]) -> torch.Tensor:
    """Input, result and ground truth side by side, (3, H, W); the left view of dual-pixel inputs."""
    images = [v[0, :3].float().clamp(0, 1) for v in visuals.values()]
    h = min(i.shape[-2] for i in images)
    return torch.cat([i.expand(3, -1, -1)[:, :h] for i in images], dim=-1)
