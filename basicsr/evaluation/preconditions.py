"""What is tried before data sets are evaluated, so that it shows before days of training and before a folder is touched."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from basicsr.data.loader import Failed, ImageLoader, SeededSamples
from basicsr.data.pairing import file_of, is_its_own_truth
from basicsr.data.protocol import about
from basicsr.evaluation.data_sets import DataSet
from basicsr.evaluation.evaluate import Batch, Metrics, Restore, measure_all
from basicsr.metrics import is_measured, least_size, needs_gt, too_small
from basicsr.utils.dist import get_dist_info
from basicsr.utils.errors import UserError, counted
from basicsr.utils.logger import get_root_logger

_USUAL = 256  # pixels; a network that fails at this size, too, does not fail for an image that is too small
_SHOWN = 5  # samples of many that are named
Size = tuple[int, int]


def measured(metrics: Metrics, one: DataSet) -> Metrics:
    """The metrics that a data set can give: without ground truth those that need none."""
    return metrics if about(one.data).has_gt() else {k: m for k, m in metrics.items() if not needs_gt(m)}


def say_same_files(one: DataSet, name: str = '') -> None:
    """Warn where inputs are their own ground truth, as the first one shows. `name`: of a set that is no block of options."""
    item = SeededSamples(one.data, one.block)[(one.indices or [0])[0]]
    if isinstance(item, Mapping) and is_its_own_truth(item, one.block):
        get_root_logger().warning(
            f"{_place(one) or f'{name}: '}the input '{file_of(item, one.block)}' is its own ground truth, the"
            ' same file; are both meant to be in one folder?')


def try_metric(block: Mapping[str, Any], device: Any = None) -> None:
    """Measure noise that is large enough. Raises `UserError` where the metric's package or weights are missing."""
    height, width = (max(side, _USUAL) for side in least_size(block))
    sample = np.random.RandomState(0).rand(2, height, width, 3)
    measure_all(sample[0], sample[1], {'': block}, device)


def sizes_of(one: DataSet) -> dict[int, Size]:
    """Height and width of the inputs that are used, by index, from the headers of their files; {} where unknown.

    Raises `UserError` for files that by their headers are empty, cut off, or do not go together.
    """
    indices = range(len(one.data)) if one.indices is None else one.indices
    size_of, sizes, doubtful = about(one.data).input_size, dict[int, Size](), dict[int, str]()
    for i in tqdm(indices, desc='headers', unit='sample', leave=False, delay=2,
                  disable=True if get_dist_info()[0] else None):
        try:
            size = size_of(i)
        except (UserError, OSError) as error:
            doubtful[i] = str(error)
            continue
        if size is not None:
            sizes[i] = size
    _read(one, doubtful, len(indices))
    return sizes


def _read(one: DataSet, doubtful: Mapping[int, str], total: int) -> None:
    """Read samples that headers speak against: a data set of others may make what it needs of such files.

    `doubtful`: what the headers say, by index.
    Raises `UserError` with what is wrong with the first few.
    """
    samples = map(SeededSamples(one.data, one.block).__getitem__, list(doubtful)[:_SHOWN])
    mistakes = [sample.message for sample in samples if isinstance(sample, Failed)]
    if len(mistakes) == len(doubtful) == 1:
        raise UserError(f'{_place(one)}{mistakes[0]}')
    if mistakes:
        more = f'\n  and {len(doubtful) - len(mistakes)} more' if len(doubtful) > len(mistakes) else ''
        all_of_them = '; basicsr check-data names them all' if more and 'block' in one.block else ''
        lines = '\n  '.join([f'{_place(one)}{len(doubtful)} of {total} samples cannot be used:', *mistakes])
        raise UserError(lines + more + all_of_them, details=list(doubtful.values()))


