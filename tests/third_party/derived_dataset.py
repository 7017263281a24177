# ruff: noqa

from torchvision.transforms.functional import normalize

from basicsr.data.data_util import paired_paths_from_folder
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.transforms import augment, paired_random_crop
from basicsr.utils import FileClient, imfrombytes, img2tensor
from basicsr.utils.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class DerivedDataset(PairedImageDataset):

    def __getitem__(self, index):
        if self.file_client is None:
            self.file_client = FileClient(self.io_backend_opt.pop('type'), **self.io_backend_opt)
        gt_path = self.paths[index]['gt_path']
        img_gt = imfrombytes(self.file_client.get(gt_path, 'gt'), float32=True)
        lq_path = self.paths[index]['lq_path']
        img_lq = imfrombytes(self.file_client.get(lq_path, 'lq'), float32=True)
        if self.opt['phase'] == 'train':
            img_gt, img_lq = paired_random_crop(img_gt, img_lq, self.opt['gt_size'], self.opt['scale'], gt_path)
            img_gt, img_lq = augment([img_gt, img_lq], self.opt['use_hflip'], self.opt['use_rot'])
        img_gt, img_lq = img2tensor([img_gt, img_lq], bgr2rgb=True, float32=True)
        if self.mean is not None or self.std is not None:
            normalize(img_lq, self.mean, self.std, inplace=True)
            normalize(img_gt, self.mean, self.std, inplace=True)
        assert self.task is None
        return {'lq': img_lq, 'gt': img_gt, 'lq_path': lq_path, 'gt_path': gt_path}


@DATASET_REGISTRY.register()
class ClientOfItsOwnDataset(DerivedDataset):

    def __init__(self, opt):
        super(ClientOfItsOwnDataset, self).__init__(opt)
        self.file_client = None


@DATASET_REGISTRY.register()
class OwnPathsDataset(PairedImageDataset):

    def __init__(self, opt):
        super().__init__(opt)
        self.paths = paired_paths_from_folder([self.lq_folder, self.gt_folder], ['lq', 'gt'], self.filename_tmpl)


@DATASET_REGISTRY.register()
class OtherPathsDataset(PairedImageDataset):

    def __init__(self, opt):
        super().__init__(opt)
        self.paths = [(i, *pair) for i, pair in enumerate(self.paths)]

    def __getitem__(self, index):
        number, lq_path, gt_path = self.paths[index]
        img_gt, img_lq = (imfrombytes(self.file_client.get(p), float32=True)[:12, :12] for p in (gt_path, lq_path))
        img_gt, img_lq = img2tensor([img_gt, img_lq], bgr2rgb=True, float32=True)
        return {'lq': img_lq, 'gt': img_gt, 'lq_path': lq_path, 'gt_path': gt_path, 'number': number}
