"""Pre-computed semantic maps that belong to images: the guide of networks such as ISALux with `semantic: external`."""
from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from basicsr.data.pairing import by_stem
from basicsr.data.reading import head_of
from basicsr.utils.errors import UserError, naming, some
from basicsr.utils.files import read_bytes
from basicsr.utils.img import imfrombytes
from basicsr.utils.names import normal

_SUFFIXES = ('.npy', '.npz', '.png')


class SemanticMaps:
    """The maps of a folder, found by the names of the images without suffix.

    A map is a file `.npy` or `.npz` of class probabilities (classes, H, W), any float type, as `basicsr segment` writes
    them, or a grey 8-bit `.png` of class numbers. `.npy` is read where the patch lies only.

    Args:
        folder: where they are.
        images: names of the images without suffix; each must have its map.
        classes: channels of the map.
    """

    def __init__(self, folder: str, images: list[str], classes: int):
        if not Path(folder).is_dir():
            raise UserError(f"dataroot_sem: '{folder}' is not a folder; make the maps with: basicsr segment IMAGES -o"
                            f' {folder} --weights torchvision')
        files = sorted(p for p in Path(folder).iterdir() if p.suffix in _SUFFIXES and not p.name.startswith('.'))
        self.files, self.classes = by_stem(files, folder, 'dataroot_sem'), classes
        if len(set(images)) < len(images):
            twice = [name for name, count in Counter(images).items() if count > 1]
            raise UserError(f"dataroot_sem: several images have one name, and a map goes by the name: {some(twice)}")
        missing = [name for name in images if normal(name) not in self.files]
        if missing:
            raise UserError(
                f"dataroot_sem: '{folder}' has no map of {some(missing)} (wants NAME{' or NAME'.join(_SUFFIXES)})",
                details=[f"dataroot_sem: '{folder}' has no map of {name}" for name in missing])

    def read(self, name: str, height: int, width: int) -> np.ndarray:
        """(H, W, classes). Raises `UserError` when the file is no map for an image of this size."""
        file = self.files[normal(name)]
        array = self._of_class_numbers(file) if file.suffix == '.png' else _load(file).transpose(1, 2, 0)
        self._check_shape(file, array.shape, (height, width))
        return array

    def check(self, name: str, height: int, width: int) -> None:
        """Raise `UserError` as `read` does, as far as the header of the file tells; that of `.npz` is not looked at."""
        file = self.files[normal(name)]
        if file.suffix == '.npy':
            classes, *size = _load(file).shape
            self._check_shape(file, (*size, classes), (height, width))
        elif file.suffix == '.png':
            header = head_of(str(file))
            if header.refused:
                raise UserError(f"'{file}' {header.refused}")
            self._check_shape(file, (*(header.size or (height, width)), self.classes), (height, width))

    def _check_shape(self, file: Path, shape: tuple[int, ...], size: tuple[int, int]) -> None:
        (h, w, classes), (height, width) = shape, size
        if shape != (height, width, self.classes):
            raise UserError(f"'{file}' has {classes} classes and {w}x{h} pixels, its image needs {self.classes} and"
                            f' {width}x{height} (number of classes: option sem_classes)')

    def _of_class_numbers(self, file: Path) -> np.ndarray:
        numbers = imfrombytes(read_bytes(file), 'unchanged', path=str(file))
        if numbers.ndim != 2 or numbers.max() >= self.classes:
            raise UserError(
                f"'{file}' must be a grey picture of class numbers below {self.classes} (option sem_classes)")
        return np.eye(self.classes, dtype=np.float32)[numbers]


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """(H, W, classes) to (classes, H, W), float32."""
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1), dtype=np.float32))


def _load(file: Path) -> np.ndarray:
    """The array of three axes in a file, (classes, H, W)."""
    try:
        with naming(file):
            content = np.load(file, mmap_mode='r', allow_pickle=False)
            array = content if isinstance(content, np.ndarray) else content[content.files[0]]
    except (ValueError, EOFError, zipfile.BadZipFile, IndexError) as error:
        raise UserError(f"'{file}' cannot be read as a map ({error})") from error
    if array.ndim != 3 or array.dtype.kind != 'f':
        raise UserError(f"'{file}' holds {array.dtype} {array.shape}, not probabilities (classes, height, width)")
    return array
