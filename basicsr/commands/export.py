"""Write a trained network for other programs: export --weights W -o net.safetensors (or .pt, .pt2, .onnx)"""
from __future__ import annotations

import argparse
from pathlib import Path

from basicsr.utils.errors import run_main
from basicsr.utils.pretrained import OTHER_WEIGHTS


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--weights', required=True, metavar='FILE',
                        help=f'.pth, .ckpt or .safetensors, {OTHER_WEIGHTS}')
    parser.add_argument('--opt', '-opt', metavar='YAML', help='option file, for weights that do not say their network')
    parser.add_argument('--key', help='entry of the weight file; default what --opt says, else params_ema, params')
    parser.add_argument('-o', '--output', required=True, metavar='FILE',
                        help='.safetensors: weights and options; .pt: TorchScript; .pt2: torch.export program; .onnx')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'),
                        help='of the only images that .pt, .pt2, .onnx take; default 256 256, of .onnx any size')
    parser.add_argument('--overwrite', action='store_true', help='replace a file that is there')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    network, preferred = None, None
    if args.opt:
        from basicsr.config import load_options
        opt = load_options(args.opt, is_train=False, check_files=False).opt
        network, preferred = opt['network_g'], opt['path'].get('param_key_g')
    from basicsr.inference.export_file import export_file
    size = tuple(args.size) if args.size else None
    for line in export_file(args.weights, Path(args.output), size, network, args.key, preferred, args.overwrite):
        print(line)


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))
