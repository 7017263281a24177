"""Photos through a network: in sRGB, and back in their own colours, depth and format."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from basicsr.inference.amount import AS_IT_IS, AUTO, Amount, applied, check_size
from basicsr.inference.auto_strength import auto_strength, in_words, light_of
from basicsr.inference.build import build_restorer
from basicsr.inference.light import exposed, gain
from basicsr.inference.preview import Preview, reduced
from basicsr.inference.progress import Progress
from basicsr.inference.restorer import ImageRestorer
from basicsr.photos.black_and_white import is_neutral, left_between_channels
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

_ROWS = 256

_PROBE = (64, 64, 3)  # a picture that tells whether a network enlarges
_BEYOND, _FEW = 0.5, 0.01  # how far outside of [0, 1] no result should lie, and which part of one may

Restore = Callable[..., np.ndarray]  # sRGB (H, W, 3) in [0, 1] to the same or grey, perhaps larger
Watch = Callable[[np.ndarray, np.ndarray], None]


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


def enhance_files(restorer: ImageRestorer, jobs: Sequence[Job], write_out: Callable[[bytes], Any] | None = None,
                  amount: Amount = AS_IT_IS, preview: bool = False) -> list[str]:
    """Enhance all, one after the other. Returns a sentence for each that failed; a failure does not stop the others.

    Args:
        write_out: takes the file of the job that has no target.
        amount: of what the network does.
        preview: small answers, quickly.

    Raises:
        UserError: where the network enlarges and `amount` does not allow that.
    """
    failed: list[str] = []
    if amount.compares:
        check_size(_PROBE, restorer(np.zeros(_PROBE, np.float32)).shape)
    with Progress(restorer, len(jobs)) as progress:
        for number, job in enumerate(jobs):
            try:
                enhance_file(restorer, job, write_out, amount, preview)
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


def enhance_file(restorer: ImageRestorer, job: Job, write_out: Callable[[bytes], Any] | None = None,
                 amount: Amount = AS_IT_IS, preview: bool = False) -> None:
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
    restore: Restore = restorer
    if preview:
        photo, restore = reduced(photo), Preview(restorer)
    sheets: list[np.ndarray] = []
    try:
        result = restore_photo(restore, photo, (lambda *sides: sheets.append(_sheet(*sides))) if job.sheet else None,
                               amount, lambda words: log.info(f'{name}: {words}'))
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


def restore_photo(restore: Restore, photo: Photo, watch: Watch | None = None, amount: Amount = AS_IT_IS,
                  say: Callable[[str], Any] | None = None) -> Photo:
    """Every page and frame through the network; all else stays as it is.

    Args:
        restore: is given `exposure` as well, where `amount` asks for one.
        watch: gets the first picture before and after, sRGB (H, W, 3) or grey (H, W, 1) in [0, 1].
        amount: of what the network does. 'auto' is found for each page, and once for an animation.
        say: gets what 'auto' was found to be, in words, where it is less than all.

    Raises:
        UserError: where the network's answer is not finite, and where the sizes of photo and result must agree and do not.
    """
    say = say or (lambda words: None)
    if amount.strength == AUTO and photo.animated and len(photo.frames) > 1:
        amount = _of_animation(restore, photo.frames, amount, say)
    left, frames = left_between_channels(photo), list[Frame]()
    for number, frame in enumerate(photo.frames, 1):
        page = f'page {number} ' if len(photo.frames) > 1 else ''
        told = partial(_tell, say, page)
        frames.append(_restore(restore, frame, watch if not frames else None, amount, told, left))
    grey = frames[0].grey and not photo.frames[0].grey
    chunks = () if grey else photo.encoding.chunks
    return replace(photo, frames=frames, encoding=replace(photo.encoding, chunks=chunks))


def _tell(say: Callable[[str], Any], which: str, strength: float) -> None:
    if strength < 1:
        say(f'{which}{in_words(strength)}')


def _of_animation(restore: Restore, frames: Sequence[Frame], amount: Amount, say: Callable[[str], Any]) -> Amount:
    """One strength for all frames: that of the one whose light is the median of all, as others would make it flicker."""
    lights = [light_of(_inside(frame)) for frame in frames]
    middle = _inside(frames[int(np.argsort(lights)[len(lights) // 2])])
    strength = auto_strength(restore, middle, _answer(restore, middle, 0.))
    _tell(say, '', strength)
    return replace(amount, strength=strength)


def _inside(frame: Frame) -> np.ndarray:
    """The part of a picture that lies in sRGB, (H, W, 3)."""
    return Colours(frame.meta.icc, frame.pixels.shape[2]).to_srgb(to_float(frame.pixels)).clip(0, 1)


def _answer(restore: Restore, img: np.ndarray, exposure: float) -> np.ndarray:
    result = restore(img, exposure=exposure) if exposure else restore(img)
    if not np.isfinite(result).all():
        raise UserError(NOT_FINITE)
    some = result[::4, ::4]
    wild = float(((some < -_BEYOND) | (some > 1 + _BEYOND)).mean())
    if wild > _FEW and not exposure:
        get_root_logger().warning(f'{wild:.0%} of the result lie far below black or above white, and are cut off: these'
                                  ' weights are not for such a picture, or not for this network')
    return result


def _restore(restore: Restore, frame: Frame, watch: Watch | None, amount: Amount, told: Callable[[float], Any],
             left: float) -> Frame:
    if amount.strength == 0:
        return _without_network(frame, watch, amount.exposure)
    colours = Colours(frame.meta.icc, frame.pixels.shape[2])
    img = colours.to_srgb(to_float(frame.pixels))
    bounded = colours.same and frame.pixels.dtype.kind == 'u'
    inside = img if bounded else img.clip(0, 1)
    beyond = None if bounded else img - inside if img is frame.pixels else np.subtract(img, inside, out=img)
    result = _answer(restore, inside, amount.exposure)
    strength = amount.strength
    if isinstance(strength, str):
        strength = auto_strength(restore, inside, result, amount.exposure)
        told(strength)
        if strength == 0:
            return _without_network(frame, watch, amount.exposure)
    # stops are those of the result, however much of the photo is in it
    before = exposed(inside, amount.exposure).clip(0, 1) if amount.exposure and strength != 1 else inside
    result = applied(amount, strength, before, result)
    if watch:
        watch(inside, result)
    channels = 1 if frame.grey or result.shape[2] == 1 else 3
    # a network has no reason to give colours to what has none
    grey = result.shape[2] == 3 and (channels == 1 or is_neutral(inside, left))
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


def _without_network(frame: Frame, watch: Watch | None, exposure: float) -> Frame:
    """The photo, exactly, or with so many stops more of its own light."""
    pixels = frame.pixels
    if exposure:
        colours, pixels = Colours(frame.meta.icc, pixels.shape[2]), np.empty_like(pixels)
        for top in range(0, len(pixels), _ROWS):
            rows = slice(top, top + _ROWS)
            light = exposed(colours.to_srgb(to_float(frame.pixels[rows])), exposure)
            pixels[rows] = from_float(colours.from_srgb(light, pixels.shape[2]), pixels.dtype)
    done = replace(frame, pixels=pixels, meta=frame.meta.of_new_pixels(pixels, False))
    if watch:
        watch(_inside(frame), _inside(done))
    return done


def _grown(beyond: np.ndarray, inside: np.ndarray, result: np.ndarray) -> np.ndarray:
    """What of a photo lies outside sRGB or is brighter than white, to be added to the result.

    It grows with the light around it: below 0, sRGB's numbers are proportional to light.
    """
    beyond *= gain(inside, result)
    return enlarged(beyond, result)


def _sheet(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Before and after beside one another, (H, W, 3) BGR in 8 bits; the result alone where the sizes do not fit."""
    after = np.broadcast_to(after, (*after.shape[:2], 3))  # grey beside the colours it came from
    before = enlarged(before, after).clip(0, 1)
    both = np.hstack([before, after]) if before.shape == after.shape else after
    return from_float(both[..., ::-1], np.uint8)
