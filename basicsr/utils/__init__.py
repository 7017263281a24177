"""Leaf helpers. The names that BasicSR users import from here are loaded on first use."""
from __future__ import annotations

import importlib

_HOMES = {
    'DiffJPEG': 'diffjpeg',
    'FileClient': 'storage',
    'USMSharp': 'img_process_util',
    'bgr2ycbcr': 'color',
    'get_root_logger': 'logger',
    'img2tensor': 'img',
    'imfrombytes': 'img',
    'imwrite': 'img',
    'rgb2ycbcr': 'color',
    'scandir': 'files',
    'set_random_seed': 'seed',
    'tensor2img': 'img',
    'yaml_load': 'options',
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'basicsr.utils' has no attribute '{name}'")
    return getattr(importlib.import_module(f'basicsr.utils.{_HOMES[name]}'), name)
