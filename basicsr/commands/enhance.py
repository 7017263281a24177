"""Enhance one photo or a folder of photos, without ground truth: enhance.py INPUT -o OUT [--weights W]"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from basicsr.utils.errors import UserError, describe_os_error, run_main
from basicsr.utils.pretrained import default_weights, describe_weights, find_weights

if TYPE_CHECKING:
    from basicsr.inference.restorer import ImageRestorer


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', metavar='INPUT', help='an image, or a folder of images')
    parser.add_argument('-o', '--output', required=True, metavar='OUT', help='output file, or folder')
    parser.add_argument(
        '--weights', metavar='FILE',
        help='.pth or .safetensors, which says itself which network it belongs to, or a name of'
        ' `basicsr list weights`; default: those that come with the toolbox')
    parser.add_argument('--opt', '-opt', metavar='YAML', help='option file, for weights that do not say so')
    parser.add_argument('--tile', type=int, default=0, help='work in tiles of this size (0: whole image)')
    parser.add_argument('--tile_overlap', type=int, default=32, help='pixels shared by neighbouring tiles')
    parser.add_argument('--self_ensemble', action='store_true',
                        help='average over flips and rotations (8 times slower)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1, mps')
    parser.add_argument('--amp', choices=['bf16', 'fp16'], help='half precision')
    parser.add_argument('--sheet', action='store_true', help='also write before/after pictures, *_sheet.png')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    jobs = _jobs(Path(args.input), Path(args.output))
    from tqdm import tqdm
    restorer = build_restorer(args)
    failed = []
    for source, target in tqdm(jobs, unit='image', disable=len(jobs) < 2 or not sys.stderr.isatty()):
        try:
            enhance_file(restorer, source, target, args.sheet)
        except UserError as error:
            failed.append(str(error))
        except OSError as error:
            failed.append(f'{source.name}: {describe_os_error(error)}')
    for message in failed:
        sys.stderr.write(f'error: {message}\n')
    if len(jobs) > 1:
        print(f'{len(jobs) - len(failed)} of {len(jobs)} images written to {args.output}')
    return 2 if failed else 0


def build_restorer(args: argparse.Namespace) -> ImageRestorer:
    """The restorer that the arguments `weights`, `opt`, `device`, `tile`, ... describe."""
    network, weights = None, args.weights
    if args.opt:
        from basicsr.config import load_options
        opt = load_options(args.opt, is_train=False, check_files=False).opt
        network = opt['network_g']
        weights = weights or opt['path'].get('pretrain_network_g')
    weights = find_weights(weights or _default(args.opt))
    from basicsr.archs import input_channels
    from basicsr.inference.restorer import ImageRestorer, choose_device
    from basicsr.weights.network import load_described
    net, options = load_described(weights, network)
    channels = input_channels(options)
    if channels not in (None, 1, 3):
        raise UserError(f"the network of '{weights}' takes images of {channels} channels; photos have 3 (RGB) or"
                        ' are turned to 1 (grey). Data sets of such images are for: basicsr test')
    return ImageRestorer(net, choose_device(args.device), args.tile, args.tile_overlap, args.self_ensemble,
                         amp=args.amp, channels=channels)


def _default(opt: str | None) -> str:
    """The weights that come with the toolbox, said in the log. An option file asks for those of its own network."""
    from basicsr.utils.logger import get_root_logger
    name = None if opt else default_weights()
    if name is None:
        raise UserError('which network? give --weights FILE (or --opt YAML with path.pretrain_network_g)')
    get_root_logger().info(f'no --weights given: taking {name}, {describe_weights(name)}')
    return name


def enhance_file(restorer: ImageRestorer, source: Path, target: Path, sheet: bool = False) -> None:
    """Read, restore, write; a 16-bit input gives a 16-bit output where the format can hold it."""
    import numpy as np

    from basicsr.utils.image_header import read_header
    from basicsr.utils.img import decode_image, imwrite, to_float
    from basicsr.utils.logger import get_root_logger
    data = source.read_bytes()
    img = decode_image(data, str(source))
    for remark in read_header(data).remarks():
        get_root_logger().info(f'{source.name} is {remark}')
    result = restorer(to_float(img)[..., ::-1])[..., ::-1]
    deep = img.dtype == np.uint16 and target.suffix.lower() in ('.png', '.tif', '.tiff')
    peak, dtype = (65535, np.uint16) if deep else (255, np.uint8)
    imwrite((result * peak).round().astype(dtype), target)
    get_root_logger().info(f'wrote {target}')
    if sheet:
        result = np.broadcast_to(result, (*result.shape[:2], 3))  # grey beside the colours it came from
        before_after = np.hstack([to_float(img), result]) if img.shape == result.shape else result
        imwrite((before_after * 255).round().astype(np.uint8), target.with_name(f'{target.stem}_sheet.png'))


def _jobs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """(input, output) paths. An output that looks like a file name is one, when there is one input."""
    from basicsr.utils.files import IMAGE_SUFFIXES, list_images
    if not source.exists():
        raise UserError(f"there is no file or folder '{source}'")
    if source.is_dir():
        images = list_images(source)
        if not images:
            raise UserError(f"there are no images in '{source}' (known types: {', '.join(IMAGE_SUFFIXES)})")
        if target.suffix.lower() in IMAGE_SUFFIXES and not target.is_dir():
            raise UserError(f"'{source}' is a folder, so -o must name a folder, not the file '{target}'")
    else:
        images = [source]
    to_file = not source.is_dir() and target.suffix and not target.is_dir()
    jobs = [(p, target if to_file else target / p.name) for p in images]
    for image, out in jobs:
        if out.suffix.lower() not in IMAGE_SUFFIXES:
            raise UserError(
                f"cannot write '{out}': unknown image type '{out.suffix}'; one of: {', '.join(IMAGE_SUFFIXES)}")
        if out.exists() and out.samefile(image):
            raise UserError(f"the output '{out}' would overwrite its input; choose another -o")
    return jobs


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_main(lambda: run(args))
