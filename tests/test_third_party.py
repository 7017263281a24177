"""Code written for BasicSR or Restormer and never changed for this toolbox: networks, models, datasets."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from basicsr.config import load_options
from basicsr.metrics import better, calculate_metric, measure, needs_gt
from basicsr.models.sr_model import SRModel
from basicsr.registry import MODEL_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.utils.img import imwrite

ROOT = Path(__file__).resolve().parents[1]
_FILES = ('third_arch', 'third_model', 'bare_model', 'third_dataset', 'plain_dataset')
_TEXTS = [(ROOT / 'tests' / 'third_party' / f'{name}.py').read_text(encoding='utf-8') for name in _FILES]
UPSTREAM_ARCH, UPSTREAM_MODEL, BASE_MODEL, DATASET, PLAIN_DATASET = _TEXTS

OPTIONS = """\
name: third
model_type: SRModel
scale: 2
num_gpu: 0
manual_seed: 3
datasets:
  train: {name: a, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: lq, gt_size: 16, batch_size_per_gpu: 2}
  val: {name: b, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: lq}
network_g: {type: MSRResNet, num_feat: 4, num_block: 1, upscale: 2}
train:
  total_iter: 2
  optim_g: {type: Adam, lr: 1e-4}
  scheduler: {type: MultiStepLR, milestones: [5]}
  pixel_opt: {type: L1Loss}
val:
  val_freq: 2
  metrics:
    psnr: {type: calculate_psnr}
logger: {print_freq: 1}
"""


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(2):
        for kind, size in (('gt', 32), ('lq', 16)):
            imwrite(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), tmp_path / kind / f'{i}.png')
    return tmp_path


def put(folder, options=OPTIONS, **files):
    """Write the option file and, as `arch='...'`, `arch_files` and so on."""
    for kind, text in files.items():
        (folder / f'own_{kind}.py').write_text(text)
        options += f'{kind}_files: [own_{kind}.py]\n'
    (folder / 'o.yml').write_text(options)
    return folder / 'o.yml'


def train(file, package=ROOT):
    """Train in a process of its own; returns exit code, stderr and the run's folder."""
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    command = [sys.executable, package / 'basicsr/train.py', '-opt', file, f'path.experiments_root={file.parent}/exp']
    result = subprocess.run(command, cwd=file.parent, env=env, capture_output=True, text=True)
    return result.returncode, result.stderr, file.parent / 'exp' / 'third'


def trained(file, package=ROOT):
    code, text, run = train(file, package)
    assert code == 0, text
    assert (run / 'models' / 'net_g_latest.pth').is_file() and 'iter:       2' in text
    return text, torch.load(run / 'models' / 'net_g_latest.pth', weights_only=True)['params']


def test_an_upstream_network_a_model_with_keys_of_its_own_and_a_dataset_train_together(folder):
    text = OPTIONS.replace('MSRResNet', 'ThirdNet').replace('SRModel', 'ThirdModel').replace(
        'type: PairedImageDataset',
        'my_gain: 0.5, type: ThirdDataset').replace('total_iter: 2',
                                                    'total_iter: 2\n  my_weight: 0.25\n  my_opt: {type: MSELoss}')
    log, params = trained(put(folder, text, arch=UPSTREAM_ARCH, model=UPSTREAM_MODEL, dataset=DATASET))
    assert 'my_weight is 0.25' in log and 'l_extra: ' in log and '# psnr: ' in log
    assert 'helper.weight' in params and f"network 'ThirdNet' from {folder / 'own_arch.py'}" in log


def test_a_subclass_of_the_base_model_trains_a_restormer_style_network_on_an_upstream_dataset(folder):
    arch = (
        'import torch.nn as nn\nclass Restormer(nn.Module):\n    def __init__(self, dim=4):\n        super().__init__()\n'
        '        self.up = nn.Sequential(nn.Conv2d(3, dim * 3, 3, 1, 1), nn.PixelShuffle(2))\n'
        '    def forward(self, inp_img):\n        return self.up(inp_img)\n')  # no decorator
    text = OPTIONS.replace('SRModel', 'BareModel')
    text = text.replace('{type: MSRResNet, num_feat: 4, num_block: 1, upscale: 2}', '{type: Restormer, dim: 4}')
    text = text.replace('type: PairedImageDataset,', 'type: PlainDataset, io_backend: {type: disk},')
    text = text.replace('gt_size: 16,', 'gt_size: 16, use_hflip: true, use_rot: true,')
    log, params = trained(put(folder, text, arch=arch, model=BASE_MODEL, dataset=PLAIN_DATASET))
    assert 'l_bare: ' in log and sorted(params) == ['up.0.bias', 'up.0.weight']


