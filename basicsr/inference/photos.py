"""Photos as files: which are to be enhanced, by which network, and into what."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from basicsr.inference.build import build_restorer
from basicsr.inference.restorer import ImageRestorer
from basicsr.utils.errors import UserError, describe_os_error
from basicsr.utils.files import IMAGE_SUFFIXES, list_images, read_bytes
from basicsr.utils.image_header import read_header
from basicsr.utils.img import NOT_FINITE, decode_image, imwrite, to_float
from basicsr.utils.logger import get_root_logger
from basicsr.utils.matlab_functions import enlarged
from basicsr.utils.pretrained import WeightFile, locate

Job = tuple[Path, Path]  # input, output


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


def enhance_files(restorer: ImageRestorer, jobs: Sequence[Job], sheet: bool = False) -> list[str]:
    """Enhance all, one after the other. Returns a sentence for each that failed; a failure does not stop the others."""
    failed = []
    for source, target in tqdm(jobs, unit='image', disable=len(jobs) < 2 or not sys.stderr.isatty()):
        try:
            enhance_file(restorer, source, target, sheet)
        except UserError as error:
            failed.append(str(error))
        except OSError as error:
            failed.append(describe_os_error(error) if error.filename else f'{source.name}: {describe_os_error(error)}')
    return failed


def enhance_file(restorer: ImageRestorer, source: Path, target: Path, sheet: bool = False) -> None:
    """Read, restore, write; a 16-bit input gives a 16-bit output where the format can hold it."""
    data = read_bytes(source)
    img = decode_image(data, str(source))
    for remark in read_header(data).remarks():
        get_root_logger().info(f'{source.name} is {remark}')
    result = restorer(to_float(img)[..., ::-1])[..., ::-1]
    if not np.isfinite(result).all():
        raise UserError(f'{source.name}: {NOT_FINITE}')
    deep = img.dtype == np.uint16 and target.suffix.lower() in ('.png', '.tif', '.tiff')
    peak, dtype = (65535, np.uint16) if deep else (255, np.uint8)
    imwrite((result * peak).round().astype(dtype), target)
    get_root_logger().info(f'wrote {target}')
    if sheet:
        result = np.broadcast_to(result, (*result.shape[:2], 3))  # grey beside the colours it came from
        before = enlarged(to_float(img), result).clip(0, 1)
        before_after = np.hstack([before, result]) if before.shape == result.shape else result
        imwrite((before_after * 255).round().astype(np.uint8), target.with_name(f'{target.stem}_sheet.png'))


def jobs_of(source: Path, target: Path) -> list[Job]:
    """(input, output) paths. An output that looks like a file name is one, when there is one input."""
    if not source.exists():
        raise UserError(f"there is no file or folder '{source}'")
    if source.is_dir():
        images = list_images(source)
        if not images:
            raise UserError(f"there are no images in '{source}' (known types: {', '.join(IMAGE_SUFFIXES)})")
        if target.suffix.lower() in IMAGE_SUFFIXES and not target.is_dir():
            raise UserError(f"'{source}' is a folder, so -o must name a folder, not the file '{target}'")
    else:
        images = [source]
    to_file = not source.is_dir() and target.suffix and not target.is_dir()
    jobs = [(p, target if to_file else target / p.name) for p in images]
    for image, out in jobs:
        if out.suffix.lower() not in IMAGE_SUFFIXES:
            raise UserError(
                f"cannot write '{out}': unknown image type '{out.suffix}'; one of: {', '.join(IMAGE_SUFFIXES)}")
        if out.exists() and out.samefile(image):
            raise UserError(f"the output '{out}' would overwrite its input; choose another -o")
    return jobs
