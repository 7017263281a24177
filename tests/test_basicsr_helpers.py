"""Helpers of BasicSR and the Restormer family that programs and data sets for them use."""
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, run_python
from torch.nn import functional as F

from basicsr.utils import (
    AvgTimer,
    MessageLogger,
    check_resume,
    crop_border,
    get_env_info,
    get_time_str,
    make_exp_dirs,
    mkdir_and_rename,
    padding,
    padding_DP,
    sizeof_fmt,
    ycbcr2bgr,
)
from basicsr.utils.img_util import imfrombytesDP, tensor2img_fast
from basicsr.utils.logger import init_tb_logger
from basicsr.utils.matlab_functions import cubic, imresize, rgb2ycbcr, ycbcr2rgb
from basicsr.utils.options import copy_opt_file, parse


def reference(line, scale, antialiasing=True):
    """MATLAB's definition of one direction, written down position by position, with 1-based pixels."""
    n, out = len(line), []
    shrink = scale if antialiasing and scale < 1 else 1

    def kernel(d):
        d = abs(d)
        return 1.5 * d**3 - 2.5 * d**2 + 1 if d <= 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d <= 2 else 0

    for x in range(1, math.ceil(n * scale) + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        pixels = range(math.floor(u - 2 / shrink) - 1, math.ceil(u + 2 / shrink) + 2)
        weights = [kernel(shrink * (u - i)) for i in pixels]
        mirror = [*range(n), *reversed(range(n))]
        values = [line[mirror[(i - 1) % (2 * n)]] for i in pixels]
        out.append(sum(w * v for w, v in zip(weights, values)) / sum(weights))
    return out


@pytest.mark.parametrize('scale', [0.25, 1 / 3, 0.5, 0.73, 1, 1.5, 2, 4])
@pytest.mark.parametrize('antialiasing', [True, False])
def test_imresize_is_matlabs(scale, antialiasing):
    line = np.random.default_rng(0).random(23)
    image = np.outer(np.random.default_rng(1).random(17), line)
    found = imresize(image, scale, antialiasing)
    rows = np.array([reference(row, scale, antialiasing) for row in image])
    wanted = np.array([reference(column, scale, antialiasing) for column in rows.T]).T
    assert found.shape == (math.ceil(17 * scale), math.ceil(23 * scale))
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_imresize_of_arrays_and_tensors():
    image = np.random.default_rng(0).random((40, 52, 3), dtype=np.float32)
    small = imresize(image, 0.25)
    assert small.shape == (10, 13, 3) and small.dtype == np.float32
    tensor = imresize(torch.from_numpy(image).permute(2, 0, 1), 0.25)
    np.testing.assert_allclose(tensor.permute(1, 2, 0).numpy(), small, atol=1e-6)
    # away from the borders, which it does not mirror, PyTorch's antialiased bicubic filter is the same
    other = F.interpolate(torch.from_numpy(image).permute(2, 0, 1)[None], (10, 13), mode='bicubic', antialias=True)[0]
    np.testing.assert_allclose(tensor[:, 3:-3, 3:-3], other[:, 3:-3, 3:-3], atol=1e-6)
    assert np.allclose(imresize(np.full((9, 8), 0.3), 0.37), 0.3) and np.array_equal(imresize(image, 1), image)
    assert cubic(torch.tensor([0., 1., 2., 3., -0.5])).tolist() == [1, 0, 0, 0, 0.5625]
    with pytest.raises(TypeError, match='floating'):
        imresize(np.zeros((4, 4), np.uint8), 2)
    with pytest.raises(ValueError, match='above 0'):
        imresize(image, 0)


def test_colours_there_and_back():
    rgb = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert np.abs(ycbcr2rgb(rgb2ycbcr(rgb)).astype(int) - rgb).max() <= 2  # of rounding in between
    exact = rgb.astype(np.float32) / 255
    np.testing.assert_allclose(ycbcr2rgb(rgb2ycbcr(exact)), exact, atol=1e-5)
    np.testing.assert_array_equal(ycbcr2bgr(rgb)[..., ::-1], ycbcr2rgb(rgb))
    white = np.array([[[235, 128, 128]]], np.uint8)
    assert ycbcr2rgb(white).tolist() == [[[255, 255, 255]]] and ycbcr2rgb(np.full_like(white, 255)).max() == 255
    with pytest.raises(TypeError, match='ycbcr2rgb takes'):
        ycbcr2rgb(rgb.astype(int))


def test_borders_and_padding():
    image = np.arange(60).reshape(5, 4, 3)
    np.testing.assert_array_equal(crop_border(image, 1), image[1:4, 1:3])
    assert [i.shape for i in crop_border([image, image], 0)] == [(5, 4, 3)] * 2
    lq, gt = padding(image.astype(np.uint8), image.astype(np.float32), 7)
    np.testing.assert_array_equal(lq, cv2.copyMakeBorder(image.astype(np.uint8), 0, 2, 0, 3, cv2.BORDER_REFLECT))
    assert gt.shape == (7, 7, 3) and [i.shape for i in padding_DP(image, image, image, 6)] == [(6, 6, 3)] * 3
    assert padding(image, image, 3)[0].shape == image.shape
    deep = np.full((4, 4, 3), 30000, np.uint16)
    assert imfrombytesDP(cv2.imencode('.png', deep)[1].tobytes(), float32=True)[0, 0, 0] == np.float32(30000 / 65535)
    assert tensor2img_fast(torch.ones(1, 3, 2, 2)).tolist() == np.full((2, 2, 3), 255).tolist()


def test_folders_and_names_of_runs(tmp_path, messages):
    assert re.fullmatch(r'\d{8}_\d{6}', get_time_str())
    assert [sizeof_fmt(n) for n in (0, 1536, 3 * 1024**3, 1024**8)] == ['0.0 B', '1.5 KB', '3.0 GB', '1.0 YB']
    mkdir_and_rename(tmp_path / 'a' / 'run')
    (tmp_path / 'a' / 'run' / 'kept').touch()
    mkdir_and_rename(tmp_path / 'a' / 'run')
    old, = (tmp_path / 'a').glob('run_archived_*')
    assert (old / 'kept').is_file() and not list((tmp_path / 'a' / 'run').iterdir()) and str(old) in messages[-1]
    run = tmp_path / 'exp' / 'x'
    path = {k: str(run / k) for k in ('models', 'training_states')} | {'experiments_root': str(run), 'resume_state': ''}
    make_exp_dirs({'is_train': True, 'path': path})
    assert {p.name for p in run.iterdir()} == {'models', 'training_states'}
    opt = {'network_g': {}, 'network_d': {}, 'path': path}
    check_resume(opt, 8)
    assert 'pretrain_network_g' not in path
    path |= {'resume_state': '8.state', 'ignore_resume_networks': ['network_d']}
    check_resume(opt, 8)
    assert path['pretrain_network_g'] == f'{run}/models/net_g_8.pth' and 'pretrain_network_d' not in path


def test_messages_of_programs_of_their_own(tmp_path, messages):
    timer = AvgTimer(window=2)
    timer.times = [5., 1., 3.]
    timer.record()
    assert timer.times[0] == 3 and timer.get_avg_time() == sum(timer.times) / 2
    assert timer.get_current_time() == timer.times[-1] >= 0
    writer = init_tb_logger(tmp_path / 'tb')
    log = MessageLogger({'name': 'mine', 'train': {'total_iter': 8}}, tb_logger=writer)
    log.reset_start_time()
    log({'epoch': 0, 'iter': 4, 'lrs': [1e-4], 'time': 0.1, 'data_time': 0.0, 'l_pix': 0.5})
    writer.close()
    assert '[mine..][epoch:  0, iter:       4, lr:(1.000e-04,)]' in messages[-1] and 'l_pix: 5.0000e-01' in messages[-1]
    assert list((tmp_path / 'tb').iterdir()) and 'PyTorch' in get_env_info()


LOOP = '''
from os import path as osp
import sys
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.models import build_model
from basicsr.utils import AvgTimer, MessageLogger, get_env_info, get_root_logger, make_exp_dirs
from basicsr.utils.options import copy_opt_file, dict2str, parse_options

opt, args = parse_options(sys.argv.pop(), is_train=True)
make_exp_dirs(opt)
copy_opt_file(args.opt, opt['path']['experiments_root'])
logger = get_root_logger(log_file=osp.join(opt['path']['log'], 'train.log'))
logger.info(get_env_info())
logger.info(dict2str(opt))
block = opt['datasets']['train']
data = build_dataset(block)
sampler = EnlargedSampler(data, opt['world_size'], opt['rank'], block.get('dataset_enlarge_ratio', 1))
loader = build_dataloader(data, block, num_gpu=opt['num_gpu'], dist=opt['dist'], sampler=sampler, seed=opt['manual_seed'])
block = opt['datasets']['val']
val = build_dataloader(build_dataset(block), block, num_gpu=opt['num_gpu'], dist=opt['dist'], sampler=None, seed=0)
model, messages, timer, step = build_model(opt), MessageLogger(opt, 1), AvgTimer(), 0
sampler.set_epoch(0)
for batch in loader:
    step += 1
    model.update_learning_rate(step, warmup_iter=opt['train'].get('warmup_iter', -1))
    model.feed_data(batch)
    model.optimize_parameters(step)
    timer.record()
    lines = {'epoch': 0, 'iter': step, 'lrs': model.get_current_learning_rate(), 'data_time': 0.}
    messages({**lines, 'time': timer.get_avg_time(), **model.get_current_log()})
model.validation(val, step, None, opt['val']['save_img'])
model.save(epoch=-1, current_iter=-1)
'''


def test_a_training_loop_of_ones_own(tiny_options, tmp_path):
    """As descendants of BasicSR carry it: options, loaders and model are ours, the loop is theirs."""
    file = tiny_options()
    done = run_python('-c', LOOP, '-opt', file, tmp_path / 'theirs', cwd=ROOT)
    assert done.returncode == 0, done.stderr
    run = tmp_path / 'experiments' / 'tiny'
    assert (run / 'models' / 'net_g_latest.pth').is_file() and (run / Path(file).name).is_file()
    assert 'iter:       2' in (run / 'train.log').read_text() and '# psnr: ' in (run / 'train.log').read_text()


def test_options_for_scripts_that_build_a_model(tiny_options, tmp_path):
    from basicsr.models import create_model
    opt = parse(tiny_options(), is_train=False)
    opt['dist'] = False
    model = create_model(opt)
    assert model.net_g(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 8, 8) and opt['is_train'] is False
    copy_opt_file(tiny_options(), tmp_path)
    assert (tmp_path / tiny_options().name).is_file()
