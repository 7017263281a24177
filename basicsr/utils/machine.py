"""What this machine is: processor, GPUs, versions of packages."""
from __future__ import annotations

import importlib.util
import os
import platform
import re
from importlib import metadata
from pathlib import Path

from basicsr import __version__
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
    """'auto' to 'cuda' where there is a GPU of NVIDIA or AMD, to 'mps' on a Mac with Apple's, else to 'cpu'.

    Raises `UserError` for a device that is not there.
    """
    import torch
    if wanted == 'auto':
        if torch.cuda.is_available():
            return 'cuda'
        return 'mps' if torch.backends.mps.is_available() else 'cpu'
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"the device '{wanted}' cannot be used here; try --device cpu") from error
    return wanted


def environment() -> str:
    """Versions, GPU, processor, in one line."""
    import torch
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'
    return (f'retinexmamba {__version__}, Python {platform.python_version()}, PyTorch {torch.__version__}, {gpu},'
            f' {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads')


def shadowing() -> str | None:
    """A sentence when another distribution installed a package called `basicsr` as well."""
    others = sorted({
        f'{d} {metadata.version(d)}' for d in metadata.packages_distributions().get('basicsr', [])
        if d.lower() != 'retinexmamba'
    })
    if not others:
        return None
    here = Path(__file__).resolve().parents[1]
    return (f"another package called basicsr is installed ({', '.join(others)}); this run uses '{here}'."
            ' Scripts that say "import basicsr" elsewhere may get the other one:'
            f' pip uninstall {others[0].split()[0]}')
