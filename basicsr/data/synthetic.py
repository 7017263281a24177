"""Degradation models that turn a clean photograph into the input of a restoration network (numpy only)."""
import math
import numbers
import zlib

import numpy as np

from basicsr.utils.names import name_bytes, normal
from basicsr.utils.srgb import linear_to_srgb, srgb_to_linear

# Above this many electrons the shot noise is far below one 8-bit level, and numpy's Poisson sampler nears its limit:
# math.inf, the noiseless limit, says the same thing exactly.
_MAX_FULL_WELL = 1e12


def noise_generator(name, seed=0):
    """Generator of the test noise of one image: a function of the image's name and the seed, not of what came before."""
    number = zlib.crc32(name_bytes(normal(name)))
    return np.random.RandomState([seed, number])  # RandomState: its streams are frozen (NEP 19)


def add_gaussian_noise(image, sigma, rng=np.random):
    """White Gaussian noise as all-in-one benchmarks store it: clipped and *truncated* to integers, not rounded.

    Args:
        image (np.ndarray): clean picture, uint8 or uint16, any shape.
        sigma (float): standard deviation in 8-bit levels (of a range of 255), also for uint16.
        rng: source of `standard_normal`, e.g. a `np.random.RandomState`; default NumPy's global one.

    Returns:
        np.ndarray: noisy picture of the same type and shape.
    """
    peak = np.iinfo(image.dtype).max
    return np.clip(image + rng.standard_normal(image.shape) * (sigma * peak / 255), 0, peak).astype(image.dtype)


def simulate_low_light(image, exposure, full_well=10000.0, read_noise=4.0, seed=0):
    """Photograph the scene of a well-lit picture again, with too little light.

    With ``v`` the encoded input in [0, 1], every channel value goes independently through::

        L = EOTF(v)                                     linear light, 1 = white of the input
        e ~ Poisson(L * exposure * full_well)           electrons collected (shot noise)
        r ~ Normal(0, read_noise)                       electrons added by the read-out
        D = clip((e + r) / full_well, 0, 1)             linear light, now dark and noisy
        out = round(255 * EOTF^-1(D))                   8 bit

    so in linear light the noise has the variance ``L * exposure / full_well + (read_noise / full_well)**2``. The white
    balance is left as it is, and there is no gain after the exposure: the picture stays dark. The clip at 0 lifts the
    mean of the deepest shadows a little, as in a camera without a black-level offset.

    Args:
        image (np.ndarray): sRGB-encoded picture, RGB order, shape (H, W, 3); uint8 in [0, 255] or float in [0, 1].
        exposure (float): factor on linear light, in (0, 1]; 1 keeps the brightness, 1 / 8 is three stops under.
        full_well (float): electrons at the white of the output, in (0, 1e12]; ``math.inf`` is the limit of an ideal
            sensor, without any noise.
        read_noise (float): standard deviation of the read-out noise in electrons, >= 0.
        seed (int): seed of the noise, in [0, 2**32 - 1]; equal arguments give equal pictures.

    Returns:
        np.ndarray: sRGB-encoded picture, RGB order, uint8, shape (H, W, 3). ``image`` is not changed.

    Raises:
        ValueError: if an argument has another type, shape or range than the above.
    """
    value = _as_unit_float(image)
    _require_number('exposure', exposure, _is_real(exposure) and 0 < exposure <= 1, 'in (0, 1]')
    _require_number('full_well', full_well,
                    _is_real(full_well) and (0 < full_well <= _MAX_FULL_WELL or full_well == math.inf),
                    'in (0, 1e12], or inf')
    _require_number('read_noise', read_noise, _is_real(read_noise) and 0 <= read_noise < math.inf, 'finite and >= 0')
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool) or not 0 <= int(seed) < 2**32:
        raise ValueError(f'seed must be an integer in [0, 2**32 - 1], got {seed!r}.')

    dark = srgb_to_linear(value) * float(exposure)
    if full_well != math.inf:
        # RandomState and not default_rng: numpy froze RandomState's streams (NEP 19), Generator's may change with any
        # release, and the bundled pictures have to come out bit for bit alike.
        rng = np.random.RandomState(int(seed))
        electrons = rng.poisson(dark * full_well) + rng.normal(0.0, read_noise, size=dark.shape)
        dark = np.clip(electrons / full_well, 0.0, 1.0)
    return np.rint(linear_to_srgb(dark) * 255.0).astype(np.uint8)


def _as_unit_float(image):
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        got = image.shape if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f'image must be a non-empty array of shape (H, W, 3), got {got}.')
    if image.dtype == np.uint8:
        return image / 255.0
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f'image must be uint8 or float, got {image.dtype}.')
    # Written so that NaN fails too.
    if not (image.min() >= 0 and image.max() <= 1):
        raise ValueError('a float image must lie in [0, 1], without NaN.')
    return image.astype(np.float64)


def _is_real(number):
    return isinstance(number, numbers.Real) and not isinstance(number, bool)


def _require_number(name, number, is_good, wanted):
    if not is_good:
        raise ValueError(f'{name} must be a number {wanted}, got {number!r}.')
