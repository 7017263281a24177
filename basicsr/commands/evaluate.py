"""Restore data sets and measure: evaluate --opt X.yml --weights W.pth, or --weights W.pth --degraded_dir D"""
from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from basicsr.commands.metric_choice import (
    Metrics,
    add_arguments,
    all_protocols,
    choose_metrics,
    leave_out_unavailable,
)
from basicsr.utils.errors import UserError, run_main
from basicsr.utils.pretrained import find_weights


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--opt', '-opt', metavar='YAML', help='option file; its val* and test* data sets are evaluated')
    parser.add_argument('--weights', '--checkpoint', metavar='FILE',
                        help='a file, or a name of `basicsr list weights`; default path.pretrain_network_g')
    parser.add_argument('--degraded_dir', metavar='DIR',
                        help='a folder of images instead of data sets of an option file')
    parser.add_argument('--clean_dir', metavar='DIR',
                        help='their ground truth, paired by name; without it: only restore')
    parser.add_argument('--dataset', help='name of the result folder, e.g. LOL_v1; default: of the data')
    parser.add_argument('--benchmarks', nargs='+', metavar='TASK', default=[],
                        help='only these tasks, e.g. derain, SOTS, denoise (all noise levels), CDD11')
    add_arguments(parser, 'PSNR and SSIM under every protocol')
    parser.add_argument('--result_dir', default='./results/', help='images go to RESULT_DIR/DATASET/OPTIONS/WEIGHTS')
    parser.add_argument('--output_dir', '--save_dir', default='', help='write images and metrics here instead')
    parser.add_argument('--input_dir', default='',
                        help=argparse.SUPPRESS)  # in published commands; the data come from the YAML
    parser.add_argument('--gpus', default='', help="GPUs to use, e.g. '0' or '0,1'; default as num_gpu says")
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1, mps')
    parser.add_argument('--GT_mean', action='store_true', help='scale results to the brightness of the ground truth')
    parser.add_argument('--self_ensemble', action='store_true', help='average over flips and rotations')
    parser.add_argument('--tile', type=int, default=0, help='work in tiles of this size (0: whole image)')
    parser.add_argument('--no_images', action='store_true', help='measure only, write no images')
    parser.add_argument('--comparison', action='store_true',
                        help='also pictures beside input and ground truth, and what is gained over the input')
    parser.add_argument('overrides', nargs='*', metavar='path=value', help='e.g. datasets.val.dataroot_lq=...')
    args = parser.parse_intermixed_args(argv)
    for flag in ('benchmarks', 'metrics'):  # they take all words that follow
        words = getattr(args, flag)
        args.overrides += [word for word in words if '=' in word]
        setattr(args, flag, [word for word in words if '=' not in word])
    return args


def run(args: argparse.Namespace) -> None:
    if args.gpus:
        os.environ['CUDA_VISIBLE_DEVICES'] = args.gpus
    opt = _options(args)
    weights = args.weights or (opt['path'].get('pretrain_network_g') if opt else None)
    if weights is None:
        raise UserError('give --weights FILE')
    file = find_weights(weights)
    data = _folders(args) if args.degraded_dir else _data_sets(opt, args.opt)
    chosen = _choose(data, args.benchmarks)
    metrics = _metrics(args)
    from basicsr.commands.comparison import Comparison
    from basicsr.commands.evaluation_report import Row, report
    from basicsr.commands.restoring import build_restorer, measure_image, restore_images
    from basicsr.metrics.gt_mean import match_mean
    from basicsr.utils.img import imwrite
    args.dataset = args.dataset or '_'.join(data)
    folder = Path(args.output_dir
                  or Path(args.result_dir, args.dataset, *([Path(args.opt).stem] if args.opt else []), file.stem))
    restorer = build_restorer(file, opt, None, args.device, args.tile, args.self_ensemble)
    if args.metrics:
        metrics = leave_out_unavailable(metrics, restorer.device)
    homes = {name: folder / name if len(data) > 1 else folder for name in data}
    rows, counts = [], dict.fromkeys(data, 0)
    for name, (dataset, block) in data.items():
        if hasattr(dataset, 'summary'):  # which of several possible folders the images of a task come from
            print(f'{name}:\n{dataset.summary()}')
        comparison = Comparison(homes[name], not args.no_images)
        for task, image, path, lq, result, gt in restore_images(restorer, dataset, block, name, chosen[name]):
            if gt is not None and args.GT_mean:
                result = match_mean(result, gt)
            values = measure_image(path, result, gt, metrics, restorer.device)
            if values:
                rows.append(Row(name, task, image, values))
            if gt is not None and args.comparison:
                comparison.add('/'.join(filter(None, (task, image))), lq, result, gt)
            if not args.no_images:
                imwrite((result[..., ::-1] * 255).round().astype('uint8'), homes[name] / task / f'{image}.png')
            counts[name] += 1
        if comparison.names:
            comparison.write()
            print(f"{name}: compared with the input in {homes[name] / 'test_results.txt'}" +
                  (f'; no LPIPS: {comparison.missing}' if comparison.missing else ''))
    settings = {
        'weights': str(weights), 'GT_mean': args.GT_mean, 'self_ensemble': args.self_ensemble, 'tile': args.tile
    }
    for name in [n for n in data if counts[n] and n not in {row.dataset for row in rows}]:
        done = 'nothing to measure' if args.no_images else f'{counts[name]} images written to {homes[name]}'
        print(f'{name}: no ground truth; {done}')
    if rows:
        report(rows, args.dataset, settings, folder, metrics if args.metrics else None)


