"""Weight files that others publish: found where people put them, or downloaded once."""
from __future__ import annotations

import sys
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

import torch

from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger


def published_file(url: str, folders: Iterable[Path], needed: str, otherwise: str) -> Path:
    """The file at `url`: in one of `folders`, in torch's cache, or downloaded into that and checked.

    Args:
        url: its name ends in '-<first digits of its SHA-256>.<suffix>', as PyTorch's hub names weights.
        needed: what it is, the beginning of the message: 'the weights of X are'.
        otherwise: what to do instead, the end of the message.

    Raises:
        UserError: when it is nowhere and cannot be downloaded, or is not what was published.
    """
    folders, cache, name = list(folders), Path(torch.hub.get_dir()) / 'checkpoints', url.rpartition('/')[2]
    for folder in (*folders, cache):
        if (folder / name).is_file():
            return (folder / name).resolve()
    get_root_logger().info(f"Downloading {url} to '{cache}'")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        digits = name.rpartition('-')[2].partition('.')[0]
        torch.hub.download_url_to_file(url, str(cache / name), hash_prefix=digits, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, HTTPException) as error:  # RuntimeError: the file is not what was published
        places = ' or '.join(f"'{folder}'" for folder in (*folders[:1], cache))
        raise UserError(f"{needed} needed, and cannot be downloaded ({str(error).strip('<>')}): get {url} and put it"
                        f" into {places}, or {otherwise}") from error
    return (cache / name).resolve()


def load_file_from_url(url: str, model_dir: str | None = None, progress: bool = True,
                       file_name: str | None = None) -> str:
    """The path of a file that is downloaded unless it is there (BasicSR).

    Args:
        model_dir: its folder, default the cache of torch's hub.
        file_name: its name, default the one in the URL.

    Raises:
        UserError: when it cannot be downloaded.
    """
    folder = Path(model_dir or Path(torch.hub.get_dir()) / 'checkpoints')
    file = folder / (file_name or Path(urlparse(url).path).name)
    if not file.is_file():
        get_root_logger().info(f"Downloading {url} to '{file}'")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), progress=progress and sys.stderr.isatty())
        except (OSError, ValueError, HTTPException) as error:
            raise UserError(f"'{file.name}' cannot be downloaded ({str(error).strip('<>')}): get {url} and put it into"
                            f" '{folder}'") from error
    return str(file.resolve())
