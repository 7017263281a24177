"""Option files of published projects, key by key: they load, and what nobody here reads is told. Only keys and values."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from basicsr.config import load_options
from basicsr.utils.errors import UserError

FOLDER = ROOT / 'tests' / 'option_files'
RETINEXFORMER, UPSTREAM = (yaml.safe_load((FOLDER / name).read_text(encoding='utf-8'))
                           for name in ('retinexformer_train.yml', 'basicsr_train.yml'))
CLIPS = {
    'io_backend': {'type': 'disk'}, 'cache_data': True, 'N_frames': 5, 'padding': 'new_info', 'train_size': [960, 512],
    'color': 'RGB', 'cache_keys': '', 'border_mode': 'reflect', 'random_reverse': False, 'interval_list': [1],
    'mode': 'train', 'use_flip': True, 'use_rot': True, 'use_shuffle': True
}


def clips(kind: str, batch: int, size: int, patch: int, **more: Any) -> dict[str, Any]:
    """Changes for Retinexformer's video sets: a train and a val block of that kind."""
    stage = {
        'batch_size_per_gpu': batch, 'mini_batch_sizes': [8], 'iters': [300000], 'gt_size': size, 'gt_sizes': [patch]
    }
    both = {'type': kind, **CLIPS, **more}
    return {f'datasets.train.{k}': v
            for k, v in (both | stage).items()} | {f'datasets.val.{k}': v for k, v in both.items()}