def _options(args: argparse.Namespace) -> dict[str, Any] | None:
    """The option file's content; None without one."""
    if args.clean_dir and not args.degraded_dir:
        raise UserError('--clean_dir is the ground truth of --degraded_dir DIR, which is missing')
    if args.opt:
        from basicsr.config import load_options
        return load_options(args.opt, args.overrides, is_train=False, check_files=not args.degraded_dir).opt
    if not args.degraded_dir:
        raise UserError('evaluate what? give --opt YAML, or --weights FILE --degraded_dir DIR [--clean_dir DIR]')
    if args.overrides:
        raise UserError(f"'{args.overrides[0]}' overrides an option file; give it with --opt YAML")
    return None


def _data_sets(opt: dict[str, Any], file: str) -> dict[str, tuple]:
    """(data set, its block) of every val and test block, by name."""
    from basicsr.data import build_dataset
    out = {}
    for key in sorted(k for k in opt['datasets'] if not k.startswith('train')):
        block = opt['datasets'][key]
        name = block['name'] if block['name'] not in out else key
        out[name] = build_dataset(block), block
    if not out:
        raise UserError(f"'{file}' has no val or test data set")
    return out


def _folders(args: argparse.Namespace) -> dict[str, tuple]:
    """One data set of the folders on the command line."""
    from basicsr.data.single_image_dataset import SingleImageDataset
    for flag in ('degraded_dir', 'clean_dir'):
        if getattr(args, flag) and not Path(getattr(args, flag)).is_dir():
            raise UserError(f"--{flag}: '{getattr(args, flag)}' is not a folder")
    name = args.dataset or Path(args.degraded_dir).resolve().name
    dataset = _pairs(args, name) if args.clean_dir else SingleImageDataset(dataroot_lq=args.degraded_dir)
    return {name: (dataset, {})}


def _pairs(args: argparse.Namespace, name: str):
    """Files of equal names; else those of known benchmarks: 'rain-7' and 'norain-7', '0001_0.8_0.2' and '0001'."""
    from basicsr.data.all_in_one_tasks import pair_stems
    from basicsr.data.paired_image_dataset import PairedImageDataset
    from basicsr.data.task_samples import TaskSamples
    from basicsr.utils.files import list_images
    try:
        return PairedImageDataset(dataroot_gt=args.clean_dir, dataroot_lq=args.degraded_dir, phase='test')
    except UserError as error:
        for many in (False, True):
            found = pair_stems(list_images(Path(args.degraded_dir)), list_images(Path(args.clean_dir)), name, many)
            if found.samples and not found.mistakes:
                return TaskSamples([found], None, False, 1, 0, training=False)
        raise UserError(str(error).partition('; if names differ')[0]) from error  # the hint is for option files


def _choose(data: dict[str, tuple], benchmarks: list[str]) -> dict[str, list[int] | None]:
    """The indices of each data set to evaluate; None for all of it."""
    if not benchmarks:
        return dict.fromkeys(data)
    from basicsr.data.loader import ImageLoader
    from basicsr.metrics.tasks import choose, task_of
    tasks = {
        name: dataset.tasks()
        if hasattr(dataset, 'tasks') else [task_of(batch) for batch in ImageLoader(dataset, block, batch_size=1)]
        for name, (dataset, block) in data.items()
    }
    chosen = choose(benchmarks, {task for found in tasks.values() for task in found if task})
    return {name: [i for i, task in enumerate(found) if task in chosen] for name, found in tasks.items()}


def _metrics(args: argparse.Namespace) -> Metrics:
    if args.metrics:
        with_gt = bool(args.clean_dir or not args.degraded_dir)
        return choose_metrics(args.metrics, args.protocol, args.set, with_gt)
    if args.protocol or args.set:
        raise UserError(f"--{'protocol' if args.protocol else 'set'} is for metrics named with --metrics")
    return all_protocols()


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_main(lambda: run(args))
