"""What the image datasets share: reading bytes from a folder or database, and the step from array to tensor."""
from __future__ import annotations

import functools
import inspect
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from basicsr.utils.color import bgr2gray, bgr2ycbcr
from basicsr.utils.errors import UserError, describe_os_error, naming
from basicsr.utils.image_header import Ends, Header, read_header
from basicsr.utils.img import decode_image, img2tensor, to_float
from basicsr.utils.logger import get_root_logger
from basicsr.utils.storage import FileClient, full_name, is_database

_FIRST, _LAST = 1 << 16, 1 << 12  # bytes: the header of a PNG, EXIF data of a JPEG; the end of either
_LOOKED_AT = 200
_ONE_CHANNEL = ('y', 'gray')

# what BasicSR's data sets keep of their options, and the arguments here
_KEPT = {
    'gt_folder': 'dataroot_gt', 'lq_folder': 'dataroot_lq', 'lqL_folder': 'dataroot_lqL', 'lqR_folder': 'dataroot_lqR',
    'filename_tmpl': 'filename_tmpl', 'mean': 'mean', 'std': 'std'
}


def accepts_opt(cls: Any) -> Any:
    """Make a dataset with named arguments one of BasicSR's as well, for code that calls it or derives from it.

    It is also called by the whole block, `Dataset(opt)`; keys that it lacks are left out, and `self.opt` holds all of
    them. By BasicSR's names there are its folders, `filename_tmpl`, `mean`, `std` and `task`, and what it reads with:
    `file_client`, which is ready, and `io_backend_opt`, by which a subclass may make another.
    """
    init = cls.__init__
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        block = kwargs.get('opt') if kwargs else args[0] if len(args) == 1 else None
        if isinstance(block, dict) and len(args) + len(kwargs) == 1:
            self.opt = block
            args, kwargs = (), {k: v for k, v in block.items() if k in signature.parameters}
        init(self, *args, **kwargs)
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        for name, argument in _KEPT.items():
            if argument in given.arguments:
                setattr(self, name, given.arguments[argument])
        self.task = getattr(self, 'opt', {}).get('task')
        if isinstance(getattr(self, 'reader', None), ImageReader):
            self.file_client, self.io_backend_opt = self.reader.client, dict(self.reader.backend)

    wrapper.accepts_opt = True  # type: ignore[attr-defined]
    cls.__init__ = wrapper
    return cls


def read_all(*reads: Callable[[], np.ndarray]) -> list[np.ndarray]:
    """The images of one sample. Raises `UserError` that names every file that cannot be read, not the first alone."""
    images, mistakes = [], []
    for read in reads:
        try:
            images.append(read())
        except UserError as error:
            mistakes.append(str(error))
        except OSError as error:
            mistakes.append(describe_os_error(error))
    if mistakes:
        raise UserError('; '.join(dict.fromkeys(mistakes)))
    return images


class ImageReader:
    """Reads images of one or two roots.

    Args:
        io_backend: `{type: disk}` or `{type: lmdb, ...}`; None takes lmdb for roots that end in '.lmdb'.
        roots: root path by name, e.g. {'lq': ..., 'gt': ...}.
    """

    def __init__(self, io_backend: dict[str, Any] | None, roots: dict[str, str]):
        self.is_lmdb = all(map(is_database, roots.values()))
        backend = dict(io_backend) if io_backend else {}
        kind = backend.pop('type', 'lmdb' if self.is_lmdb else 'disk')
        if kind == 'lmdb' and not self.is_lmdb:
            raise UserError(f"io_backend is lmdb, but these roots do not end in '.lmdb': {', '.join(roots.values())}")
        if kind == 'disk' and self.is_lmdb:
            raise UserError(f"io_backend is disk, but these roots are databases: {', '.join(roots.values())}")
        if kind == 'lmdb':
            backend |= {'db_paths': list(roots.values()), 'client_keys': list(roots)}
        self.backend = {'type': kind, **backend}
        self.client, self.roots = FileClient(kind, **backend), roots

    def read(self, path: str, root: str) -> np.ndarray:
        """(H, W, 3) BGR, uint8 or uint16. Raises `UserError` naming the file when it is no complete image."""
        return decode_image(self.client.get(path, root), self.full_name(path, root))

    def full_name(self, path: str, root: str) -> str:
        """What messages call an image, see `basicsr.utils.storage.full_name`."""
        return full_name(self.roots[root], path) if self.is_lmdb else path

    def size(self, path: str, root: str) -> tuple[int, int]:
        """(height, width) of what `read` gives, by the file's header; where that does not tell, the image is read.

        Raises `UserError` as `read` does, as far as the header and the file's length tell.
        """
        header = read_header(self.client.get(path, root)) if self.is_lmdb else head_of(path)
        if header.refused:
            raise UserError(f"'{self.full_name(path, root)}' {header.refused}")
        return header.size or self.read(path, root).shape[:2]

    def remark(self, paths: list[str], what: str) -> None:
        """Log once what reading changes in files that are not plain 8-bit RGB."""
        if self.is_lmdb:
            return
        counts: Counter[str] = Counter()
        for path in paths[:_LOOKED_AT]:
            with suppress(OSError):  # whoever reads the image says so
                counts.update(head_of(path).remarks())
        looked = min(len(paths), _LOOKED_AT)
        for text, count in counts.items():
            get_root_logger().info(f'{what}: {count} of {looked} files looked at are {text}')


def head_of(path: str) -> Header:
    """The header of an image file, of which the first and last bytes are read; all of it where these do not tell enough."""
    with naming(path), open(path, 'rb') as file:
        first = file.read(_FIRST)
        if len(first) < _FIRST:
            return read_header(first)
        length = file.seek(-_LAST, os.SEEK_END) + _LAST
        header = read_header(Ends(first, file.read(), length))
        if header.size and not header.refused:
            return header
        file.seek(0)
        return read_header(file.read())


class ToTensor:
    """BGR array to RGB tensor (C, H, W), float32 in [0, 1].

    Args:
        color: 'y' gives one channel, BT.601 luma; 'gray' one as well, OpenCV's grey.
        mean, std: per channel; (x - mean) / std afterwards.
    """

    def __init__(self, color: str | None = None, mean: list[float] | None = None, std: list[float] | None = None):
        if color not in (None, 'rgb', 'y', 'gray'):
            raise UserError(f"color '{color}' is not supported; one of: y, gray, rgb")
        self.color = color
        for name, values in (('mean', mean), ('std', std)):
            if values and len(values) not in ((1, ) if color in _ONE_CHANNEL else (1, 3)):
                raise UserError(
                    f"{name}: {len(values)} values for {'one channel' if color in _ONE_CHANNEL else 'three channels'}")
        self.mean = torch.tensor(mean or 0.).view(-1, 1, 1)
        self.std = torch.tensor(std or 1.).view(-1, 1, 1)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is done beyond the change of order and range."""
        return self.color not in _ONE_CHANNEL and not self.mean.any() and bool((self.std == 1).all())

    def __call__(self, img: np.ndarray) -> torch.Tensor:
        if self.color == 'y':
            return (torch.from_numpy(bgr2ycbcr(to_float(img), y_only=True))[None] - self.mean) / self.std
        img = bgr2gray(img) if self.color == 'gray' else img
        tensor = img2tensor(img, bgr2rgb=True, float32=img.dtype != np.uint16)
        if img.dtype == np.uint16:  # torch has few operations on uint16
            tensor = tensor.to(torch.int32).float()
        tensor = tensor.div_(65535. if img.dtype == np.uint16 else 255.)
        return tensor if self.is_plain else (tensor - self.mean) / self.std
