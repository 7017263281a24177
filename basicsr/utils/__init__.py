"""Leaf helpers. The names that BasicSR users import from here are loaded on first use."""
from __future__ import annotations

import importlib

_NAMES = {
    'color_util': ('bgr2ycbcr', 'rgb2ycbcr', 'rgb2ycbcr_pt', 'ycbcr2bgr', 'ycbcr2rgb'),
    'diffjpeg': ('DiffJPEG', ),
    'img_process_util': ('USMSharp', 'usm_sharp'),
    'img_util': ('crop_border', 'imfrombytes', 'imfrombytesDP', 'img2tensor', 'imwrite', 'padding', 'padding_DP',
                 'tensor2img'),
    'logger': ('get_root_logger', ),
    'message_logger': ('AvgTimer', 'MessageLogger', 'get_env_info', 'init_tb_logger', 'init_wandb_logger'),
    'misc': ('check_resume', 'get_time_str', 'make_exp_dirs', 'mkdir_and_rename', 'scandir', 'set_random_seed',
             'sizeof_fmt'),
    'options': ('yaml_load', ),
    'storage': ('FileClient', ),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'basicsr.utils' has no attribute '{name}'")
    return getattr(importlib.import_module(f'basicsr.utils.{_HOMES[name]}'), name)
