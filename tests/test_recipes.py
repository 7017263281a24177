"""Option files of the networks with published weights: what they train, on what, how long, and that each of them runs."""
from __future__ import annotations

import csv
import math

import cv2
import numpy as np
import pytest
import torch
import yaml
from all_in_one_trees import cdd, tree
from conftest import ROOT
from loss_inputs import vgg_file
from torch import nn

from basicsr.archs import build_network
from basicsr.config import load_options
from basicsr.data.pairing import take_range
from basicsr.registry import SCHEDULER_REGISTRY
from basicsr.train import main as train
from basicsr.utils.values import as_number

FAMILIES = ('CIDNet', 'DarkIR', 'NAFNet', 'NAFNetLocal', 'MambaIR', 'MoCEIR', 'PromptIR')
# parameters of the network, samples of an epoch in all processes' batches, epochs where the recipe counts them
RECIPES = {
    'CIDNet_LOL_v1': (1_975_569, 461 // 8, 1000),
    'CIDNet_LOL_v2_real': (1_975_569, 665 // 8, 1000),
    'CIDNet_LOL_v2_synthetic': (1_975_569, 876 // 8, 1000),
    'CIDNet_FiveK': (1_975_569, 4476 // 8, 1000),
    'CIDNet_LOLBlur': (1_975_569, 10080 // 8, 1000),
    'CIDNet_SID': (1_975_569, 1865 // 8, 1000),
    'CIDNet_SICE': (1_975_569, 600, 1000),
    'CIDNet_generalization': (1_975_569, 876 // 8, 1000),
    'DarkIR_LOLBlur': (3_321_638, 10080 // 16, 500),
    'DarkIR_multi': (3_321_638, (10080 + 5 * (461 + 665 + 876)) // 16, 500),
    'NAFNet_SIDD': (29_159_715, 200_000, 1),
    'NAFNet_SIDD_width64': (115_982_915, 400_000, 1),
    'NAFNetLocal_GoPro': (17_111_907, 200_000, 1),
    'NAFNetLocal_REDS': (67_888_835, 400_000, 1),
    'MambaIR_Denoising_Color_Sigma15': (15_777_507, 1_600_000, 1),
    'MambaIR_Denoising_Color_Sigma25': (15_777_507, 800_000, 1),
    'MambaIR_Denoising_Color_Sigma50': (15_777_507, 800_000, 1),
    'MoCEIR_AIO_3': (25_353_796, 4451, 120),
    'MoCEIR_AIO_5': (25_353_796, 5082, 120),
    'MoCEIR_CDD11': (11_477_752, 813, 200),
    'PromptIR_AIO_3': (35_592_263, 4451, 120),
}
SMALL = {
    'CIDNet': {'channels': [4, 4, 8, 16]},
    'DarkIR': {'width': 4, 'middle_blk_num_enc': 1, 'enc_blk_nums': [1], 'middle_blk_num_dec': 1, 'dec_blk_nums': [1]},
    'NAFNet': {'width': 4, 'enc_blk_nums': [1, 1], 'middle_blk_num': 1, 'dec_blk_nums': [1, 1]},
    'MambaIR': {'embed_dim': 30, 'depths': [1], 'd_state': 2},
    'MoCEIR': {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_dec_blocks': [1, 1, 1], 'num_refinement_blocks': 1},
    'PromptIR': {'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1},
}


def options(name):
    return load_options(ROOT / 'Options' / f'{name}.yml', is_train=True, check_files=False).opt


ENLARGING = [f'MambaIR_{kind}_x{scale}' for kind in ('SR', 'light') for scale in (2, 3, 4)]
UNPACKING = [f'MambaIR_CAR_q{quality}' for quality in (10, 30, 40)]


def with_sets(blocks, path=()):
    """Blocks of data sets and of the sets that one is made of, by their places."""
    for key, block in blocks.items():
        yield (*path, key), block
        yield from with_sets(block.get('sets', {}), (*path, key, 'sets'))


def test_every_recipe_of_these_networks_is_here():
    found = {f.stem for f in (ROOT / 'Options').glob('*.yml') if options_type(f) in FAMILIES}
    assert found == {*RECIPES, *ENLARGING, *UNPACKING}


def options_type(file):
    return (yaml.safe_load(file.read_text()).get('network_g') or {}).get('type', file.stem.split('_')[0])


@pytest.mark.parametrize('name', RECIPES)
def test_the_network_is_the_published_one_and_trained_as_long(name):
    opt, (parameters, epoch, epochs) = options(name), RECIPES[name]
    with torch.device('meta'):
        net = build_network(opt['network_g'])
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert opt['train']['total_iter'] == epoch * epochs
    schedule = opt['train']['scheduler']
    assert schedule.get('T_max', opt['train']['total_iter']) == opt['train']['total_iter']
    if 'warmup_iter' in schedule:
        assert schedule['warmup_iter'] == {'CIDNet': 3}.get(opt['network_g']['type'], 15) * epoch


def chosen(pairs, block):
    listed = block.get('meta_info_file')
    return (ROOT / listed).read_text().split() if listed else take_range(pairs, block['pair_range'])


@pytest.mark.parametrize('name', [*RECIPES, *ENLARGING, *UNPACKING])
def test_no_weights_are_chosen_by_the_images_that_figures_are_of(name):
    sets = options(name)['datasets']
    test = sets['test']
    assert test['name'] and 'phase' in test
    assert ('best_metric' in options(name)['val']) <= ('val' in sets)
    places = ('dataroot_lq', 'dataroot_gt')
    trained = {tuple(map(block.get, places)): block for key, block in with_sets(sets) if key[0] == 'train'}
    for val in (block for key, block in sets.items() if key.startswith('val')):
        # held out of a training set, which goes without them
        train = trained[tuple(map(val.get, places))]
        assert all(val[k] != test[k] for k in places if k in val)
        pairs = list(range(24_000))
        ours, held_out = (set(chosen(pairs, block)) for block in (train, val))
        assert ours and held_out and not ours & held_out


def rates(name, *steps):
    block = dict(options(name)['train']['scheduler'])
    kind = SCHEDULER_REGISTRY.get(block.pop('type'))
    if 'Warmup' in kind.__name__:
        block['total_iter'] = options(name)['train']['total_iter']
    base = options(name)['train']['optim_g']['lr']
    schedule = kind(torch.optim.SGD([nn.Parameter(torch.zeros(1))], base), **block)
    return [schedule.rate(e, base) for e in steps]


def test_no_iteration_trains_at_rate_0_and_no_rate_rises_again():
    epoch = 461 // 8
    found = rates('CIDNet_LOL_v1', 0, epoch * 3, epoch * 3 + (57000 - epoch * 3) // 2, 57000)
    assert found == pytest.approx([1e-4 / 171, 1e-4, (1e-4 + 1e-7) / 2, 1e-7], rel=2e-4)
    for name in ('MoCEIR_AIO_3', 'MoCEIR_CDD11', 'PromptIR_AIO_3'):
        total, warmup = options(name)['train']['total_iter'], options(name)['train']['scheduler']['warmup_iter']
        found = rates(name, *range(0, total + 1, 813))
        top = found.index(max(found))
        assert 0 < found[0] and max(found) <= 2e-4 and found[top:] == sorted(found[top:], reverse=True)
        assert abs(top * 813 - warmup) < 813 and rates(name, total)[0] == pytest.approx(0, abs=1e-12)


def test_rates_of_the_others():
    assert rates('DarkIR_LOLBlur', 0, 157500, 315000) == pytest.approx([5e-4, (5e-4 + 1e-6) / 2, 1e-6])
    assert rates('NAFNet_SIDD', 0, 200_000) == pytest.approx([1e-3, 1e-7])
    assert rates('MambaIR_Denoising_Color_Sigma15', 0, 800_001, 1_500_001) == pytest.approx([2e-4, 1e-4, 1.25e-5])
    assert rates('MambaIR_Denoising_Color_Sigma50', 0, 750_001) == pytest.approx([1e-4, 1e-4 / 16])


def test_optimizers_and_augmentations_are_the_published_ones():
    for name, kind, decay, betas in (('CIDNet_LOL_v1', 'Adam', 0, (0.9, 0.999)), ('DarkIR_LOLBlur', 'AdamW', 1e-3,
                                                                                  (0.9, 0.9)), ('NAFNet_SIDD', 'AdamW',
                                                                                                0, (0.9, 0.9)),
                                     ('NAFNetLocal_REDS', 'AdamW', 1e-3,
                                      (0.9, 0.9)), ('MambaIR_Denoising_Color_Sigma50', 'Adam', 0, (0.9, 0.99)),
                                     ('MoCEIR_AIO_5', 'AdamW', 1e-2, (0.9, 0.999)), ('PromptIR_AIO_3', 'AdamW', 1e-2,
                                                                                     (0.9, 0.999))):
        block = options(name)['train']['optim_g']
        assert (block['type'], block.get('weight_decay', 0), tuple(block['betas'])) == (kind, decay, betas), name
    flips = {
        name: {k for k in ('use_hflip', 'use_vflip', 'use_rot') if options(name)['datasets']['train'].get(k)}
        for name in ('CIDNet_LOL_v1', 'DarkIR_LOLBlur', 'NAFNet_SIDD', 'NAFNetLocal_GoPro')
    }
    assert list(flips.values()) == [{'use_hflip', 'use_vflip'}, {'use_hflip', 'use_vflip'},
                                    set(), {'use_hflip', 'use_rot'}]
    assert [k for k in RECIPES if options(k)['datasets']['train'].get('gamma_augs')] == ['CIDNet_generalization']
    assert [
        options(f'MambaIR_Denoising_Color_Sigma{s}')['datasets'][k]['sigma_' + v] for s in (15, 25, 50)
        for k, v in (('train', 'range'), ('test', 'test'))
    ] == [15, 15, 25, 25, 50, 50]


# ------------------------------------------------------------------------------------------------ runs


@pytest.fixture(scope='module')
def material(tmp_path_factory):
    """Data of every kind, and weights of the first thirteen convolutions of VGG19 in torch's cache."""
    root = tmp_path_factory.mktemp('material')
    rng = np.random.RandomState(0)
    for folder in ('lq', 'gt'):
        (root / folder).mkdir()
        for i in range(4):
            cv2.imwrite(str(root / folder / f'{i}.png'), rng.randint(0, 256, (24, 32, 3), np.uint8))
            (root / 'scenes' / str(i)).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / 'scenes' / str(i) / f'{folder}.png'), rng.randint(0, 256, (24, 32, 3), np.uint8))
    tree(root / 'aio')
    cdd(root / 'cdd')
    (root / 'hub' / 'checkpoints').mkdir(parents=True)
    vgg_file(root / 'hub' / 'checkpoints' / 'vgg19-dcbb9e9d.pth', convs=13)
    return root


@pytest.mark.parametrize('name', RECIPES)
def test_every_recipe_runs(material, tmp_path, monkeypatch, name):
    """Two iterations of a smaller network on a few small images, validated where the recipe validates."""
    monkeypatch.setenv('TORCH_HOME', str(material))
    opt = options(name)
    network, blocks = opt['network_g']['type'], opt['datasets']
    changes = {f'network_g.{k}': v for k, v in SMALL[network.removesuffix('Local')].items()}
    for path, block in with_sets(blocks):
        key = '.'.join(path)
        kinds = {'CDD11Dataset': ('dataroot', 'cdd'), 'AllInOneDataset': ('dataroot', 'aio')}
        roots = [kinds[block['type']]] if block['type'] in kinds else [('dataroot_gt', 'gt')] * ('sets' not in block)
        roots += [('dataroot_lq',
                   'scenes' if block.get('pair_by') == 'folder' else 'lq')] if 'dataroot_lq' in block else []
        changes |= {f'datasets.{key}.{name}': str(material / place) for name, place in roots}
        changes |= {f'datasets.{key}.{part}': None for part in ('pair_range', 'meta_info_file') if part in block}
    changes |= {
        'datasets.train.gt_size': 16, 'datasets.train.batch_size_per_gpu': 2, 'datasets.train.num_worker_per_gpu': 0,
        'datasets.train.persistent_workers': False, 'datasets.train.pin_memory': False, 'num_gpu': 0,
        'train.total_iter': 2, 'path.experiments_root': str(tmp_path), 'logger.print_freq': 1,
        'datasets.train.dataset_enlarge_ratio': 1, 'val.val_freq': 2 if 'val' in blocks else None
    }
    if 'warmup_iter' in opt['train']['scheduler']:
        changes['train.scheduler.warmup_iter'] = 1
    if opt['path'].get('pretrain_network_g'):
        changes['path.fine_tune_from'] = None
    overrides = [f'{k}={yaml.safe_dump(v, default_flow_style=True).splitlines()[0]}' for k, v in changes.items()]
    assert train(['--opt', str(ROOT / 'Options' / f'{name}.yml'), *overrides]) == 0
    with (tmp_path / name / 'losses.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    terms = {k for k in rows[0] if k.startswith('l_')}
    assert len(rows) == 2 and terms == LOGGED.get(name, LOGGED[network])
    assert all(math.isfinite(as_number(row[k])) for row in rows for k in terms)


_CIDNET = {'l1', 'ssim', 'edge', 'perceptual'}
LOGGED = {
    'CIDNet': {f'l_{prefix}{k}' for k in _CIDNET for prefix in ('', 'hvi_')},
    'CIDNet_LOL_v2_real': {'l_perceptual', 'l_hvi_perceptual'},
    'DarkIR': {'l_l1', 'l_perceptual', 'l_edge', 'l_side_l1', 'l_side_perceptual'},
    'NAFNet': {'l_pix'},
    'NAFNetLocal': {'l_pix'},
    'MambaIR': {'l_charbonnier'},
    'MoCEIR': {'l_l1', 'l_fft', 'l_moebalance'},
    'PromptIR': {'l_pix'},
}
