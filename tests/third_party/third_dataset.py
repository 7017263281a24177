# ruff: noqa

from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class ThirdDataset(PairedImageDataset):

    def __init__(self, opt):
        super(ThirdDataset, self).__init__(opt)
        self.opt = opt
        self.gain = opt.get('my_gain', 1)

    def __getitem__(self, index):
        item = super().__getitem__(index)
        item['lq'] = item['lq'] * self.gain
        return item
