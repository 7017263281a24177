"""Images: files to arrays, arrays to tensors and back, padding."""
from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from basicsr.utils.decoder import Messages, decode
from basicsr.utils.errors import UserError
from basicsr.utils.files import atomic_write, read_bytes
from basicsr.utils.image_header import Header, has_its_checksums, read_header
from basicsr.utils.notes import doubt, note
from basicsr.utils.zero_runs import longest_zeros

_DEEP_SUFFIXES = ('.png', '.tif', '.tiff', '.ppm', '.pgm', '.jp2')  # of the formats that hold 16 bits
_FLAGS = {'color': cv2.IMREAD_COLOR, 'grayscale': cv2.IMREAD_GRAYSCALE, 'unchanged': cv2.IMREAD_UNCHANGED}


def decode_image(data: bytes, path: str = '', flags: int = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH) -> np.ndarray:
    """Bytes of an image file to (H, W, 3) BGR in the file's own depth (uint8 or uint16).

    Grey becomes three equal channels, alpha is dropped, EXIF rotation is applied; `flags` of OpenCV say otherwise. What is
    doubtful or left out, such as further pages, is a `note`.

    Raises:
        UserError: for bytes that are no image, end too early, or are damaged as far as the format tells (OpenCV would
            fill the rest silently), and for pixels that would be read as others.
    """
    header = read_header(data)
    if header.refused:
        raise UserError(f"'{path}' {header.refused}")
    try:
        img, messages = decode(data, flags)
    except cv2.error as error:
        raise UserError(f"'{path}' cannot be decoded: {error.err}") from error
    if img is None:
        said = f': {messages.damage}' if messages.damage else ''
        raise UserError(f"'{path}' is not an image that can be read (damaged, or not an image file){said}")
    if messages.damage or not has_its_checksums(data):
        raise UserError(f"'{path}' is damaged inside: {messages.damage or 'its pixels do not fit their checksum'}")
    if img.dtype not in (np.uint8, np.uint16):
        raise UserError(f"'{path}' holds {img.dtype} values; 8-bit and 16-bit images are supported")
    _tell_doubts(data, path, header, messages, img)
    return img


