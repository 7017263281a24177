# ruff: noqa

from pathlib import Path

from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class TaskDataset:

    def __init__(self, dataroot: str, tasks: list = ()):
        self.items = []
        for task in tasks:
            folder = Path(dataroot) / task
            part = PairedImageDataset(str(folder / 'target'), str(folder / 'input'), phase='test')
            self.items += [(task, part, i) for i in range(len(part))]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        task, part, i = self.items[index]
        return {**part[i], 'task': task}
