"""A trained network as a function from image to image."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from basicsr.archs import describe
from basicsr.archs.layers.whole_image import Place, sampling, sharing
from basicsr.inference.ensemble import self_ensemble
from basicsr.inference.light import exposed
from basicsr.inference.low_frequencies import LowFrequencies
from basicsr.inference.memory import bounded_memory, is_out_of_memory
from basicsr.inference.one_pass import LARGE, shares_of, watched
from basicsr.inference.sampling import pixels_for, sample_of
from basicsr.inference.tiling import Watch, run_tiled
from basicsr.ops.prepare import prepare
from basicsr.utils.errors import UserError
from basicsr.utils.freed_memory import freed_memory_is_kept
from basicsr.utils.img import pad_to_multiple
from basicsr.utils.logger import get_root_logger
from basicsr.utils.replay import CudaRecorder, Replayed, python_state
from basicsr.utils.srgb import LUMA

_SMALLEST_TILE = 64
_PROBE = 128  # pixels of a side, of what tells a network's shares of the work
_ROWS = 256
_LARGE, _TILE = 2_000_000, 384  # pixels of an image that is cut, and of a tile's side: 2.5 GiB are enough for 24 megapixels
_RECORDINGS = 2  # an image, or its tiles, and the same turned by a quarter
Tiled = Callable[[Tensor, Place], Tensor]  # the answer to a tile


class ImageRestorer:
    """Restores images with one network.

    Args:
        net: maps (1, C, H, W) in [0, 1] to the same, possibly larger by an integer scale.
        device: where to run.
        tile: side of square tiles; 0 takes whole images, and falls back to tiles when memory runs out. A warning says
            why the network answers differently in tiles, as its description has it. A network that works through images in
            strips is always given whole ones as long as they fit. Tiles of networks whose layers share nothing, and that
            are not known to be local, get the brightness of the image at a reduced size. None: on a CPU, large images
            are cut where the network answers in tiles almost as it does whole, which bounds the memory.
        tile_overlap: pixels that neighbouring tiles share; the seam is blended.
        ensemble: average over the eight flips and rotations.
        multiple: pad inputs to multiples of this, as most networks of this toolbox do by themselves; None:
            as the network's description says.
        amp: 'bf16' or 'fp16' autocast, None for float32.
        channels: of the images that the network takes; 1 turns RGB images to grey. None: any.
        graphs: on a GPU, replay a CUDA graph when images or tiles of one size come again. The network's weights may be
            changed in place, not replaced.
        network: `{type, **arguments}` of the network, for those who save it.

    Attributes:
        watch: who wants to know what is done of a large image, in tiles or in percent; see `run_tiled`.
        smallest_tile: side of the smallest tiles that images were cut into so far; 0: all were restored whole.
    """

    def __init__(self, net: nn.Module, device: str | torch.device = 'cpu', tile: int | None = 0, tile_overlap: int = 32,
                 ensemble: bool = False, multiple: int | None = None, amp: str | None = None,
                 channels: int | None = None, graphs: bool = True, network: dict[str, Any] | None = None):
        if tile_overlap < 0:
            raise UserError(f'the overlap of tiles is a number of pixels, 0 or more, not {tile_overlap}')
        if tile and tile <= 2 * tile_overlap:
            raise UserError(f'tile {tile} must be more than twice its overlap {tile_overlap}')
        self.device = torch.device(device)
        self.net = net.to(self.device).eval()
        self.description = describe(self.net)
        self.tile, self.tile_overlap, self.ensemble = tile, tile_overlap, ensemble
        self.multiple = self.description.multiple if multiple is None else multiple
        self.amp = {'bf16': torch.bfloat16, 'fp16': torch.float16, None: None}[amp]
        self.channels, self.network = channels, network
        self.watch: Watch | None = None
        self.smallest_tile = 0
        self._work: dict[nn.Module, float] | None = None  # shares of it, see `one_pass`
        prepare(self.net, self.device, self.amp, training=False)
        if tile and self.description.strips:
            get_root_logger().warning(
                f'tiles of {tile} pixels are taken only of images that do not fit into memory: the network works through whole'
                ' ones in strips')
        elif tile and self.description.tiling:
            get_root_logger().warning(f'tiles of {tile} pixels: {self._in_tiles()}')
        recorder = CudaRecorder(self.device) if graphs and self.device.type == 'cuda' else None
        self.replayed = Replayed(self._network, recorder, 'restoring', warmup=1, limit=_RECORDINGS, evict=True,
                                 state=lambda: python_state(self.net))

    def __call__(self, img: np.ndarray, guide: np.ndarray | None = None, exposure: float = 0.,
                 white: float = 1.) -> np.ndarray:
        """RGB (H, W, 3) in [0, 1] to the restored image, RGB or grey (H, W, 1), float32, clamped to [0, `white`].

        Where the network's answer is not finite it is NaN.

        Args:
            guide: (H, W, C), second argument of the network: the semantic map of networks that want one.
            exposure: stops by which the answer is brighter; what lies above white comes back below it.
            white: above 1 for who makes the answer darker himself.
        """
        img = self.in_its_colours(img)
        # as further channels of the image, the guide is cut, turned and padded with it
        stacked = img if guide is None else np.concatenate([img, guide], axis=2)
        x = self._tensor(stacked)
        y = self._run(x, img.shape[2])[0]
        del x, stacked
        return _as_image(y, exposure, white)

    def _tensor(self, img: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(img.transpose(2, 0, 1), dtype=np.float32))[None].to(self.device)

    def several(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What `__call__` makes of each of some images of one size; together in one pass, where they fit and are not cut."""
        x = torch.cat([self._tensor(self.in_its_colours(img)) for img in images])
        if len(images) == 1 or self.ensemble or self._first_tile(x):
            return [self(img) for img in images]
        try:
            with torch.inference_mode(), bounded_memory(self.device):
                return [_as_image(y) for y in self._whole(x, x.shape[1])]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        return [self(img) for img in images]

    def in_its_colours(self, img: np.ndarray) -> np.ndarray:
        """An image (H, W, 3) as the network takes it: grey, (H, W, 1), where it has one channel."""
        return img @ np.array(LUMA, np.float32)[:, None] if self.channels == 1 and img.shape[2] == 3 else img

    @torch.inference_mode()
    def _run(self, x: Tensor, channels: int) -> Tensor:
        """`channels`: those of the image; the others are the guide's."""

        tile, sample = self._first_tile(x), pixels_for(x)
        while True:
            forward = partial(self._whole, channels=channels) if not tile else partial(
                self._tiled, channels=channels, tile=tile, sample=sample)
            try:
                with bounded_memory(self.device):
                    return self_ensemble(forward, x) if self.ensemble else forward(x)
            except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
                if not is_out_of_memory(error):
                    raise
                tile = self.tile if self.tile and not tile else (tile or max(x.shape[-2:])) // 2
                # a reduced image is no larger than a tile; crops have to be enough to stand for the image
                sample = min(sample, tile * tile * (4 if self._shares_sums else 1))
                if tile < max(_SMALLEST_TILE, 2 * self.tile_overlap + 1):
                    raise UserError(f'not enough memory on {self.device}, even in tiles of {tile * 2} pixels') from None
            self.replayed.clear()
            if self.device.type == 'cuda':
                torch.cuda.empty_cache()
            get_root_logger().warning(
                f'a {x.shape[-1]}x{x.shape[-2]} image does not fit into the memory of {self.device}; trying tiles of {tile}'
                f' pixels ({self._in_tiles()})')

    def _first_tile(self, x: Tensor) -> int:
        """Side of the tiles to begin with, 0 for whole images."""
        if self.tile is not None:
            return 0 if self.description.strips else self.tile
        in_tiles_as_whole = self._shares_sums and self.description.tiling == ''
        large = x.shape[2] * x.shape[3] > _LARGE
        return _TILE if large and in_tiles_as_whole and self.device.type == 'cpu' else 0

    @property
    def _shares_sums(self) -> bool:
        """Whether tiles get the sums of layers that look at all pixels.

        Where strips would carry the states of scans as well, these count for more than the sums: RetinexMamba's tiles come
        out at 22 to 40 dB to the whole image with them, and at 27 to 47 with the brightness of a reduced image.
        """
        return self.description.shares and not self.description.strips

    def _in_tiles(self) -> str:
        """What tiles do to the result."""
        why = self.description.tiling
        if why == '':
            how = 'little' if self._shares_sums else 'where tiles meet'
            return f'results differ {how} from those of the whole image'
        how = 'differ' if why else 'may differ'
        light = '' if self._shares_sums else ' in detail, and get the brightness of a reduced one'
        return f'results {how} from those of the whole image{light}' + (f': {why}' if why else '')

    def _whole(self, x: Tensor, channels: int) -> Tensor:
        padded = self._padded(x)
        if self.watch is None or self.device.type != 'cpu' or x.shape[2] * x.shape[3] < LARGE:
            return self._cropped(self._call(padded, channels), x)
        if self._work is None:
            side = max(_PROBE // self.multiple, 1) * self.multiple
            self._work = shares_of(self.net, padded[..., :side, :side],
                                   lambda t: self._network(*self._inputs(t, channels)))
        with watched(self.net, self._work, self.watch):
            return self._cropped(self._call(padded, channels), x)

    def _tiled(self, x: Tensor, channels: int, tile: int, sample: int) -> Tensor:
        """In tiles; layers that look at all pixels of the image look at a sample of them."""
        padded = self._padded(x)
        if max(padded.shape[2:]) <= tile:
            return self._whole(x, channels)
        self.smallest_tile = min(tile, self.smallest_tile or tile)
        call = self._sharing if self._shares_sums else self._apart if self.description.tiling == '' else self._lit
        forward = call(padded, channels, sample)
        # tiles ask for the same memory one after the other
        with freed_memory_is_kept(self.device.type):
            return self._cropped(run_tiled(forward, padded, tile, self.tile_overlap, self.multiple, self.watch), x)

    def _sharing(self, x: Tensor, channels: int, sample: int) -> Tiled:
        """With what layers that look at all pixels find in a sample of so many of them."""
        batch, crops = sample_of(x, self.multiple, sample)
        with sampling(crops) as found:
            self._network(*self._inputs(batch, channels))

        def call(t: Tensor, place: Place) -> Tensor:
            with sharing(found, place):  # not replayed: a recording would keep the sums of the first image
                return self._network(*self._inputs(t, channels)).float()

        return call

    def _apart(self, x: Tensor, channels: int, sample: int) -> Tiled:
        """Each for itself, where no more than the surroundings count."""
        return lambda t, place: self._call(t, channels)

    def _lit(self, x: Tensor, channels: int, sample: int) -> Tiled:
        """As bright as the answer to the image at a reduced size."""
        low = LowFrequencies(lambda t: self._call(t, channels), x, self.multiple, sample, self.tile_overlap)
        return lambda t, place: low.given_to(self._call(t, channels), place)

    def _padded(self, x: Tensor) -> Tensor:
        return pad_to_multiple(x, self.multiple, self.description.padding)

    def _cropped(self, y: Tensor, x: Tensor) -> Tensor:
        """The result for a padded image without what belongs to the padding."""
        h, w = x.shape[-2:]
        scale = y.shape[-1] // (w + -w % self.multiple)
        return y[..., :h * scale, :w * scale]

    def _inputs(self, x: Tensor, channels: int) -> list[Tensor]:
        """Image and, where there is one, guide."""
        return [t for t in (x[:, :channels], x[:, channels:]) if t.shape[1]]

    def _call(self, x: Tensor, channels: int) -> Tensor:
        return self.replayed(*self._inputs(x, channels)).float()

    def _network(self, *inputs: Tensor) -> Tensor:
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            out = self.net(*inputs)
        return out[-1] if isinstance(out, (list, tuple)) else out


def _as_image(y: Tensor, exposure: float = 0., white: float = 1.) -> np.ndarray:
    """(C, H, W) to (H, W, C) float32 in [0, `white`], NaN for what is not finite."""
    y = y.permute(1, 2, 0)
    out = np.empty(y.shape, np.float32)
    for top in range(0, len(out), _ROWS):  # a photo is large, and each step would take as much again
        part = y[top:top + _ROWS].float().cpu()
        part = torch.from_numpy(exposed(part.numpy(), exposure)) if exposure else part
        # clamping would make white of infinity
        out[top:top + _ROWS] = torch.where(torch.isfinite(part), part.clamp(0, white), torch.nan).numpy()
    return out