def test_a_file_dropped_into_the_package(folder):
    shutil.copytree(ROOT / 'basicsr', folder / 'copy' / 'basicsr', ignore=shutil.ignore_patterns('__pycache__'))
    (folder / 'copy' / 'basicsr' / 'archs' / 'third_arch.py').write_text(UPSTREAM_ARCH)
    file = put(folder, OPTIONS.replace('MSRResNet', 'ThirdNet'))
    log, _ = trained(file, folder / 'copy')
    assert "network 'ThirdNet' from basicsr/archs/third_arch.py" in log
    (folder / 'copy' / 'basicsr' / 'archs' / 'third_arch.py').write_text('import nobody_has_this\n' + UPSTREAM_ARCH)
    code, text, _ = train(file, folder / 'copy')
    assert code == 2 and 'Traceback' not in text
    assert text.splitlines()[-1].startswith('error: cannot import ') and "'nobody_has_this'" in text


@pytest.mark.parametrize(('line', 'says'), [('def broken(:\n', 'line 1'), ('', 'is required')])
def test_a_broken_file_is_one_sentence_and_exit_code_2(folder, line, says):
    arch = line + UPSTREAM_ARCH.replace('num_in_ch=3', 'num_in_ch')
    code, text, run = train(put(folder, OPTIONS.replace('MSRResNet', 'ThirdNet'), arch=arch))
    assert code == 2 and 'Traceback' not in text and says in text and not run.exists()
    assert text.count('\n') == (1 if line else 2)


def test_mistyped_keys_of_code_from_outside_are_still_mistakes(folder):
    text = OPTIONS.replace('SRModel', 'ThirdModel')
    text = text.replace('type: PairedImageDataset', 'my_gain: 2, type: ThirdDataset')
    text = text.replace('total_iter: 2', 'total_iter: 2\n  my_weight: 0.5')
    good = load_options(put(folder, text, model=UPSTREAM_MODEL, dataset=DATASET), is_train=True).opt
    assert good['train']['my_weight'] == 0.5 and good['datasets']['train']['my_gain'] == 2
    wrong = text.replace('my_weight', 'my_wieght').replace('my_gain: 2', 'my_gian: 2')
    with pytest.raises(UserError) as caught:
        load_options(put(folder, wrong, model=UPSTREAM_MODEL, dataset=DATASET), is_train=True)
    for path in ('train.my_wieght', 'datasets.train.my_gian', 'datasets.val.my_gian'):
        assert f': {path}: unknown key' in str(caught.value)
    with pytest.raises(UserError, match=r'train\.my_weight: unknown key'):  # nobody reads it
        load_options(put(folder, text.replace('ThirdModel', 'SRModel'), dataset=DATASET), is_train=True)


def test_a_model_that_replaces_only_the_training_settings(folder):
    """As upstream's own subclasses do: `optimize_parameters` is inherited."""
    model = UPSTREAM_MODEL[:UPSTREAM_MODEL.index('    def feed_data')].replace(
        'self.cri_pix =', 'self.cri_perceptual = None\n        self.cri_pix =')
    log, _ = trained(put(folder, OPTIONS.replace('SRModel', 'ThirdModel'), model=model))
    assert 'l_pix: ' in log