OUTDOOR = 'MVI_0898,MVI_0928,MVI_0906,MVI_0975,MVI_1001,MVI_0997,MVI_1003,MVI_1026,MVI_1030,MVI_1032'
NTIRE = {
    'num_gpu': 8, 'use_amp': True, 'datasets.train.gt_size': 2000, 'datasets.train.gt_sizes': [2000],
    'datasets.train.batch_size_per_gpu': 1, 'datasets.train.mini_batch_sizes': [1]
}
MST = {
    'num_gpu': 4, 'network_g': {'type': 'MST_Plus_Plus', 'in_channels': 3, 'out_channels': 3, 'n_feat': 30, 'stage': 3}
}
RETINEXFORMER_FILES = {
    'RetinexFormer_LOL_v1': {},
    'RetinexFormer_LOL_v2_real': {'datasets.train.gt_size': 256, 'datasets.train.gt_sizes': [256]},
    'RetinexFormer_LOL_v2_synthetic': {},
    'RetinexFormer_SID': clips('Dataset_SIDImage', 4, 256, 256),
    'RetinexFormer_SMID': clips('Dataset_SMIDImage', 4, 512, 256),
    'RetinexFormer_SDSD_indoor': clips('Dataset_SDSDImage', 4, 128, 128,
                                       testing_dir='pair11,pair21,pair1,pair19,pair4,pair9'),
    'RetinexFormer_SDSD_outdoor': clips('Dataset_SDSDImage', 4, 512, 256, testing_dir=OUTDOOR),
    'RetinexFormer_FiveK': {
        'datasets.train.gt_size': 280, 'datasets.train.gt_sizes': [280], 'datasets.train.cache_data': True,
        'datasets.val.cache_data': True
    },
    'RetinexFormer_NTIRE': NTIRE,
    'MST_Plus_Plus_NTIRE_4x1800': NTIRE | MST | {'datasets.train.gt_size': 1800, 'datasets.train.gt_sizes': [1800]},
    'MST_Plus_Plus_NTIRE_8x1150': MST
    | {'datasets.train.gt_size': 1150, 'datasets.train.gt_sizes': [1150], 'datasets.train.batch_size_per_gpu': 1},
}
STAGES = {
    'datasets.train.mini_batch_sizes': [8, 5, 4, 2, 1, 1], 'datasets.train.gt_size': 384,
    'datasets.train.iters': [92000, 64000, 48000, 36000, 36000,
                             24000], 'datasets.train.gt_sizes': [128, 160, 192, 256, 320, 384],
    'train.total_iter': 300000, 'train.scheduler.periods': [92000, 208000]
}
DUAL = {
    f'datasets.{block}.{key}': value for block in ('train', 'val') for key, value in
    {'type': 'Dataset_DefocusDeblur_DualPixel_16bit', 'dataroot_lqL': 'left', 'dataroot_lqR': 'right'}.items()
}
RESTORMER = {
    'type': 'Restormer', 'inp_channels': 3, 'out_channels': 3, 'dim': 48, 'num_blocks': [4, 6, 6, 8],
    'num_refinement_blocks': 4, 'heads': [1, 2, 4, 8], 'ffn_expansion_factor': 2.66, 'bias': False,
    'LayerNorm_type': 'WithBias', 'dual_pixel_task': False
}
NOISE = {'datasets.train.type': 'Dataset_GaussianDenoising', 'datasets.val.type': 'Dataset_GaussianDenoising'}
RESTORMER_FILES = {
    'Deraining_Restormer': STAGES | {'network_g': RESTORMER},
    'Deblurring_Restormer': STAGES,
    'RealDenoising_Restormer': STAGES,
    'DefocusDeblur_DualPixel_16bit_Restormer': STAGES | DUAL
    | {'network_g': RESTORMER | {'inp_channels': 6, 'dual_pixel_task': True}},
    'GaussianColorDenoising_RestormerSigma15': STAGES | NOISE | {
        'datasets.train.sigma_type': 'constant', 'datasets.train.sigma_range': 15, 'datasets.train.in_ch': 3,
        'datasets.val.sigma_test': 15, 'datasets.val.in_ch': 3
    },
    'GaussianGrayDenoising_Restormer': STAGES | NOISE | {
        'datasets.train.sigma_type': 'random', 'datasets.train.sigma_range': [0, 50], 'datasets.train.in_ch': 1,
        'datasets.val.sigma_test': 25, 'datasets.val.in_ch': 1,
        'network_g': RESTORMER | {'inp_channels': 1, 'out_channels': 1, 'LayerNorm_type': 'BiasFree'}
    },
}
NAFNET = {
    'model_type': 'ImageRestorationModel', 'datasets.train.use_flip': True, 'datasets.train.use_shuffle': True,
    'train.mixup': False, 'val.grids': False, 'val.use_image': True, 'val.max_minibatch': 8, 'val.trans_num': 1,
    'val.crop_size_h': 256, 'val.crop_size_w': 256, 'datasets.train.num_prefetch_queue': 1
}
VIDEO = {
    'model_type': 'StubModel', 'datasets.train.type': 'StubVideoDataset', 'datasets.train.num_frame': 5,
    'datasets.train.interval_list': [1], 'datasets.train.random_reverse': False,
    'datasets.train.val_partition': 'REDS4', 'datasets.train.test_mode': False, 'datasets.train.dataroot_flow': None,
    'datasets.train.flip_sequence': False, 'datasets.val.type': 'StubVideoDataset', 'datasets.val.cache_data': True,
    'datasets.val.num_frame': 5, 'datasets.val.padding': 'reflection_circle', 'datasets.val.gt_size': 256,
    'datasets.val.save_img': False, 'datasets.val.use_duf_downsampling': False
}
GAN = {
    'model_type': 'StubModel', 'path.strict_load_g': None, 'path.pretrain_network_d': None, 'path.strict_load_d': None,
    'path.param_key_d': 'params', 'path.ignore_resume_networks': 'network_d', 'train.net_d_iters': 1,
    'train.net_d_init_iters': 0, 'network_d': {'type': 'VGGStyleDiscriminator', 'num_in_ch': 3, 'num_feat': 64},
    'train.optim_d': {'type': 'Adam', 'lr': '1e-4', 'weight_decay': 0, 'betas': [0.9, 0.99]},
    'train.gan_opt': {'type': 'GANLoss', 'gan_type': 'vanilla', 'loss_weight': 0.005}
}
MAMBAIR = {
    'model_type': 'MambaIRModel', 'scale': 2, 'val.selfensemble_testing': False, 'val.patchwise_testing': False,
    'network_g': {
        'type': 'MambaIR', 'upscale': 2, 'in_chans': 3, 'img_size': 64, 'window_size': 16, 'img_range': 1.,
        'depths': [6, 6, 6, 6, 6, 6], 'embed_dim': 180, 'num_heads': [6, 6, 6, 6, 6, 6], 'mlp_ratio': 2,
        'upsampler': 'pixelshuffle', 'resi_connection': '1conv'
    }
}
UPSTREAM_FILES = {
    'train_MSRResNet_x4': {},
    'train_SRResNet_without_wandb': {'logger.wandb': None, 'val.pbar': False, 'val.save_img': None},
    'train_EDVR_L_x4_SR_REDS': VIDEO | {'train.tsa_iter': 50000, 'train.dcn_lr_mul': 1, 'find_unused_parameters': True},
    'train_BasicVSR_REDS': VIDEO
    | {'train.fix_flow': 5000, 'train.flow_lr_mul': 0.125, 'val.center_frame_only': False, 'val.flip_seq': False},
    'train_ESRGAN_x4': GAN,
    'train_RealESRGANx4plus': GAN | {
        'gt_usm': True, 'queue_size': 180, 'resize_prob': [0.2, 0.7, 0.1], 'jpeg_range': [30, 95], 'gt_size': 256,
        'poisson_scale_range': [0.05, 3], 'second_blur_prob': 0.8, 'l1_gt_usm': True, 'gan_gt_usm': False,
        'datasets.train.type': 'StubVideoDataset', 'datasets.train.meta_info': 'meta.txt',
        'datasets.train.blur_kernel_size': 21, 'datasets.train.kernel_list': ['iso', 'aniso'],
        'datasets.train.kernel_prob': [0.5, 0.5], 'datasets.train.sinc_prob': 0.1, 'datasets.train.final_sinc_prob': 0.8
    },
    'train_StyleGAN2_256_FFHQ': GAN | {
        'train.r1_reg_weight': 10, 'train.path_reg_weight': 2, 'train.path_batch_shrink': 2, 'train.mixing_prob': 0.9,
        'train.net_g_reg_every': 4, 'train.net_d_reg_every': 16, 'val.num_val_samples': 16
    },
    'train_gfpgan_v1': GAN | {
        'network_d_left_eye': {'type': 'FacialComponentDiscriminator'}, 'network_identity': {'type': 'ResNetArcFace'},
        'path.pretrain_network_d_left_eye': None, 'path.pretrain_network_identity': None,
        'train.remove_pyramid_loss': 50000, 'train.pyramid_loss_weight': 1, 'train.L1_opt': {'type': 'L1Loss'},
        'train.identity_weight': 10, 'datasets.train.type': 'StubVideoDataset', 'datasets.train.use_hflip': True,
        'datasets.train.out_size': 512, 'datasets.train.downsample_range': [0.8, 8
                                                                            ], 'datasets.train.crop_components': True,
        'datasets.train.eye_enlarge_ratio': 1.4, 'datasets.train.color_jitter_prob': 0.3
    },
    'train_HAT_SRx4': {'model_type': 'StubModel', 'tile': {'tile_size': 512, 'tile_pad': 32}},
    'train_DAT_x4': {'model_type': 'StubModel', 'val.use_chop': True, 'train.total_iter': 500000},
    'train_MambaIR_SR_x4': {
        'model_type': 'StubModel', 'val.selfensemble_testing': False, 'val.patchwise_testing': False
    },
    'train_MambaIR_SR_x2': MAMBAIR,
    'train_FFTformer': {'model_type': 'StubModel', 'path.strict_load_g': None, 'train.fft_opt': {'type': 'L1Loss'}},
    'NAFNet-width32': NAFNET,
    'SRModel_with_keys_of_others': {
        'queue_size': 180, 'train.tsa_iter': 1000, 'val.flip_seq': False, 'datasets.train.interval_list': [1],
        'datasets.val.gt_size': 128, 'datasets.val.cache_data': True, 'datasets.val.save_img': False
    },
}
STUBS = '''
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import DATASET_REGISTRY, MODEL_REGISTRY

@MODEL_REGISTRY.register()
class StubModel(SRModel):
    pass

@MODEL_REGISTRY.register()
class ImageRestorationModel(SRModel):
    pass
'''
DATA = '''
from basicsr.utils.registry import DATASET_REGISTRY

@DATASET_REGISTRY.register()
class StubVideoDataset:
    def __init__(self, opt):
        self.root = opt['dataroot_gt']
'''


