"""Modules of BasicSR that this toolbox does not have: whoever imports one is told so in a sentence.

What stands there all the same, a copy that somebody has put into the package or beside a file of theirs, is found first.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# by folder of the package; docs/options.md says the same in words
ABSENT = {
    'archs': """basicvsr_arch basicvsrpp_arch dfdnet_arch dfdnet_util duf_arch ecbsr_arch edsr_arch edvr_arch hifacegan_arch
        hifacegan_util inception rcan_arch ridnet_arch spynet_arch srvgg_arch stylegan2_arch stylegan2_bilinear_arch swinir_arch
        tof_arch""",
    'data': """ffhq_dataset realesrgan_dataset realesrgan_paired_dataset reds_dataset util video_test_dataset
        vimeo90k_dataset""",
    'metrics': 'fid',
    'models': """edvr_model hifacegan_model realesrgan_model realesrnet_model stylegan2_model swinir_model video_base_model
        video_gan_model video_recurrent_gan_model video_recurrent_model""",
    'ops': 'dcn fused_act upfirdn2d',
    'utils': 'create_lmdb face_util flow_util plot_util',
}


def not_here(name: str) -> str:
    """The sentence for a module, or for a name in one."""
    return f"'{name}' of BasicSR is not in this toolbox; a copy of it beside your file is found"


class _Finder(MetaPathFinder):
    """Asked last: after the files of the package."""

    def find_spec(self, name: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, module = name.rpartition('.')
        if module in ABSENT.get(package.removeprefix('basicsr.'), '').split() and package.startswith('basicsr.'):
            raise ModuleNotFoundError(not_here(name), name=name)
        return None


def tell_absent_modules() -> None:
    """From now on. Called once, by the package."""
    sys.meta_path.append(_Finder())
