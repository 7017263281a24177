"""Option files as users of BasicSR, Restormer and Retinexformer have them: read as they stand, and trained for a moment."""
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from basicsr.config import load_options
from basicsr.registry import ARCH_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.utils.img import imwrite

ROOT = Path(__file__).resolve().parents[1]
UPSTREAM, UPSTREAM_TEST, RETINEX = ((ROOT / 'tests' / 'option_files' / name).read_text(encoding='utf-8')
                                    for name in ('basicsr_train.yml', 'basicsr_test.yml', 'retinexformer_train.yml'))


@pytest.fixture
def load(tmp_path):

    def inner(text, name='run.yml', is_train=True, **kwargs):
        (tmp_path / name).write_text(text)
        return load_options(tmp_path / name, is_train=is_train, check_files=False, **kwargs)

    return inner


def told(loaded):
    """Notices without the place: (option, beginning of the text)."""
    for text in loaded.notices:
        assert '\n' not in text and re.match(r'.+\.yml:\d+: ', text), text
    return [text.split(': ', 1)[1].split(':')[0] for text in loaded.notices]


def test_upstream_training_file(load):
    loaded = load(UPSTREAM)
    opt = loaded.opt
    assert loaded.notices == []
    assert opt['name'] == '001_MSRResNet_x4_f64b16_DIV2K_1000k_B16G1_wandb' and opt['scale'] == 4
    assert opt['train']['optim_g']['lr'] == 2e-4 and opt['train']['scheduler']['eta_min'] == 1e-7
    assert opt['val']['val_freq'] == opt['logger']['save_checkpoint_freq'] == 5000
    assert type(opt['val']['val_freq']) is int and opt['train']['ema_decay'] == 0.999
    assert opt['datasets']['train']['phase'] == 'train' and opt['datasets']['val_2']['phase'] == 'val'
    assert all(block['scale'] == 4 for block in opt['datasets'].values())
    assert 'protocol' not in opt['val']['metrics']['psnr'] and opt['val']['metrics']['psnr']['better'] == 'higher'
    assert opt['train'].get('grad_clip_norm') is None and opt['logger']['wandb']['project'] is None


def test_upstream_test_file(load):
    loaded = load(UPSTREAM_TEST, is_train=False)
    assert loaded.notices == [] and loaded.opt['path']['param_key_g'] == 'params_ema'
    assert loaded.opt['val']['save_img'] is True and loaded.opt['val']['suffix'] is None
    assert loaded.opt['path']['results_root'].endswith('results/001_MSRResNet_x4_f64b16_DIV2K_1000k_B16G1_wandb')


def test_prefetch_modes_of_upstream(load):
    text = UPSTREAM.replace('prefetch_mode: ~', 'prefetch_mode: cuda\n    num_prefetch_queue: 2\n    pin_memory: false')
    loaded = load(text)
    assert sorted(told(loaded)) == ['datasets.train.num_prefetch_queue', 'datasets.train.prefetch_mode']
    assert loaded.opt['datasets']['train']['pin_memory'] is True


def test_retinexformer_file(load):
    loaded = load(RETINEX, 'RetinexMamba_LOL_v1.yml')
    opt = loaded.opt
    assert sorted(told(loaded)) == [
        'datasets.train.use_shuffle', 'logger.wandb.project', 'name', 'val.max_minibatch', 'val.metrics.psnr'
    ]
    assert opt['name'] == 'Enhancement_RetinexFormer_LOL_v1'
    assert any("would take the file name, 'RetinexMamba_LOL_v1'" in n for n in loaded.notices)
    assert opt['train']['grad_clip_norm'] == 0.01 and opt['train'].get('amp') is None
    assert opt['val']['metrics']['psnr']['protocol'] == 'restormer-rgb3d'
    assert opt['val']['window_size'] == 4 and opt['val']['val_freq'] == 1000 and opt['val']['rgb2bgr'] is True
    assert opt['train']['mixing_augs'] == {'mixup': True, 'mixup_beta': 1.2, 'use_identity': True}
    assert opt['train']['scheduler']['eta_mins'] == [3e-4, 1e-6]
    assert opt['datasets']['train']['mini_batch_sizes'] == [8] and opt['datasets']['train']['geometric_augs'] is True


def test_retinexformer_file_with_amp_and_rounded_metrics(load):
    text = RETINEX.replace('scale: 1\n', 'scale: 1\nuse_amp: true\n').replace('use_image: false', 'use_image: true')
    loaded = load(text, 'Enhancement_RetinexFormer_LOL_v1.yml')
    assert sorted(
        told(loaded)) == ['datasets.train.use_shuffle', 'logger.wandb.project', 'use_amp', 'val.max_minibatch']
    assert loaded.opt['train']['amp'] == 'fp16' and 'protocol' not in loaded.opt['val']['metrics']['psnr']
    assert load(text.replace('use_amp: true', 'use_amp: false')).opt['train'].get('amp') is None


