"""How far the answer in tiles is from the answer to the whole image: PSNR between both, for every network.

RetinexFormer and RetinexMamba have the shipped weights. For the others none are shipped, and initial weights change little of
an image: each is built small and trained for a minute on the demo pictures, which makes its global layers matter.

    python benchmarks/tiles.py [--networks CIDNet DarkIR] [--seconds 60] [--kept DIR]
"""
from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import ROOT, report
from torch import Tensor, nn

from basicsr.archs import build_network
from basicsr.inference.restorer import ImageRestorer
from basicsr.utils.img import imread, to_float
from basicsr.utils.srgb import linear_to_srgb, srgb_to_linear
from basicsr.weights.network import load_network

TILES, OVERLAP = (256, 512), 32
SHIPPED = {'RetinexFormer': 'retinexformer_photos_small', 'RetinexMamba': 'retinexmamba_tiny'}
FLAT: dict[str, Any] = {'dim': 16, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1}
NAF = {'width': 12, 'enc_blk_nums': [1, 1, 2], 'dec_blk_nums': [1, 1, 1]}
SMALL: dict[str, dict[str, Any]] = {
    'CIDNet': {'channels': [12, 12, 24, 48], 'heads': [1, 2, 4, 8]},
    'DarkIR': {'width': 12},
    'ISALux': {'dim': 16, 'num_blocks': [1, 1, 1], 'semantic': 'off'},
    'IllRecNet': {'preset': 'small', 'dropout_ratio': 0.},
    'ImprovedLoRaGateRestormer': FLAT,
    'LoRa_Gate_Restormer': FLAT,
    'MASRNet': {'embed_dim': 16, 'stem_dim': 6, 'moe_hidden': [[12], [12], [12, 8]]},
    'MSRResNet': {'num_feat': 16, 'num_block': 4, 'upscale': 2},
    'MST_Plus_Plus': {'n_feat': 12, 'stage': 1},
    'MambaIR': {'embed_dim': 30, 'depths': [1, 1], 'd_state': 4},
    'MoCEIR': {'dim': 16, 'num_blocks': [1, 1, 1, 1], 'num_dec_blocks': [1, 1, 1], 'num_refinement_blocks': 1},
    'NAFNet': NAF,
    'NAFNetLocal': {**NAF, 'train_size': [1, 3, 128, 128]},
    'PromptIR': {'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1},
    'RRDBNet': {'num_feat': 16, 'num_block': 2, 'num_grow_ch': 8, 'scale': 2},
    'Restormer': FLAT,
    'RetinexFormer': {},
    'RetinexMamba': {},
}  # yapf: disable
QUADRATIC = ('IllRecNet', )  # in the number of pixels: it gets patches and images of half the size


def network(name: str, seconds: float, kept: Path | None) -> nn.Module:
    """With the shipped weights, or trained here, once if the result is `kept`."""
    if name in SHIPPED:
        return load_network(ROOT / 'pretrained_weights' / f'{SHIPPED[name]}.safetensors').eval()
    torch.manual_seed(0)
    net = build_network({'type': name, **SMALL[name]})
    file = kept and kept / f'{name}.pth'
    if file and file.is_file():
        net.load_state_dict(torch.load(file))
    else:
        train(net, seconds, 64 if name in QUADRATIC else 128)
        if file:
            torch.save(net.state_dict(), file)
    return net.eval()


def train(net: nn.Module, seconds: float, patch: int) -> None:
    pairs = [[to_float(imread(ROOT / 'data/demo/train' / side / file.name))[..., ::-1] for side in ('input', 'target')]
             for file in sorted((ROOT / 'data/demo/train/input').glob('*.png'))]
    draw, optimizer = random.Random(0), torch.optim.Adam(net.parameters(), lr=1e-3)
    net.train()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        batch = []
        for pair in draw.sample(pairs, 2):
            top, left = (draw.randint(0, side - patch) for side in pair[0].shape[:2])
            batch.append([tensor(img[top:top + patch, left:left + patch]) for img in pair])
        dark, bright = (torch.cat(side) for side in zip(*batch))
        out = net(dark)
        out = out[-1] if isinstance(out, (list, tuple)) else out
        bright = F.interpolate(bright, out.shape[2:], mode='bilinear')
        loss = F.l1_loss(out, bright)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.)
        optimizer.step()


def tensor(img: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(img.transpose(2, 0, 1)))[None]


def images() -> Iterator[tuple[str, np.ndarray]]:
    """Photographs of scikit-image some stops darker, with the noise of a sensor, and a smooth dark gradient."""
    from skimage import data
    for name, stops in (('astronaut', 0), ('coffee', 2), ('chelsea', 3), ('rocket', 4)):
        light = srgb_to_linear(getattr(data, name)()[:512, :600] / 255.) / 2**stops
        light += np.random.RandomState(0).randn(*light.shape) * np.sqrt(light / 1e4 + 4e-4**2)
        yield f'{name} -{stops}', quantised(linear_to_srgb(light.clip(0, 1)))
    y, x = np.mgrid[0:320, 0:640]
    grey = .02 + .2 * x / 640 + .05 * y / 320
    yield 'gradient', quantised(np.stack([grey, grey * .9, grey * .8], axis=-1))


def quantised(img: np.ndarray) -> np.ndarray:
    return (img * 255).round().astype(np.float32) / 255


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(1 / max(np.mean((a.astype(np.float64) - b)**2), 1e-12)))


def rows_of(name: str, net: nn.Module) -> Iterator[dict[str, Any]]:
    for title, img in images():
        img = np.ascontiguousarray(img[::2, ::2]) if name in QUADRATIC else img
        whole = ImageRestorer(net)(img)
        for tile in (tile for tile in TILES if max(img.shape[:2]) > tile):
            found = psnr(ImageRestorer(net, tile=tile, tile_overlap=OVERLAP)(img), whole)
            yield {'network': name, 'image': title, 'tile': tile, 'dB': round(found, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--networks', nargs='+', choices=list(SMALL), default=list(SMALL))
    parser.add_argument('--seconds', type=float, default=60, help='that each network is trained for')
    parser.add_argument('--kept', type=Path, help='folder of trained weights, which are used again')
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.networks:  # each is stored when it is measured
        net = network(name, args.seconds, args.kept)
        with torch.inference_mode():
            if name == 'RetinexMamba':  # as it is where memory is short
                net.description = replace(net.description, strips=False, shares=False)
            rows = list(rows_of(name, net))
            if name == 'RetinexFormer':  # as if it were a network of others
                net.description = replace(net.description, tiling=None, shares=False)
                rows += rows_of(f'{name}, undescribed', net)
        report(f'tiles: {name}', rows, trained='shipped' if name in SHIPPED else f'{args.seconds} seconds')


if __name__ == '__main__':
    main()
