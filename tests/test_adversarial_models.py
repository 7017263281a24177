"""SRGANModel and ESRGANModel: their steps against the plain definition, options, resume, and models that derive from them."""
from copy import deepcopy

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from test_third_party import trained

from basicsr.config import load_options
from basicsr.losses.gan_loss import GANLoss
from basicsr.models import build_model
from basicsr.train import run as start
from basicsr.training.launch import start_run
from basicsr.utils.errors import UserError
from basicsr.utils.img import imwrite

NET_D = {'type': 'UNetDiscriminatorSN', 'num_feat': 4}


@pytest.fixture
def options(tmp_path):
    """`options(kind, **train)`: an option file of a tiny GAN at scale 4, with pictures of 64 pixels."""
    rng = np.random.default_rng(0)
    for i in range(3):
        for side, size in (('gt', 64), ('lq', 16)):
            imwrite(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), tmp_path / side / f'{i}.png')
    data = {'type': 'PairedImageDataset', 'dataroot_gt': str(tmp_path / 'gt'), 'dataroot_lq': str(tmp_path / 'lq')}

    def write(kind='SRGANModel', network_d=NET_D, top=None, **more):
        settings = {
            'total_iter': 4, 'optim_g': {'type': 'Adam', 'lr': 1e-3}, 'optim_d': {'type': 'Adam', 'lr': 1e-3},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [3]}, 'ema_decay': 0.5, 'pixel_opt': {'type': 'L1Loss'},
            'gan_opt': {'type': 'GANLoss', 'gan_type': 'vanilla', 'loss_weight': 0.1}
        }
        settings = {k: v for k, v in (settings | more).items() if v is not None}
        content = {
            'name': 'third', 'model_type': kind, 'scale': 4, 'num_gpu': 0, 'manual_seed': 3,
            'datasets': {'train': {**data, 'name': 'a', 'gt_size': 32, 'batch_size_per_gpu': 2},
                         'val': {**data, 'name': 'b'}},
            'network_g': {'type': 'RRDBNet', 'num_feat': 4, 'num_block': 1, 'num_grow_ch': 2}, 'network_d': network_d,
            'path': {'experiments_root': str(tmp_path / 'exp')}, 'train': settings,
            'val': {'val_freq': 4, 'metrics': {'psnr': {'type': 'calculate_psnr'}}},
            'logger': {'print_freq': 1, 'save_checkpoint_freq': 2}
        } | (top or {})  # yapf: disable
        file = tmp_path / 'gan.yml'
        file.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
        return file

    return write


def model_of(file):
    return build_model(start_run(load_options(file, is_train=True)))


def plain_step(net_g, net_d, optimizers, lq, gt, relative):
    """One iteration as the papers write it, without anything of the toolbox but its loss."""
    criterion, (optimizer_g, optimizer_d) = GANLoss('vanilla', loss_weight=0.1), optimizers
    net_d.requires_grad_(False)
    optimizer_g.zero_grad()
    output = net_g(lq)
    l_pix = (output - gt).abs().mean()
    if relative:
        real = net_d(gt).detach()
        fake = net_d(output)
        l_gan = (criterion(real - fake.mean(), False) + criterion(fake - real.mean(), True)) / 2
    else:
        l_gan = criterion(net_d(output), True)
    (l_pix + l_gan).backward()
    optimizer_g.step()
    net_d.requires_grad_(True)
    optimizer_d.zero_grad()
    output = output.detach()
    if relative:
        fake = net_d(output).detach()
        real = net_d(gt)
        l_real = criterion(real - fake.mean(), True, is_disc=True) / 2
        l_real.backward()
        l_fake = criterion(net_d(output) - real.detach().mean(), False, is_disc=True) / 2
    else:
        l_real = criterion(net_d(gt), True, is_disc=True)
        l_real.backward()
        l_fake = criterion(net_d(output), False, is_disc=True)
    l_fake.backward()
    optimizer_d.step()
    return {'l_g_pix': l_pix, 'l_g_gan': l_gan, 'l_d_real': l_real, 'l_d_fake': l_fake}


@pytest.mark.parametrize('kind', ['SRGANModel', 'ESRGANModel'])
def test_steps_are_those_of_the_definition(options, kind):
    model = model_of(options(kind))
    net_g, net_d = deepcopy(model.net_g), deepcopy(model.net_d)
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-3) for net in (net_g, net_d)]
    for step in (1, 2):
        lq, gt = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
        model.feed_data({'lq': lq, 'gt': gt})
        model.optimize_parameters(step)
        wanted = plain_step(net_g, net_d, optimizers, lq, gt, kind == 'ESRGANModel')
        log = model.get_current_log()
        assert list(log) == ['l_g_pix', 'l_g_gan', 'l_d_real', 'out_d_real', 'l_d_fake', 'out_d_fake']
        for name, value in wanted.items():
            assert log[name] == pytest.approx(value.item(), rel=1e-4)
    for mine, theirs in ((model.net_g, net_g), (model.net_d, net_d)):
        for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_the_generator_waits_as_the_options_say(options):
    model = model_of(options(net_d_iters=2, net_d_init_iters=2))
    for step, trains in ((1, False), (2, False), (3, False), (4, True)):
        before = deepcopy(model.net_g.state_dict()), deepcopy(model.net_d.state_dict())
        model.feed_data({'lq': torch.rand(1, 3, 8, 8), 'gt': torch.rand(1, 3, 32, 32)})
        model.optimize_parameters(step)
        moved = [
            any(not torch.equal(old[k], v) for k, v in net.state_dict().items())
            for old, net in zip(before, (model.net_g, model.net_d))
        ]
        assert moved == [trains, True] and ('l_g_gan' in model.get_current_log()) is trains


