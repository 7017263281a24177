"""The tour of `make demo`: train a small RetinexMamba on the bundled photographs, test it, enhance one held-out photo."""
from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = 'Options/RetinexMamba_demo.yml'
SHIPPED = 'retinexformer_photos_small'
PHOTO = 'peaks.png'
RUN = ROOT / 'experiments' / 'RetinexMamba_demo'
OUT = ROOT / 'results' / 'demo'


def step(title: str, *command: str) -> None:
    """Show a command as a user would type it, then run it."""
    print(f'\n== {title}\n$ python {shlex.join(command)}', flush=True)
    done = subprocess.run([sys.executable, *command], cwd=ROOT)
    if done.returncode:
        sys.exit(done.returncode)


def input_scores() -> dict[str, float]:
    """The dark inputs against their ground truths, for comparison."""
    sys.path.insert(0, str(ROOT))
    from basicsr.metrics import measure
    from basicsr.utils.img import imread, to_float
    folder = ROOT / 'data' / 'demo' / 'test'
    pairs = [(to_float(imread(p)), to_float(imread(folder / 'target' / p.name)))
             for p in (folder / 'input').glob('*.png')]
    return {
        metric: sum(measure(a, b, {'type': f'calculate_{metric}', 'protocol': 'retinexformer'})
                    for a, b in pairs) / len(pairs) for metric in ('psnr', 'ssim')
    }


def report() -> None:
    before = input_scores()
    after, shipped = (json.loads((OUT / name / 'metrics.json').read_text()) for name in ('metrics', 'shipped'))
    with (RUN / 'metrics.csv').open() as file:
        validations = list(csv.DictReader(file))
    print('\n== Results on the held-out photographs (protocol: retinexformer)')
    print(f'{"":<28}{"PSNR":>8}{"SSIM":>8}')
    print(f'{"dark input":<28}{before["psnr"]:8.2f}{before["ssim"]:8.3f}')
    for row in validations:
        print(
            f'{"after " + row["iter"] + " iterations":<28}{float(row["demo/psnr"]):8.2f}{float(row["demo/ssim"]):8.3f}')
    for label, found in (('best weights', after), (SHIPPED, shipped)):
        print(f'{label:<28}{found["psnr retinexformer"]:8.2f}{found["ssim retinexformer"]:8.3f}')
    print(f'({SHIPPED} comes with the toolbox)')
    print('\nBefore and after:  ', (OUT / f'{Path(PHOTO).stem}_sheet.png').relative_to(ROOT))
    print('Enhanced photo:    ', (OUT / PHOTO).relative_to(ROOT))
    print('Curves and weights:', (RUN / 'curves.png').relative_to(ROOT),
          (RUN / 'best' / 'net_g_best.pth').relative_to(ROOT))


def main() -> None:
    weights = 'experiments/RetinexMamba_demo/best/net_g_best.pth'
    step('Train a small RetinexMamba', 'basicsr/train.py', '--opt', OPTIONS)
    step('Test it', 'Enhancement/test_from_dataset.py', '--opt', OPTIONS, '--weights', weights, '--dataset', 'demo',
         '--output_dir', 'results/demo/metrics')
    step('Test the weights that come with the toolbox', 'Enhancement/test_from_dataset.py', '--weights', SHIPPED,
         '--degraded_dir', 'data/demo/test/input', '--clean_dir', 'data/demo/test/target', '--no_images',
         '--output_dir', 'results/demo/shipped')
    step('Enhance a photo it has never seen', 'Enhancement/enhance.py', f'data/demo/test/input/{PHOTO}', '-o',
         f'results/demo/{PHOTO}', '--weights', weights, '--sheet', '--overwrite')
    report()


if __name__ == '__main__':
    main()
