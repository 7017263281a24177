"""What the first validation and the first step need is tried before a folder is touched: every phase says it at once."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from basicsr.archs import build_network
from basicsr.cli import main as basicsr
from basicsr.data import build_dataset
from basicsr.data.protocol import about
from basicsr.metrics import is_measured, least_size
from basicsr.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY
from basicsr.utils import image_header
from basicsr.utils.img import imwrite
from basicsr.utils.weights import save_weights

SMALL = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}


def picture(height: int, width: int, file: Path) -> None:
    imwrite(np.random.RandomState(height).randint(0, 256, (height, width, 3), np.uint8), file)


@pytest.fixture
def folder(tmp_path):
    """Pairs of 24x28 pixels, of which '2' has another size; as options of a validation set."""

    def make(height: int = 8, width: int = 12, suffix: str = 'png', scale: int = 1) -> dict[str, str]:
        for name, (h, w) in {'1': (24, 28), '2': (height, width), '3': (24, 28)}.items():
            picture(h, w, tmp_path / 'odd' / 'lq' / f'{name}.{suffix}')
            picture(h * scale, w * scale, tmp_path / 'odd' / 'gt' / f'{name}.{suffix}')
        return {'dataroot_lq': str(tmp_path / 'odd' / 'lq'), 'dataroot_gt': str(tmp_path / 'odd' / 'gt')}

    return make


def refused(capsys, tmp_path: Path, *argv: str) -> str:
    """The sentence; nothing has changed."""
    before = sorted(tmp_path.rglob('*'))
    assert basicsr(list(map(str, argv))) == 2
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1 and 'Traceback' not in said and sorted(tmp_path.rglob('*')) == before
    return errors[0]


# ------------------------------------------------------------------------------------------------ sizes and metrics


@pytest.mark.parametrize('block, least', [
    ({'type': 'calculate_psnr'}, (1, 1)),
    ({'type': 'calculate_psnr', 'crop_border': 4}, (9, 9)),
    ({'type': 'calculate_ssim'}, (11, 11)),
    ({'type': 'calculate_ssim', 'crop_border': 2}, (15, 15)),
    ({'type': 'calculate_ssim', 'protocol': 'restormer-rgb3d'}, (1, 1)),
    ({'type': 'calculate_ssim', 'protocol': 'all-in-one-uniform'}, (7, 7)),
    ({'type': 'calculate_niqe'}, (96, 192)),
    ({'type': 'calculate_brisque'}, (16, 16)),
    ({'type': 'calculate_lpips'}, (32, 32)),
    ({'type': 'calculate_delta_e', 'crop_border': 1}, (3, 3)),
], ids=str)  # yapf: disable
def test_the_least_size_is_where_a_metric_begins_to_measure(block, least):
    metric, options = METRIC_REGISTRY.get(block['type']), {k: v for k, v in block.items() if k != 'type'}
    assert least_size(block) == least
    for height, width in (least, least[::-1]):
        assert is_measured((height, width), block)
        assert not is_measured((height - 1, width), block) and not is_measured((height, width - 1), block)
        if block['type'] in ('calculate_lpips', 'calculate_brisque'):  # they need files that are not here
            continue
        rng = np.random.RandomState(0)
        images = rng.randint(0, 256, (2, height, width, 3), np.uint8)
        truth = {} if block['type'] == 'calculate_niqe' else {'img2': images[1]}
        assert np.isfinite(metric(images[0], **truth, **options))
        if height > 1:
            with pytest.raises(ValueError, match=r'at least|leaves nothing'):
                metric(images[0, 1:], **{k: v[1:] for k, v in truth.items()}, **options)


@pytest.mark.parametrize('metric, needs', [
    ({'type': 'calculate_ssim'}, '11x11'),
    ({'type': 'calculate_psnr', 'crop_border': 4}, '9x9 with crop_border 4'),
    ({'type': 'calculate_brisque'}, '16x16'),
    ({'type': 'calculate_lpips'}, '32x32'),
])
@pytest.mark.parametrize('suffix', ['png', 'jpg', 'bmp'])
def test_training_names_the_image_before_it_starts(tiny_options, tmp_path, folder, capsys, monkeypatch, metric, needs,
                                                   suffix):
    monkeypatch.setattr('basicsr.training.preflight.try_metric', lambda *args: None)  # their weights are not here
    options = tiny_options(datasets={'val': folder(suffix=suffix)}, val={'metrics': {'mine': metric}})
    said = refused(capsys, tmp_path, 'train', '--opt', options)
    smaller = '1' if needs == '32x32' else '2'
    size, others = ('28x24', ' and 2 others') if smaller == '1' else ('12x8', '')
    assert (f"datasets.val: '{tmp_path}/odd/lq/{smaller}.{suffix}' is {size} pixels, and 'mine' needs at least {needs};"
            f' leave out this image{others}, or the metric') in said


def test_what_a_metric_needs_is_a_matter_of_the_shape_too(tiny_options, tmp_path, folder, capsys):
    """150x150 has more pixels than 100x200, which holds two blocks."""
    for name in '13':
        for side in ('lq', 'gt'):
            picture(100, 200, tmp_path / 'odd' / side / f'{name}.png')
    data = {'dataroot_lq': str(tmp_path / 'odd/lq'), 'dataroot_gt': str(tmp_path / 'odd/gt')}
    options = tiny_options(datasets={'val': data}, val={'metrics': {'niqe': {'type': 'calculate_niqe'}}})
    assert basicsr(['train', '--opt', str(options), 'train.total_iter=1']) == 0
    for side in ('lq', 'gt'):
        picture(150, 150, tmp_path / 'odd' / side / '2.png')
    capsys.readouterr()
    said = refused(capsys, tmp_path, 'train', '--opt', options)
    assert "2.png' is 150x150 pixels, and 'niqe' needs at least 96x192" in said


def test_sizes_count_after_scaling(tiny_options, tmp_path, folder, capsys):
    val = {'metrics': {'ssim': {'type': 'calculate_ssim'}}}
    train = folder(scale=4)
    options = tiny_options(scale=4, datasets={'train': {**train, 'gt_size': 16}, 'val': train}, val=val,
                           network_g={**SMALL, 'upscale': 4})
    assert basicsr(['train', '--opt', str(options)]) == 0
    capsys.readouterr()
    said = refused(capsys, tmp_path, 'train', '--opt', options, 'val.metrics.ssim.crop_border=16')
    assert "2.png' at scale 4 is 48x32 pixels, and 'ssim' needs at least 43x43 with crop_border 16" in said


def test_every_command_says_it(tiny_options, tmp_path, folder, capsys):
    pytest.importorskip('optuna')
    options = tiny_options()
    assert basicsr(['train', '--opt', str(options)]) == 0
    weights = tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_latest.pth'
    options = tiny_options(datasets={'val': folder()}, val={'metrics': {'ssim': {'type': 'calculate_ssim'}}})
    space, study = tmp_path / 'space.yml', tmp_path / 'study.yml'
    space.write_text('space:\n  train.optim_g.lr: {low: 1e-4, high: 1e-3}\n')
    study.write_text(yaml.safe_dump({'base': str(options), 'variants': [{'name': 'a'}, {'name': 'b'}]}))
    capsys.readouterr()
    needs = "odd/lq/2.png' is 12x8 pixels, and 'ssim' needs at least 11x11"
    for argv in (['train', '--opt', options], ['check-data', '--opt', options], [
            'test', '--opt', options, f'path.pretrain_network_g={weights}'
    ], ['search', '--opt', options, '--space', space, '--trials', '1'
        ], ['evaluate', '--opt', options, '--weights', weights, '--metrics', 'ssim', '--output_dir', tmp_path / 'o'], [
            'evaluate', '--weights', weights, '--degraded_dir', tmp_path / 'odd/lq', '--clean_dir', tmp_path / 'odd/gt',
            '--output_dir', tmp_path / 'o', '--metrics', 'ssim'
        ]):
        assert needs in refused(capsys, tmp_path, *argv), argv
    assert basicsr(['ablate', str(study), '--gpus', 'cpu']) == 2
    said = capsys.readouterr().err
    assert 'nothing was started' in said and said.count(needs) == 1
    assert not [p for p in (tmp_path / 'experiments').iterdir() if p.name != 'tiny']


def test_one_sentence_holds_all_metrics_of_an_image(tmp_path, folder, capsys, tiny_options):
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
    save_weights(tmp_path / 'w.pth', {'params': build_network(network).state_dict(), 'network_g': network})
    data = folder(6, 6)
    said = refused(capsys, tmp_path, 'evaluate', '--weights', tmp_path / 'w.pth', '--degraded_dir', data['dataroot_lq'],
                   '--clean_dir', data['dataroot_gt'], '--output_dir', tmp_path / 'o', '--comparison')
    assert said.count("'ssim ") == 8 and "'ssim all-in-one-uniform' needs at least 7x7" in said
    assert "'ssim of --comparison' needs at least 7x7; leave out this image, or the metrics" in said


def test_only_headers_are_read(tiny_options, folder, monkeypatch):
    """Of the validation set no more than the first and the smallest image are decoded."""
    from basicsr.data import reading
    decoded = []
    real = reading.decode_image
    monkeypatch.setattr(reading, 'decode_image', lambda data, path: decoded.append(path) or real(data, path))
    monkeypatch.setattr('basicsr.training.run.run_folders', lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        basicsr(['train', '--opt', str(tiny_options(datasets={'val': folder(12, 12)}))])
    assert {Path(p).name for p in decoded if 'odd' in p} == {'1.png', '2.png'}


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp', '.tif', '.webp', '.ppm'])
def test_sizes_of_all_types_of_files(tmp_path, suffix):
    picture(24, 40, tmp_path / f'a{suffix}')
    dataset = build_dataset({'type': 'SingleImageDataset', 'dataroot_lq': str(tmp_path), 'phase': 'val'})
    assert about(dataset).input_size(0) == (24, 40)
    assert image_header.read_header((tmp_path / f'a{suffix}').read_bytes()).size == (24, 40)


def test_a_header_that_is_cut_off_tells_no_size(tmp_path):
    for suffix in ('png', 'jpg'):
        picture(24, 40, tmp_path / f'a.{suffix}')
        data = (tmp_path / f'a.{suffix}').read_bytes()
        assert all(image_header.read_header(data[:n]).size in (None, (24, 40)) for n in range(len(data)))


def test_a_set_of_others_that_enlarges_its_files_is_not_refused(tiny_options, tmp_path, folder, monkeypatch):
    for name, value in (('_extra', []), ('_index', None), ('_objects', dict(DATASET_REGISTRY._objects))):
        monkeypatch.setattr(DATASET_REGISTRY, name, value)  # the other tests do not know it
    file = tmp_path / 'double_dataset.py'
    file.write_text("""
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils.registry import DATASET_REGISTRY