@pytest.fixture
def load(tmp_path: Path):
    """Loads options on which some, given by dotted path, are changed; without looking for their files."""
    for name, text in (('stub_model.py', STUBS), ('stub_dataset.py', DATA)):
        (tmp_path / name).write_text(text)

    def inner(base: dict[str, Any], name: str, changes: dict[str, Any]) -> Any:
        options = yaml.safe_load(yaml.safe_dump(base))
        options |= {'model_files': ['stub_model.py'], 'dataset_files': ['stub_dataset.py'], 'name': name}
        for path, value in changes.items():
            *holders, key = path.split('.')
            block = options
            for holder in holders:
                block = block[holder]
            block[key] = value
        (tmp_path / f'{name}.yml').write_text(yaml.safe_dump(options, sort_keys=False))
        return load_options(tmp_path / f'{name}.yml', is_train=True, check_files=False)

    return inner


@pytest.mark.parametrize('name', RETINEXFORMER_FILES)
def test_files_of_retinexformer(load, name):
    loaded = load(RETINEXFORMER, name, RETINEXFORMER_FILES[name])
    opt = loaded.opt
    assert opt['name'] == name and opt['logger']['wandb']['project'] is None
    assert any('logger.wandb.project: ignored' in notice and 'starts it' in notice for notice in loaded.notices)
    if name.endswith(('SID', 'SMID', 'indoor', 'outdoor')):
        assert any('mini_batch_sizes: 8 is more than batch_size_per_gpu: 4, and read as that' in n
                   for n in loaded.notices)
    if name.endswith('FiveK'):
        assert 'cache_data' not in opt['datasets']['train'] and any('cache_data: ignored' in n for n in loaded.notices)


