"""All-in-one data: where tasks are found, how often they come, what noise they get, and what is said when files are wrong."""
import logging
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from all_in_one_trees import ALL, CODE, COUNTS, NOISES, README, coded, dataset, option_file, tree, write
from conftest import SHARED

from basicsr.commands.check_data import main as check_data
from basicsr.data import build_dataset
from basicsr.data.all_in_one_tasks import TASKS, canonical, look_up
from basicsr.data.build import build_train_data
from basicsr.data.loader import ImageLoader, build_dataloader, sample_name
from basicsr.data.samplers import EnlargedSampler
from basicsr.data.transforms import DIHEDRAL, center_crop
from basicsr.metrics import measure
from basicsr.metrics.tasks import choose
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.utils.task_names import BENCHMARKS, GROUPS, spellings
from basicsr.utils.task_names import CDD11 as FOLDERS

# ---------------------------------------------------------------- finding


@pytest.mark.parametrize('layout', [CODE, README], ids=['code', 'readme'])
@pytest.mark.parametrize('split', ['train', 'test'])
def test_both_trees_are_found_and_pair(tmp_path, layout, split):
    root = tree(tmp_path, layout)
    for task in ALL:
        found = look_up(task, root, split == 'train')
        assert not found.mistakes and not [s for s in found.samples if s.task != task]
        assert len(found.samples) == COUNTS[split][task], found
        assert all((s.lq is None) == task.startswith('denoise') for s in found.samples)
    pairs = {(s.lq.split('/')[-1].split('.')[0], s.gt.split('/')[-1].split('.')[0]) for task in ('derain', 'dehaze')
             for s in look_up(task, root, True).samples}
    assert ('rain-1', 'norain-1') in pairs and {a[0] for a, _ in pairs} == {'r', '7', '8'}
    assert all(a[0] == b for a, b in pairs if b != 'norain-1')


def test_equal_names_win_over_the_part_before_the_underscore(tmp_path):
    for side in ('hazy', 'gt'):
        for name in ('1400_1', '1400_2', '1400'):
            write(tmp_path / 'dehazing/SOTS/indoor' / side / f'{name}.png')
    found = look_up('dehaze', str(tmp_path), False)
    assert len(found.samples) == 3
    assert [s.lq.replace('hazy', 'gt') for s in found.samples] == [s.gt for s in found.samples]


def test_outdoor_comes_before_indoor_and_roots_choose_otherwise(tmp_path):
    for place in ('indoor', 'outdoor'):
        for side in ('hazy', 'gt'):
            write(tmp_path / 'dehazing/SOTS' / place / side / '1.png')
    sots = f'{tmp_path}/dehazing/SOTS'
    assert look_up('dehaze', str(tmp_path), False).folders == [f'{sots}/outdoor']
    for dataroot in (str(tmp_path), None):
        items = dataset(dataroot, ['dehaze'], roots={'dehazing': f'{sots}/indoor'})
        assert [s.gt for s in items.samples] == [f'{sots}/indoor/gt/1.png']
    both = dataset(None, ['dehaze'], roots={'dehaze': [f'{sots}/indoor', f'{sots}/outdoor']})
    assert len(both) == 2


def test_parts_that_are_not_there_are_told(tmp_path):
    tree(tmp_path, splits=('train', ))
    (tmp_path / 'denoising/BSD400/1.jpg').unlink()
    text = dataset(str(tmp_path), ['denoise_50', 'dehaze'], phase='train').summary()
    assert text.splitlines()[0] == (f"  denoise_50: 2 images in '{tmp_path}/denoising/WaterlooED'"
                                    f" (not there: '{tmp_path}/denoising/BSD400')")
    assert text.splitlines()[1].endswith(
        f"(not there: '{tmp_path}/dehazing/RESIDE/part3', '{tmp_path}/dehazing/RESIDE/part4')")


def test_aliases_in_any_order_and_each_task_once():
    assert canonical(['lol', 'denoise', 'denoise_25', 'Dehazing'], 'x') == ['synllie', *NOISES, 'dehaze']
    assert set(TASKS) == set(ALL) == set(BENCHMARKS) - set(FOLDERS)
    # a task has the same names in options, tables and on the command line
    for name in spellings(ALL):
        assert canonical([name.upper()], 'x') and choose([name], ALL) == set(canonical([name], 'x'))
    assert choose(['denoising'], ALL) == set(NOISES) and set(spellings(['denoise_25'])) >= {'denoise', 'denoising'}
    assert GROUPS['cdd11'] == FOLDERS
    with pytest.raises(UserError, match=r"de_type: there is no task called 'deran'\. Did you mean 'derain'\?"):
        canonical(['deran'], 'de_type')


