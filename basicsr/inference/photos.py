"""Photos through a network: in sRGB, and back in their own colours, depth and format."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from basicsr.inference.build import build_restorer
from basicsr.inference.progress import Progress
from basicsr.inference.restorer import ImageRestorer
from basicsr.photos.formats import of_output
from basicsr.photos.naming import Job
from basicsr.photos.photo import Frame, Photo, from_float, to_float
from basicsr.photos.profiles import Colours, luma
from basicsr.photos.reading import decode_photo
from basicsr.photos.writing import encode_photo, losses, taken
from basicsr.utils.errors import UserError, describe_os_error
from basicsr.utils.files import atomic_write, read_bytes
from basicsr.utils.img import NOT_FINITE, imwrite
from basicsr.utils.logger import get_root_logger
from basicsr.utils.matlab_functions import enlarged
from basicsr.utils.pretrained import WeightFile, locate
from basicsr.utils.srgb import srgb_to_linear

_AROUND, _DARKEST, _MOST = 9, 1e-4, 32  # pixels; of white; times the light
_ROWS = 256

Restore = Callable[[np.ndarray], np.ndarray]  # sRGB (H, W, 3) in [0, 1] to the same or grey, perhaps larger


def photo_restorer(weights: str | Path | WeightFile, opt: dict[str, Any] | None = None,
                   **settings: Any) -> ImageRestorer:
    """`build_restorer` for photos. Raises `UserError` for a network that takes neither RGB nor grey images."""
    weights = locate(weights)
    restorer = build_restorer(weights, opt, **settings)
    if restorer.channels not in (None, 1, 3):
        raise UserError(
            f"the network of '{weights.path}' takes images of {restorer.channels} channels; photos have 3 (RGB)"
            ' or are turned to 1 (grey). Data sets of such images are for: basicsr test')
    return restorer


def enhance_files(restorer: ImageRestorer, jobs: Sequence[Job],
                  write_out: Callable[[bytes], Any] | None = None) -> list[str]:
    """Enhance all, one after the other. Returns a sentence for each that failed; a failure does not stop the others.

    `write_out`: takes the file of the job that has no target.
    """
    failed: list[str] = []
    with Progress(restorer, len(jobs)) as progress:
        for number, job in enumerate(jobs):
            try:
                enhance_file(restorer, job, write_out)
            except UserError as error:
                failed.append(str(error))
            except OSError as error:
                what = describe_os_error(error)
                failed.append(what if error.filename else f'{job.source.path.name}: {what}')
            except MemoryError:
                failed.append(f"there is not enough memory for '{job.source.path}'")
            except KeyboardInterrupt:
                get_root_logger().warning(
                    f'stopped after {number - len(failed)} of {len(jobs)} images; --skip_existing goes on')
                raise
            progress.file_done()
    return failed


def enhance_file(restorer: ImageRestorer, job: Job, write_out: Callable[[bytes], Any] | None = None) -> None:
    """Read, restore, write. What the result's format cannot hold is said before the network begins."""
    data = read_bytes(job.source.path) if job.source.data is None else job.source.data
    photo = decode_photo(data, str(job.source.path))
    log, name = get_root_logger(), job.source.path.name
    del data
    for remark in photo.remarks:
        log.info(f'{name} {remark}')
    odd = Colours(photo.meta.icc, photo.frames[0].pixels.shape[2]).remark
    if odd:
        log.warning(f'{name}: {odd}')
    lost = losses(photo, job.name)
    if lost:
        log.warning(lost)
    photo = taken(photo, of_output(job.name, job.suffix))  # the others need no work
    sheets: list[np.ndarray] = []
    try:
        result = restore_photo(restorer, photo, (lambda *sides: sheets.append(_sheet(*sides))) if job.sheet else None)
    except UserError as error:
        raise UserError(f'{name}: {error}') from error
    content = encode_photo(result, job.name)
    if job.target is None:
        if write_out:
            write_out(content)
        return
    with atomic_write(job.target) as file:
        file.write(content)
    log.info(f'wrote {job.target}')
    if job.sheet and sheets:
        imwrite(sheets[0], job.sheet)


