"""Small folder trees of all-in-one restoration in both published layouts, and of CDD-11."""

import cv2
import numpy as np
import yaml

from basicsr.data import build_dataset
from basicsr.utils.task_names import CDD11 as FOLDERS

NOISES = ['denoise_15', 'denoise_25', 'denoise_50']
ALL = [*NOISES, 'derain', 'dehaze', 'deblur', 'synllie']

# tree -> split -> task -> {folder: names}
CODE = {
    'train': {
        'denoise': {'denoising/WaterlooED': ['1.bmp', '2.bmp'], 'denoising/BSD400': ['1.jpg']},
        'derain': {'deraining/RainTrainL/rainy': ['rain-1.png'], 'deraining/RainTrainL/gt': ['norain-1.png']},
        'dehaze': {
            'dehazing/RESIDE/part1': ['7_0.8_0.2.jpg', '7_1_0.1.jpg'], 'dehazing/RESIDE/part2': ['8_1_0.1.jpg'],
            'dehazing/RESIDE/clear': ['7.jpg', '8.jpg', '9.jpg']
        },
        'deblur': {
            'deblurring/GoPro/crop/train/input_crops': ['a.png', 'b.png'],
            'deblurring/GoPro/crop/train/target_crops': ['a.png', 'b.png']
        },
        'synllie': {'llie/LOLv1/Train/input': ['1.png'], 'llie/LOLv1/Train/target': ['1.png']},
    },
    'test': {
        'denoise': {'denoising/cBSD68/original_png': ['x.png', 'y.png']},
        'derain': {
            'deraining/Rain100L/rainy': ['norain-2.png', 'norain-10.png'],
            'deraining/Rain100L/gt': ['norain-2.png', 'norain-10.png']
        },
        'dehaze': {'dehazing/SOTS/outdoor/hazy': ['0001_0.8_0.2.jpg'], 'dehazing/SOTS/outdoor/gt': ['0001.png']},
        'deblur': {'deblurring/GoPro/test/input': ['a.png'], 'deblurring/GoPro/test/target': ['a.png']},
        'synllie': {'llie/LOLv1/Test/input': ['1.png'], 'llie/LOLv1/Test/target': ['1.png']},
    },
}
README = {
    'train': {
        'denoise': {'train/denoising/WED': ['1.bmp', '2.bmp'], 'train/denoising/BSD400': ['1.jpg']},
        'derain': {'train/deraining/Rain100L/rainy': ['rain-1.png'], 'train/deraining/Rain100L/gt': ['norain-1.png']},
        'dehaze': {
            'train/dehazing/OTS/hazy': ['7_1.png', '7_2.png', '8_1.png'],
            'train/dehazing/OTS/clear': ['7.png', '8.png']
        },
        'deblur': {
            'train/deblurring/GoPro/blur': ['a.png', 'b.png'], 'train/deblurring/GoPro/sharp': ['a.png', 'b.png']
        },
        'synllie': {'train/lol/LOL-v1/low': ['1.png'], 'train/lol/LOL-v1/high': ['1.png']},
    },
    'test': {
        'denoise': {'test/BSD68': ['x.png', 'y.png']},
        'derain': {'test/Rain100L/input': ['2.png', '10.png'], 'test/Rain100L/target': ['2.png', '10.png']},
        'dehaze': {'test/SOTS/hazy': ['0001_0.8_0.2.png'], 'test/SOTS/gt': ['0001.png']},
        'deblur': {'test/GoPro/input': ['a.png'], 'test/GoPro/target': ['a.png']},
        'synllie': {'test/LOL/low': ['1.png'], 'test/LOL/high': ['1.png']},
    },
}
COUNTS = {'train': dict(zip(ALL, (3, 3, 3, 1, 3, 2, 1))), 'test': dict(zip(ALL, (2, 2, 2, 2, 1, 1, 1)))}
SIZE = (40, 36)


def write(file, value=128, size=SIZE):
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), value if isinstance(value, np.ndarray) else np.full((*size, 3), value, np.uint8))


def tree(root, layout=CODE, splits=('train', 'test')):
    for split in splits:
        for folders in layout[split].values():
            for folder, names in folders.items():
                for name in names:
                    write(root / folder / name)
    return str(root)


def dataset(root, tasks=ALL, **options):
    return build_dataset({'type': 'AllInOneDataset', 'dataroot': root, 'de_type': tasks, 'phase': 'test'} | options)


def coded(h=24, w=20):
    y, x = np.mgrid[:h, :w]
    return np.stack([y, x, np.full_like(y, 7)], -1).astype(np.uint8)


def cdd(root, splits=('train', 'test'), names=('1', '2', '3')):
    for split in splits:
        for i, folder in enumerate(('clear', *FOLDERS)):
            for j, name in enumerate(names):
                write(root / split / folder / f'{name}.png', 10 * i + j, (8, 8))
    return {'type': 'CDD11Dataset', 'dataroot': str(root), 'phase': 'test'}


def option_file(root, **blocks):
    file = root / 'x.yml'
    file.write_text(yaml.safe_dump({'datasets': blocks, 'num_gpu': 0, 'network_g': {'type': 'Restormer'}}))
    return file
