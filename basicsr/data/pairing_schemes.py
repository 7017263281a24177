"""Which input belongs to which ground truth where their names differ: by number, or by the folder of a scene."""
from __future__ import annotations

import re
from pathlib import Path

from basicsr.data.pairing import Pair, by_stem, image_folder, listed, unpaired
from basicsr.utils.errors import UserError
from basicsr.utils.names import normal


def pair_by_number(dataroot_lq: str, dataroot_gt: str, meta_info_file: str | None = None) -> list[Pair]:
    """(input, ground truth) paths in natural order of the ground truth, whose names differ around their numbers.

    'Low3.png' belongs to 'Normal3.png' (MASR-Net's folders). Of the others, files of the same number belong together:
    'low00007.png' and 'normal7.png', but never '1' and '10'; with several numbers in a name all of them count.

    Raises:
        UserError: as `pair_by_name`, and for two files that have the same number.
    """
    gts, lqs = image_folder(dataroot_gt, 'dataroot_gt'), image_folder(dataroot_lq, 'dataroot_lq')
    if meta_info_file:
        gts = listed(gts, meta_info_file, dataroot_gt)
    by_stem(lqs, dataroot_lq, 'dataroot_lq')  # two of one name would be one pair
    gt_by_stem = by_stem(gts, dataroot_gt, 'dataroot_gt')
    partner = {gt_by_stem[n]: lq for lq in lqs if (n := normal(lq.stem).replace('Low', 'Normal')) in gt_by_stem}
    others = [lq for lq in lqs if lq not in set(partner.values())]
    lq_by_number = _by_number(others, 'dataroot_lq')
    for number, gt in _by_number([gt for gt in gts if gt not in partner], 'dataroot_gt').items():
        if number in lq_by_number:
            partner[gt] = lq_by_number[number]
    left = [] if meta_info_file else [lq.name for lq in others if lq not in set(partner.values())]
    alone = [gt.name for gt in gts if gt not in partner]
    if alone or left:
        raise unpaired(alone, left, dataroot_lq, dataroot_gt, len(partner), by='number')
    return [Pair(str(partner[gt]), str(gt)) for gt in gts]


def _by_number(paths: list[Path], option: str) -> dict[tuple[int, ...], Path]:
    """Paths by the numbers in their names; those without one are left out."""
    out: dict[tuple[int, ...], Path] = {}
    for path in paths:
        numbers = tuple(map(int, re.findall('[0-9]+', path.stem)))
        if numbers in out:
            raise UserError(
                f"{option}: '{out[numbers].name}' and '{path.name}' in '{path.parent}' have the same number")
        if numbers:
            out[numbers] = path
    return out


def pair_by_folder(dataroot_lq: str, dataroot_gt: str, meta_info_file: str | None = None) -> list[Pair]:
    """(input, ground truth) paths in natural order of the input: several inputs of one scene have one ground truth.

    All images of `dataroot_lq/<scene>/` belong to `dataroot_gt/<scene>.*`, or to the first image of `dataroot_gt/<scene>/`.

    Raises:
        UserError: as `pair_by_name`, for an input in no folder, and for a scene with a file and a folder of its name.
    """
    gts, lqs = image_folder(dataroot_gt, 'dataroot_gt', True), image_folder(dataroot_lq, 'dataroot_lq', True)
    by_stem(lqs, dataroot_lq, 'dataroot_lq')  # two of one name would be one result
    if meta_info_file:
        gts = listed(gts, meta_info_file, dataroot_gt)
    scenes = {_scene(lq, dataroot_lq) for lq in lqs} - {'.'}
    files = {name: gt for name, gt in by_stem(gts, dataroot_gt, 'dataroot_gt').items() if name in scenes}
    folders: dict[str, Path] = {}
    for gt in gts:
        folders.setdefault(_scene(gt, dataroot_gt), gt)
    for scene in files.keys() & folders.keys():
        raise UserError(f"dataroot_gt: '{scene}' is a folder, and there is '{files[scene].name}' beside it:"
                        ' which is the ground truth?')
    truths = {scene: gt for scene, gt in (folders | files).items() if scene in scenes}
    used = {*files.values(), *(gt for gt in gts if _scene(gt, dataroot_gt) in truths)}
    alone = [str(gt.relative_to(dataroot_gt)) for gt in gts if gt not in used]
    left = [str(lq.relative_to(dataroot_lq)) for lq in lqs if _scene(lq, dataroot_lq) not in truths]
    if alone or (left and not meta_info_file):
        raise unpaired(alone, left, dataroot_lq, dataroot_gt, len(lqs) - len(left), by='folder')
    return [Pair(str(lq), str(truths[scene])) for lq in lqs if (scene := _scene(lq, dataroot_lq)) in truths]


def _scene(path: Path, root: str) -> str:
    """The folder of an image within the root, normalised; '.' for none."""
    return normal(path.parent.relative_to(root).as_posix())
