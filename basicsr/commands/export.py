"""Write a trained network for other programs: export --weights W -o net.safetensors (or .pt, .pt2, .onnx)"""
from __future__ import annotations

import argparse
from pathlib import Path

from basicsr.utils.errors import UserError, nearest, run_main
from basicsr.utils.pretrained import find_weights

_TOLERANCE = 1e-3  # of images in [0, 1]: a quarter of a level of 255
_MODULES = {'ss2d_scan': 'basicsr.ops.ss2d', 'selective_scan': 'basicsr.ops.selective_scan'}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--weights', required=True, metavar='FILE',
                        help='.pth, .ckpt or .safetensors, or a name of `basicsr list weights`')
    parser.add_argument('--opt', '-opt', metavar='YAML', help='option file, for weights that do not say their network')
    parser.add_argument('-o', '--output', required=True, metavar='FILE',
                        help='.safetensors: weights and options; .pt: TorchScript; .pt2: torch.export program; .onnx')
    parser.add_argument('--size', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'),
                        help='of the images that .pt, .pt2, .onnx take')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    target, (height, width) = Path(args.output), args.size
    if min(height, width) < 1:
        raise UserError(f'--size {height} {width}: sides must be positive')
    import torch

    from basicsr.inference.export import FORMATS, Plain, merge_low_rank, random_inputs
    from basicsr.weights.network import load_described
    if target.suffix not in FORMATS:
        raise UserError(f"-o '{target}': unknown type '{target.suffix}'.{nearest(target.suffix, FORMATS)} One of: "
                        f"{', '.join(FORMATS)}")
    weights = find_weights(args.weights)
    if target.exists() and target.samefile(weights):
        raise UserError(f"the output '{target}' would overwrite the weights; choose another -o")
    network = None
    if args.opt:
        from basicsr.config import load_options
        network = load_options(args.opt, is_train=False, check_files=False).opt['network_g']
    net, options = load_described(weights, network)
    net.eval().requires_grad_(False)
    write, answer = FORMATS[target.suffix]
    check = random_inputs(net, options, height, width, seed=1)
    expected = Plain(net)(*check)
    merged = merge_low_rank(net, options)
    own = write(net, merged, random_inputs(net, options, height, width, seed=0), target)
    with torch.no_grad():
        difference = (answer(target, check) - expected).abs().max().item()
    note = ', low-rank additions merged' if merged != options else ''
    print(f"{target}: {options['type']}, {sum(p.numel() for p in net.parameters()):,d} parameters{note}")
    if target.suffix != '.safetensors':
        print('takes ' + ' and '.join('x'.join(map(str, t.shape)) for t in check) + ', nothing else')
    for name in sorted(own):
        print(f'calls an operator of this toolbox: import {_MODULES[name]} before loading it')
    print(f'largest difference from the network on a random image: {difference:.2e}')
    if not difference <= _TOLERANCE:
        raise UserError(f"'{target}' does not answer as the network does (difference {difference:.2e}); do not use it")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_main(lambda: run(args))
