"""One row of a board, measured in a process of its own: quality, seconds, memory."""
from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from basicsr.ablation.costs import count_macs, machine
from basicsr.config import load_options
from basicsr.data import build_dataset
from basicsr.data.protocol import about
from basicsr.evaluation.data_sets import DataSet
from basicsr.evaluation.evaluate import Batch, Images, Restored, evaluate, measure_all
from basicsr.evaluation.metric_choice import all_protocols, available
from basicsr.evaluation.preconditions import measured, try_out
from basicsr.evaluation.restoring import array, by_restorer
from basicsr.inference.build import build_restorer
from basicsr.inference.restorer import ImageRestorer
from basicsr.leaderboard.data_set import subfolder_of
from basicsr.metrics import needs_gt
from basicsr.metrics.gt_mean import match_mean
from basicsr.metrics.tasks import Means, means_by_task
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils.errors import UserError, run_main
from basicsr.utils.files import write_json
from basicsr.utils.peak_memory import peak_growth

WITHOUT_TRUTH = {'niqe': {'type': 'calculate_niqe'}, 'brisque': {'type': 'calculate_brisque'}}
NO_TRUTH = 'it needs a ground truth'


class Restoring:
    """Restores samples, those of one size together, and remembers how long an image took.

    Attributes:
        seconds: of each image; the first ones of a size are restored twice, and the second time counts.
        warm: number, height, width and channels of what was restored together.
    """

    def __init__(self, restorer: ImageRestorer, batch: int):
        self.restorer, self.batch = restorer, batch
        self.seconds: list[float] = []
        self.images: Images | None = None  # of the sample that was given last
        self.warm: set[tuple[int, ...]] = set()

    def of(self, samples: Iterable[Batch]) -> Iterator[Batch]:
        """The samples one by one, in their order, each when its images are there."""
        waiting: list[Batch] = []
        for sample in samples:
            if waiting and (sample['lq'].shape != waiting[0]['lq'].shape or len(waiting) == self.batch):
                yield from self._restored(waiting)
                waiting = []
            waiting.append(sample)
        yield from self._restored(waiting)

    def sizes(self) -> str:
        """The least and the largest image: '200x304 to 400x600'."""
        found = sorted({size[1:3] for size in self.warm}, key=lambda size: (size[0] * size[1], size))
        return ' to '.join(f'{height}x{width}' for height, width in dict.fromkeys([*found[:1], *found[-1:]]))

    def _restored(self, samples: list[Batch]) -> Iterator[Batch]:
        inputs = [self.restorer.in_its_colours(array(sample['lq'])) for sample in samples]
        size = (len(inputs), *inputs[0].shape)
        for _ in range(1 if size in self.warm else 2):
            start = time.perf_counter()
            results = self.restorer.several(inputs)
            took = time.perf_counter() - start
        self.warm.add(size)
        self.seconds += [took / len(inputs)] * len(inputs)
        for sample, lq, result in zip(samples, inputs, results):
            gt = self.restorer.in_its_colours(array(sample['gt'])) if 'gt' in sample else None
            self.images = Images(lq, result, gt)
            yield sample

    def __call__(self, sample: Batch) -> Images:
        if self.images is None:
            raise TypeError('samples come from `of`')
        return self.images


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """What is found of the weights of a job, see `conduct.job_of`: costs, means of the metrics, plain and with GT-mean.

    Raises `UserError` for weights, networks, images and metrics that do not go together.
    """
    for file in job['arch_files']:
        ARCH_REGISTRY.add_file(Path(file))
    opt = load_options(job['opt'], is_train=False, check_files=False).opt if job['opt'] else None
    restorer = build_restorer(job['weights'], opt, job['key'], job['device'], job['knobs'])
    data = DataSet(build_dataset(job['data']), job['data'])
    with_truth = about(data.data).has_gt()
    wanted = {**(all_protocols() if with_truth else WITHOUT_TRUTH), **job['metrics']}
    possible = measured(wanted, data)
    metrics, lacking = available(possible, restorer.device)
    lacking |= {label: NO_TRUTH for label in wanted if label not in possible}
    try_out(by_restorer(restorer), data, metrics, restorer.device)
    scaled: dict[str, list[float]] = {}
    placed: list[tuple[str, Means]] = []

    def watch(seen: Restored) -> None:
        if not seen.finite:
            return
        if seen.images.gt is None:
            placed.append((subfolder_of(seen.file, job['data']), seen.values))
            return
        compared = {label: block for label, block in metrics.items() if needs_gt(block)}
        result = match_mean(seen.images.result, seen.images.gt)
        for label, value in measure_all(result, seen.images.gt, compared, restorer.device, seen.file).items():
            scaled.setdefault(label, []).append(value)

    memory = _peak_memory(restorer, data)
    restoring = Restoring(restorer, job['batch'])
    found = evaluate(restoring, restoring.of(data.loader()), metrics, device=restorer.device, watch=watch)
    if found.not_finite:
        raise UserError(f'{found.not_finite} of {found.images} results are not finite')
    macs, scan = count_macs(restorer.net, channels=restorer.channels or 3)
    network = getattr(restorer.net, 'title', type(restorer.net).__name__)  # a foreign one has a title
    return {
        'network': network,
        'parameters': sum(p.numel() for p in restorer.net.parameters()),
        'macs': macs,
        'macs_scan': scan,
        'seconds': statistics.median(restoring.seconds),
        'size': restoring.sizes(),
        'memory': memory,
        'machine': machine(restorer.device.type),
        'images': found.images,
        'left_out': lacking,
        'plain': found.means | _by_folder(placed),
        'gt_mean': {label: statistics.fmean(values) for label, values in scaled.items()},
    }


def _by_folder(placed: list[tuple[str, Means]]) -> Means:
    """The means of each folder, 'niqe DICM' and so on, where images lie in several."""
    means = means_by_task(placed)
    means = {folder: values for folder, values in means.items() if folder and len(means) > 1}
    labels = dict.fromkeys(label for values in means.values() for label in values)
    return {f'{label} {folder}': values[label] for label in labels for folder, values in means.items()}


def _peak_memory(restorer: ImageRestorer, data: DataSet) -> int | None:
    """Bytes above the network for the first image of the data set, restored alone."""
    image = array(next(iter(data.loader()))['lq'])
    if restorer.device.type != 'cuda':
        return peak_growth(lambda: restorer(image))
    torch.cuda.reset_peak_memory_stats(restorer.device)
    before = torch.cuda.memory_allocated(restorer.device)
    restorer(image)
    return torch.cuda.max_memory_allocated(restorer.device) - before


def main(argv: list[str]) -> int:
    """`JOB.json RESULT.json`: measure a job and write what was found."""

    def run() -> None:
        job, result = map(Path, argv)
        write_json(result, measure(json.loads(job.read_text(encoding='utf-8'))))

    return run_main(run)


if __name__ == '__main__':
    np.seterr(all='ignore')
    sys.exit(main(sys.argv[1:]))