def _tell_doubts(data: bytes, path: str, header: Header, messages: Messages, img: np.ndarray) -> None:
    for text in messages:
        tell = doubt if text == messages.doubt else note
        tell(f"'{path}': the decoder says: {text}")
    zeros = longest_zeros(data, least=256 + img.shape[0] * img.shape[1] // 8000)
    if zeros:
        doubt(f"'{path}' holds {zeros} zero bytes in a row amid its pixels")
    if header.surplus:
        doubt(f"'{path}' {header.odd_length()}")
    if header.pages > 1:
        note(f"'{path}' has {header.pages} pages or frames; the first is used")


def imread(path: str | Path) -> np.ndarray:
    """`decode_image` of a file; any path that the file system allows (OpenCV alone fails on some non-ASCII names)."""
    return decode_image(read_bytes(path), str(path))


def to_float(img: np.ndarray) -> np.ndarray:
    """uint8 or uint16 to float32 in [0, 1]."""
    return img.astype(np.float32) / (65535. if img.dtype == np.uint16 else 255.)


def imwrite(img: np.ndarray, file_path: str | Path, params: list[int] | None = None, auto_mkdir: bool = True) -> bool:
    """Write an image atomically; the suffix chooses the format.

    Args:
        img: (H, W) or (H, W, 3) BGR, uint8 or uint16.
        params: OpenCV encoder parameters.

    Raises:
        UserError: for a suffix that OpenCV cannot write (in this depth). OSError: when the file cannot be written.
    """
    path = Path(file_path)
    if img.dtype == np.uint16 and path.suffix and path.suffix.lower() not in _DEEP_SUFFIXES:  # OpenCV would clip to 255
        raise UserError(f"cannot write '{path}': '{path.suffix}' holds 8 bits, the image has 16; write a .png")
    try:
        done, data = cv2.imencode(path.suffix or '.png', img, params or [])
    except cv2.error as error:
        raise UserError(f"cannot write '{path}': images of type '{path.suffix}' are not supported") from error
    if not done:
        raise UserError(f"cannot write '{path}': the encoder refused the image")
    if not auto_mkdir and not path.parent.is_dir():
        raise UserError(f"cannot write '{path}': there is no folder '{path.parent}'")
    with atomic_write(path) as file:
        file.write(data.tobytes())
    return True


NOT_FINITE = 'the result of the network is not finite; its weights may be damaged, or half precision (amp) too narrow'


def to_bytes(img: np.ndarray, rgb2bgr: bool = True) -> np.ndarray:
    """RGB or grey (H, W, C) in [0, 1], clamped, to the 8-bit BGR that `imwrite` takes, and metrics of 8 bits see.

    Raises `UserError` where values are not finite: there is no grey for them.
    """
    if not np.isfinite(img).all():
        raise UserError(NOT_FINITE)
    img = img[..., ::-1] if rgb2bgr else img
    return np.ascontiguousarray(np.rint(img.astype(np.float64).clip(0, 1) * 255).astype(np.uint8))


def imfrombytes(content: bytes, flag: str = 'color', float32: bool = False, path: str = '') -> np.ndarray:
    """BasicSR's reader: 'color' (8-bit BGR), 'grayscale' or 'unchanged'; float32 gives [0, 1]. Raises as `decode_image`."""
    if not content and not path:
        raise UserError('these bytes are not an image: there are none')
    img = decode_image(content, path or 'these bytes', _FLAGS[flag])
    return to_float(img) if float32 else img


def img2tensor(imgs: np.ndarray | list[np.ndarray], bgr2rgb: bool = True, float32: bool = True):
    """(H, W, C) array, or a list of them, to (C, H, W) tensors; values are not rescaled."""
    if isinstance(imgs, (list, tuple)):
        return [img2tensor(i, bgr2rgb, float32) for i in imgs]
    if bgr2rgb and imgs.shape[2] == 3:
        imgs = imgs[..., ::-1]
    out = torch.from_numpy(np.ascontiguousarray(imgs.transpose(2, 0, 1)))
    return out.float() if float32 else out


def tensor2img(tensor, rgb2bgr: bool = True, out_type: type = np.uint8, min_max: tuple[float, float] = (0, 1)):
    """RGB tensor, or a list of them, to (H, W, 3) BGR (one channel: (H, W)).

    Args:
        tensor: (1, C, H, W), (C, H, W) or (H, W); a larger batch becomes a grid. The input is left unchanged.
        out_type: np.uint8 rounds to [0, 255]; a float type stays in [0, 1].
    """
    if isinstance(tensor, (list, tuple)):
        images = [tensor2img(t, rgb2bgr, out_type, min_max) for t in tensor]
        return images[0] if len(images) == 1 else images
    low, high = min_max
    values = ((tensor.detach().float().cpu().clamp(low, high) - low) / (high - low))
    if values.dim() == 4:
        values = values[0] if len(values) == 1 else _grid(values)
    img = values.numpy()
    if img.ndim == 3:
        img = img.transpose(1, 2, 0)
        img = img[..., 0] if img.shape[2] == 1 else img[..., ::-1] if rgb2bgr else img
    if out_type == np.uint8:
        img = (img * 255.0).round()
    return np.ascontiguousarray(img.astype(out_type))


def _grid(batch: torch.Tensor) -> torch.Tensor:
    columns = math.ceil(math.sqrt(len(batch)))
    rows = math.ceil(len(batch) / columns)
    c, h, w = batch.shape[1:]
    grid = batch.new_zeros(c, rows * h, columns * w)
    for i, img in enumerate(batch):
        y, x = i // columns * h, i % columns * w
        grid[:, y:y + h, x:x + w] = img
    return grid


def pad_to_multiple(x: torch.Tensor, multiple: int, padding: str = 'reflect') -> torch.Tensor:
    """Pad (B, C, H, W) at the right and bottom to multiples of `multiple`.

    Args:
        padding: 'reflect', in which tiny images repeat their edge, or 'zeros'.
    """
    h, w = x.shape[-2:]
    # as multiples of `multiple`, so that an exporter knows that what they are divided by later divides them
    bottom, right = (multiple * ((side + multiple - 1) // multiple) - side for side in (h, w))
    if isinstance(bottom, int) and isinstance(right, int) and not (bottom or right):  # else a graph for many sizes
        return x
    if padding == 'zeros':
        return F.pad(x, (0, right, 0, bottom))
    # reflection needs more pixels than it adds
    mode = 'reflect' if bottom < h and right < w else 'replicate'
    return F.pad(x, (0, right, 0, bottom), mode)


def encode_png(img: np.ndarray, level: int = 1) -> bytes:
    """BGR array to PNG bytes."""
    return cv2.imencode('.png', img, [cv2.IMWRITE_PNG_COMPRESSION, level])[1].tobytes()
