"""Measure images: basicsr measure RESULT_DIR [GT_DIR] --metrics psnr ssim lpips niqe

Images of two folders are paired by name. Without GT_DIR, metrics that need no ground truth measure one folder.
"""
from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError, nearest, run_main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('result_dir', metavar='RESULT_DIR')
    parser.add_argument('gt_dir', metavar='GT_DIR', nargs='?')
    parser.add_argument('--metrics', nargs='+', metavar='NAME', help='default: psnr ssim, or niqe without GT_DIR')
    parser.add_argument(
        '--protocol', help='of the metrics that have one, see `basicsr list protocols`; default basicsr')
    parser.add_argument(
        '--set', nargs='+', default=[], metavar='NAME.KEY=VALUE', help='arguments of a metric, e.g. lpips.net=vgg')
    parser.add_argument('--filename_tmpl', default='{}', help="results' names by the ground truth's, e.g. '{}_mine'")
    parser.add_argument('--device', default='auto', help='where networks run: cpu, cuda, cuda:1; default a GPU if any')
    parser.add_argument('--csv', metavar='FILE', help='write the values of each image')
    parser.add_argument('--json', metavar='FILE', help='write the means, and what they mean')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from basicsr.data.pairing import image_folder, pair_by_name
    from basicsr.inference.restorer import choose_device
    metrics = _metrics(args)
    if args.gt_dir:
        pairs = pair_by_name(args.result_dir, args.gt_dir, args.filename_tmpl, option='RESULT_DIR')
    else:
        pairs = [(str(path), None) for path in image_folder(args.result_dir, 'RESULT_DIR')]
    device = choose_device(args.device)
    rows = {}
    for result, gt in tqdm(pairs, unit='image', disable=not sys.stderr.isatty()):
        rows[Path(gt or result).stem] = _measure(result, gt, metrics, device)
    means = {label: sum(row[label] for row in rows.values()) / len(rows) for label in metrics}
    _print(rows, means, metrics)
    _write(rows, means, metrics, args)


def _metrics(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Option blocks as below `val.metrics`, by short name, checked."""
    from basicsr.config.overrides import set_option, split_path
    from basicsr.config.signatures import read_signature
    from basicsr.config.yaml_reader import parse_value
    from basicsr.metrics import needs_gt
    from basicsr.metrics.protocol import get_protocol
    from basicsr.registry import METRIC_REGISTRY
    names = args.metrics or (['psnr', 'ssim'] if args.gt_dir else ['niqe'])
    blocks: dict[str, dict[str, Any]] = {}
    for name in names:
        known = {k.removeprefix('calculate_'): k for k in METRIC_REGISTRY.keys()}
        if name not in known:
            raise UserError(f"--metrics: there is no metric '{name}'.{nearest(name, known)} Known: {', '.join(known)}")
        blocks[name] = {'type': known[name]}
        if not args.gt_dir and needs_gt(blocks[name]):
            raise UserError(f'{name} needs a ground truth: basicsr measure RESULT_DIR GT_DIR --metrics {name}')
        if args.protocol and 'protocol' in read_signature(METRIC_REGISTRY.index()[known[name]]).fields:
            blocks[name]['protocol'] = get_protocol(args.protocol).name
    for text in args.set:
        path, equals, value = text.partition('=')
        parts = split_path(path)
        if not equals or len(parts) != 2 or parts[0] not in blocks:
            raise UserError(f"--set '{text}' is not of the form NAME.KEY=VALUE with a NAME of {', '.join(blocks)}")
        fields = read_signature(METRIC_REGISTRY.index()[blocks[parts[0]]['type']]).fields
        if parts[1] not in fields:
            allowed = [k for k in fields if k not in ('img', 'img2')]
            raise UserError(f"--set: {parts[0]} has no '{parts[1]}'.{nearest(str(parts[1]), allowed)}"
                            f" It has: {', '.join(allowed)}")
        set_option(blocks, parts, parse_value(value))
    return blocks


def _measure(result: str, gt: str | None, metrics: dict[str, dict[str, Any]], device: str) -> dict[str, float]:
    from basicsr.metrics import measure
    from basicsr.utils.img import imread, to_float
    images = [to_float(imread(path))[..., ::-1].astype(float) if path else None for path in (result, gt)]
    try:
        return {label: measure(*images, block, device) for label, block in metrics.items()}
    except ValueError as error:
        raise UserError(f"'{result}': {error}") from error


def _print(rows: dict[str, dict[str, float]], means: dict[str, float], metrics: dict[str, dict[str, Any]]) -> None:
    from basicsr.metrics import better, describe
    width = max(len(name) for name in (*rows, 'better'))
    cell = max(10, *(len(label) + 2 for label in means))
    print(f'{"":<{width}}', *(f'{label:>{cell}}' for label in means))
    for name, row in {**rows, f'mean of {len(rows)}': means}.items():
        print(f'{name:<{width}}', *(f'{row[label]:{cell}.4f}' for label in means))
    print(f'{"better":<{width}}', *(f'{better(metrics[label]):>{cell}}' for label in means))
    for label, block in metrics.items():
        if describe(block):
            print(f'{label}: protocol {describe(block)}')


def _write(rows: dict[str, dict[str, float]], means: dict[str, float], metrics: dict[str, dict[str, Any]],
           args: argparse.Namespace) -> None:  # yapf: disable
    from basicsr.metrics import describe
    from basicsr.utils.files import atomic_write
    if args.csv:
        with atomic_write(args.csv, 'w') as file:
            writer = csv.writer(file)
            writer.writerow(['image', *means])
            writer.writerows([name, *(f'{row[label]:.6f}' for label in means)] for name, row in rows.items())
    if args.json:
        summary = {k: {'mean': means[k], 'options': metrics[k], 'protocol': describe(metrics[k])} for k in means}
        with atomic_write(args.json, 'w') as file:
            json.dump({'results': args.result_dir, 'gt': args.gt_dir, 'images': len(rows), 'metrics': summary}, file,
                      indent=2)  # yapf: disable


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_main(lambda: run(args))
