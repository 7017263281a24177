"""Batches: datasets read by worker processes, seeded per sample, with errors that name the file."""
from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from basicsr.data.samplers import ShardSampler
from basicsr.data.workers import Workers
from basicsr.utils.dist import get_dist_info
from basicsr.utils.errors import UserError, describe_os_error
from basicsr.utils.logger import get_root_logger
from basicsr.utils.notes import Note, collect_notes
from basicsr.utils.seed import mix_seed, one_batch, seeded


class Failed(NamedTuple):
    """A sample that could not be read; returned instead of raised, so that the message crosses processes unchanged."""
    message: str


class Noted(NamedTuple):
    """A sample or batch with what reading says of its files; it crosses processes, too, and is logged once."""
    content: Any
    notes: list[Note]


class Samples(Protocol):
    """What every data set has."""

    def __len__(self) -> int:
        """Number of items."""

    def __getitem__(self, index: int, /) -> Any:
        """A mapping: `lq`, perhaps `gt` and others."""


class SeededSamples(Dataset):
    """Draws of `dataset[index]` depend on the seed that the index carries, not on what was read before."""

    def __init__(self, dataset: Samples, opt: dict[str, Any], workers: Workers | None = None):
        self.dataset, self.opt, self.workers = dataset, opt, workers

    def __len__(self) -> int:
        return len(self.dataset)

    def file(self, index: int) -> str:
        """What messages call a sample that cannot be read for its name."""
        try:
            path = self.dataset.paths[index]  # type: ignore[attr-defined]
            return f"'{path if isinstance(path, (str, Path)) else path[0]}'"
        except (AttributeError, LookupError, TypeError):
            return f'sample {index}'

    def __getitem__(self, index: int) -> Any:
        try:
            with seeded(getattr(index, 'seed', mix_seed(0, int(index)))):
                return self.dataset[int(index)]
        except UserError as error:
            return Failed(str(error))
        except OSError as error:
            where = '' if error.filename else f' (sample {int(index)} of {type(self.dataset).__name__})'
            return Failed(describe_os_error(error) + where)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """What loaders ask for, in a process whose log nobody sees: notes come with the samples."""
        samples = []
        with one_batch(getattr(indices[0], 'seed', 0)):
            for index in indices:
                with collect_notes() as notes, self.workers.at(int(index)) if self.workers else nullcontext():
                    sample = self[index]
                samples.append(Noted(sample, notes) if notes else sample)
        return samples


class ImageLoader(DataLoader):
    """A `DataLoader` over `SeededSamples` that raises `UserError` for files that cannot be read."""
    dataset: SeededSamples
    batch_size: int

    def __init__(self, dataset: Samples, opt: dict[str, Any], **kwargs: Any):
        # a generator of its own: starting workers must not consume the random numbers of the training
        generator = torch.Generator().manual_seed(0)
        workers = Workers(kwargs['num_workers'],
                          f"datasets.{opt.get('block', '')}") if kwargs.get('num_workers') else None
        if workers:
            kwargs |= {'worker_init_fn': workers.start, 'timeout': opt.get('worker_timeout', 0)}
            weakref.finalize(self, workers.end)
        super().__init__(SeededSamples(dataset, opt, workers), collate_fn=_collate, generator=generator, **kwargs)
        self._told: set[Note] = set()

    def __iter__(self) -> Any:
        for batch in self._batches():
            if isinstance(batch, Noted):
                for note in batch.notes:
                    if note not in self._told:
                        self._told.add(note)
                        get_root_logger().warning(note.text)
                batch = batch.content
            if isinstance(batch, Failed):
                raise UserError(batch.message)
            yield batch

    def close(self) -> None:
        """Let go of workers that persist, which end in order."""
        self._iterator = None

    def _batches(self) -> Iterator[Any]:
        workers = self.dataset.workers
        try:
            with workers.starting() if workers else nullcontext():
                batches = super().__iter__()
            yield from batches
        except (RuntimeError, OSError) as error:
            explained = workers and workers.explained(error, self.timeout, self.dataset.file)
            if not (workers and explained):
                raise
            workers.end()
            raise explained from error


def whole(loader: ImageLoader) -> ImageLoader:
    """A loader of all images, in order, where `loader` gives this process its share."""
    if get_dist_info()[1] == 1 or not isinstance(loader.sampler, ShardSampler):
        return loader
    return ImageLoader(loader.dataset.dataset, loader.dataset.opt, batch_size=1, num_workers=loader.num_workers,
                       pin_memory=loader.pin_memory)


def share_of(loader: Any) -> Any:
    """The other way round: a loader of this process's share. One that is not ours stays as it is."""
    rank, world = get_dist_info()
    if world == 1 or not isinstance(loader, ImageLoader) or isinstance(loader.sampler, ShardSampler):
        return loader
    data = loader.dataset.dataset
    return ImageLoader(data, loader.dataset.opt, batch_size=1, sampler=ShardSampler(data, world, rank),
                       num_workers=loader.num_workers, pin_memory=loader.pin_memory)


def sample_name(batch: Mapping[str, Any]) -> str:
    """What a batch of one image is called in results: its `name` (unique, perhaps 'folder/stem'), else its file's."""
    return batch['name'][0] if 'name' in batch else Path(batch['lq_path'][0]).stem


def _collate(samples: list[Any]) -> Any:
    notes = [note for s in samples if isinstance(s, Noted) for note in s.notes]
    if notes:
        return Noted(_collate([s.content if isinstance(s, Noted) else s for s in samples]), notes)
    failed = next((s for s in samples if isinstance(s, Failed)), None)
    if failed is not None:
        return failed
    try:
        return default_collate(samples)
    except RuntimeError as error:
        shapes = {tuple(s['lq'].shape) for s in samples if isinstance(s, dict) and 'lq' in s}
        if len(shapes) < 2:
            raise
        return Failed(f'images of a batch differ in size ({error.__class__.__name__}): {sorted(shapes)}; set gt_size to'
                      ' crop them, or batch_size_per_gpu: 1')


def build_dataloader(dataset: Samples, dataset_opt: dict[str, Any], num_gpu: int = 1, dist: bool = False,
                     sampler: Sampler | None = None, seed: int | None = None) -> ImageLoader:
    """The loader of one dataset block.

    Training: `batch_size_per_gpu` and `num_worker_per_gpu` per process (times `num_gpu` without a launcher), the last
    incomplete batch is dropped. Otherwise: one image at a time, in order, each process its share.
    """
    pin = bool(dataset_opt.get('pin_memory')) and torch.cuda.is_available()
    workers = dataset_opt.get('num_worker_per_gpu') or 0
    if dataset_opt['phase'] != 'train':
        rank, world = get_dist_info()
        return ImageLoader(dataset, dataset_opt, batch_size=1, sampler=ShardSampler(dataset, world, rank),
                           num_workers=workers, pin_memory=pin)
    factor = 1 if dist else max(num_gpu, 1)
    workers *= factor
    return ImageLoader(dataset, dataset_opt, batch_size=dataset_opt['batch_size_per_gpu'] * factor, sampler=sampler,
                       num_workers=workers, drop_last=True, pin_memory=pin,
                       persistent_workers=bool(dataset_opt.get('persistent_workers')) and workers > 0)