def check_sizes(one: DataSet, metrics: Metrics, sizes: Mapping[int, Size], scale: float = 1) -> None:
    """Raise `UserError` where an image, `scale` times as large as its input, is too small for a metric."""
    wrong: dict[tuple[int, int], list[str]] = {}  # image and number of such images: the metrics
    for label, block in metrics.items():
        small = [i for i, (h, w) in sizes.items() if not is_measured((int(h * scale), int(w * scale)), block)]
        if small:
            wrong.setdefault((small[0], len(small)), []).append(label)
    mistakes = []
    for (index, count), labels in wrong.items():
        item = SeededSamples(one.data, one.block)[index]
        if isinstance(item, Failed):
            raise UserError(f'{_place(one)}{item.message}')
        size = int(item['lq'].shape[-2] * scale), int(item['lq'].shape[-1] * scale)
        labels = [label for label in labels if not is_measured(size, metrics[label])]
        if labels:  # a data set of others may have made another image of the file
            more = f' and {counted(count - 1, "other")}' if count > 1 else ''
            mistakes.append(
                f"{_place(one)}'{file_of(item, one.block)}' {too_small(size, metrics, labels, scale)}; leave out this"
                f" image{more}, or the metric{'s' if len(labels) > 1 else ''}")
    if len(mistakes) == 1:
        raise UserError(mistakes[0])
    if mistakes:
        raise UserError('\n  '.join(['images are too small for their metrics:', *mistakes]))


def try_out(restore: Restore, one: DataSet, metrics: Metrics, device: Any = None,
            sizes: Mapping[int, Size] | None = None) -> None:
    """Restore the smallest image, or the first where sizes are not known, and measure noise of its size.

    `sizes`: what `sizes_of` has found, default found here.
    Raises `UserError` where images are too small for the network or the metrics, or where result and ground truth do
    not go together.
    """
    sizes = sizes_of(one) if sizes is None else sizes  # first, as it names all files that cannot be used
    metrics = measured(metrics, one)
    smallest = min(sizes, key=lambda i: min(sizes[i])) if sizes else (one.indices or [0])[0]
    batch = next(iter(ImageLoader(one.data, one.block, batch_size=1, sampler=[smallest])))
    images = or_too_small(restore, batch, _place(one))
    if images.gt is not None:
        check_enlarged(batch, images.lq.shape[:2], images.result.shape[:2], images.gt.shape[:2], _place(one))
    check_sizes(one, metrics, sizes, images.result.shape[0] / images.lq.shape[0])
    rng = np.random.RandomState(0)
    result, gt = rng.rand(*images.result.shape), None if images.gt is None else rng.rand(*images.gt.shape)
    try:
        measure_all(result, gt, metrics, device, str(batch['lq_path'][0]) if 'lq_path' in batch else '')
    except UserError as error:
        raise UserError(f'{_place(one)}{error}') from error


def check_enlarged(batch: Batch, lq: Size, result: Size, gt: Size, place: str = '') -> None:
    """Raise `UserError` where the network makes another size of an input than the ground truth has.

    Sizes are height and width. `batch`: whose file is named. `place`: the beginning of the message.
    """
    if result != gt:
        input_, output, truth = (f'{width}x{height}' for height, width in (lq, result, gt))
        raise UserError(
            f'{place}{_file(batch)}: the network makes {output} pixels of {input_}, and the ground truth has {truth};'
            ' scale and the upscaling of network_g must fit each other and the data')


def or_too_small(run: Callable[[Batch], Any], batch: Batch, place: str) -> Any:
    """`run(batch)`. Raises `UserError` where it fails, but not with the same image repeated to a usual size.

    `place`: the beginning of the message.
    """
    try:
        return run(batch)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        if not _runs(run, _enlarged(batch)):
            raise
        height, width = batch['lq'].shape[-2:]
        raise UserError(
            f'{place}{_file(batch)} gives the network {width}x{height} pixels, which are too few: {error}') from error


def _file(batch: Batch) -> str:
    return f"'{batch['lq_path'][0]}'" if 'lq_path' in batch else 'an image'


def _runs(run: Callable[[Batch], Any], batch: Batch) -> bool:
    try:
        run(batch)
    except (RuntimeError, ValueError, IndexError, AssertionError):
        return False
    return True


def _enlarged(batch: Batch) -> dict[str, Any]:
    """Every image repeated as often as the input needs it to have the usual size."""
    times = [-(-_USUAL // side) for side in batch['lq'].shape[-2:]]
    return {k: v.repeat(1, 1, *times) if isinstance(v, Tensor) and v.dim() == 4 else v for k, v in batch.items()}


def _place(one: DataSet) -> str:
    return f"datasets.{one.block['block']}: " if 'block' in one.block else ''