def test_training_says_loudly_which_folders_it_goes_without(tmp_path):
    tree(tmp_path, splits=('train', ))
    (tmp_path / 'denoising/BSD400/1.jpg').unlink()
    block = {
        'type': 'AllInOneDataset', 'dataroot': str(tmp_path), 'de_type': ['denoise', 'dehaze'], 'phase': 'train',
        'name': 'mixed', 'batch_size_per_gpu': 1
    }
    levels = []
    handler = logging.Handler()
    handler.emit = lambda record: levels.append((record.levelname, record.getMessage()))
    get_root_logger().addHandler(handler)
    build_train_data({
        'datasets': {'train': block}, 'dist': False, 'num_gpu': 0, 'world_size': 1, 'rank': 0, 'manual_seed': 0,
        'train': {'total_iter': 1}
    })
    get_root_logger().removeHandler(handler)
    warned = [text for level, text in levels if level == 'WARNING']
    assert warned == [
        f"Training set 'mixed' goes without 3 folders of the published data: '{tmp_path}/denoising/BSD400', "
        f"'{tmp_path}/dehazing/RESIDE/part3', '{tmp_path}/dehazing/RESIDE/part4'"
    ]


def test_the_test_images_of_sots_are_no_training_data(tmp_path):
    for side in ('hazy', 'clear'):
        write(tmp_path / 'train/dehazing/SOTS' / side / '1.png')
    with pytest.raises(UserError, match='no folder with'):
        dataset(str(tmp_path), ['dehaze'], phase='train')


def test_long_lists_of_files_are_cut_in_training_and_whole_in_check_data(tmp_path, capsys):
    for i in range(25):
        write(tmp_path / 'llie/LOLv1/Train/input' / f'n{i:02}.png')
    write(tmp_path / 'llie/LOLv1/Train/target/n00.png')
    block = {'type': 'AllInOneDataset', 'dataroot': str(tmp_path), 'de_type': ['lol']}
    with pytest.raises(UserError) as info:
        build_dataset(block | {'phase': 'train'})
    text = str(info.value)
    assert "24 inputs without ground truth" in text and 'n20.png and 4 more' in text and 'n21.png' not in text
    assert check_data(['--opt', str(option_file(tmp_path, train=block))]) == 2
    text = capsys.readouterr().err
    assert "n20.png and 4 more" in text and text.count('error: ') == 20
    lines = Path(text.strip().rpartition("in '")[2][:-1]).read_text(encoding='utf-8').splitlines()
    assert len([line for line in lines if line.startswith('synllie, 24 inputs')]) == 24


def test_everything_wrong_with_any_task_is_named_at_once(tmp_path):
    root = tree(tmp_path)
    (tmp_path / 'deraining/Rain100L/gt/norain-2.png').unlink()
    write(tmp_path / 'dehazing/SOTS/outdoor/hazy/0002_1.jpg')
    write(tmp_path / 'dehazing/SOTS/outdoor/gt/0009.png')  # a clear picture more is no mistake
    write(tmp_path / 'deblurring/GoPro/test/target/b.png')
    write(tmp_path / 'deblurring/GoPro/test/target/a.jpg')
    (tmp_path / 'llie/LOLv1/Test').rename(tmp_path / 'llie/LOLv1/elsewhere')
    with pytest.raises(UserError) as info:
        dataset(root)
    lines = str(info.value).splitlines()
    assert lines[0] == 'datasets.test: the images of derain, dehaze, deblur, synllie are not complete:'
    text = '\n'.join(lines[1:])
    assert '  denoise_15: 2 images' in text and '  derain: 1 pair in' in text
    assert f"1 input without ground truth, in '{root}/deraining/Rain100L/rainy': norain-2.png" in text
    assert '0002_1.jpg' in text and '0009' not in text
    assert 'a.png' in text and 'a.jpg' in text and 'have the same name' in text
    assert f"1 ground truth without input, in '{root}/deblurring/GoPro/test/target': b.png" in text
    assert f"looked for '{root}/llie/LOLv1/Test', '{root}/test/LOL'" in text and '{low,high}' in text
    assert len([ln for ln in lines if ln.startswith('  ') and ln[2] != ' ']) == 7
    with pytest.raises(UserError, match=r'give dataroot, or its folder as roots\.derain'):
        dataset(None, ['derain'])