def test_restormer_file(load, tmp_path):
    (tmp_path / 'restormer_arch.py').write_text(
        'import torch.nn as nn\nclass Restormer(nn.Module):\n    def __init__(\n'
        '        self, inp_channels=3, out_channels=3, dim=48, num_blocks=[4,6,6,8], heads=[1,2,4,8],\n'
        "        ffn_expansion_factor=2.66, bias=False, LayerNorm_type='WithBias', dual_pixel_task=False):\n"
        '        super().__init__()\n')
    text = RETINEX.replace('name: Enhancement_RetinexFormer_LOL_v1', 'name: Deraining_Restormer')
    text = text.replace('type: Adam\n', 'type: AdamW\n')
    text = text.replace('lr: !!float 2e-4', 'lr: !!float 3e-4\n    weight_decay: !!float 1e-4')
    network = '''network_g:
  type: Restormer
  inp_channels: 3
  dim: 48
  num_blocks: [4,6,6,8]
  heads: [1,2,4,8]
  ffn_expansion_factor: 2.66
  bias: False
  LayerNorm_type: WithBias
  dual_pixel_task: False
arch_files: [restormer_arch.py]

path:
  param_key: params_ema
'''
    start, end = text.index('network_g:'), text.index('  pretrain_network_g')
    loaded = load(text[:start] + network + text[end:], 'Deraining_Restormer.yml')
    assert sorted(told(loaded)) == [
        'datasets.train.use_shuffle', 'logger.wandb.project', 'val.max_minibatch', 'val.metrics.psnr'
    ]
    opt = loaded.opt
    assert opt['path']['param_key_g'] == 'params_ema' and opt['train']['optim_g']['weight_decay'] == 1e-4
    assert opt['network_g']['LayerNorm_type'] == 'WithBias' and 'Restormer' in ARCH_REGISTRY
    assert (opt['train']['optim_g']['type'], opt['train']['optim_g']['lr']) == ('AdamW', 3e-4)


def _charbonnier(eps):
    return RETINEX.replace('type: L1Loss', f'type: CharbonnierLoss\n    eps: {eps}')


@pytest.mark.parametrize(('given', 'here'), [('1e-3', 1e-6), ("'1e-3'", 1e-6), ('~', 1e-6), ('2', 4)])
def test_the_eps_of_the_family_is_squared(load, given, here):
    assert load(_charbonnier(given)).opt['train']['pixel_opt']['eps'] == pytest.approx(here, rel=1e-12)


@pytest.mark.parametrize(('given', 'says'),
                         [('abc', "must be a number, not 'abc'"), ('[1]', 'must be a number, not a list'),
                          ('{}', 'must be a number, not a mapping'), ('2024-01-01', 'must be a number, not 2024-01-01'),
                          ('true', 'must be a number, not true'), ('-1', 'must be greater than 0, not -1'),
                          ('0', 'must be greater than 0, not 0'), ('.inf', 'must be a finite number, not .inf'),
                          ('1e200', '1e+200 is squared there, and the square is no number above 0'),
                          ('1e-200', '1e-200 is squared there, and the square is no number above 0')])
def test_an_eps_of_the_family_that_is_none_is_one_mistake(load, given, says):
    with pytest.raises(UserError) as caught:
        load(_charbonnier(given))
    head, line = str(caught.value).splitlines()
    assert head.startswith('1 mistake in ') and line.endswith(f': train.pixel_opt.eps: {says}')


def test_the_file_name_is_named_for_files_of_the_family_only(load):
    assert 'name' in told(load(RETINEX))
    ours = 'PairedImageDataset'
    text = re.sub('type: Dataset_PairedImage', f'type: {ours}', RETINEX)
    assert ours in text and 'name' in told(load(text))  # `use_image`, which only that family has
    text = re.sub(r' *use_image: .*\n| *max_minibatch: .*\n| *use_grad_clip: .*\n', '', text)
    loaded = load(text)
    assert loaded.opt['name'] != 'run' and 'name' not in told(loaded)


def test_use_image_leaves_metrics_without_protocol_alone(load, tmp_path):
    (tmp_path / 'own_metric.py').write_text('def calculate_own(img, img2, **kwargs):\n    return 0.\n')
    text = RETINEX.replace('    psnr: #',
                           '    own: {type: calculate_own}\n    psnr: #') + 'metric_files: [own_metric.py]\n'
    loaded = load(text)
    assert loaded.opt['val']['metrics']['own'] == {'type': 'calculate_own'}
    assert 'val.metrics.psnr' in told(loaded) and 'val.metrics.own' not in told(loaded)