@pytest.mark.parametrize('name', RESTORMER_FILES)
def test_files_of_restormer(load, name):
    changes = RESTORMER_FILES[name]
    opt = load(RETINEXFORMER, name, changes).opt
    assert opt['datasets']['train']['gt_sizes'] == [128, 160, 192, 256, 320, 384] and opt['name'] == name
    for key in ('sigma_type', 'sigma_range', 'in_ch', 'dataroot_lqL'):
        if f'datasets.train.{key}' in changes:
            assert key in opt['datasets']['train']


@pytest.mark.parametrize('name', UPSTREAM_FILES)
def test_files_of_basicsr_and_its_descendants(load, name):
    changes = UPSTREAM_FILES[name]
    loaded = load(UPSTREAM, name, changes)
    outside = changes.get('model_type') == 'StubModel'
    for path in changes:
        key = path.rpartition('.')[2]
        if outside and path.startswith(('train.', 'val.')) and key not in ('save_img', 'total_iter'):
            block = loaded.opt[path.partition('.')[0]]
            assert key in block, f'{path} does not reach the model'
    for key in ('queue_size', 'tile', 'gt_size'):
        if key in changes:
            assert (key in loaded.opt) == outside
            assert any(f': {key}: ' in notice for notice in loaded.notices)
    if changes.get('path.strict_load_g', 0) is None:
        assert loaded.opt['path']['strict_load_g'] is False
        assert any('path.strict_load_g: null is read as false' in notice for notice in loaded.notices)
    if 'path.ignore_resume_networks' in changes:
        assert loaded.opt['path']['ignore_resume_networks'] == ['network_d']


def test_what_ours_do_not_read_is_told_and_dropped(load):
    loaded = load(UPSTREAM, 'x', UPSTREAM_FILES['SRModel_with_keys_of_others'])
    told = '\n'.join(loaded.notices)
    for path, reader in (('queue_size', 'SRModel'), ('train.tsa_iter', 'SRModel'), ('val.flip_seq', 'SRModel'),
                         ('datasets.train.interval_list', 'PairedImageDataset'), ('datasets.val.save_img',
                                                                                  'PairedImageDataset')):
        assert f': {path}: ignored ({reader} does not read it)' in told
    assert 'tsa_iter' not in loaded.opt['train'] and 'interval_list' not in loaded.opt['datasets']['train']


def test_nafnets_flips_are_the_flips_of_the_paired_set(load):
    loaded = load(UPSTREAM, 'NAFNet', NAFNET | {'datasets.train.use_hflip': None, 'datasets.train.use_rot': True})
    assert loaded.opt['datasets']['train']['use_hflip'] is True
    assert any("datasets.train.use_flip: read as use_hflip" in notice for notice in loaded.notices)


@pytest.mark.parametrize(('path', 'meant'), [('train.totl_iter', 'total_iter'), ('val.val_frq', 'val_freq'),
                                             ('path.strict_laod_g', 'strict_load_g'), ('manual_sead', 'manual_seed'),
                                             ('datasets.val.filename_tmp', 'filename_tmpl'),
                                             ('logger.print_frq', 'print_freq')])
@pytest.mark.parametrize('model', ['StubModel', 'SRModel'])
def test_a_misspelt_key_of_ours_is_a_mistake_beside_every_model(load, path, meant, model):
    with pytest.raises(UserError, match=f"{path}: unknown key .* Did you mean '{meant}'"):
        load(UPSTREAM, 'x', {'model_type': model, path: 1})


@pytest.mark.parametrize('path', ['train.gt_size', 'train.num_block', 'colour', 'path.interval_list'])
def test_ours_refuse_what_belongs_nowhere_and_code_from_outside_is_told(load, path):
    with pytest.raises(UserError, match=f'{path}: unknown key'):
        load(UPSTREAM, 'x', {path: 1})
    loaded = load(UPSTREAM, 'y', {path: 1, 'model_type': 'StubModel'})
    assert any(f': {path}: no code here reads it; StubModel may' in notice for notice in loaded.notices)
