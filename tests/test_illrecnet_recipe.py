"""IllRecNet beside the network: the recipes of its option files, early stopping, the authors' checkpoints."""
from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from torch import nn

from basicsr.archs import build_network
from basicsr.archs.illrecnet_arch import IllRecNet
from basicsr.commands.enhance import main as enhance
from basicsr.commands.evaluate import main as evaluate
from basicsr.config import load_options
from basicsr.losses import build_loss
from basicsr.models.base_model import BaseModel
from basicsr.registry import SCHEDULER_REGISTRY
from basicsr.train import main as train
from basicsr.utils.img import imread, imwrite

TINY = {'embed_dim': 4, 'num_heads': 2, 'mlp_ratio': 1, 'num_resolution': 1, 'kernel_size': 3}
FILES = [
    f'IllRecNet_{name}.yml'
    for name in ('LOL_v1', 'LOL_v1_trainable_separation', 'LOL_v1_code', 'LOL_v2_real', 'LOL_v2_synthetic', 'staged')
]


def options(file):
    return load_options(ROOT / 'Options' / file, is_train=True, check_files=False).opt


def tiny_run(pairs, tmp_path, *more):
    """Arguments that make `IllRecNet_LOL_v1.yml` small."""
    data = [
        f'datasets.{block}.dataroot_{side}={pairs / folder}' for block in ('train', 'val')
        for side, folder in (('lq', 'input'), ('gt', 'target'))
    ]
    small = [
        'datasets.train.gt_size=16', 'datasets.train.batch_size_per_gpu=2', 'datasets.train.num_worker_per_gpu=0',
        'datasets.train.persistent_workers=false', 'num_gpu=0', 'train.amp=~', 'logger.use_tb_logger=false',
        'logger.save_checkpoint_freq=2', f'path.experiments_root={tmp_path / "experiments"}', 'name=run',
        'train.scheduler.warmup_iter=1'
    ]
    return [
        '--opt', 'Options/IllRecNet_LOL_v1.yml', *data, *small, *(f'network_g.{k}={v}' for k, v in TINY.items()), *more
    ]


def rows(table):
    with table.open(newline='') as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------------------------ recipes