def test_files_import_from_the_folder_they_were_written_for_and_from_beside_them(folder):
    """`.arch_util` is ours, `.own_blocks` and `plain_blocks` stand beside the file."""
    (folder / 'own_blocks.py').write_text('from .arch_util import ResidualBlockNoBN\nfrom torch import nn\n\n\n'
                                          'class Tail(nn.Conv2d):\n    block = ResidualBlockNoBN\n')
    (folder / 'plain_blocks.py').write_text('SIZE = 3\n')
    arch = UPSTREAM_ARCH + ('\nfrom .arch_util import make_layer\nfrom .own_blocks import Tail\n'
                            'from plain_blocks import SIZE\nfrom ..utils.registry import MODEL_REGISTRY\n'
                            "assert Tail(1, 1, SIZE).block.__module__ == 'basicsr.archs.arch_util'\n"
                            "assert __name__ == 'basicsr.archs.own_arch'\n")
    model = ('from .sr_model import SRModel\nfrom basicsr.utils.registry import MODEL_REGISTRY\n\n\n'
             '@MODEL_REGISTRY.register()\nclass Near(SRModel):\n    pass\n')
    text = OPTIONS.replace('MSRResNet', 'ThirdNet').replace('SRModel', 'Near')
    trained(put(folder, text, arch=arch, model=model))


def test_two_files_of_one_name_and_one_that_has_the_name_of_ours(folder):
    for place in ('a', 'b'):
        (folder / place).mkdir()
        (folder / place / 'sr_model.py').write_text(
            f'from .sr_model import SRModel\n\n\nclass Model{place.upper()}(SRModel):\n    place = {place!r}\n')
        MODEL_REGISTRY.add_file(folder / place / 'sr_model.py')
    first, second = (MODEL_REGISTRY.get(f'Model{place}') for place in 'AB')
    assert (first.place, second.place) == ('a', 'b') and first.__mro__[1] is second.__mro__[1] is SRModel
    assert first.__module__ != second.__module__ and first.__module__.startswith('basicsr.models.sr_model_')


PARENT = """from basicsr.models.sr_model import SRModel


class Parent(SRModel):
    def init_training_settings(self):
        super().init_training_settings()
        self.key = self.opt['train'].get('parent_key', 1)
"""


@pytest.mark.parametrize('line', [
    'from .parent_model import Parent', 'from parent_model import Parent as Base', 'import parent_model',
    'from . import parent_model as pm', 'from .reexports import Parent'
])
def test_keys_that_a_parent_in_another_file_reads(folder, line):
    (folder / 'parent_model.py').write_text(PARENT)
    (folder / 'reexports.py').write_text('from .parent_model import Parent\n')
    base = {'Parent as Base': 'Base', 'import parent_model': 'parent_model.Parent', 'as pm': 'pm.Parent'}
    name = next((v for k, v in base.items() if line.endswith(k)), 'Parent')
    model = (f'from basicsr.utils.registry import MODEL_REGISTRY\n{line}\n\n\n'
             f'@MODEL_REGISTRY.register()\nclass Child({name}):\n    pass\n')
    text = OPTIONS.replace('SRModel', 'Child').replace('total_iter: 2', 'total_iter: 2\n  parent_key: 3')
    loaded = load_options(put(folder, text, model=model), is_train=True)
    assert loaded.opt['train']['parent_key'] == 3 and 'parent_key' not in ''.join(loaded.notices)


def test_networks_registered_in_a_loop_train_and_their_arguments_are_known(folder):
    (folder / 'two_nets.py'
     ).write_text(UPSTREAM_ARCH.replace('@ARCH_REGISTRY.register()\n', '') + '\n\nclass Other(ThirdNet):\n    pass\n')
    arch = ('from two_nets import Other, ThirdNet\nfrom basicsr.utils.registry import ARCH_REGISTRY\n\n'
            'for net in (ThirdNet, Other):\n    ARCH_REGISTRY.register(net)\n')
    text = OPTIONS.replace('MSRResNet', 'Other')
    log, _ = trained(put(folder, text, arch=arch))
    assert f"network 'Other' from {folder / 'two_nets.py'}" in log
    code, log, _ = train(put(folder, text.replace('num_block', 'num_bolck'), arch=arch))
    assert code == 2 and "unknown key 'num_bolck'. Did you mean 'num_block'?" in log and 'Traceback' not in log
    code, log, _ = train(put(folder, text.replace('Other', 'Othre'), arch=arch))
    assert code == 2 and "no network called 'Othre'. Did you mean 'Other'?" in log and 'Traceback' not in log


