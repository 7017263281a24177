"""Random blur kernels of blind super-resolution (Real-ESRGAN, Wang et al. 2021), by BasicSR's names.

A kernel is a float array (k, k) that sums to 1, k odd; random numbers come from NumPy's and Python's global generators.
With S the covariance of a shape, and q(x) = x' S^-1 x, it is proportional at the position x (in pixels from the middle) to

    exp(-q / 2)             a Gaussian
    exp(-q^beta / 2)        a generalized Gaussian
    1 / (1 + q^beta)        a plateau
"""
from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

Range = tuple[float, float]  # low and high; a list will do


def sigma_matrix2(sig_x: float, sig_y: float, theta: float) -> np.ndarray:
    """The covariance (2, 2) of standard deviations along two axes that are turned by `theta` radians."""
    turn = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    return turn @ np.diag([sig_x**2, sig_y**2]) @ turn.T


def mesh_grid(kernel_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions from the middle of a kernel: (x, y) (k, k, 2), x (k, k), y (k, k)."""
    axis = np.arange(kernel_size) - (kernel_size - 1) // 2.
    x, y = np.meshgrid(axis, axis)
    return np.stack([x, y], axis=2), x, y


def pdf2(sigma_matrix: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """exp(-q / 2) at each position of a grid, not normalised."""
    return np.exp(-0.5 * _distance(sigma_matrix, grid))


def bivariate_Gaussian(kernel_size: int, sig_x: float, sig_y: float, theta: float, grid: np.ndarray | None = None,
                       isotropic: bool = True) -> np.ndarray:
    """A Gaussian; where `isotropic`, `sig_x` is its one standard deviation."""
    return _kernel(lambda q: np.exp(-0.5 * q), kernel_size, sig_x, sig_y, theta, grid, isotropic)


def bivariate_generalized_Gaussian(kernel_size: int, sig_x: float, sig_y: float, theta: float, beta: float,
                                   grid: np.ndarray | None = None, isotropic: bool = True) -> np.ndarray:
    """A generalized Gaussian; `beta` of 1 is a Gaussian, more is flatter."""
    return _kernel(lambda q: np.exp(-0.5 * q**beta), kernel_size, sig_x, sig_y, theta, grid, isotropic)


def bivariate_plateau(kernel_size: int, sig_x: float, sig_y: float, theta: float, beta: float,
                      grid: np.ndarray | None = None, isotropic: bool = True) -> np.ndarray:
    """A plateau."""
    return _kernel(lambda q: 1 / (1 + q**beta), kernel_size, sig_x, sig_y, theta, grid, isotropic)


def random_bivariate_Gaussian(kernel_size: int, sigma_x_range: Range, sigma_y_range: Range, rotation_range: Range,
                              noise_range: Range | None = None, isotropic: bool = True) -> np.ndarray:
    """Deviations and rotation uniform in their ranges; each value is then multiplied by noise uniform in `noise_range`."""
    shape = _random_shape(sigma_x_range, sigma_y_range, rotation_range, isotropic)
    return _with_noise(bivariate_Gaussian(kernel_size, *shape, isotropic=isotropic), noise_range)


def random_bivariate_generalized_Gaussian(kernel_size: int, sigma_x_range: Range, sigma_y_range: Range,
                                          rotation_range: Range, beta_range: Range, noise_range: Range | None = None,
                                          isotropic: bool = True) -> np.ndarray:
    """As `random_bivariate_Gaussian`; `beta` is below and above 1 equally often, uniform on either side."""
    shape = _random_shape(sigma_x_range, sigma_y_range, rotation_range, isotropic)
    kernel = bivariate_generalized_Gaussian(kernel_size, *shape, _random_beta(beta_range), isotropic=isotropic)
    return _with_noise(kernel, noise_range)


def random_bivariate_plateau(kernel_size: int, sigma_x_range: Range, sigma_y_range: Range, rotation_range: Range,
                             beta_range: Range, noise_range: Range | None = None, isotropic: bool = True) -> np.ndarray:
    """As `random_bivariate_generalized_Gaussian`."""
    shape = _random_shape(sigma_x_range, sigma_y_range, rotation_range, isotropic)
    return _with_noise(bivariate_plateau(kernel_size, *shape, _random_beta(beta_range), isotropic=isotropic),
                       noise_range)


def random_mixed_kernels(kernel_list: Sequence[str], kernel_prob: Sequence[float], kernel_size: int = 21,
                         sigma_x_range: Range = (0.6, 5), sigma_y_range: Range = (0.6, 5),
                         rotation_range: Range = (-math.pi, math.pi), betag_range: Range = (0.5, 8),
                         betap_range: Range = (0.5, 4), noise_range: Range | None = None) -> np.ndarray:
    """A kernel of one of several kinds: 'iso', 'aniso', 'generalized_iso', 'plateau_aniso' ..., chosen by `kernel_prob`.

    Plateaus are without noise. Raises `ValueError` for another kind.
    """
    chosen = random.choices(kernel_list, kernel_prob)[0]
    kind, _, direction = chosen.rpartition('_')
    if direction not in ('iso', 'aniso') or kind not in ('', 'generalized', 'plateau'):
        raise ValueError(f"there is no kind of kernel called '{chosen}'; iso or aniso, alone or after generalized_ or"
                         ' plateau_')
    ranges, isotropic = (kernel_size, sigma_x_range, sigma_y_range, rotation_range), direction == 'iso'
    if kind == 'generalized':
        return random_bivariate_generalized_Gaussian(*ranges, betag_range, noise_range, isotropic)
    if kind == 'plateau':
        return random_bivariate_plateau(*ranges, betap_range, None, isotropic)
    return random_bivariate_Gaussian(*ranges, noise_range, isotropic)


def circular_lowpass_kernel(cutoff: float, kernel_size: int, pad_to: int = 0) -> np.ndarray:
    """The ideal low-pass filter, a two-dimensional sinc that rings: cutoff J1(cutoff r) / (2 pi r).

    Args:
        cutoff: in radians a pixel, up to pi.
        pad_to: side of the result, filled with zeros; 0 for `kernel_size`.
    """
    _, x, y = mesh_grid(kernel_size)
    r = np.hypot(x, y)
    bessel = torch.special.bessel_j1(torch.from_numpy(cutoff * r)).numpy()
    kernel = np.where(r == 0, cutoff**2 / (4 * math.pi), cutoff * bessel / (2 * math.pi * np.where(r == 0, 1, r)))
    return np.pad(kernel / kernel.sum(), max(0, pad_to - kernel_size) // 2)


def _kernel(shape: Callable[[Any], Any], kernel_size: int, sig_x: float, sig_y: float, theta: float,
            grid: np.ndarray | None, isotropic: bool) -> np.ndarray:
    covariance = np.diag([sig_x**2, sig_x**2]) if isotropic else sigma_matrix2(sig_x, sig_y, theta)
    kernel = shape(_distance(covariance, mesh_grid(kernel_size)[0] if grid is None else grid))
    return kernel / kernel.sum()


def _distance(covariance: np.ndarray, grid: np.ndarray) -> np.ndarray:
    return np.einsum('...i,ij,...j->...', grid, np.linalg.inv(covariance), grid)


def _random_shape(sigma_x_range: Range, sigma_y_range: Range, rotation_range: Range,
                  isotropic: bool) -> tuple[float, float, float]:
    sigma_x = np.random.uniform(*sigma_x_range)
    if isotropic:
        return sigma_x, sigma_x, 0.
    return sigma_x, np.random.uniform(*sigma_y_range), np.random.uniform(*rotation_range)


def _random_beta(beta_range: Range) -> float:
    return np.random.uniform(beta_range[0], 1) if np.random.uniform() < 0.5 else np.random.uniform(1, beta_range[1])


def _with_noise(kernel: np.ndarray, noise_range: Range | None) -> np.ndarray:
    if noise_range is not None:
        kernel = kernel * np.random.uniform(*noise_range, size=kernel.shape)
    return kernel / kernel.sum()
