"""The arguments that say which network, and how it runs; shared by what enhances photos and clips."""
from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from basicsr.utils.errors import UserError
from basicsr.utils.files import as_stored
from basicsr.utils.pretrained import OTHER_WEIGHTS, WeightFile, default_weights, describe_weights, locate

if TYPE_CHECKING:
    from basicsr.inference.restorer import ImageRestorer

_WHICH = 'which network? give --weights FILE (or --opt YAML with path.pretrain_network_g)'


def add_weights(parser: argparse.ArgumentParser) -> None:
    """`--weights`, `--opt` and `--key`."""
    parser.add_argument('--weights', metavar='FILE',
                        help=f'.pth or .safetensors, {OTHER_WEIGHTS}; default: those that come with the toolbox')
    parser.add_argument('--opt', '-opt', type=as_stored, metavar='YAML',
                        help='option file, for weights that do not say so')
    parser.add_argument('--key', help='entry of the weight file; default what --opt says, else params_ema, params')


def add_running(parser: argparse.ArgumentParser, of: str) -> None:
    """`--tile`, `--tile_overlap`, `--self_ensemble`, `--device` and `--amp`. `of`: what large pictures are called."""
    parser.add_argument(
        '--tile', type=int,
        help=f'work in tiles of this size (0: whole images); default: large {of} on a CPU, where the'
        ' network answers in tiles almost as it does whole')
    parser.add_argument('--tile_overlap', type=int, default=32, help='pixels shared by neighbouring tiles')
    parser.add_argument('--self_ensemble', action='store_true',
                        help='average over flips and rotations (8 times slower)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1, mps')
    parser.add_argument('--amp', choices=['bf16', 'fp16'], help='half precision')


def restorer_of(args: argparse.Namespace, knobs: dict[str, float]) -> ImageRestorer:
    """The network that is asked for. Raises `UserError`."""
    from basicsr.inference.photos import photo_restorer
    opt = _options(args)
    return photo_restorer(_weights(args, opt), opt, key=args.key, device=args.device, knobs=knobs, tile=args.tile,
                          tile_overlap=args.tile_overlap, ensemble=args.self_ensemble, amp=args.amp)


def _options(args: argparse.Namespace) -> dict[str, Any] | None:
    """The content of the option file where one is given."""
    if not args.opt:
        return None
    from basicsr.config import load_options
    return load_options(args.opt, is_train=False, check_files=False).opt


def _weights(args: argparse.Namespace, opt: dict[str, Any] | None) -> WeightFile:
    if opt is None:
        return locate(_default() if args.weights is None else args.weights)
    weights = args.weights or opt['path'].get('pretrain_network_g')
    if not weights:
        raise UserError(_WHICH)
    return locate(weights)


def _default() -> str:
    """The weights that come with the toolbox, said in the log."""
    from basicsr.utils.logger import get_root_logger
    name = default_weights()
    if name is None:
        raise UserError(_WHICH)
    get_root_logger().info(f'no --weights given: taking {name}, {describe_weights(name)}')
    return name
