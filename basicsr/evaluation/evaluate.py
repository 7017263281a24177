"""The one loop from samples to results."""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from basicsr.data.loader import sample_name
from basicsr.metrics import measure, needs_gt
from basicsr.metrics.tasks import Means, mean, means_by_task, task_of
from basicsr.utils.dist import gather, get_dist_info, largest
from basicsr.utils.errors import UserError, some
from basicsr.utils.img import NOT_FINITE
from basicsr.utils.logger import get_root_logger
from basicsr.utils.stopping import Interrupted, wish

Batch = Mapping[
    str, Any]  # of one image, as a loader gives it: lq (1, C, H, W) in [0, 1], lq_path, and perhaps gt, task, ...
Metrics = Mapping[str, Mapping[str, Any]]  # option blocks as below `val.metrics`, by label


class Images(NamedTuple):
    """Input, result and, where there is one, ground truth: (H, W, C) float32, RGB or grey, in [0, 1].

    A result may have stray values outside; metrics and files clamp them.
    """
    lq: np.ndarray
    result: np.ndarray
    gt: np.ndarray | None


Restore = Callable[[Batch], Images]


class Row(NamedTuple):
    """What was measured of one image; `task` is '' where the data set has no tasks. `finite`: its result is an image."""
    task: str
    name: str
    values: Means
    finite: bool = True


class Restored(NamedTuple):
    """One image on its way through the loop, for who wants to see it. `file` is its input's."""
    task: str
    name: str
    file: str
    images: Images
    values: Means

    @property
    def finite(self) -> bool:
        """Whether the result is an image."""
        return bool(np.isfinite(self.images.result).all())


@dataclass(frozen=True)
class Results:
    """Of one data set.

    Attributes:
        rows: the images of which something was measured, in the order of the data set.
        images: how many were restored.
    """
    rows: Sequence[Row] = ()
    images: int = 0

    @property
    def left_out(self) -> dict[str, int]:
        """Of how many images a metric has no number, which are not in its mean; empty where all have one."""
        return dict(Counter(label for row in self.rows for label, value in row.values.items() if math.isnan(value)))

    @property
    def not_finite(self) -> int:
        """How many results were no images."""
        return sum(not row.finite for row in self.rows)

    @classmethod
    def of_means(cls, name: str, means: Mapping[str, Any]) -> Results:
        """Where the means are all that is known."""
        values = {label: float(value) for label, value in means.items()}
        return cls([Row('', name, values)] if values else ())

    @property
    def tasks(self) -> dict[str, Means]:
        """The mean of each metric for each task, empty without tasks."""
        means = self._by_task()
        return means if any(means) else {}

    @property
    def means(self) -> Means:
        """The mean of each metric over the images; with tasks over their means, however many images each has."""
        return mean(self._by_task().values())

    def _by_task(self) -> dict[str, Means]:
        return means_by_task((row.task, row.values) for row in self.rows)


def evaluate(restore: Restore, samples: Iterable[Batch], metrics: Metrics, *, device: Any = None,
             adjust: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
             watch: Callable[[Restored], None] | None = None, title: str = '', progress: bool = True) -> Results:
    """Restore and measure every sample.

    Args:
        restore: from a sample to its images; see `restoring.py`.
        samples: a loader of single images. With several processes each has its share, dealt out by `ShardSampler`.
        metrics: what to measure; without ground truth those that need none.
        device: where metrics run that are networks.
        adjust: (result, ground truth) to what takes the result's place, such as `match_mean`.
        watch: is shown every image of this process.
        title: of the progress bar. progress: show one on a terminal.

    Returns:
        The same on every process, to the last digit, however many there are.

    Raises:
        UserError: names the file where images do not go together.
        Interrupted: on every process, where a signal that waits asked one of them to end.
    """
    rows: list[Row] = []
    files: dict[tuple[str, str], str] = {}
    alike: list[str] = []
    hidden = True if not progress or get_dist_info()[0] else None  # None: where there is no terminal
    for sample in tqdm(samples, unit='image', desc=title, leave=False, disable=hidden):
        if wish():
            break
        images = restore(sample)
        if adjust is not None and images.gt is not None:
            images = images._replace(result=adjust(images.result, images.gt))
        file = str(sample['lq_path'][0]) if 'lq_path' in sample else ''
        row = Row(task_of(sample), sample_name(sample), measure_all(images.result, images.gt, metrics, device, file))
        seen = Restored(row.task, row.name, file, images, row.values)
        rows.append(row._replace(finite=seen.finite))
        if files.setdefault(row[:2], file) != file and file not in alike:
            alike.append(file)
        if not seen.finite:
            get_root_logger().error(f"'{file or row.name}': {NOT_FINITE}")
        if watch is not None:
            watch(seen)
    if alike:
        get_root_logger().warning(
            f'{title}: images of several folders have one name; pictures of them that are saved replace'
            f' each other: {some(alike)}')
    asked = largest(wish() or 0)
    if asked:
        raise Interrupted(asked)
    dealt = gather(rows)  # the first of every process, then the second ones, ...
    ordered = [row for turn in zip_longest(*dealt) for row in turn if row is not None]
    return Results([row for row in ordered if row.values], len(ordered))


def measure_all(result: np.ndarray, gt: np.ndarray | None, metrics: Metrics, device: Any = None,
                file: str = '') -> Means:
    """Values of RGB images in [0, 1]; without ground truth, of the metrics that need none.

    Raises `UserError` with the name of `file` where images do not go together.
    """
    try:
        return {
            label: measure(result, gt if needs_gt(block) else None, block, device) for label, block in metrics.items()
            if gt is not None or not needs_gt(block)
        }
    except ValueError as error:
        raise UserError(f"'{file}': {error}" if file else str(error)) from error