# ---------------------------------------------------------------- sampling


def test_an_epoch_repeats_each_task_by_its_ratio(tmp_path):
    root = tree(tmp_path)
    counts = Counter(s.task for s in dataset(root, phase='train').samples)
    assert counts == {
        'denoise_15': 9, 'denoise_25': 9, 'denoise_50': 9, 'derain': 120, 'dehaze': 3, 'deblur': 10, 'synllie': 20
    }
    assert set(Counter(dataset(root, ['derain', 'deblur'], phase='train').samples).values()) == {120, 5}
    changed = dataset(root, phase='train', ratios={'denoise': 1, 'lol': 2})
    assert Counter(s.task for s in changed.samples) == counts | dict.fromkeys(NOISES, 3) | {'synllie': 2}
    assert Counter(s.task for s in dataset(root).samples) == COUNTS['test']  # once each in a test
    with pytest.raises(UserError, match="ratios: 0 for 'derain'"):
        dataset(root, phase='train', ratios={'derain': 0})
    with pytest.raises(UserError, match='de_type: give at least one task'):
        dataset(root, [])


def test_published_epoch_lengths():
    images = {
        'denoise_15': 5144, 'denoise_25': 5144, 'denoise_50': 5144, 'derain': 200, 'dehaze': 72135, 'deblur': 2103,
        'synllie': 485
    }
    lengths = {task: images[task] * TASKS[task].ratio for task in ALL}
    assert sum(lengths[t] for t in (*NOISES, 'derain', 'dehaze')) == 142431 and sum(lengths.values()) == 162646


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize('order', [NOISES, ['dehaze', 'denoise_50', 'derain', 'denoise_15', 'denoise_25']], ids=str)
@pytest.mark.parametrize('phase', ['train', 'test'])
def test_sigma_follows_from_the_name_in_any_order(tmp_path, order, phase):
    items = dataset(tree(tmp_path), order, phase=phase, gt_size=None)
    np.random.seed(0)
    for i in [[s.task for s in items.samples].index(t) for t in NOISES]:
        item = items[i]
        sigma = float((item['lq'] - item['gt']).std()) * 255
        assert item['task'] in NOISES and abs(sigma / float(item['task'][-2:]) - 1) < 0.07  # 4,320 draws, clipped
        # truncated: whole levels, half a level lower on average, clipped
        levels = item['lq'] * 255
        assert torch.equal(levels.round() / 255, item['lq']) and item['lq'].min() >= 0 and item['lq'].max() <= 1


def noisy(items):
    return {f"{item['task']}/{Path(item['lq_path']).stem}": item['lq'] for item in items}


def test_test_noise_is_reproducible_per_image(tmp_path):
    root = tree(tmp_path)
    items = dataset(root)
    by_name = noisy(items)
    assert len(by_name) == len(items) == 11 and 'denoise_25/x' in by_name
    assert not torch.equal(by_name['denoise_25/x'], by_name['denoise_25/y'])
    write(tmp_path / 'denoising/cBSD68/original_png/0.png')
    np.random.seed(7)
    for tasks in (['denoise_25'], ['derain', 'denoise_50', 'denoise_25']):
        again = noisy(dataset(root, tasks))
        assert all(torch.equal(again[n], by_name[n]) for n in ('denoise_25/x', 'denoise_25/y'))
    other = noisy(dataset(root, ['denoise_25'], seed=1))
    assert not torch.equal(other['denoise_25/x'], by_name['denoise_25/x'])
    for batch in ImageLoader(items, {}, batch_size=1, num_workers=2):
        assert torch.equal(batch['lq'][0], by_name[f"{batch['task'][0]}/{sample_name(batch)}"])


def test_training_batches_do_not_depend_on_workers(tmp_path):
    items = dataset(tree(tmp_path), NOISES + ['deblur'], phase='train', gt_size=16)

    def batches(workers, seed):
        sampler = EnlargedSampler(items, seed=seed)
        options = {'phase': 'train', 'batch_size_per_gpu': 4, 'num_worker_per_gpu': workers}
        return [(b['lq'], b['task']) for b in build_dataloader(items, options, sampler=sampler)]

    alone, workers, other = batches(0, 3), batches(2, 3), batches(0, 4)
    assert all(torch.equal(a, b) and s == t for (a, s), (b, t) in zip(alone, workers, strict=True))
    assert not torch.equal(alone[0][0], other[0][0])
    assert alone[0][0].shape == (4, 3, 16, 16) and {t for _, tasks in alone for t in tasks} == {*NOISES, 'deblur'}