@DATASET_REGISTRY.register()
class DoubleDataset(PairedImageDataset):
    def __getitem__(self, index):
        item = super().__getitem__(index)
        return {k: v.repeat(1, 2, 2) if k in ('lq', 'gt') else v for k, v in item.items()}
""")
    options = tiny_options(dataset_files=[str(file)], datasets={'val': {**folder(), 'type': 'DoubleDataset'}},
                           val={'metrics': {'ssim': {'type': 'calculate_ssim'}}})
    assert basicsr(['train', '--opt', str(options)]) == 0


# ------------------------------------------------------------------------------------------------ what metrics need


def test_a_metric_that_cannot_be_measured_here_is_told_first(tiny_options, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('basicsr.metrics.lpips.find_spec', lambda name: None)
    options = tiny_options(val={'metrics': {'psnr': {'type': 'calculate_psnr'}, 'l': {'type': 'calculate_lpips'}}})
    said = refused(capsys, tmp_path, 'train', '--opt', options)
    assert 'val.metrics.l: calculate_lpips reads' in said and 'not installed' in said


def test_a_file_of_weights_that_is_not_there_is_told_first(tiny_options, tmp_path, capsys):
    options = tiny_options(val={'metrics': {'b': {'type': 'calculate_brisque', 'weights': str(tmp_path / 'none')}}})
    assert f"val.metrics.b: calculate_brisque: there is no file '{tmp_path}/none'" in refused(
        capsys, tmp_path, 'train', '--opt', options)


def without_gt(pairs: Path, tiny_options, **changes) -> Path:
    single = {'type': 'SingleImageDataset', 'dataroot_lq': str(pairs / 'input'), 'name': 'photos'}
    return tiny_options(datasets={'val': single}, **changes)


def test_what_chooses_needs_a_ground_truth(tiny_options, tmp_path, pairs, capsys, messages):
    options = without_gt(pairs, tiny_options)
    assert "train.early_stop: 'psnr' needs a ground truth" in refused(capsys, tmp_path, 'train', '--opt', options,
                                                                      'train.early_stop={patience: 2}')
    assert "val.best_metric: 'psnr' needs a ground truth" in refused(capsys, tmp_path, 'train', '--opt', options,
                                                                     'val.best_metric=psnr')
    assert basicsr(['train', '--opt', str(options)]) == 0  # pictures may be all that is wanted
    assert [m for m in messages if m == 'no validation set has a ground truth, so no weights are kept as the best']
    assert not (tmp_path / 'experiments' / 'tiny' / 'best').exists()
    space = tmp_path / 'space.yml'
    space.write_text('space:\n  train.optim_g.lr: {low: 1e-4, high: 1e-3}\n')
    capsys.readouterr()
    pytest.importorskip('optuna')
    assert "--metric: 'psnr' needs a ground truth" in refused(capsys, tmp_path, 'search', '--opt', options, '--space',
                                                              space, '--trials', '1')


def test_a_later_set_may_choose_the_weights_but_does_not_stop_the_run(tiny_options, tmp_path, pairs, capsys):
    data = {'type': 'PairedImageDataset', 'dataroot_lq': str(pairs / 'input'), 'dataroot_gt': str(pairs / 'target')}
    options = without_gt(pairs, tiny_options, val={'best_metric': 'psnr'})
    both = f'datasets.val_2={json.dumps({**data, "name": "later"})}'
    assert basicsr(['train', '--opt', str(options), both]) == 0
    assert json.loads((tmp_path / 'experiments/tiny/best/best.json').read_text())['dataset'] == 'later'
    capsys.readouterr()
    assert 'datasets.val, the first validation set, has none' in refused(capsys, tmp_path, 'train', '--opt', options,
                                                                         both, 'train.early_stop={patience: 2}')


# ------------------------------------------------------------------------------------------------ network and losses

PICKY = """
import torch
from torch import nn
from torch.nn import functional as F
from basicsr.utils.registry import ARCH_REGISTRY

