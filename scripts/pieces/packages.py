"""What a machine without a network lacks for training, and bringing it there as wheels. Only the standard library."""
from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError

# distribution: module, of what training needs; torch itself must be there
NEEDED = {
    'torch': 'torch', 'numpy': 'numpy', 'opencv-python-headless': 'cv2', 'pyyaml': 'yaml', 'pydantic': 'pydantic',
    'addict': 'addict', 'natsort': 'natsort', 'lmdb': 'lmdb', 'einops': 'einops', 'safetensors': 'safetensors',
    'tqdm': 'tqdm', 'matplotlib': 'matplotlib'
}
# what PyTorch was built with: another one in front of it would not do. All else may be too old for what is brought
_KEPT = re.compile(r'torch|numpy|triton|nvidia-.*|cuda-.*')


def inspect_machine(folder: Path) -> dict[str, Any]:
    """Python, packages, GPUs, and the room on the disk of `folder`."""
    missing = [name for name, module in NEEDED.items() if importlib.util.find_spec(module) is None]
    found = {
        'python': '.'.join(platform.python_version_tuple()[:2]), 'platform': platform.platform(), 'missing': missing,
        'disk_gib': round(shutil.disk_usage(folder).free / 2**30, 1)
    }
    if 'torch' not in missing:
        import torch
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found |= {
            'torch': torch.__version__, 'cuda': torch.version.cuda, 'gpus': gpus,
            'triton': importlib.util.find_spec('triton') is not None
        }
    return found | {'installed': sorted({_plain(d.metadata['Name'] or '') for d in metadata.distributions()})}


def download(machine: dict[str, Any], folder: Path) -> list[Path]:
    """Wheels of what `inspect_machine` found missing on a Linux machine, with what they need.

    Raises:
        UserError: when the machine has no PyTorch, or pip fails.
    """
    if 'torch' in machine['missing']:
        raise UserError('the machine has no PyTorch, which is too large to be carried')
    platforms = [f'--platform=manylinux_2_{n}_x86_64' for n in range(17, 40)] + ['--platform=manylinux2014_x86_64']
    _pip('download', '--only-binary=:all:', f'--python-version={machine["python"]}', *platforms, '--dest', folder,
         *machine['missing'])
    there = {name for name in machine['installed'] if _KEPT.fullmatch(name)}
    return [path for path in sorted(folder.iterdir()) if _plain(path.name.split('-')[0]) not in there]


def install(wheels: list[Path], target: Path) -> None:
    """Unpack wheels below `target`, which then goes to `sys.path`."""
    _pip('install', '--no-index', '--no-deps', '--upgrade', '--target', target, *wheels)


def _plain(name: str) -> str:
    """The name of a distribution as pip compares it."""
    return re.sub(r'[-_.]+', '-', name).lower()


def _pip(verb: str, *arguments: str | Path) -> None:
    command = [sys.executable, '-m', 'pip', verb, '--quiet', '--disable-pip-version-check', *map(str, arguments)]
    if subprocess.run(command, check=False).returncode:
        raise UserError(f'pip {verb} failed; its message is above')