def restore_photo(restore: Restore, photo: Photo,
                  watch: Callable[[np.ndarray, np.ndarray], None] | None = None) -> Photo:
    """Every page and frame through the network; all else stays as it is.

    Args:
        watch: gets the first picture before and after, sRGB (H, W, 3) or grey (H, W, 1) in [0, 1].

    Raises:
        UserError: where the network's answer is not finite.
    """
    frames: list[Frame] = []
    for frame in photo.frames:
        frames.append(_restore(restore, frame, watch if not frames else None))
    grey = frames[0].grey and not photo.frames[0].grey
    chunks = () if grey else photo.encoding.chunks
    return replace(photo, frames=frames, encoding=replace(photo.encoding, chunks=chunks))


def _restore(restore: Restore, frame: Frame, watch: Callable[[np.ndarray, np.ndarray], None] | None) -> Frame:
    colours = Colours(frame.meta.icc, frame.pixels.shape[2])
    img = colours.to_srgb(to_float(frame.pixels))
    bounded = colours.same and frame.pixels.dtype.kind == 'u'
    inside = img if bounded else img.clip(0, 1)
    beyond = None if bounded else img - inside if img is frame.pixels else np.subtract(img, inside, out=img)
    result = restore(inside)
    if not np.isfinite(result).all():
        raise UserError(NOT_FINITE)
    if watch:
        watch(inside, result)
    channels = 1 if frame.grey or result.shape[2] == 1 else 3
    # a network has no reason to give colours to what has none
    grey = result.shape[2] == 3 and (channels == 1 or _neutral(inside))
    if beyond is not None:
        beyond = _grown(beyond, inside, result) if channels == 3 and beyond.any() else None
    pixels = np.empty((*result.shape[:2], channels), frame.pixels.dtype)
    for top in range(0, len(result), _ROWS):  # a photo is large, and each step would take as much again
        rows = slice(top, top + _ROWS)
        part = luma(result[rows]) if grey else result[rows]
        part = np.repeat(part, 3, axis=2) if part.shape[2] == 1 else part
        part = part if beyond is None else part + beyond[rows]
        pixels[rows] = from_float(colours.from_srgb(part, channels), pixels.dtype)
    alpha = frame.alpha
    if alpha is not None:
        alpha = from_float(enlarged(to_float(alpha)[..., None], result)[..., 0], alpha.dtype)
    return Frame(pixels, alpha, frame.duration, frame.meta.of_new_pixels(pixels, False))


def _grown(beyond: np.ndarray, inside: np.ndarray, result: np.ndarray) -> np.ndarray:
    """What of a photo lies outside sRGB or is brighter than white, to be added to the result.

    It grows with the light around it: below 0, sRGB's numbers are proportional to light.
    """
    beyond *= _gain(inside, result)
    return enlarged(beyond, result)


def _gain(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(H, W, 1): how many times as bright it is around each pixel; exactly 1 where nothing changes.

    `after` may be a whole number of times as large.
    """
    height, width = before.shape[:2]
    scale = after.shape[0] // height
    if scale > 1:
        after = after[:height * scale, :width * scale].reshape(height, scale, width, scale, 3).mean(axis=(1, 3))
    old, new = (cv2.blur(srgb_to_linear(luma(img)), (_AROUND, _AROUND))[..., None] + _DARKEST
                for img in (before, after))
    return (new / old).clip(0, _MOST)


def _neutral(img: np.ndarray) -> bool:
    """Whether a photo is black and white, although its file has three channels."""
    return bool((np.ptp(img[::7, ::7], axis=2) < 1e-4).all() and (np.ptp(img, axis=2) < 1e-4).all())


def _sheet(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Before and after beside one another, (H, W, 3) BGR in 8 bits; the result alone where the sizes do not fit."""
    after = np.broadcast_to(after, (*after.shape[:2], 3))  # grey beside the colours it came from
    before = enlarged(before, after).clip(0, 1)
    both = np.hstack([before, after]) if before.shape == after.shape else after
    return from_float(both[..., ::-1], np.uint8)