# ------------------------------------------------------------------------------------------------ trained


def train(tmp_path, text, name, scale, *overrides):
    """Four iterations on two pairs of 48 x 48; returns the run's folder and the text of its log."""
    rng = np.random.default_rng(0)
    for i in range(2):
        for kind, size in (('gt', 48), ('lq', 48 // scale)):
            imwrite(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), tmp_path / kind / f'{i}.png')
    text = re.sub(r'dataroot_(gt|lq): .*', r'dataroot_\1: \1', text)
    text = re.sub(r' *meta_info_file: .*\n', '', text)
    (tmp_path / name).write_text(text)
    command = [
        ROOT / 'basicsr/train.py', '-opt', name, 'num_gpu=0', 'datasets.train.batch_size_per_gpu=2',
        'datasets.train.num_worker_per_gpu=0', 'train.total_iter=4', 'val.val_freq=2', 'logger.print_freq=2',
        'logger.save_checkpoint_freq=2', 'logger.use_tb_logger=false', 'val.save_img=true',
        f'path.experiments_root={tmp_path}/exp', *overrides
    ]
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    result = subprocess.run([sys.executable, *map(str, command)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert 'Traceback' not in result.stderr
    run = next((tmp_path / 'exp').glob('[!t]*'))
    log = next(run.glob('train_*.log'))
    assert re.fullmatch(rf'train_{run.name}_\d{{8}}_\d{{6}}\.log', log.name)
    return run, log.read_text()


def check_run(run, log, name, metrics, sets=('', )):
    weights = {f'models/net_g_{i}.pth' for i in (2, 4, 'latest')} | {'best/net_g_best.pth', 'best/best.json'}
    states = {f'training_states/{i}.state' for i in (2, 4)}
    pictures = {f'visualization/{folder}{i}/{i}_{n}.png' for folder in sets for i in (0, 1) for n in (2, 4)}
    found = {str(f.relative_to(run)) for f in run.rglob('*') if f.is_file()}
    assert weights | states | pictures | {name} <= found
    header = (run / name).read_text().splitlines()
    assert header[0].startswith('# GENERATE TIME: ') and header[1] == '# CMD:' and 'num_gpu=0' in header[2]
    stamp = r'^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO: '
    lines = re.findall(
        stamp + rf'\[{re.escape(run.name[:5])}\.\.\]\[epoch: *\d+, iter: {{7}}([24]), lr:\(\d\.\d{{3}}e-\d\d,\)\] '
        r'\[eta: \d:\d\d:\d\d, time \(data\): \d+\.\d{3} \(\d+\.\d{3}\)\] l_pix: \d\.\d{4}e[+-]\d\d *$', log, re.M)
    assert lines == ['2', '4']
    for metric in metrics:
        assert len(re.findall(rf'^\t # {metric}: \d+\.\d{{4}}.*\tBest: \d+\.\d{{4}} @ [24] iter$', log, re.M)) >= 2
    assert re.search(stamp + r'Saving models and training states\.$', log, re.M)
    assert re.search(stamp + r'Validation \w+$', log, re.M)


def test_upstream_file_trains(tmp_path):
    run, log = train(tmp_path, UPSTREAM, 'train_MSRResNet_x4.yml', 4, 'network_g.num_feat=4', 'network_g.num_block=1',
                     'datasets.train.gt_size=32')
    assert run.name == '001_MSRResNet_x4_f64b16_DIV2K_1000k_B16G1_wandb'
    # of several validation sets, each has a folder of its own
    check_run(run, log, 'train_MSRResNet_x4.yml', ['psnr', 'ssim'], ('Set5/', 'Set14/'))
    assert 'Validation Set5' in log and 'Validation Set14' in log


def test_retinexformer_file_trains(tmp_path):
    run, log = train(tmp_path, RETINEX, 'RetinexMamba_LOL_v1.yml', 1, 'network_g.n_feat=4',
                     'network_g.num_blocks=[1,1,1]', 'datasets.train.mini_batch_sizes=[2, 1]',
                     'datasets.train.gt_sizes=[16, 32]', 'network_g.d_state=2', 'datasets.train.iters=[2, 2]',
                     'datasets.train.gt_size=32')
    assert run.name == 'Enhancement_RetinexFormer_LOL_v1'
    check_run(run, log, 'RetinexMamba_LOL_v1.yml', ['psnr'])
    assert 'WARNING: RetinexMamba_LOL_v1.yml:' in log and 'max_minibatch: ignored (never read)' in log
