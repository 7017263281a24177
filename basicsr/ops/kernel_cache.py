"""Where kernels that were compiled on this machine are kept: `$XDG_CACHE_HOME/basicsr/kernels`, else below `~/.cache`.

A file is called `<key>.<digest><suffix>`. The key names all that went into it, so a file never changes; the digest is that
of its content, so one that was damaged is noticed before it is used.
"""
from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from basicsr.utils.files import atomic_write, cache_folder


def folder() -> Path:
    """Raises `OSError` where there is no home."""
    return cache_folder('kernels')


def digest(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:32]


def find(key: str, suffix: str) -> list[Path]:
    """The whole files of a key, which may hold `*`; damaged ones are removed. Empty as well where nothing can be read."""
    whole = []
    with suppress(OSError):
        for file in sorted(folder().glob(f'{key}.*{suffix}')):
            with suppress(OSError):
                if file.name.endswith(f'.{digest(file.read_bytes())}{suffix}'):
                    whole.append(file)
                else:
                    file.unlink()
    return whole


def keep(key: str, suffix: str, content: bytes) -> Path:
    """Write a file under its name, whole or not at all. Raises `OSError` where that cannot be done."""
    file = folder() / f'{key}.{digest(content)}{suffix}'
    with atomic_write(file) as unfinished:
        unfinished.write(content)
    return file
