"""Hold out whole scenes of a folder of ground truths for validation: basicsr split data/gt --count 24 -o lists"""
from __future__ import annotations

import argparse
from pathlib import Path

from basicsr.utils.errors import UserError, counted, run_main
from basicsr.utils.files import as_stored, atomic_write
from basicsr.utils.names import name_bytes
from basicsr.utils.outputs import check_new

_NAMES = ('train.txt', 'held_out.txt')


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=
        'Each list is the meta_info_file of a data set. Pictures that look alike are of one scene, and stay together.')
    parser.add_argument('folder', type=as_stored, metavar='DIR', help='ground truths')
    parser.add_argument('--count', type=int, required=True,
                        help='images to hold out, or a few less: scenes are not cut')
    parser.add_argument('--similarity', type=float, default=0.8,
                        help='correlation of thumbnails from which two images are of one scene (default 0.8)')
    parser.add_argument('-o', '--output', type=as_stored, default='.', metavar='DIR',
                        help=f'writes {" and ".join(_NAMES)} there')
    parser.add_argument('--overwrite', action='store_true', help='replace lists that are there')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from basicsr.data.pairing import image_folder
    from basicsr.data.scenes import find_scenes, hold_out
    targets = [Path(args.output) / name for name in _NAMES]
    check_new(targets, args.overwrite)
    if not 0 < args.similarity <= 1:
        raise UserError(f'--similarity: {args.similarity} is not above 0 and at most 1')
    files = image_folder(args.folder, 'DIR')
    if not 0 < args.count < len(files):
        raise UserError(
            f"--count: {args.count} of the {counted(len(files), 'image')} in '{args.folder}' cannot be held out")
    scenes = find_scenes(files, args.similarity)
    held_out = set(hold_out(scenes, args.count))
    if not held_out:
        raise UserError(f'no scene is as small as --count {args.count}: the smallest of {len(scenes)} has'
                        f" {counted(min(map(len, scenes)), 'image')}; a higher --similarity makes smaller scenes")
    for target, wanted in zip(targets, (False, True)):
        with atomic_write(target) as out:  # names in their own encoding
            out.writelines(name_bytes(file.name) + b'\n' for i, file in enumerate(files) if (i in held_out) == wanted)
    shown = sum(set(scene) <= held_out for scene in scenes)
    print(f"{counted(len(files), 'image')} of {counted(len(scenes), 'scene')}, the largest of {max(map(len, scenes))};"
          f" held out: {counted(len(held_out), 'image')} of {counted(shown, 'scene')}\n{targets[0]}\n{targets[1]}")


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))