PROJECT = {
    '__init__.py': '',
    'archs/__init__.py': ('import importlib\nfrom os import path as osp\nfrom basicsr.utils import scandir\n'
                          'here = osp.dirname(osp.abspath(__file__))\n'
                          "for f in scandir(here):\n    if f.endswith('_arch.py'):\n"
                          "        importlib.import_module(f'proj.archs.{f[:-3]}')\n"),
    'archs/up_arch.py': (
        'from torch import nn\nfrom basicsr.utils.registry import ARCH_REGISTRY\n\n\n'
        '@ARCH_REGISTRY.register()\nclass Up(nn.Module):\n'
        '    def __init__(self, num_feat=8, slope=1e-4, upscale=2):\n        super().__init__()\n'
        '        self.slope = slope + 0.\n'
        '        self.body = nn.Sequential(nn.Conv2d(3, 3 * upscale**2, 3, 1, 1), nn.PixelShuffle(upscale))\n'
        '    def forward(self, x):\n        return self.body(x)\n'),
    'parts/__init__.py': (
        'from basicsr.models.sr_model import SRModel\nfrom basicsr.utils.registry import *\n'
        'from basicsr.data.paired_image_dataset import PairedImageDataset as Ours\n\n\n'
        '@MODEL_REGISTRY.register()\nclass ProjModel(SRModel):\n    def feed_data(self, data):\n'
        "        super().feed_data(data)\n        self.extra = self.opt['train'].get('my_key', 1)\n\n\n"
        '@METRIC_REGISTRY.register()\ndef calculate_gap(img1, img2, gain=1.0):\n'
        '    return gain * float(abs(img1.astype(float) - img2).mean())\n\n\n'
        '@DATASET_REGISTRY.register()\nclass PairedImageDataset:\n    def __init__(self, opt):\n'
        "        self.opt, self.gain = opt, opt.get('my_gain', 1)\n"
        "        self.inner = Ours(opt['dataroot_gt'], opt['dataroot_lq'], gt_size=opt.get('gt_size'), "
        "phase=opt['phase'], scale=2)\n"
        '    def __len__(self):\n        return len(self.inner)\n'
        '    def __getitem__(self, i):\n        return self.inner[i]\n'),
    'train.py': ('import os.path as osp\nimport proj.archs\nimport proj.parts\n'
                 'from basicsr.train import train_pipeline\n\nif __name__ == "__main__":\n'
                 '    train_pipeline(osp.abspath(osp.join(__file__, osp.pardir, osp.pardir)))\n'),
}


@pytest.mark.parametrize(('change', 'says'), [
    (('', ''), None),
    (('num_feat: 4', 'num_feat: 4, sloap: 1'), "network_g.sloap: unknown key 'sloap'. Did you mean 'slope'?"),
    (('my_gain: 2', 'dataroot_gtt: 2'), "unknown key 'dataroot_gtt'. Did you mean 'dataroot_gt'?"),
    (('my_key: 3', 'my_kye: 3'), "train.my_kye: unknown key 'my_kye'."),
])
def test_a_project_of_its_own_whose_packages_register_what_they_define(folder, change, says):
    """As HAT and Real-ESRGAN do; a data set of theirs has the name of one of ours, and is taken."""
    for name, text in PROJECT.items():
        (folder / 'proj' / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / 'proj' / name).write_text(text)
    text = OPTIONS.replace('SRModel', 'ProjModel').replace('MSRResNet, num_feat: 4, num_block: 1',
                                                           "Up, num_feat: 4, slope: '1e-3'")
    text = text.replace('total_iter: 2', 'total_iter: 2\n  my_key: 3').replace('name: a,', 'name: a, my_gain: 2,')
    text = text.replace('calculate_psnr', 'calculate_gap, gain: 2')
    assert change[0] in text
    (folder / 'o.yml').write_text(text.replace(*change))
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': f'{ROOT}:{folder}'}
    done = subprocess.run([sys.executable, 'proj/train.py', '-opt', 'o.yml'], cwd=folder, env=env, capture_output=True,
                          text=True)
    if says is None:
        assert done.returncode == 0 and "network 'Up' from " in done.stderr, done.stderr
        assert '# psnr: ' in done.stderr and (folder / 'experiments' / 'third' / 'models' /
                                              'net_g_latest.pth').is_file()
    else:
        assert done.returncode == 2 and says in done.stderr and 'Traceback' not in done.stderr
        assert not (folder / 'experiments').exists()