def weights(run):
    """What the last files of both networks hold."""
    return [torch.load(run / 'models' / f'net_{k}_latest.pth', weights_only=True) for k in 'gd']


def same(files, others):
    for mine, theirs in zip(files, others, strict=True):
        for entry in ('params', 'params_ema'):
            assert all(torch.equal(v, theirs[entry][k]) for k, v in mine.get(entry, {}).items())


def test_a_resumed_run_is_the_uninterrupted_one(options, tmp_path):
    file = options()
    run = tmp_path / 'exp' / 'third'
    start(None, ['-opt', str(file), 'train.total_iter=2'])
    start(None, ['-opt', str(file), '--auto_resume'])
    found = weights(run)
    start(None, ['-opt', str(file), 'name=whole'])
    assert found[0].keys() == {'params', 'params_ema', 'network_g', 'name'
                               } and found[1].keys() >= {'params', 'network_d'}
    same(found, weights(tmp_path / 'exp' / 'whole'))
    text = file.read_text().replace('path:', f'path:\n  pretrain_network_d: {run}/models/net_d_latest.pth')
    (tmp_path / 'from.yml').write_text(text)
    model = model_of(tmp_path / 'from.yml')
    assert all(torch.equal(v, found[1]['params'][k]) for k, v in model.net_d.state_dict().items())


@pytest.mark.parametrize(('changes', 'says'), [
    ({'gan_opt': None}, 'train.gan_opt: is required by SRGANModel'),
    ({'optim_d': None}, 'train.optim_d: is required by SRGANModel'),
    ({'top': {'network_d': None}}, 'network_d: is required by SRGANModel'),
    ({'network_d': {'type': 'UNetDiscriminatorSM'}
      }, "called 'UNetDiscriminatorSM'. Did you mean 'UNetDiscriminatorSN'?"),
    ({'network_d': {**NET_D, 'num_feats': 3}
      }, "network_d.num_feats: unknown key 'num_feats'. Did you mean 'num_feat'?"),
    ({'gan_opt': {'type': 'GANLoss', 'gan_type': 'gan'}}, 'train.gan_opt.gan_type: '),
    ({'optim_d': {'type': 'Adam', 'lr': -1}}, 'train.optim_d.lr: must be '),
])
def test_mistakes_in_what_the_discriminator_reads(options, changes, says):
    with pytest.raises(UserError) as caught:
        load_options(options(**changes), is_train=True)
    assert says in str(caught.value)


@pytest.mark.parametrize(('changes', 'says'), [
    ({'network_d': {'type': 'VGGStyleDiscriminator'}}, r'network_d: .*takes images of 128x128.*sides of gt_size 32'),
    ({'network_d': {**NET_D, 'num_in_ch': 4}}, r'network_d: .*training patches have 3 channels'),
    ({'accumulate': 2}, 'train.accumulate: SRGANModel trains on whole batches'),
])
def test_what_cannot_be_trained_is_told_before_a_run(options, changes, says):
    with pytest.raises(UserError, match=says):
        model_of(options(**changes))


def test_other_models_do_not_read_it(options):
    loaded = load_options(options('SRModel'), is_train=True)
    assert any('network_d: not read by SRModel' in notice for notice in loaded.notices)
    assert not any('not read' in notice for notice in load_options(options(), is_train=True).notices)


def test_values_that_are_not_finite_end_the_run(options):
    model = model_of(options())
    model.feed_data({'lq': torch.rand(1, 3, 8, 8), 'gt': torch.full((1, 3, 32, 32), float('nan'))})
    with pytest.raises(UserError, match='l_g_pix'):
        model.optimize_parameters(1)
        model.get_current_log()


BLIND = (ROOT / 'tests' / 'third_party' / 'blind_model.py').read_text(encoding='utf-8')


def test_a_descendant_of_real_esrgan_trains_and_resumes(options, tmp_path):
    """Its data set gives kernels, its model degrades on the device and has a step of its own."""
    for kind in ('model', 'dataset'):
        (tmp_path / f'own_{kind}.py').write_text(BLIND)
    file = options('BlindGANModel', network_d={**NET_D, 'num_in_ch': 3})
    text = file.read_text().replace('type: PairedImageDataset', 'type: BlindDataset', 1)
    content = yaml.safe_load(text)
    content['datasets']['train'] |= {
        'type': 'BlindDataset', 'io_backend': {'type': 'disk'}, 'use_hflip': True, 'use_rot': False
    }
    content['datasets']['val']['type'] = 'PairedImageDataset'
    content |= {'model_files': ['own_model.py'], 'dataset_files': ['own_dataset.py'], 'noise_range': [1, 30]}
    file.write_text(yaml.safe_dump(content))
    log, params = trained(file)
    assert 'l_g_gan: ' in log and 'l_d_real: ' in log and '# psnr: ' in log and 'conv_first.weight' in params
    whole = weights(tmp_path / 'exp' / 'third')
    content |= {'name': 'parts', 'train': content['train'] | {'total_iter': 2}}
    file.write_text(yaml.safe_dump(content))
    start(None, ['-opt', str(file)])
    start(None, ['-opt', str(file), '--auto_resume', 'train.total_iter=4'])
    same(weights(tmp_path / 'exp' / 'parts'), whole)
