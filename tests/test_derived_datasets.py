"""Data sets of users that derive from those with BasicSR's names, and read what BasicSR's classes keep."""
from pathlib import Path

import numpy as np
import pytest
import torch

from basicsr.data import build_dataset
from basicsr.data.dual_pixel_dataset import DualPixelDefocusDataset
from basicsr.data.gaussian_denoising_dataset import GaussianDenoisingDataset
from basicsr.data.packing import make_lmdb
from basicsr.data.paired_image_dataset import Dataset_PairedImage, PairedImageDataset
from basicsr.data.pairing import Pair
from basicsr.data.protocol import about
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.registry import DATASET_REGISTRY
from basicsr.train import main as train
from basicsr.utils.errors import UserError
from basicsr.utils.img import imwrite
from basicsr.utils.seed import seeded
from basicsr.utils.storage import FileClient

FILE = Path(__file__).parent / 'third_party' / 'derived_dataset.py'


@pytest.fixture
def block(tmp_path):
    """Options of a set of three pairs, as a run gives them."""
    rng = np.random.default_rng(0)
    for name in ('2', '10', '1'):
        for kind, size in (('gt', 32), ('lq', 16)):
            imwrite(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), tmp_path / kind / f'{name}.png')
    DATASET_REGISTRY.add_file(FILE)
    return {
        'type': 'PairedImageDataset', 'dataroot_gt': f'{tmp_path}/gt', 'dataroot_lq': f'{tmp_path}/lq', 'scale': 2,
        'gt_size': 16, 'use_hflip': True, 'use_rot': True, 'phase': 'train', 'name': 'a',
        'io_backend': {'type': 'disk'}
    }


def items(block):
    dataset = build_dataset(block)
    with seeded(3):
        return [dataset[i] for i in range(len(dataset))]


@pytest.mark.parametrize(('kind', 'backend'), [
    ('DerivedDataset', 'disk'),
    ('DerivedDataset', 'lmdb'),
    ('ClientOfItsOwnDataset', 'disk'),
    ('ClientOfItsOwnDataset', 'lmdb'),
    ('OwnPathsDataset', 'disk'),
])
def test_what_a_subclass_reads_as_in_basicsr_is_there(block, kind, backend):
    if backend == 'lmdb':
        for side in ('gt', 'lq'):
            make_lmdb(block[f'dataroot_{side}'], block[f'dataroot_{side}'] + '.lmdb')
            block[f'dataroot_{side}'] += '.lmdb'
        block['io_backend'] = {'type': 'lmdb'}
    block |= {'mean': [0.5, 0.4, 0.3], 'std': [0.5, 0.5, 0.25]}
    ours, theirs = items(block), items(block | {'type': kind})
    assert [Path(item['gt_path']).stem for item in theirs] == ['1', '2', '10']
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys() and (a['lq_path'], a['gt_path']) == (b['lq_path'], b['gt_path'])
        torch.testing.assert_close(a['lq'], b['lq'])
        torch.testing.assert_close(a['gt'], b['gt'])


def test_attributes_of_the_sets_with_names_of_basicsr(block, tmp_path):
    paired = PairedImageDataset(block)
    assert (paired.gt_folder, paired.lq_folder) == (block['dataroot_gt'], block['dataroot_lq'])
    assert (paired.mean, paired.std, paired.filename_tmpl, paired.task) == (None, None, '{}', None)
    assert paired.opt is block and PairedImageDataset(opt=block | {'task': 'sr'}).task == 'sr'
    assert Dataset_PairedImage is PairedImageDataset
    single = SingleImageDataset({'dataroot_lq': block['dataroot_lq'], 'mean': [0.5]})
    assert single.lq_folder == block['dataroot_lq'] and single.mean == [0.5]
    assert single.file_client.get(single.paths[0]) == Path(single.paths[0]).read_bytes()
    noisy = GaussianDenoisingDataset({'dataroot_gt': block['dataroot_gt']})
    assert noisy.paths[0]['gt_path'] == f"{block['dataroot_gt']}/1.png" and noisy.gt_folder == block['dataroot_gt']
    views = {
        'dataroot_gt': block['dataroot_gt'], 'dataroot_lqL': block['dataroot_gt'], 'dataroot_lqR': block['dataroot_gt']
    }
    dual = DualPixelDefocusDataset(views)
    assert {dual.paths[0][f'{k}_path'] for k in ('lqL', 'lqR', 'gt')} == {f"{block['dataroot_gt']}/1.png"}
    assert dual.lqL_folder == dual.lqR_folder == dual.gt_folder


def test_a_pair_is_a_tuple_and_a_mapping_of_its_names():
    pair = Pair('a', 'b')
    lq, gt = pair
    assert (pair['lq_path'], pair['gt_path']) == (lq, gt) == pair[:] == ('a', 'b')
    with pytest.raises(KeyError):
        pair['count']


def test_texts_of_a_client(tmp_path):
    (tmp_path / 'a.txt').write_text('é', encoding='utf-8')
    assert FileClient('disk').get_text(str(tmp_path / 'a.txt')) == 'é'
    with pytest.raises(UserError, match='use io_backend type disk'):
        FileClient('lmdb', str(tmp_path), 'x').get_text('a')


def test_sizes_by_headers_are_those_of_samples_that_are_ours(block):
    """A class that makes its samples itself may make others of the files."""
    block |= {'scale': 2, 'phase': 'val'}
    own = about(build_dataset(block))
    assert own.input_size(0) == (16, 16)
    assert about(build_dataset(block | {'type': 'OwnPathsDataset'})).input_size(0) == (16, 16)
    assert about(build_dataset(block | {'type': 'OtherPathsDataset'})).input_size(0) is None


def test_samples_made_in_another_way_train_and_are_measured(tiny_options, pairs, tmp_path):
    data = {
        'type': 'OtherPathsDataset', 'dataroot_lq': f'{pairs}/input', 'dataroot_gt': f'{pairs}/target',
        'batch_size_per_gpu': 2
    }
    sets = {'train': data, 'val': data | {'name': 'toy'}}
    options = tiny_options(dataset_files=[str(FILE)], datasets=sets, val={'val_freq': 2})
    assert train([str(options)]) == 0
    assert 'psnr' in (tmp_path / 'experiments' / 'tiny' / 'metrics.csv').read_text()


class Repeated:
    """Another set several times over, whatever else is asked is passed on to it."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return 3 * len(self.inner)

    def __getitem__(self, index):
        return self.inner[index % len(self.inner)]

    def __getattr__(self, name):
        return getattr(self.inner, name)


class OtherMeanings:
    """Names of ours that mean something else."""
    tasks, has_gt = ['sr'], True

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return {'lq': torch.zeros(3, 4, 4), 'gt': torch.zeros(3, 4, 4), 'lq_path': 'a', 'gt_path': 'a'}

    def input_size(self):
        return 16

    def stored(self, path):
        return None


def test_what_a_set_says_is_its_own(block):
    repeated = Repeated(PairedImageDataset(block | {'phase': 'val'}))
    other = OtherMeanings()
    assert about(repeated).input_size(5) is None and about(repeated).stored() is repeated
    assert about(other).input_size(0) is None and about(other).stored() is other
    assert about(other).tasks() == [''] and about(other).has_gt() is True
