"""Measure images: basicsr measure RESULT_DIR [GT_DIR] --metrics psnr ssim lpips niqe

Images of two folders are paired by name. Without GT_DIR, metrics that need no ground truth measure one folder.
"""
from __future__ import annotations

import argparse

from basicsr.commands.metric_arguments import add_arguments
from basicsr.utils.errors import UserError, run_main
from basicsr.utils.files import as_stored
from basicsr.utils.outputs import check_outputs


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('result_dir', type=as_stored, metavar='RESULT_DIR')
    parser.add_argument('gt_dir', type=as_stored, metavar='GT_DIR', nargs='?')
    add_arguments(parser, 'psnr ssim, or niqe without GT_DIR')
    parser.add_argument('--filename_tmpl', default='{}', help="results' names by the ground truth's, e.g. '{}_mine'")
    parser.add_argument('--device', default='auto', help='where networks run: cpu, cuda, cuda:1; default a GPU if any')
    parser.add_argument('--csv', metavar='FILE', help='write the values of each image')
    parser.add_argument('--json', metavar='FILE', help='write the means, and what they mean')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from basicsr.evaluation.files import left_out, write_images
    from basicsr.evaluation.folders import measure_folders, write_summary
    from basicsr.evaluation.metric_choice import choose_metrics
    from basicsr.evaluation.report import table
    from basicsr.utils.machine import choose_device
    for option, file in (('--csv', args.csv), ('--json', args.json)):
        check_outputs([file] if file else [], filter(None, [args.result_dir, args.gt_dir]), option)
    names = args.metrics or (['psnr', 'ssim'] if args.gt_dir else ['niqe'])
    metrics = choose_metrics(names, args.protocol, args.set, with_gt=bool(args.gt_dir))
    found = measure_folders(args.result_dir, args.gt_dir, metrics, args.filename_tmpl, choose_device(args.device))
    lines = {row.name: row.values for row in found.rows}
    if args.csv:
        write_images(args.csv, [('', row) for row in found.rows])
    if args.json:
        write_summary(args.json, args.result_dir, args.gt_dir, found, metrics)
    print('\n'.join(table({**lines, f'mean of {len(lines)}': found.means}, metrics)))
    for label, count in found.left_out.items():
        print(left_out(label, count, found.images))
    if found.left_out:
        raise UserError('some images have no number, as said above; the means leave them out')


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))
