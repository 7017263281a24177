"""Images without ground truth."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Len
from torch.utils.data import Dataset

from basicsr.data.pairing import image_folder, listed_names, own_names
from basicsr.data.reading import ImageReader, ToTensor, accepts_opt
from basicsr.data.semantic_maps import SemanticMaps, to_tensor
from basicsr.utils.errors import UserError, some
from basicsr.utils.files import as_stored
from basicsr.utils.names import below
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr.utils.storage import read_lmdb_keys
from basicsr.utils.values import Count, Finite, Positive


@DATASET_REGISTRY.register()
@accepts_opt
class SingleImageDataset(Dataset):
    """Reads whole images from a folder or an LMDB database.

    Args:
        dataroot_lq: folder, or database whose name ends in '.lmdb'.
        io_backend, mean, std, color: as in `PairedImageDataset`.
        meta_info_file: text file with the names to use, one per line.
        recursive: take the images of all subfolders; items then have their names within the root as `name`, as they have where
            files differ in nothing but their suffix, which is part of the name then.
        dataroot_sem, sem_classes: as in `PairedImageDataset`.

    Items: `lq` float32 (C, H, W) RGB in [0, 1]; `lq_path`; with `dataroot_sem` also `sem`.
    """

    def __init__(self, dataroot_lq: str, io_backend: dict[str, Any] | None = None, meta_info_file: str | None = None,
                 mean: Annotated[list[Finite], Len(1, 3)] | None = None,
                 std: Annotated[list[Positive], Len(1, 3)] | None = None,
                 color: Literal['rgb', 'y', 'gray'] | None = None, recursive: bool = False,
                 dataroot_sem: str | None = None, sem_classes: Count = 21):
        self.reader = ImageReader(io_backend, {'lq': dataroot_lq})
        if self.reader.is_lmdb:
            self.paths = read_lmdb_keys(dataroot_lq)
        elif meta_info_file:
            self.paths = _listed(dataroot_lq, meta_info_file)
        else:
            self.paths = [str(p) for p in image_folder(dataroot_lq, 'dataroot_lq', recursive)]
        self.reader.remark(self.paths, f"'{dataroot_lq}'")
        inputs = [Path(p).stem for p in self.paths]
        several = recursive or len(set(inputs)) < len(inputs)  # of one stem: in subfolders, or with other suffixes
        self.names = own_names(self.paths, dataroot_lq) if several and not self.reader.is_lmdb else None
        self.maps = SemanticMaps(dataroot_sem, inputs, sem_classes) if dataroot_sem else None
        self.to_tensor = ToTensor(color, mean, std)

    def __len__(self) -> int:
        return len(self.paths)

    def input_size(self, index: int) -> tuple[int, int]:
        path = self.paths[index]
        size = self.reader.size(path, 'lq')
        if self.maps:
            self.maps.check(Path(path).stem, *size)
        return size

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        path = self.paths[index]
        lq = self.reader.read(path, 'lq')
        item: dict[str, Any] = {'lq': self.to_tensor(lq), 'lq_path': path}
        if self.names:
            item['name'] = self.names[index]
        return item if self.maps is None else item | {'sem': to_tensor(self.maps.read(Path(path).stem, *lq.shape[:2]))}


def _listed(folder: str, meta_info_file: str) -> list[str]:
    """The files that a list names, in either Unicode form. Raises `UserError` for those that are not there."""
    what = f"meta_info_file '{meta_info_file}'"
    names = listed_names(meta_info_file, lambda name: Path(as_stored(below(folder, name, what=what))).exists())
    found = {name: as_stored(below(folder, name, what=what)) for name in names}
    missing = [name for name, path in found.items() if not Path(path).exists()]
    if missing:
        raise UserError(f"{what} lists images that '{folder}' lacks: {some(missing)}",
                        details=[f"{what}: '{folder}' lacks {name}" for name in missing])
    return list(found.values())
