"""What the page does with photos, without the page."""
from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from basicsr.inference.amount import Amount
from basicsr.inference.photos import enhance_files, photo_restorer, restore_photo
from basicsr.inference.preview import Preview, reduced
from basicsr.inference.restorer import ImageRestorer
from basicsr.photos.inputs import find
from basicsr.photos.naming import plan
from basicsr.photos.photo import Frame, Photo, from_float, to_float
from basicsr.photos.pixel_count import count_pixels
from basicsr.photos.profiles import Colours
from basicsr.photos.reading import decode_photo
from basicsr.utils.errors import UserError
from basicsr.utils.files import read_bytes


@dataclass(frozen=True)
class Limits:
    """What is too much for the page.

    megabytes, megapixels: of one photo. photos: of one visitor at a time. waiting: visitors.
    """
    megabytes: int = 200
    megapixels: int = 100
    photos: int = 20
    waiting: int = 20


@dataclass
class Opened:
    """A photo that somebody looks at: its first picture, at most 1,000 pixels a side.

    Attributes:
        answers: of networks, so that a slider need not wait for them; the oldest go first.
    """
    name: str
    photo: Photo
    answers: OrderedDict[Any, np.ndarray] = field(default_factory=OrderedDict)


class Desk:
    """Networks, each loaded once, for all visitors; one photo at a time.

    Args:
        weights: names or files that visitors choose from. limits: what they may ask for.
    """

    def __init__(self, weights: Sequence[str], device: str = 'auto', limits: Limits | None = None):
        self.weights, self.device, self.limits = list(weights), device, limits or Limits()
        self._restorers: dict[str, ImageRestorer] = {}
        self._turn = threading.Lock()

    def restorer(self, weights: str) -> ImageRestorer:
        """Raises `UserError` for weights that visitors cannot choose."""
        if weights not in self.weights:
            raise UserError(f"there are no weights '{weights}' on this page")
        if weights not in self._restorers:
            self._restorers[weights] = photo_restorer(weights, device=self.device)
        return self._restorers[weights]

    def check(self, files: Sequence[Path]) -> None:
        """Raises `UserError` for more than the limits, before anything is decoded."""
        self._check_count(files)
        limits = self.limits
        for file in files:
            if file.stat().st_size > limits.megabytes * 1e6:
                raise UserError(f"'{file.name}' is larger than {limits.megabytes} MB")
            pixels = count_pixels(read_bytes(file), file.name)
            if pixels is None or pixels > limits.megapixels * 1e6:
                found = 'an unknown number of' if pixels is None else f'{pixels / 1e6:.0f}'
                raise UserError(f"'{file.name}' has {found} megapixels in all; this page takes {limits.megapixels}")

    def _check_count(self, files: Sequence[Path]) -> None:
        if len(files) > self.limits.photos:
            raise UserError(f'{len(files)} photos at once; this page takes {self.limits.photos}')

    def opened(self, file: Path) -> Opened:
        """Read a photo to look at it. Raises `UserError` for what is none, and for more than the limits."""
        self.check([file])
        with self._turn:
            photo = decode_photo(read_bytes(file), file.name)
            return Opened(file.name, reduced(replace(photo, frames=photo.frames[:1])))

    def look(self, opened: Opened, weights: str, amount: Amount) -> tuple[np.ndarray, np.ndarray, str]:
        """The photo and a quick look at its result, sRGB (H, W, 3) uint8, and what there is to say in words."""
        said: list[str] = []
        with self._turn:
            restore = _Recalled(Preview(self.restorer(weights)), opened.answers, weights)
            result = restore_photo(restore, opened.photo, amount=amount, say=said.append)
        return _shown(opened.photo.frames[0]), _shown(result.frames[0]), '; '.join(said)

    def enhanced(self, files: Sequence[Path], weights: str, amount: Amount,
                 folder: Path) -> tuple[list[Path], list[str]]:
        """Write what `basicsr enhance` would write of photos into an empty folder: files, and a sentence for each failure."""
        self._check_count(files)
        good, failed = list[Path](), list[str]()
        for file in files:
            try:
                self.check([file])
                good.append(file)
            except UserError as error:
                failed.append(str(error))
        with self._turn:
            # each by itself, as visitors may have photos of one name
            jobs = [
                job for number, file in enumerate(good)
                for job in plan(find([str(file)]), f'{folder / str(number)}/').todo
            ]
            failed += enhance_files(self.restorer(weights), jobs, amount=amount)
        for file in files:  # where photos lie on this machine is nobody's business
            failed = [sentence.replace(f'{file.parent}/', '') for sentence in failed]
        return [job.target for job in jobs if job.target and job.target.is_file()], failed


class _Recalled:
    """What restores pictures, and remembers its answers."""

    most = 6  # answers, of 12 MB each

    def __init__(self, restore: Preview, answers: OrderedDict[Any, np.ndarray], weights: str):
        self.restore, self.answers, self.weights = restore, answers, weights

    def __call__(self, img: np.ndarray, **settings: float) -> np.ndarray:
        content = hashlib.blake2b(np.ascontiguousarray(img).data).digest()
        key = (self.weights, img.shape, content, *sorted(settings.items()))
        if key not in self.answers:
            self.answers[key] = self.restore(img, **settings)
            while len(self.answers) > self.most:
                self.answers.popitem(last=False)
        return self.answers[key].copy()  # whoever asks may write into it

    def __getattr__(self, name: str) -> Any:
        return getattr(self.restore, name)


def _shown(frame: Frame) -> np.ndarray:
    colours = Colours(frame.meta.icc, frame.pixels.shape[2])
    return from_float(colours.to_srgb(to_float(frame.pixels)).clip(0, 1), np.dtype(np.uint8))