def test_metrics_of_the_restormer_family(folder):
    metric = ('import numpy as np\n\n\ndef calculate_fork(img1, img2, crop_border=0):\n'
              '    return float(np.abs(img1.astype(float) - img2.astype(float)).mean() + crop_border)\n')
    text = OPTIONS.replace('calculate_psnr', 'calculate_fork, crop_border: 2, better: lower')
    loaded = load_options(put(folder, text, metric=metric), is_train=True)
    block = loaded.opt['val']['metrics']['psnr']
    images = {'img': np.zeros((4, 4, 3), np.uint8), 'img2': np.full((4, 4, 3), 5, np.uint8)}
    assert calculate_metric(images, block) == 7 and needs_gt(block) and better(block) == 'lower'
    assert measure(np.zeros((4, 4, 3)), np.full((4, 4, 3), 5 / 255), block) == pytest.approx(7)
    with pytest.raises(UserError, match=r"val\.metrics\.psnr\.img1: unknown key"):
        load_options(put(folder, OPTIONS.replace('calculate_psnr', 'calculate_fork, img1: 2'), metric=metric),
                     is_train=True)


def test_metrics_that_take_any_keyword_are_given_what_the_block_says(folder):
    metric = 'def calculate_any(img, img2, **kwargs):\n    return 3.0 + len(kwargs)\n'
    loaded = load_options(
        put(folder, OPTIONS.replace('calculate_psnr', 'calculate_any, crop_border: 0'), metric=metric), is_train=True)
    block = loaded.opt['val']['metrics']['psnr']
    assert measure(np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), block) == 4.0
    assert any('val.metrics.psnr.crop_border: no code here reads it; calculate_any may' in n for n in loaded.notices)


@pytest.mark.parametrize('value', ['None', '(1, 2)', "'5'"])
def test_a_metric_that_gives_no_number_is_named_before_a_folder_is_made(folder, value):
    metric = f'def calculate_none(img, img2):\n    return {value}\n'
    code, text, run = train(put(folder, OPTIONS.replace('calculate_psnr', 'calculate_none'), metric=metric))
    assert code == 2 and 'Traceback' not in text and not run.exists()
    assert "val.metrics.psnr: metric 'calculate_none' gives a " in text


def test_a_subclass_of_our_data_set_reads_keys_of_its_own(folder):
    dataset = ('from basicsr.data.paired_image_dataset import PairedImageDataset\n\n\n'
               'class Noisy(PairedImageDataset):\n    def __getitem__(self, index):\n'
               '        item = super().__getitem__(index)\n'
               "        item['lq'] = item['lq'] + self.opt['noise_level'] * 0\n        return item\n")
    text = OPTIONS.replace('name: a, type: PairedImageDataset', 'name: a, noise_level: 3, type: Noisy')
    assert 'noise_level' in text
    trained(put(folder, text, dataset=dataset))
    with pytest.raises(UserError, match=r"dataroot_gtt'\. Did you mean 'dataroot_gt'"):
        load_options(put(folder, text.replace('noise_level: 3', 'dataroot_gtt: x'), dataset=dataset), is_train=True)


@pytest.mark.parametrize(('body', 'told'), [
    ('(pred - gt).square().mean().sqrt()', True),
    ("nn.functional.l1_loss(pred, gt, reduction='sum')", True),
    ('(pred - gt).square().mean()', False),
])
def test_losses_that_parts_of_a_batch_would_change_are_refused(folder, body, told):
    loss = f'from torch import nn\n\n\nclass Own(nn.Module):\n    def forward(self, pred, gt):\n        return {body}\n'
    text = OPTIONS.replace('L1Loss', 'Own').replace('total_iter: 2', 'total_iter: 2\n  accumulate: 2')
    code, log, run = train(put(folder, text, loss=loss))
    assert (code, run.exists()) == ((2, False) if told else (0, True)), log
    assert ('train.accumulate: of two images together Own is' in log) is told
