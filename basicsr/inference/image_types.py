"""Images as Python has them, NumPy arrays, Pillow's images and tensors, to frames of photos and back to what they were."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from basicsr.photos.photo import Frame, Metadata, odd_white, stacked
from basicsr.photos.profiles import without_inks
from basicsr.utils.logger import get_root_logger

Back = Callable[[list[Frame]], Any]  # results to the type of the input
_TYPES = 'uint8, uint16 or floating point'
_KEPT = 'L', 'LA', 'RGB', 'RGBA', 'I;16', 'I', 'F'  # modes of Pillow whose pixels can hold a result


def frames_of(image: Any) -> tuple[list[Frame], Back]:
    """The pictures of an image or of a batch, and what makes the same type of their results.

    Args:
        image: see `Restorer.__call__`.

    Raises:
        TypeError: for other types. ValueError: for other shapes, no pixels, NaN and infinity.
    """
    if isinstance(image, np.ndarray):
        return _of_array(image)
    if isinstance(image, Tensor):
        return _of_tensor(image)
    if any(kind.__module__ == 'PIL.Image' for kind in type(image).__mro__):  # without importing Pillow for all others
        frame, back = _of_pillow(image)
        return [frame], lambda frames: back(frames[0])
    raise TypeError('an image is a NumPy array, an image of Pillow or a tensor, not'
                    f' {type(image).__name__}; photo files are for restore.files(...)')


def _of_array(array: np.ndarray) -> tuple[list[Frame], Back]:
    """(H, W), (H, W, C) or (N, H, W, C), with C from 1 to 4: grey or RGB, each with or without alpha."""
    array, dtype = array.astype(array.dtype.newbyteorder('='), copy=False), array.dtype
    if array.dtype not in (np.uint8, np.uint16) and array.dtype.kind != 'f':
        raise TypeError(f'images are {_TYPES}, not {array.dtype}')
    batch = array if array.ndim == 4 else array[None] if array.ndim == 3 else array[None, ..., None]
    if not 2 <= array.ndim <= 4 or not 1 <= batch.shape[-1] <= 4:
        raise ValueError(f'an image has the shape (H, W), (H, W, C) or (N, H, W, C), C from 1 to 4, not {array.shape}')
    if not array.size:
        raise ValueError(f'an image of the shape {array.shape} has no pixels')

    def back(frames: list[Frame]) -> np.ndarray:
        out = np.stack([stacked(frame) for frame in frames]).astype(dtype, copy=False)
        return out if array.ndim == 4 else out[0] if array.ndim == 3 else out[0, ..., 0]

    return [_frame(picture) for picture in batch], back


def _frame(picture: np.ndarray) -> Frame:
    """Of (H, W, 1 to 4)."""
    if picture.dtype.kind == 'f':
        picture = picture.astype(np.float32)
        if not np.isfinite(picture).all():
            raise ValueError('the image has NaN or infinity in it')
        if odd := odd_white(picture[..., :3]):
            get_root_logger().warning(odd)
    colours = picture.shape[2] - (picture.shape[2] in (2, 4))
    return Frame(picture[..., :colours], picture[..., colours] if picture.shape[2] > colours else None)


def _of_tensor(tensor: Tensor) -> tuple[list[Frame], Back]:
    """(C, H, W) or (N, C, H, W)."""
    if tensor.dtype not in (torch.uint8, torch.uint16) and not tensor.is_floating_point():
        raise TypeError(f'images are {_TYPES}, not {tensor.dtype}')
    if not 3 <= tensor.ndim <= 4 or not 1 <= tensor.shape[-3] <= 4:
        raise ValueError(f'a tensor has the shape (C, H, W) or (N, C, H, W), C from 1 to 4, not {tuple(tensor.shape)}')
    plain = tensor.detach().movedim(-3, -1).cpu()
    frames, back = _of_array((plain.float() if tensor.is_floating_point() else plain).numpy())

    def to_tensor(results: list[Frame]) -> Tensor:
        array = np.ascontiguousarray(np.moveaxis(back(results), -1, -3))
        return torch.from_numpy(array).to(tensor.device, tensor.dtype)

    return frames, to_tensor


def _of_pillow(image: Any) -> tuple[Frame, Callable[[Frame], Any]]:
    """One in a mode that holds no result, such as a palette, comes back as L, RGB or RGBA; `info` is kept."""
    from PIL import Image

    from basicsr.photos.pillow_file import metadata_of, pixels_of
    image.load()
    if 0 in image.size:
        raise ValueError(f'an image of the size {image.size} has no pixels')
    if 'transparency' in image.info and image.mode in ('L', 'RGB'):  # a colour that stands for nothing
        image = image.convert('LA' if image.mode == 'L' else 'RGBA')
    info, mode = dict(image.info), image.mode
    profile = Metadata(icc=metadata_of(image).icc)
    if mode in ('I', 'I;16', 'I;16B', 'I;16L', 'F'):
        array = np.array(image)
        if mode != 'F':
            if array.min() < 0 or array.max() > 65535:
                raise ValueError('whole numbers of an image in mode I are from 0 to 65535')
            array = array.astype(np.uint16)
        frame = _frame(array[..., None])
    elif mode == 'CMYK':
        pixels, profile, _ = without_inks(np.array(image), profile)
        frame = Frame(pixels)
        info.pop('icc_profile', None)
    else:
        frame = Frame(*pixels_of(image))
        if mode in ('LA', 'RGBA') and frame.alpha is None:
            frame.alpha = np.full(frame.pixels.shape[:2], 255, np.uint8)
        info.pop('transparency', None)
        if mode == 'LAB':  # a profile of Lab says nothing of RGB
            profile = Metadata()
            info.pop('icc_profile', None)
    frame.meta = profile

    def back(result: Frame) -> Any:
        array = stacked(result)
        array = array[..., 0] if array.shape[2] == 1 else array
        out = Image.fromarray(np.ascontiguousarray(array.astype(np.int32) if mode == 'I' else array))
        out.info = info
        return out.convert(mode) if mode in _KEPT and out.mode != mode else out

    return frame, back
