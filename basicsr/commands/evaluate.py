"""Restore data sets and measure: evaluate --opt X.yml --weights W.pth ..., or --weights W.pth --degraded_dir D"""
from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from basicsr.commands.amount_arguments import KNOBS, checked_knobs, parse_with_knobs
from basicsr.commands.metric_arguments import add_arguments
from basicsr.utils.errors import UserError, counted, run_main
from basicsr.utils.fetching.addresses import is_address
from basicsr.utils.files import as_stored
from basicsr.utils.names import checked
from basicsr.utils.pretrained import OTHER_WEIGHTS, locate


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--opt', '-opt', metavar='YAML', help='option file; its val* and test* data sets are evaluated')
    parser.add_argument('--weights', '--checkpoint', nargs='+', metavar='FILE', default=[],
                        help=f'a file, {OTHER_WEIGHTS}; several make one table; default path.pretrain_network_g')
    parser.add_argument('--key', help='entry of the weight files; default what --opt says, else params_ema, params')
    parser.add_argument('--degraded_dir', type=as_stored, metavar='DIR',
                        help='a folder of images instead of data sets of an option file')
    parser.add_argument('--clean_dir', type=as_stored, metavar='DIR',
                        help='their ground truth, paired by name; without it: only restore')
    parser.add_argument('--filename_tmpl', default='{}',
                        help="names in --degraded_dir by the ground truth's, e.g. '{}x2'")
    parser.add_argument('--dataset', help='name of the result folder, e.g. LOL_v1; default: of the data')
    parser.add_argument('--benchmarks', nargs='+', metavar='TASK', default=[],
                        help='only these tasks, e.g. derain, SOTS, denoise (all noise levels), CDD11')
    add_arguments(parser, 'PSNR and SSIM under every protocol')
    parser.add_argument('--result_dir', default='./results/', help='images go to RESULT_DIR/DATASET/OPTIONS/WEIGHTS')
    parser.add_argument('--output_dir', '--save_dir', default='', help='write images and metrics here instead')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace images in --output_dir that are of no evaluation')
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
    parser.epilog = KNOBS
    args = parse_with_knobs(parser, argv)
    for flag in ('benchmarks', 'metrics', 'weights'):  # they take all words that follow
        words = getattr(args, flag)
        others = [word for word in words if '=' in word and not (flag == 'weights' and _is_weights(word))]
        args.overrides += others
        setattr(args, flag, [word for word in words if word not in others])
    return args


def run(args: argparse.Namespace) -> None:
    if args.gpus:
        os.environ['CUDA_VISIBLE_DEVICES'] = args.gpus
    if args.dataset is not None:
        checked(args.dataset, '--dataset')
    knobs = checked_knobs(args)
    opt = _options(args)
    given = args.weights or ([opt['path']['pretrain_network_g']]
                             if opt and opt['path'].get('pretrain_network_g') else [])
    if not given:
        raise UserError('give --weights FILE')
    files = [locate(name) for name in given]
    if len(files) > 1 and args.output_dir:
        raise UserError('--output_dir is the folder of one weight file; several have theirs below --result_dir')
    from basicsr.evaluation import data_sets, weight_files
    data = (data_sets.of_folders(args.degraded_dir, args.clean_dir, args.dataset, args.filename_tmpl)
            if args.degraded_dir else data_sets.of_options(opt or {}, args.opt))
    if args.benchmarks:
        data = data_sets.only_tasks(data, args.benchmarks)
    title = args.dataset or '_'.join(data)
    evaluation = weight_files.Evaluation(data, title, opt, _metrics(args), args.device, args.tile, args.self_ensemble,
                                         args.GT_mean, not args.no_images, args.comparison, args.key, knobs)
    if args.output_dir:
        evaluation.run(str(given[0]), files[0], Path(args.output_dir), args.overwrite)
    else:
        evaluation.run_all(list(map(str, given)), files,
                           Path(args.result_dir, title, *([Path(args.opt).stem] if args.opt else [])))
    if evaluation.not_finite:
        raise UserError(f'{counted(len(evaluation.not_finite), "result")} of the network not finite, as said above')


def _is_weights(word: str) -> bool:
    """A file or an address, and no override of an option, although there is a '=' in it."""
    return Path(word).is_file() or is_address(word)


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


def _metrics(args: argparse.Namespace) -> Any:
    """Those chosen; None without a choice."""
    if args.metrics:
        from basicsr.evaluation.metric_choice import choose_metrics
        with_gt = bool(args.clean_dir or not args.degraded_dir)
        return choose_metrics(args.metrics, args.protocol, args.set, with_gt)
    if args.protocol or args.set:
        raise UserError(f"--{'protocol' if args.protocol else 'set'} is for metrics named with --metrics")
    return None


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))
