"""Networks as functions of images, in one line of Python: `from basicsr import Restorer`."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from basicsr.inference.amount import AS_IT_IS, Amount
from basicsr.inference.image_types import frames_of
from basicsr.inference.photos import enhance_files, photo_restorer, restore_photo
from basicsr.inference.preview import Preview, reduced
from basicsr.inference.restorer import ImageRestorer
from basicsr.photos.inputs import find
from basicsr.photos.naming import plan
from basicsr.photos.photo import Photo
from basicsr.utils.errors import UserError, some
from basicsr.utils.pretrained import WeightFile, default_weights, locate

_DTYPES = {'float32': None, 'bfloat16': 'bf16', 'float16': 'fp16'}
Strength = float | Literal['auto']


class Restorer:
    """Restores images with one network.

        restore = Restorer.from_pretrained('retinexmamba_tiny')
        bright = restore(image)

    One object works on one image at a time.

    Attributes:
        network: `{type, **arguments}` of the network. net: the network, a `torch.nn.Module` in eval mode.
        amount: what is asked of each image, where the call does not say otherwise.
    """

    def __init__(self, restorer: ImageRestorer, amount: Amount = AS_IT_IS):
        self._restorer, self.amount = restorer, amount
        self.network = dict(restorer.network or {})

    @classmethod
    def from_pretrained(cls, weights: str | Path | WeightFile | None = None, *, key: str | None = None,
                        device: str | torch.device = 'auto', dtype: str | torch.dtype = 'float32',
                        tile: int | None = None, tile_overlap: int = 32, self_ensemble: bool = False,
                        strength: Strength = 1., exposure: float = 0., denoise: float = 1., **knobs: float) -> Restorer:
        """A network with its weights, ready for images.

        Args:
            weights: all that `--weights` takes: a file, a folder of the hub or of `save_pretrained`, a name of
                `basicsr list weights`, `hf:owner/repository[@revision][:file]`, `https://...`; None: the default.
            key: entry of the file; default `params_ema` where there is one.
            device: 'auto' (a GPU where there is one), 'cpu', 'cuda', 'cuda:1', 'mps', or a `torch.device`.
            dtype: in which the network computes: 'float32', 'bfloat16' or 'float16', or the dtype of torch.
            tile: side of tiles in pixels; 0: whole images; None: tiles where an image is large and they change little.
            tile_overlap: pixels that neighbouring tiles share.
            self_ensemble: the mean over flips and rotations, 8 times slower.
            strength, exposure, denoise: see `__call__`.
            knobs: the network's own, such as `alpha_s` of CIDNet.

        Raises:
            UserError: where weights, device or values are none. Its text says what to do.
        """
        name = str(dtype).removeprefix('torch.')
        if name not in _DTYPES:
            raise UserError(f"dtype is one of {', '.join(_DTYPES)}, not {dtype}")
        for given, value in (('tile', tile), ('tile_overlap', tile_overlap)):
            if value is not None and not isinstance(value, int):
                raise UserError(f'{given} is a whole number of pixels, not {value!r}')
        chosen = default_weights() if weights is None else weights
        if chosen is None:
            raise UserError('this installation has no default weights; name some')
        amount = Amount(strength, exposure, denoise)
        restorer = photo_restorer(locate(chosen), key=key, device=str(device), knobs=knobs, tile=tile,
                                  tile_overlap=tile_overlap, ensemble=self_ensemble, amp=_DTYPES[name])
        return cls(restorer, amount)

    @property
    def net(self) -> torch.nn.Module:
        return self._restorer.net

    @property
    def device(self) -> torch.device:
        return self._restorer.device

    def __call__(self, image: Any, *, strength: Strength | None = None, exposure: float | None = None,
                 denoise: float | None = None, preview: bool = False) -> Any:
        """The restored image, of the type, the bit depth and the range of `image`.

        Args:
            image: grey or RGB, each with or without alpha, which stays as it is.
                NumPy: (H, W), (H, W, C) or (N, H, W, C); uint8, uint16, or floating point in which 1 is white.
                Pillow: any mode; palettes, CMYK, YCbCr, HSV and LAB come back as RGB, black and white as L, and 16 bits
                as I;16. Colour profiles are honoured, and `info` is kept.
                Tensors: (C, H, W) or (N, C, H, W) on any device; the result has no gradient.
            strength: 0 (the image) to 1 (the result) and on to 1.5, in linear light; 'auto': as much as it needs.
            exposure: -3 to 3: stops by which the result is brighter.
            denoise: 0 (the image's own grain) to 1.
            preview: a quick look, of at most 1,000 pixels on the long side.

        Raises:
            TypeError, ValueError: for what is no image.
            UserError: for values out of range, and where the network's answer is not finite.
        """
        amount = self._asked(strength, exposure, denoise)
        frames, back = frames_of(image)
        results = []
        for frame in frames:
            photo, restore = Photo('', [frame]), self._restorer if not preview else Preview(self._restorer)
            photo = reduced(photo) if preview else photo
            results.append(restore_photo(restore, photo, amount=amount).frames[0])
        return back(results)

    def _asked(self, strength: Strength | None, exposure: float | None, denoise: float | None) -> Amount:
        given: dict[str, Any] = {'strength': strength, 'exposure': exposure, 'denoise': denoise}
        return replace(self.amount, **{name: value for name, value in given.items() if value is not None})

    def files(self, source: str | Path, target: str | Path, *, recursive: bool = False, overwrite: bool = False,
              strength: Strength | None = None, exposure: float | None = None, denoise: float | None = None,
              preview: bool = False) -> list[Path]:
        """Restore a photo file, or a folder of them, with all that the files hold; what `basicsr enhance` does.

        Args:
            source: a photo, folder or pattern. target: a file, whose suffix chooses the format, or a folder.
            recursive: look into subfolders. overwrite: replace files that are there, which are refused otherwise.
            strength, exposure, denoise, preview: see `__call__`.

        Returns:
            The files that were written.

        Raises:
            UserError: for files that cannot be read or written, when all others are done.
        """
        amount = self._asked(strength, exposure, denoise)
        jobs = plan(find([str(source)], recursive, target), str(target), overwrite=overwrite).todo
        failed = enhance_files(self._restorer, jobs, amount=amount, preview=preview)
        if failed:
            raise UserError(some(failed, sep='; '), details=failed)
        return [job.target for job in jobs if job.target]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write network and weights as a folder that `from_pretrained`, `--weights` and huggingface_hub's mixin read.

        Raises:
            UserError: for networks of spandrel, which this toolbox cannot write, and no name. OSError: of the disk.
        """
        from basicsr.weights.foreign import check_own
        from basicsr.weights.hub_folder import save_pretrained
        if not str(folder):
            raise UserError('an empty name is no folder')
        check_own(self.net, Path(folder), 'are saved')
        save_pretrained(folder, self.net, self.network)