@ARCH_REGISTRY.register()
class Picky(nn.Module):
    def __init__(self, radius: int = 20, out: int = 3, draws: bool = False):
        super().__init__()
        self.radius, self.draws = radius, draws
        self.conv = nn.Conv2d(3, out, 3, padding=1)

    def forward(self, x):
        if self.draws:
            torch.rand(3)
        F.pad(x, (self.radius, ) * 4, 'reflect')
        return self.conv(x)
"""


@pytest.fixture
def picky(tiny_options, tmp_path, monkeypatch):
    """Options of a network of others that refuses images of 20 pixels and less."""
    for name, value in (('_extra', []), ('_index', None), ('_objects', dict(ARCH_REGISTRY._objects))):
        monkeypatch.setattr(ARCH_REGISTRY, name, value)  # the other tests do not know it
    file = tmp_path / 'picky_arch.py'
    file.write_text(PICKY)

    def write(data: dict, gt_size: int | None = 24, **network) -> Path:
        return tiny_options(
            arch_files=[str(file)], network_g={'type': 'Picky', **network},
            datasets={'train': {'gt_size': gt_size, **data.get('train', {})}, 'val': data.get('val', {})})

    return write


def test_an_image_that_is_too_small_for_the_network_is_named(picky, tmp_path, folder, capsys):
    said = refused(capsys, tmp_path, 'train', '--opt', picky({'val': folder()}))
    assert f"datasets.val: '{tmp_path}/odd/lq/2.png' gives the network 12x8 pixels, which are too few: " in said
    said = refused(capsys, tmp_path, 'train', '--opt', picky({'train': folder()}, gt_size=None))
    assert f"datasets.train: '{tmp_path}/odd/lq/2.png' gives the network 12x8 pixels" in said
    assert 'gives the network 16x16 pixels' in refused(capsys, tmp_path, 'train', '--opt', picky({}, gt_size=16))
    stages = 'datasets.train={gt_sizes: [24, 16], mini_batch_sizes: [2, 2], iters: [1, 2]}'
    more = [f'datasets.train.{key}={value}' for key, value in yaml.safe_load(stages.partition('=')[2]).items()]
    assert 'gives the network 16x16 pixels' in refused(capsys, tmp_path, 'train', '--opt', picky({}), *more)
    assert basicsr(['train', '--opt', str(picky({}))]) == 0


def test_a_defect_of_the_network_shows_its_traceback(picky, tmp_path):
    options = picky({}, radius=300)
    with pytest.raises(RuntimeError, match=r'(?i)padding'):
        basicsr(['train', '--opt', str(options)])
    assert not (tmp_path / 'experiments').exists()


def test_results_that_do_not_fit_the_ground_truth_are_told_first(picky, tmp_path, capsys):
    said = refused(capsys, tmp_path, 'train', '--opt', picky({}, out=4), 'train.pixel_opt.type=L1Loss')
    assert "datasets.val: '" in said and 'images differ in shape' in said


def test_a_loss_that_refuses_the_patches_is_told_first(tiny_options, tmp_path, capsys):
    said = refused(capsys, tmp_path, 'train', '--opt', tiny_options(), 'datasets.train.gt_size=8',
                   'train.losses=[{type: SSIMLoss}]')
    assert 'SSIM (padding valid) needs at least 11x11 pixels, the patch has 8x8' in said


def test_a_training_set_without_ground_truth_is_told_first(tiny_options, tmp_path, pairs, capsys):
    single = {
        'type': 'SingleImageDataset', 'dataroot_lq': str(pairs / 'input'), 'name': 'photos', 'batch_size_per_gpu': 1
    }
    options = yaml.safe_load(tiny_options().read_text())
    options['datasets']['train'] = single
    (tmp_path / 'single.yml').write_text(yaml.safe_dump(options))
    assert 'datasets.train: there is no ground truth to train on' in refused(capsys, tmp_path, 'train', '--opt',
                                                                             tmp_path / 'single.yml')


def test_what_is_tried_changes_nothing(picky, tmp_path, monkeypatch):
    """The same losses, to the last digit, with a network that draws random numbers."""
    losses = []
    for tried in (True, False):
        if not tried:
            monkeypatch.setattr('basicsr.training.run.check_validation', lambda *args: None)
            monkeypatch.setattr('basicsr.training.run.check_patch', lambda *args: None)
            monkeypatch.setattr('basicsr.training.run.check_training_data', lambda *args: {})
        assert basicsr(['train', '--opt', str(picky({}, draws=True)), f'name=tried{tried}']) == 0
        losses.append((tmp_path / 'experiments' / f'tried{tried}' / 'losses.csv').read_text())
    assert losses[0] == losses[1]