# ---------------------------------------------------------------- crop and augmentation


def test_patches_are_the_same_box_and_all_eight_augmentations_occur(tmp_path):
    for side, factor in (('input', 1), ('target', 2)):
        write(tmp_path / side / 'a.png', coded() * factor)
    options = {'roots': {'deblur': str(tmp_path)}, 'phase': 'train'}
    random.seed(0)

    def seen(count=200, **more):
        samples = [dataset(None, ['deblur'], **options, **more)[0] for _ in range(count)]
        assert all(torch.equal(s['gt'], s['lq'] * 2) for s in samples)
        return {(s['lq'].permute(1, 2, 0).flip(2) * 255).round().byte().numpy().tobytes() for s in samples}

    modes = {np.ascontiguousarray(turn(coded())).tobytes() for turn in DIHEDRAL}
    assert seen(gt_size=None) == modes and len(modes) == 8
    assert seen(gt_size=None, geometric_augs=False, count=20) == {coded().tobytes()}
    assert len(seen(gt_size=12, geometric_augs=False)) > 60
    assert dataset(None, ['deblur'], **options, gt_size=32)[0]['lq'].shape == (3, 32, 32)  # padded by reflection


def test_crop16_cuts_the_middle(tmp_path):
    assert center_crop(coded(24, 37), 16)[0, 0].tolist() == [4, 2, 7]
    assert center_crop(coded(24, 37), 16).shape == (16, 32, 3) and center_crop(coded(), 1).shape == (24, 20, 3)
    for side in ('input', 'target'):
        write(tmp_path / side / 'a.png', coded(24, 37))
    roots = {'deblur': str(tmp_path)}
    cropped = dataset(None, ['deblur'], roots=roots, crop16=True)[0]
    assert cropped['lq'].shape == cropped['gt'].shape == (3, 16, 32)
    assert (cropped['gt'][1:, 0, 0] * 255).round().tolist() == [2, 4]
    assert dataset(None, ['deblur'], roots=roots)[0]['lq'].shape == (3, 24, 37)


def test_sizes_must_agree(tmp_path):
    write(tmp_path / 'input/a.png', coded(24, 20))
    write(tmp_path / 'target/a.png', coded(24, 21))
    for phase in ('train', 'test'):
        with pytest.raises(UserError, match=r"target/a\.png' is 21x24, but its input is 20x24"):
            dataset(None, ['deblur'], roots={'deblur': str(tmp_path)}, phase=phase)[0]


# ---------------------------------------------------------------- published images

AIO = SHARED / 'data' / 'aio'


@pytest.mark.skipif(not AIO.is_dir(), reason='needs sample images')
def test_sample_images_of_the_published_benchmarks():
    items = dataset(str(AIO), ['denoise', 'derain', 'dehaze'], crop16=True)
    counts = Counter(s.task for s in items.samples)
    assert counts == {'denoise_15': 12, 'denoise_25': 12, 'denoise_50': 12, 'derain': 10, 'dehaze': 10}
    inputs = {task: [] for task in counts}  # PSNR of the degraded images themselves, in dB
    for item in items:
        lq, gt = (item[side].permute(1, 2, 0).numpy() for side in ('lq', 'gt'))
        assert lq.shape == gt.shape and all(n % 16 == 0 for n in lq.shape[:2])
        inputs[item['task']].append(measure(lq, gt, {'type': 'calculate_psnr', 'protocol': 'all-in-one'}))
    for sigma in (15, 25, 50):  # clipping to [0, 255] takes some of the noise
        assert -20 * np.log10(sigma / 255) < np.mean(inputs[f'denoise_{sigma}']) < -20 * np.log10(0.85 * sigma / 255)
    # measured on these few images; reported for the full sets: 26.90 on luma (25.88 here) and 11.97
    assert np.mean(inputs['derain']) == pytest.approx(24.51, abs=0.01)
    assert np.mean(inputs['dehaze']) == pytest.approx(14.49, abs=0.01)
