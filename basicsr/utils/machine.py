"""What this machine is: processor, GPUs, versions of packages."""
from __future__ import annotations

import importlib.util
import platform
import re
from importlib import metadata
from pathlib import Path

from basicsr.utils.errors import UserError

PACKAGES = ('torch', 'torchvision', 'triton', 'numpy', 'opencv-python', 'lmdb', 'pydantic', 'mamba-ssm',
            'causal-conv1d')


def package_version(name: str) -> str:
    """The version of a distribution, 'no' where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        module = {'opencv-python': 'cv2'}.get(name, name)
        return '(unknown version)' if importlib.util.find_spec(module.replace('-', '_')) else 'no'


def processor() -> str:
    info = Path('/proc/cpuinfo')
    name = re.search(r'model name\s*:\s*(.*)', info.read_text()) if info.is_file() else None
    return name.group(1).strip() if name else platform.processor() or platform.machine()


def gpus() -> list[str]:
    """A line for each GPU that PyTorch can use."""
    import torch
    found = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return [
        f'{p.name}, compute capability {p.major}.{p.minor}, {p.total_memory / 2**30:.0f} GiB'
        for p in map(torch.cuda.get_device_properties, found)
    ]


def choose_device(wanted: str = 'auto') -> str:
    """'auto' to 'cuda' where there is a GPU. Raises `UserError` for a device that is not there."""
    import torch
    if wanted == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"the device '{wanted}' cannot be used here; try --device cpu") from error
    return wanted
