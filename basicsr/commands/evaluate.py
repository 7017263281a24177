"""Restore a paired data set and print PSNR and SSIM: test_from_dataset.py --opt X.yml --weights W.pth --dataset NAME"""
from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from pathlib import Path

from basicsr.utils.errors import UserError, run_main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--opt', '-opt', required=True, metavar='YAML', help='option file; datasets.val names the data')
    parser.add_argument('--weights', metavar='FILE', help='weights, default path.pretrain_network_g')
    parser.add_argument('--dataset', required=True, help='name of the result folder, e.g. LOL_v1')
    parser.add_argument('--result_dir', default='./results/', help='images go to RESULT_DIR/DATASET/OPTIONS/WEIGHTS')
    parser.add_argument('--output_dir', default='', help='write images here instead')
    parser.add_argument(
        '--input_dir', default='', help=argparse.SUPPRESS)  # in published commands; the data come from the YAML
    parser.add_argument('--gpus', default='', help="GPUs to use, e.g. '0' or '0,1'; default as num_gpu says")
    parser.add_argument('--GT_mean', action='store_true', help='scale results to the brightness of the ground truth')
    parser.add_argument('--self_ensemble', action='store_true', help='average over flips and rotations')
    parser.add_argument('--tile', type=int, default=0, help='work in tiles of this size (0: whole image)')
    parser.add_argument('--no_images', action='store_true', help='measure only, write no images')
    parser.add_argument('overrides', nargs='*', metavar='path=value', help='e.g. datasets.val.dataroot_lq=...')
    return parser.parse_intermixed_args(argv)


def run(args: argparse.Namespace) -> None:
    from basicsr.config import load_options
    if args.gpus:
        os.environ['CUDA_VISIBLE_DEVICES'] = args.gpus
    loaded = load_options(args.opt, args.overrides, is_train=False)
    key = next((k for k in sorted(loaded.opt['datasets']) if not k.startswith('train')), None)
    if key is None:
        raise UserError(f"'{args.opt}' has no val or test data set")
    weights = args.weights or loaded.opt['path'].get('pretrain_network_g')
    if weights is None:
        raise UserError('give --weights FILE')
    if not Path(weights).is_file():
        raise UserError(f"there is no weight file '{weights}'")
    from tqdm import tqdm

    from basicsr.data import build_dataset
    from basicsr.data.loader import ImageLoader, sample_name
    from basicsr.inference.restorer import ImageRestorer, choose_device, load_network
    from basicsr.metrics.gt_mean import match_mean
    from basicsr.utils.img import imwrite
    block = loaded.opt['datasets'][key]
    loader = ImageLoader(build_dataset(block), block, batch_size=1)
    device = 'cpu' if loaded.opt['num_gpu'] == 0 else choose_device()
    window = (loaded.opt.get('val') or {}).get('window_size') or 4
    restorer = ImageRestorer(load_network(weights, loaded.opt['network_g'], loaded.opt['path'].get('param_key_g')), device,
                             args.tile, ensemble=args.self_ensemble, multiple=window)  # yapf: disable
    folder = Path(args.output_dir) if args.output_dir else (Path(args.result_dir) / args.dataset / Path(args.opt).stem /
                                                            Path(weights).stem)
    rows = {}
    for batch in tqdm(loader, unit='image', disable=not sys.stderr.isatty()):
        name = sample_name(batch)
        result = restorer(_array(batch['lq']))
        if 'gt' in batch:
            gt = _array(batch['gt'])
            result = match_mean(result, gt) if args.GT_mean else result
            rows[name] = _measure(result, gt)
        if not args.no_images:
            imwrite((result[..., ::-1] * 255).round().astype('uint8'), folder / f'{name}.png')
    if rows:
        _print(rows, args)
        _write(rows, folder, args, str(weights))
    else:
        print(f'no ground truth; {len(loader)} images written to {folder}')


def _array(tensor):
    return tensor[0].permute(1, 2, 0).numpy()


def _measure(result, gt) -> dict[str, float]:
    """PSNR and SSIM under every protocol: 'psnr retinexformer' -> value."""
    from basicsr.metrics import PROTOCOLS, measure
    return {
        f'{metric} {protocol}': measure(result, gt, {
            'type': f'calculate_{metric}',
            'protocol': protocol
        })
        for protocol in PROTOCOLS
        for metric in ('psnr', 'ssim')
    }


def _means(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    return {key: sum(r[key] for r in rows.values()) / len(rows) for key in next(iter(rows.values()))}


def _print(rows: dict[str, dict[str, float]], args: argparse.Namespace) -> None:
    """The table of protocols, then the two lines that scripts of this family read (protocol 'retinexformer')."""
    from basicsr.metrics import PROTOCOLS
    means = _means(rows)
    extras = [text for used, text in ((args.GT_mean, 'GT mean'), (args.self_ensemble, 'self-ensemble'),
                                      (args.tile, f'tiles of {args.tile}')) if used]  # yapf: disable
    print(f'{args.dataset}: {len(rows)} images' + (f' ({", ".join(extras)})' if extras else ''))
    print(f'{"protocol":<17}{"PSNR":>9}{"SSIM":>9}  meaning')
    for name, protocol in PROTOCOLS.items():
        print(f'{name:<17}{means[f"psnr {name}"]:9.4f}{means[f"ssim {name}"]:9.4f}  {protocol.summary}')
    print('protocol of the next two lines: retinexformer')
    print(f'PSNR: {means["psnr retinexformer"]:f} ')
    print(f'SSIM: {means["ssim retinexformer"]:f} ')


def _write(rows: dict[str, dict[str, float]], folder: Path, args: argparse.Namespace, weights: str) -> None:
    """`metrics.csv` per image and `metrics.json` with the means, beside the images."""
    from basicsr.utils.files import atomic_write
    with atomic_write(folder / 'metrics.csv', 'w') as file:
        writer = csv.writer(file)
        columns = list(next(iter(rows.values())))
        writer.writerow(['image', *columns])
        writer.writerows([name, *(f'{values[c]:.6f}' for c in columns)] for name, values in rows.items())
    with atomic_write(folder / 'metrics.json', 'w') as file:
        json.dump({'dataset': args.dataset, 'images': len(rows), 'weights': weights, 'GT_mean': args.GT_mean,
                   'self_ensemble': args.self_ensemble, 'tile': args.tile, **_means(rows)}, file, indent=2)  # yapf: disable


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return run_main(lambda: run(args))
