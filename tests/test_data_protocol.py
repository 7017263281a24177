"""What a data set says of itself beyond its items."""
import numpy as np
import pytest
import torch

from basicsr.data import build_dataset
from basicsr.data.packing import make_lmdb
from basicsr.data.protocol import SaysMore, about
from basicsr.data.task_samples import TaskSamples
from basicsr.registry import DATASET_REGISTRY
from basicsr.utils.img import imwrite


class Bare(torch.utils.data.Dataset):

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {'lq': torch.zeros(3, 2, 2), 'task': ['rain', 'haze'][index]}


def test_what_a_data_set_says_of_itself_and_what_is_taken_where_it_says_nothing():
    bare = Bare()
    assert (about(bare).summary(), about(bare).absent(), about(bare).tasks()) == ('', [], ['rain', 'haze'])
    assert about(bare).stored() is bare
    bare.tasks = ['something', 'else']  # an attribute of its own, no method
    assert about(bare).tasks() == ['rain', 'haze']
    bare.summary, bare.absent, bare.stored, bare.tasks = lambda: 'two', lambda: ['a'], lambda: [1], lambda: ['x', 'y']
    assert (about(bare).summary(), about(bare).absent(), about(bare).tasks()) == ('two', ['a'], ['x', 'y'])
    assert about(bare).stored() == [1]


def test_optional_methods_are_documented_and_those_of_several_tasks_have_all():
    names = {name for name in vars(SaysMore) if not name.startswith('_')}
    assert names == {'summary', 'absent', 'stored', 'tasks', 'input_size', 'has_gt'}
    assert all(getattr(SaysMore, name).__doc__ and hasattr(TaskSamples, name) for name in names)


@pytest.fixture
def tree(tmp_path):
    """Folders of pictures of different sizes in every layout; returns the folder."""
    rng = np.random.RandomState(0)
    folders = ('in', 'out', 'right', '1_train/low', '1_train/high', 'test/clear', 'test/haze', 'llie/LOLv1/Test/input',
               'llie/LOLv1/Test/target', 'denoising/cBSD68/original_png')
    for name, size in {'a': (20, 34), 'b': (37, 18)}.items():
        image = rng.randint(0, 256, (*size, 3), np.uint8)
        for folder in folders:
            imwrite(image, tmp_path / folder / f'{name}.png')
        for folder in ('in', 'out'):
            (tmp_path / 'clips' / folder / f'1{name}').mkdir(parents=True)
            np.save(tmp_path / 'clips' / folder / f'1{name}' / '1.npy', image)
    for folder in ('in', 'out'):
        make_lmdb(tmp_path / folder, tmp_path / f'{folder}.lmdb')
    return tmp_path


PAIRS = {'dataroot_lq': 'in', 'dataroot_gt': 'out'}
CLIPS = {'dataroot_lq': 'clips/in', 'dataroot_gt': 'clips/out'}


@pytest.mark.parametrize('block', [
    {'type': 'PairedImageDataset', **PAIRS},
    {'type': 'PairedImageDataset', **PAIRS, 'resize': [12, 16]},
    {'type': 'PairedImageDataset', 'dataroot_lq': 'in.lmdb', 'dataroot_gt': 'out.lmdb'},
    {'type': 'SingleImageDataset', 'dataroot_lq': 'in'},
    {'type': 'StagedImageDataset', 'dataroot': '.', 'stage': 'train'},
    {'type': 'AllInOneDataset', 'dataroot': '.', 'de_type': ['synllie', 'denoise_15'], 'crop16': True},
    {'type': 'CDD11Dataset', 'dataroot': '.', 'subset': 'haze'},
    {'type': 'GaussianDenoisingDataset', 'dataroot_gt': ['in', 'out']},
    {'type': 'BicubicSRDataset', 'dataroot_gt': 'out', 'scale': 3},
    {'type': 'JPEGArtifactDataset', 'dataroot_gt': ['in', 'out']},
    {'type': 'DualPixelDefocusDataset', 'dataroot_lqL': 'in', 'dataroot_lqR': 'right', 'dataroot_gt': 'out'},
    {'type': 'SIDDataset', **CLIPS},
    {'type': 'SIDDataset', **CLIPS, 'train_size': None},
], ids=str)  # yapf: disable
def test_sizes_by_the_headers_are_those_of_the_items(tree, monkeypatch, block):
    monkeypatch.chdir(tree)
    dataset = build_dataset({**block, 'phase': 'val'})
    items = [dataset[i] for i in range(len(dataset))]
    assert [about(dataset).input_size(i) for i in range(len(items))] == [tuple(item['lq'].shape[1:]) for item in items]
    assert about(dataset).has_gt() == ('gt' in items[0])


def test_every_data_set_tells_its_sizes():
    ours = [
        found for found in map(DATASET_REGISTRY.get, DATASET_REGISTRY.keys()) if found.__module__.startswith('basicsr.')
    ]
    assert len(ours) > 10 and all(hasattr(found, 'input_size') for found in ours)
    assert about(Bare()).input_size(0) is None and not about(Bare()).has_gt()