@pytest.mark.parametrize('file', FILES)
def test_every_file_is_the_published_network_loss_and_patience(file):
    opt = options(file)
    assert sum(p.numel() for p in build_network(opt['network_g']).parameters()) == 2_681_384
    val, stop, batch = opt['val'], opt['train']['early_stop'], opt['datasets']['train']['batch_size_per_gpu']
    epoch = opt['train']['total_iter'] / 1000  # iterations
    images = {'LOL_v2_real': 689, 'LOL_v2_synthetic': 900}.get(file[len('IllRecNet_'):-len('.yml')], 485)
    assert epoch == math.ceil(images / batch) and stop['patience'] * val['val_freq'] == 100 * epoch
    assert stop['metric'] == val['best_metric'] == 'mae'
    pred, target = torch.randn(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    total = sum(build_loss(block)(pred, target) for block in opt['train']['losses'])
    clipped = pred.clip(0, 1)
    torch.testing.assert_close(total, F.l1_loss(clipped, target) + F.mse_loss(clipped, target))


def test_values_beyond_the_range_have_no_gradient():
    pred = torch.tensor([[[[-0.5, 0.5, 1.5]]]], requires_grad=True)
    build_loss({'type': 'L1Loss', 'clamp': True})(pred, torch.zeros(1, 1, 1, 3)).backward()
    assert pred.grad.flatten().tolist() == pytest.approx([0, 1 / 3, 0])


@pytest.mark.parametrize('file, at', [
    ('IllRecNet_LOL_v1.yml', {0: 1 / 1600, 1599: 1, 1600: 1, 8800: 0.5, 16000: 0}),
    ('IllRecNet_LOL_v2_synthetic.yml', {0: 1 / 2900, 2900: 1, 15950: 0.5, 29000: 0}),
    ('IllRecNet_LOL_v1_code.yml', {0: 1, 8000: 1, 16000: 1}),
])
def test_learning_rates(file, at):
    train_options = options(file)['train']
    block = dict(train_options['scheduler'])
    scheduler = SCHEDULER_REGISTRY.get(block.pop('type'))
    if 'warmup_iter' in block:
        block['total_iter'] = train_options['total_iter']
    base = train_options['optim_g']['lr']
    schedule = scheduler(torch.optim.SGD([nn.Parameter(torch.zeros(1))], base), **block)
    assert {e: schedule.rate(e, base) / base for e in at} == pytest.approx(at, abs=1e-12)


def test_weight_decay_is_decoupled_in_one_recipe_and_a_gradient_in_the_other():
    moved = {}
    for file in ('IllRecNet_LOL_v1.yml', 'IllRecNet_LOL_v1_code.yml'):
        block = dict(options(file)['train']['optim_g'])
        weight = nn.Parameter(torch.tensor([2.]))
        optimizer = BaseModel.get_optimizer(None, block.pop('type'), [weight], **block)
        weight.grad = torch.zeros(1)
        optimizer.step()
        moved[file] = 2 - weight.item()
    assert list(moved.values()) == pytest.approx([1e-4 * 0.1 * 2, 1e-4], rel=1e-2)


def test_the_separation_learns_in_the_second_run_only(pairs, tmp_path):
    for trainable in ('false', 'true'):
        arguments = tiny_run(pairs, tmp_path, 'train.total_iter=2', 'val.val_freq=2',
                             f'network_g.separation_trainable={trainable}')
        assert train(arguments) == 0
        weights = torch.load(tmp_path / 'experiments' / 'run' / 'models' / 'net_g_latest.pth', weights_only=True)
        kernel = weights['params']['encoder.separate.conv_y.weight']
        fresh = IllRecNet(**TINY).state_dict()['encoder.separate.conv_y.weight']
        assert torch.equal(kernel, fresh) is (trainable == 'false')
    assert options(FILES[1])['network_g']['separation_trainable'] is True


def test_the_best_has_the_lowest_error_and_a_run_without_progress_ends(pairs, tmp_path):
    arguments = tiny_run(pairs, tmp_path, 'train.total_iter=12', 'val.val_freq=2', 'train.early_stop.patience=2')
    arguments += ['train.optim_g.lr=1e-9']  # no progress worth the name
    assert train([*arguments, 'train.early_stop.min_delta=0.5']) == 0
    run = tmp_path / 'experiments' / 'run'
    table = rows(run / 'metrics.csv')
    assert [row['iter'] for row in table] == ['2', '4', '6']
    assert 'Training stops at iteration 6: mae has not improved for 2 validations' in next(
        run.glob('*.log')).read_text()
    errors = [float(next(v for k, v in row.items() if k.endswith('mae'))) for row in table]
    best = json.loads((run / 'best' / 'best.json').read_text())
    assert best['metric'] == 'mae' and best['value'] == pytest.approx(min(errors), abs=1e-4)
    assert best['iter'] == 2 * (1 + int(np.argmin(errors)))


# ------------------------------------------------------------------------------------------------ the authors' files


@pytest.fixture(params=[2, 4])
def authors(request, tmp_path):
    """A checkpoint as their code writes it, with 2 or 4 heads, which no shape shows; the network; a photo."""
    torch.manual_seed(0)
    arguments = {
        'kernel_size': 9, 'sigma': 3, 'embed_dim': 8, 'num_heads': request.param, 'mlp_ratio': 2, 'num_resolution': 1,
        'dropout_ratio': 0.
    }
    net = IllRecNet(**arguments).eval()
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p) if p.requires_grad else 0
    state = {f'model.{k}': v for k, v in net.state_dict().items()}
    extra = {'metric.lpips.net.slice1.0.weight': torch.ones(2, 3), 'metric.psnr.dummy_param': torch.empty(0)}
    torch.save(
        {
            'epoch': 7, 'global_step': 112, 'pytorch-lightning_version': '2.6.0', 'state_dict': state | extra,
            'hyper_parameters': {'params': {'hyper': arguments, 'optimizer': {'lr': 1e-4}}
                                 }, 'callbacks': {}, 'optimizer_states': [{'state': {}}], 'lr_schedulers': []
        }, tmp_path / 'best.ckpt')
    (tmp_path / 'photos').mkdir()
    photo = np.random.RandomState(0).randint(0, 256, (19, 26, 3), np.uint8)
    imwrite(photo, tmp_path / 'photos' / '1.png')
    with torch.no_grad():
        result = net(torch.from_numpy(photo[..., ::-1] / np.float32(255)).permute(2, 0, 1)[None])
    wanted = (result.clamp(0, 1)[0].permute(1, 2, 0).numpy()[..., ::-1] * 255).round()
    return str(tmp_path / 'best.ckpt'), tmp_path, wanted


def test_checkpoints_of_the_authors_need_no_yaml(authors):
    weights, folder, wanted = authors
    assert enhance([str(folder / 'photos' / '1.png'), '-o', str(folder / 'a.png'), '--weights', weights]) == 0
    np.testing.assert_array_equal(imread(folder / 'a.png'), wanted)
    folders = ['--degraded_dir', str(folder / 'photos'), '--clean_dir', str(folder / 'photos')]
    assert evaluate(['--weights', weights, *folders, '--output_dir', str(folder / 'o')]) == 0
    np.testing.assert_array_equal(imread(folder / 'o' / '1.png'), wanted)
