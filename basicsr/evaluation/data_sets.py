"""What is evaluated: the data sets of an option file, or two folders; all of it, or some tasks."""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from basicsr.config.files import data_of
from basicsr.data import build_dataset
from basicsr.data.all_in_one_tasks import pair_stems
from basicsr.data.loader import ImageLoader, Samples
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.protocol import about
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.data.task_samples import TaskSamples
from basicsr.metrics.tasks import choose
from basicsr.utils.errors import UserError
from basicsr.utils.files import list_images
from basicsr.utils.outputs import check_outputs


class DataSet(NamedTuple):
    """A data set, its block of options, and the indices to evaluate; None for all."""
    data: Samples
    block: dict[str, Any]
    indices: list[int] | None = None

    def check_output(self, folder: Path, option: str) -> None:
        """Raise `UserError` where results in `folder` would take the place of what is read."""
        folders = [folder]
        if self.block.get('recursive') or not isinstance(self.data, (PairedImageDataset, SingleImageDataset)):
            folders += (path for path in folder.rglob('*')
                        if path.is_dir())  # names of images may have folders in front
        check_outputs(folders, data_of(self.block), option)

    def loader(self) -> ImageLoader:
        return ImageLoader(self.data, self.block, batch_size=1, sampler=self.indices)


def of_loader(loader: Any) -> DataSet:
    """What a loader of a run reads; of several processes, all that they read together."""
    return DataSet(loader.dataset.dataset, loader.dataset.opt)


def of_options(opt: dict[str, Any], file: str) -> dict[str, DataSet]:
    """Every val and test block, by name. Raises `UserError` where there is none."""
    found: dict[str, DataSet] = {}
    for key in sorted(k for k in opt['datasets'] if not k.startswith('train')):
        block = opt['datasets'][key]
        found[block['name']] = DataSet(build_dataset(block), block)  # a name of its own, as the options are checked
    if not found:
        raise UserError(f"'{file}' has no val or test data set")
    return found


def of_folders(degraded: str, clean: str | None, name: str | None, filename_tmpl: str = '{}') -> dict[str, DataSet]:
    """A folder of images, paired with its ground truth where there is one, under its own name or another.

    Ground truths may be a whole number of times as large, which the first pair shows.
    """
    for flag, folder in (('degraded_dir', degraded), ('clean_dir', clean)):
        if folder and not Path(folder).is_dir():
            raise UserError(f"--{flag}: '{folder}' is not a folder")
    name = name or Path(degraded).resolve().name
    if not clean:
        return {name: DataSet(SingleImageDataset(dataroot_lq=degraded), {'dataroot_lq': degraded})}
    return {
        name: DataSet(_pairs(degraded, clean, name, filename_tmpl), {'dataroot_lq': degraded, 'dataroot_gt': clean})
    }


def _pairs(degraded: str, clean: str, name: str, filename_tmpl: str) -> Samples:
    """Files of equal names; else those of known benchmarks: 'rain-7' and 'norain-7', '0001_0.8_0.2' and '0001'."""
    try:
        data = PairedImageDataset(dataroot_gt=clean, dataroot_lq=degraded, filename_tmpl=filename_tmpl, phase='test')
    except UserError as error:
        for many in (False, True):
            found = pair_stems(list_images(Path(degraded)), list_images(Path(clean)), name, many)
            if found.samples and not found.mistakes:
                return TaskSamples([found], None, False, 1, 0, training=False)
        text = str(error).partition('; if names differ')[0]  # a hint for option files
        raise UserError(text, details=error.details) from error
    lq, gt = (data.reader.size(path, side) for path, side in zip(data.paths[0], ('lq', 'gt')))
    data.scale = max(1, min(a // b for a, b in zip(gt, lq)))
    return data


def only_tasks(data: dict[str, DataSet], wanted: Iterable[str]) -> dict[str, DataSet]:
    """Of each data set the images of these tasks, named as `metrics.tasks.choose` understands them."""
    tasks = {name: about(one.data).tasks() for name, one in data.items()}
    chosen = choose(wanted, {task for found in tasks.values() for task in found if task})
    return {
        name: one._replace(indices=[i for i, task in enumerate(tasks[name]) if task in chosen])
        for name, one in data.items()
    }
