"""Measure images: basicsr measure RESULT_DIR [GT_DIR] --metrics psnr ssim lpips niqe

Images of two folders are paired by name. Without GT_DIR, metrics that need no ground truth measure one folder.
"""
from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

from basicsr.commands.metric_choice import Metrics, add_arguments, choose_metrics, measure_all, print_table
from basicsr.utils.errors import UserError, run_main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('result_dir', metavar='RESULT_DIR')
    parser.add_argument('gt_dir', metavar='GT_DIR', nargs='?')
    add_arguments(parser, 'psnr ssim, or niqe without GT_DIR')
    parser.add_argument('--filename_tmpl', default='{}', help="results' names by the ground truth's, e.g. '{}_mine'")
    parser.add_argument('--device', default='auto', help='where networks run: cpu, cuda, cuda:1; default a GPU if any')
    parser.add_argument('--csv', metavar='FILE', help='write the values of each image')
    parser.add_argument('--json', metavar='FILE', help='write the means, and what they mean')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from basicsr.data.pairing import image_folder, pair_by_name
    from basicsr.inference.restorer import choose_device
    names = args.metrics or (['psnr', 'ssim'] if args.gt_dir else ['niqe'])
    metrics = choose_metrics(names, args.protocol, args.set, with_gt=bool(args.gt_dir))
    if args.gt_dir:
        pairs = pair_by_name(args.result_dir, args.gt_dir, args.filename_tmpl, option='RESULT_DIR')
    else:
        pairs = [(str(path), None) for path in image_folder(args.result_dir, 'RESULT_DIR')]
    device = choose_device(args.device)
    rows = {}
    for result, gt in tqdm(pairs, unit='image', disable=not sys.stderr.isatty()):
        rows[Path(gt or result).stem] = _measure(result, gt, metrics, device)
    means = {label: sum(row[label] for row in rows.values()) / len(rows) for label in metrics}
    print_table({**rows, f'mean of {len(rows)}': means}, metrics)
    _write(rows, means, metrics, args)


def _measure(result: str, gt: str | None, metrics: Metrics, device: str) -> dict[str, float]:
    from basicsr.utils.img import imread, to_float
    images = [to_float(imread(path))[..., ::-1].astype(float) if path else None for path in (result, gt)]
    try:
        return measure_all(*images, metrics, device)
    except ValueError as error:
        raise UserError(f"'{result}': {error}") from error


def _write(rows: dict[str, dict[str, float]], means: dict[str, float], metrics: Metrics,
           args: argparse.Namespace) -> None:
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
                      indent=2)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_main(lambda: run(args))
