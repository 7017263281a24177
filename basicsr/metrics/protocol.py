"""Evaluation protocols: what exactly a PSNR or SSIM in a table means. A number without its protocol says little.

Published tables mix rounding, colour space, borders and the dimension of the SSIM window; differences of 0.1 dB in
PSNR and of 0.4 in SSIM come from this alone.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from basicsr.utils.color import luma255
from basicsr.utils.errors import UserError, nearest

_IDENTICAL = 10 * math.log10(255**2 / 1e-8)
_YIQ_FROM_BGR = np.array([[0.114], [0.587], [0.299]])  # Y alone


@dataclass(frozen=True)
class Protocol:
    """How images in [0, 255] are prepared and compared.

    Attributes:
        clamps: limit the result to the range of images first.
        psnr_rounds, ssim_rounds: round to 8 bits first. truncates: cut off what is behind the comma instead.
        gt_mean: scale the result to the mean of the ground truth's grey image; it is not rounded again. This uses the
            answer, so it is measured on request alone.
        luma: compare BT.601 luma instead of RGB; `luma_rounds` rounds it to 8 bits as MATLAB does.
        ssim: 'valid' (each channel, windows inside the image), 'replicate' (borders repeated), 'volume' (one 3-D
            window over height, width and channels, borders repeated).
        window: of the SSIM: 'gaussian' (11 taps, sigma 1.5) or 'uniform' (7 taps).
        sample_covariance: the SSIM's variances are those of a sample, n / (n - 1) with n the pixels of the window.
        identical: PSNR of equal images.
        mse_offset: added to the MSE of values in [0, 1].
        ssim_yiq: SSIM on the Y of YIQ rounded to 8 bits, its contrast-structure term not below 0.
    """
    name: str
    summary: str
    clamps: bool = True
    psnr_rounds: bool = True
    ssim_rounds: bool = True
    truncates: bool = False
    gt_mean: bool = False
    luma: bool = False
    luma_rounds: bool = False
    ssim: Literal['valid', 'replicate', 'volume'] = 'valid'
    window: Literal['gaussian', 'uniform'] = 'gaussian'
    sample_covariance: bool = False
    identical: float = float('inf')
    mse_offset: float = 0.
    ssim_yiq: bool = False


PROTOCOLS = {
    p.name: p for p in (
        Protocol('basicsr', 'RGB, rounded to 8 bits, SSIM per channel on valid windows'),
        Protocol('restormer-rgb3d', 'RGB, not rounded, SSIM with one 3-D window and replicated borders',
                 psnr_rounds=False, ssim_rounds=False, ssim='volume'),
        Protocol('retinexformer', 'RGB, PSNR not rounded, SSIM rounded to 8 bits per channel on valid windows',
                 psnr_rounds=False, identical=100.),
        Protocol('matlab-y', 'luma rounded to 8 bits (rgb2ycbcr), SSIM with replicated borders', luma=True,
                 luma_rounds=True, ssim='replicate'),
        Protocol('all-in-one', 'RGB, not rounded, SSIM per channel on valid windows with sample covariance',
                 psnr_rounds=False, ssim_rounds=False, sample_covariance=True),
        Protocol('all-in-one-uniform', 'as all-in-one, SSIM with the 7x7 uniform window', psnr_rounds=False,
                 ssim_rounds=False, sample_covariance=True, window='uniform'),
        Protocol('pyiqa', 'RGB, not rounded, PSNR at most 80 dB; SSIM on the Y of YIQ rounded to 8 bits, valid windows',
                 psnr_rounds=False, ssim_rounds=False, identical=80., mse_offset=1e-8, ssim_yiq=True),
        Protocol('cidnet', 'RGB, truncated to 8 bits, PSNR at most 128 dB; SSIM per channel on valid windows',
                 truncates=True, identical=_IDENTICAL, mse_offset=1e-8 / 255**2),
        Protocol('cidnet-gt-mean', 'as cidnet, the result scaled to the mean of the ground truth', truncates=True,
                 gt_mean=True, identical=_IDENTICAL, mse_offset=1e-8 / 255**2),
        Protocol('darkir', 'RGB, neither clamped nor rounded, SSIM per channel on valid windows', clamps=False,
                 psnr_rounds=False, ssim_rounds=False),
        Protocol('nafnet', 'RGB, neither clamped nor rounded, SSIM with one 3-D window and replicated borders',
                 clamps=False, psnr_rounds=False, ssim_rounds=False, ssim='volume'),
        Protocol('nafnet-8bit', 'RGB, rounded to 8 bits, SSIM with one 3-D window and replicated borders',
                 ssim='volume'),
    )
}
# those that compare what the network has made
HONEST = {name: protocol for name, protocol in PROTOCOLS.items() if not protocol.gt_mean}


def get_protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise UserError(f"there is no protocol '{name}'.{nearest(name, PROTOCOLS)} Known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def describe_protocol(opt: dict) -> str:
    """What a PSNR or SSIM of this option block compares, e.g. 'basicsr, luma, crop 4'."""
    name = opt.get('protocol') or 'basicsr'
    changes = ['luma'] if opt.get('test_y_channel') and not PROTOCOLS[name].luma else []
    changes += [f"crop {opt['crop_border']}"] if opt.get('crop_border') else []
    return ', '.join([name, *changes])


def prepare(img: np.ndarray, crop_border: int, input_order: str, luma: bool, rounds: bool, luma_rounds: bool,
            truncates: bool = False) -> np.ndarray:
    """BGR or grey image in [0, 255] to float64 (H, W, C) as the protocol compares it."""
    if input_order not in ('HWC', 'CHW'):
        raise ValueError(f"input_order '{input_order}' is not supported; 'HWC' or 'CHW'")
    values = np.asarray(img, np.float64)
    values = np.where(np.isfinite(values), values, np.nan)  # clipping would make white of infinity
    if values.ndim == 2:
        values = values[..., None]
    elif input_order == 'CHW':
        values = values.transpose(1, 2, 0)
    if crop_border:
        values = values[crop_border:-crop_border, crop_border:-crop_border]
    if rounds:  # products of float32 are cut off as such: 255 times k / 255 is k again
        values = np.clip(np.floor(values.astype(np.float32)) if truncates else np.rint(values), 0,
                         255).astype(np.float64)
    if luma and values.shape[2] == 3:
        values = luma255(values[..., ::-1])[..., None]
        values = np.rint(values) if luma_rounds else values
    return values


def check_size(img: np.ndarray, least: tuple[int, int], name: str) -> None:
    """Raise `ValueError` for an image (H, W, ...) whose shorter or longer side has fewer pixels than `least`."""
    if any(side < pixels for side, pixels in zip(sorted(img.shape[:2]), least)):
        raise ValueError(
            f'{name} needs at least {least[0]}x{least[1]} pixels, the image has {img.shape[0]}x{img.shape[1]}')


def prepared_pair(img: np.ndarray, img2: np.ndarray, crop_border: int, input_order: str, test_y_channel: bool,
                  protocol: Protocol | None, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Both images as the protocol compares them; without one, as they are (BasicSR: the caller has rounded)."""
    if np.shape(img) != np.shape(img2):
        raise ValueError(f'images differ in shape: {np.shape(img)} and {np.shape(img2)}')
    rounds = getattr(protocol, f'{metric}_rounds', False)
    luma = test_y_channel or getattr(protocol, 'luma', False)
    luma_rounds = getattr(protocol, 'luma_rounds', False)
    truncates = getattr(protocol, 'truncates', False)
    a, b = (prepare(x, crop_border, input_order, luma, rounds, luma_rounds, truncates) for x in (img, img2))
    if metric == 'ssim' and getattr(protocol, 'ssim_yiq', False) and a.shape[2] == 3:
        a, b = (np.rint(x @ _YIQ_FROM_BGR) for x in (a, b))
    if a.size == 0:
        raise ValueError(f'crop_border {crop_border} leaves nothing of an image of shape {np.shape(img)}')
    if getattr(protocol, 'gt_mean', False):
        a = np.clip(a * (_grey_mean(b) / max(_grey_mean(a), 1e-12)), 0, 255)
    return a, b


def _grey_mean(img: np.ndarray) -> float:
    """Of a BGR or grey image in whole numbers; its grey image is in whole numbers as well, as OpenCV makes it."""
    return float((cv2.cvtColor(img.astype(np.uint8), cv2.COLOR_BGR2GRAY) if img.shape[2] == 3 else img).mean())
