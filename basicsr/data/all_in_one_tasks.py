"""All-in-one restoration: its tasks, where the published folder trees keep their images, and how these pair.

Two trees are known for each task: that of the MoCE-IR family's code (`deraining/RainTrainL/{rainy,gt}`) and the one its
instructions show (`train/deraining/Rain100L`). The first place that exists is taken.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from basicsr.utils.errors import UserError, counted, nearest, some
from basicsr.utils.files import list_images, scan_images
from basicsr.utils.names import normal
from basicsr.utils.task_names import members, spellings

Folders = tuple[str, ...]  # alternatives (places) or parts to be joined


class Sides(NamedTuple):
    """Names of the folders of input, perhaps in several parts, and of ground truth inside a place."""
    lq: Folders
    gt: str


class Sample(NamedTuple):
    """`lq` is None where the input is made from the ground truth."""
    lq: str | None
    gt: str
    task: str


@dataclass(frozen=True)
class Task:
    """One kind of degradation.

    Attributes:
        train, test: places below the data root in order of preference; each is a tuple of parts that are joined.
        sides: the alternatives of input and ground truth in a place. Empty: there are clean images only.
        ratio: how often the training images come in an epoch.
        sigma: standard deviation of the Gaussian noise in 8-bit levels, for tasks without stored inputs.
        many: several inputs share a ground truth, and not every ground truth needs one.
    """
    train: tuple[Folders, ...]
    test: tuple[Folders, ...]
    ratio: int
    sides: tuple[Sides, ...] = ()
    sigma: float | None = None
    many: bool = False


def _denoise(sigma: float) -> Task:
    return Task(
        train=(('denoising/WaterlooED', 'denoising/BSD400'), ('train/denoising/WED', 'train/denoising/BSD400')),
        test=(('denoising/cBSD68/original_png', ), ('test/BSD68/original_png', ), ('test/BSD68', )),
        ratio=3,
        sigma=sigma,
    )


TASKS = {
    'denoise_15': _denoise(15),
    'denoise_25': _denoise(25),
    'denoise_50': _denoise(50),
    'derain': Task(
        train=(('deraining/RainTrainL', ), ('train/deraining/Rain100L', )),
        test=(('deraining/Rain100L', ), ('test/Rain100L', )),
        sides=(Sides(('rainy', ), 'gt'), Sides(('input', ), 'target')),
        ratio=120,
    ),
    'dehaze': Task(
        train=(('dehazing/RESIDE', ), ('train/dehazing/RESIDE', ), ('train/dehazing/OTS', )),
        test=(('dehazing/SOTS/outdoor', ), ('dehazing/SOTS/indoor', ), ('test/SOTS/outdoor', ), ('test/SOTS/indoor', ),
              ('test/SOTS', )),
        sides=(
            Sides(('part1', 'part2', 'part3', 'part4'), 'clear'),
            Sides(('hazy', ), 'clear'),
            Sides(('hazy', ), 'gt'),
            Sides(('input', ), 'target'),
        ),
        ratio=1,
        many=True,
    ),
    'deblur': Task(
        train=(('deblurring/GoPro/crop/train', ), ('train/deblurring/GoPro', )),
        test=(('deblurring/GoPro/test', ), ('test/GoPro', )),
        sides=(Sides(('input_crops', ), 'target_crops'), Sides(('input', ), 'target'), Sides(('blur', ), 'sharp')),
        ratio=5,
    ),
    'synllie': Task(
        train=(('llie/LOLv1/Train', ), ('train/lol/LOL-v1', )),
        test=(('llie/LOLv1/Test', ), ('test/LOL', )),
        sides=(Sides(('input', ), 'target'), Sides(('low', ), 'high')),
        ratio=20,
    ),
}


def canonical(names: Iterable[str], option: str) -> list[str]:
    """Task names with other names replaced, each once, in the order given. Raises `UserError` for an unknown one."""
    out: dict[str, None] = {}
    for name in names:
        found = [task for task in members(name) if task in TASKS]
        if not found:
            known = spellings(TASKS)
            raise UserError(
                f"{option}: there is no task called '{name}'.{nearest(name, known)} Known: {', '.join(known)}")
        out |= dict.fromkeys(found)
    return list(out)


class Mistake(NamedTuple):
    """What is wrong, and with which files."""
    text: str
    files: tuple[str, ...] = ()

    def show(self, limit: int) -> str:
        """The sentence with at most `limit` file names."""
        if not self.files:
            return self.text
        return f'{self.text}: {some(self.files, limit)}'


@dataclass
class Found:
    """What the look-up of one task gave: samples, the folders they are in, parts that are not there, mistakes."""
    task: str
    samples: list[Sample] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)

    def show(self, limit: int) -> str:
        """What there is and, on lines of their own, mistakes with at most `limit` file names each."""
        clean_only = bool(self.samples) and self.samples[0].lq is None
        text = f"{self.task}: {counted(len(self.samples), 'image' if clean_only else 'pair')}"
        text += f" in {', '.join(map(repr, self.folders))}" if self.folders else ''
        text += f" (not there: {', '.join(map(repr, self.absent))})" if self.absent else ''
        return text + ''.join(f'\n    {m.show(limit)}' for m in self.mistakes)


def look_up(task: str, dataroot: str | None, train: bool, roots: str | list[str] | None = None) -> Found:
    """All samples of a task, from the first place that exists; `roots`, one or several folders, replace the places."""
    spec, found = TASKS[task], Found(task)
    if roots:
        places = [[Path(r) for r in ([roots] if isinstance(roots, str) else roots)]]
    elif dataroot:
        places = [[Path(dataroot, part) for part in place] for place in (spec.train if train else spec.test)]
    else:
        found.mistakes.append(Mistake(f'give dataroot, or its folder as roots.{task}'))
        return found
    for place in places:
        for folder in place:
            _collect(folder, spec, found)
        if found.folders:
            found.absent += [str(p) for p in place if str(p) not in found.folders]
            return found
    inside = ' or '.join(f"{{{','.join(sides.lq)},{sides.gt}}}" for sides in spec.sides) or 'images'
    looked = ', '.join(f"'{folder}'" for place in places for folder in place)
    found.mistakes.append(Mistake(f'no folder with {inside}; looked for {looked}'))
    return found


def pair_stems(lqs: list[Path], gts: list[Path], task: str, many: bool = False) -> Found:
    """Pairs two lists by name without suffix, in the order of the inputs.

    Equal names come first. Else 'rain-7' belongs to 'norain-7' (Rain100L) and, with `many`, '0001_0.8_0.2' to '0001'
    (RESIDE, SOTS).
    """
    found, used = Found(task), set()
    by_stem: dict[str, Path] = {}
    for truth in gts:
        stem = normal(truth.stem)
        if stem in by_stem:
            found.mistakes.append(Mistake(f"'{by_stem[stem]}' and '{truth}' have the same name"))
        by_stem[stem] = truth
    alone = []
    for lq in lqs:
        stem = normal(lq.stem)
        candidates = [stem, f'no{stem}']
        if many:
            candidates.append(stem.split('_')[0])
        gt = next((by_stem[c] for c in candidates if c in by_stem), None)
        if gt is None or (gt in used and not many):
            alone.append(lq)
        else:
            used.add(gt)
            found.samples.append(Sample(str(lq), str(gt), task))
    left = [] if many else [gt for gt in by_stem.values() if gt not in used]
    for paths, one, other in ((alone, 'input', 'ground truth'), (left, 'ground truth', 'input')):
        if paths:
            folders = ', '.join(f"'{p}'" for p in dict.fromkeys(p.parent for p in paths))
            found.mistakes.append(
                Mistake(f'{counted(len(paths), one)} without {other}, in {folders}', tuple(p.name for p in paths)))
    return found


def no_images(folders: Iterable[Path]) -> Mistake:
    """With what there is instead."""
    holds = (f"'{folder}' ({scan_images(folder).passed_over() or 'empty'})" for folder in folders)
    return Mistake(f"there are no images in {', '.join(holds)}")


def _collect(folder: Path, spec: Task, found: Found) -> None:
    """Add the samples of one folder, if there are any of this task."""
    if spec.sigma is not None:
        images = list_images(folder) if folder.is_dir() else []
        if images:
            found.samples += [Sample(None, str(p), found.task) for p in images]
            found.folders.append(str(folder))
        return
    for sides in spec.sides:
        parts = [folder / p for p in sides.lq if (folder / p).is_dir()]
        if parts and (folder / sides.gt).is_dir():
            lqs, gts = [p for part in parts for p in list_images(part)], list_images(folder / sides.gt)
            pairs = pair_stems(lqs, gts, found.task, spec.many)
            if not lqs:
                pairs.mistakes.append(no_images(parts))
            found.samples += pairs.samples
            found.mistakes += pairs.mistakes
            found.folders.append(str(folder))
            found.absent += [str(folder / p) for p in sides.lq if folder / p not in parts]
            return
