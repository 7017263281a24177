"""All-in-one restoration: its tasks, where the published folder trees keep their images, and how these pair.

Two trees are known for each task: that of the MoCE-IR family's code (`deraining/RainTrainL/{rainy,gt}`) and the one its
instructions show (`train/deraining/Rain100L`). The first place that exists is taken.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from basicsr.utils.errors import UserError, nearest
from basicsr.utils.files import list_images

Folders = tuple[str, ...]  # alternatives (places) or parts to be joined


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
        sides: names that the folders of input and ground truth may have in a place; the input may consist of parts.
            Empty: there are clean images only.
        ratio: how often the training images come in an epoch.
        sigma: standard deviation of the Gaussian noise in 8-bit levels, for tasks without stored inputs.
        many: several inputs share a ground truth, and not every ground truth needs one.
    """
    train: tuple[Folders, ...]
    test: tuple[Folders, ...]
    ratio: int
    sides: tuple[tuple[Folders, str], ...] = ()
    sigma: float | None = None
    many: bool = False


def _denoise(sigma: float) -> Task:
    return Task(
        train=(('denoising/WaterlooED', 'denoising/BSD400'), ('train/denoising/WED', 'train/denoising/BSD400')),
        test=(('denoising/cBSD68/original_png', ), ('test/BSD68/original_png', ), ('test/BSD68', )),
        ratio=3, sigma=sigma)  # yapf: disable


TASKS = {
    'denoise_15': _denoise(15),
    'denoise_25': _denoise(25),
    'denoise_50': _denoise(50),
    'derain': Task(
        train=(('deraining/RainTrainL', ), ('train/deraining/Rain100L', )),
        test=(('deraining/Rain100L', ), ('test/Rain100L', )),
        sides=((('rainy', ), 'gt'), (('input', ), 'target')), ratio=120),
    'dehaze': Task(
        train=(('dehazing/RESIDE', ), ('train/dehazing/RESIDE', ), ('train/dehazing/OTS', ), ('train/dehazing/SOTS', )),
        test=(('dehazing/SOTS/outdoor', ), ('dehazing/SOTS/indoor', ), ('test/SOTS/outdoor', ), ('test/SOTS/indoor', ),
              ('test/SOTS', )),
        sides=((('part1', 'part2', 'part3', 'part4'), 'clear'), (('hazy', ), 'clear'), (('hazy', ), 'gt'),
               (('input', ), 'target')), ratio=1, many=True),
    'deblur': Task(
        train=(('deblurring/GoPro/crop/train', ), ('train/deblurring/GoPro', )),
        test=(('deblurring/GoPro/test', ), ('test/GoPro', )),
        sides=((('input_crops', ), 'target_crops'), (('input', ), 'target'), (('blur', ), 'sharp')), ratio=5),
    'synllie': Task(
        train=(('llie/LOLv1/Train', ), ('train/lol/LOL-v1', )),
        test=(('llie/LOLv1/Test', ), ('test/LOL', )),
        sides=((('input', ), 'target'), (('low', ), 'high')), ratio=20),
}  # yapf: disable

_DENOISE = ('denoise_15', 'denoise_25', 'denoise_50')
ALIASES = {
    'denoise': _DENOISE, 'denoising': _DENOISE, 'deraining': ('derain', ), 'dehazing': ('dehaze', ),
    'deblurring': ('deblur', ), 'gopro': ('deblur', ), 'lol': ('synllie', ), 'lolv1': ('synllie', ),
    'llie': ('synllie', ), 'lowlight': ('synllie', ), 'low_light': ('synllie', ),
}  # yapf: disable


def canonical(names: Iterable[str], option: str) -> list[str]:
    """Task names with aliases replaced, each once, in the order given. Raises `UserError` for an unknown one."""
    out: dict[str, None] = {}
    for name in names:
        if name not in TASKS and name.lower() not in ALIASES:
            known = [*TASKS, *ALIASES]
            raise UserError(
                f"{option}: there is no task called '{name}'.{nearest(str(name), known)} Known: {', '.join(known)}")
        out |= dict.fromkeys((name, ) if name in TASKS else ALIASES[name.lower()])
    return list(out)


@dataclass
class Found:
    """What the look-up of one task gave: samples, the folders they are in, parts that are not there, mistakes."""
    task: str
    samples: list[Sample] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        what = 'images' if self.samples and self.samples[0].lq is None else 'pairs'
        text = f'{self.task}: {len(self.samples)} {what}'
        text += f" in {', '.join(map(repr, self.folders))}" if self.folders else ''
        text += f" (not there: {', '.join(map(repr, self.absent))})" if self.absent else ''
        return text + ''.join(f'\n    {m}' for m in self.mistakes)


def look_up(task: str, dataroot: str | None, train: bool, roots: str | list[str] | None = None) -> Found:
    """All samples of a task, from the first place that exists; `roots`, one or several folders, replace the places."""
    spec, found = TASKS[task], Found(task)
    if roots:
        places = [[Path(r) for r in ([roots] if isinstance(roots, str) else roots)]]
    elif dataroot:
        places = [[Path(dataroot, part) for part in place] for place in (spec.train if train else spec.test)]
    else:
        found.mistakes.append(f'give dataroot, or its folder as roots.{task}')
        return found
    for place in places:
        for folder in place:
            _collect(folder, spec, found)
        if found.folders:
            found.absent += [str(p) for p in place if str(p) not in found.folders]
            return found
    inside = ' or '.join(f"{{{','.join(lq)},{gt}}}" for lq, gt in spec.sides) or 'images'
    looked = ', '.join(f"'{folder}'" for place in places for folder in place)
    found.mistakes.append(f'no folder with {inside}; looked for {looked}')
    return found


def report(found: list[Found]) -> str:
    """One line per task with its number of pairs, mistakes below it."""
    return '\n'.join(f'  {f}' for f in found)


def checked(found: list[Found]) -> list[Sample]:
    """The samples of all tasks. Raises `UserError` with the whole report when anything is wrong with any of them."""
    wrong = [f.task for f in found if f.mistakes]
    if wrong:
        raise UserError(f"the images of {', '.join(wrong)} are not complete:\n{report(found)}")
    return [s for f in found for s in f.samples]


def pair_stems(lqs: list[Path], gts: list[Path], task: str, many: bool = False) -> Found:
    """Pairs two lists by name without suffix, in the order of the inputs.

    Equal names come first. Else 'rain-7' belongs to 'norain-7' (Rain100L) and, with `many`, '0001_0.8_0.2' to '0001'
    (RESIDE, SOTS).
    """
    found, by_stem, used = Found(task), {}, set()
    for gt in gts:
        if gt.stem in by_stem:
            found.mistakes.append(f"'{by_stem[gt.stem]}' and '{gt}' have the same name")
        by_stem[gt.stem] = gt
    alone = []
    for lq in lqs:
        candidates = [lq.stem, f'no{lq.stem}'] + [lq.stem.split('_')[0]] * many
        gt = next((by_stem[c] for c in candidates if c in by_stem), None)
        if gt is None or (gt in used and not many):
            alone.append(lq)
        else:
            used.add(gt)
            found.samples.append(Sample(str(lq), str(gt), task))
    left = [] if many else [gt for gt in by_stem.values() if gt not in used]
    for paths, what in ((alone, 'inputs have no ground truth'), (left, 'ground truths have no input')):
        if paths:
            folders = ', '.join(f"'{p}'" for p in dict.fromkeys(p.parent for p in paths))
            found.mistakes.append(f"{len(paths)} {what}, in {folders}: {', '.join(p.name for p in paths)}")
    return found


def _collect(folder: Path, spec: Task, found: Found) -> None:
    """Add the samples of one folder, if there are any of this task."""
    if spec.sigma is not None:
        images = list_images(folder) if folder.is_dir() else []
        found.samples += [Sample(None, str(p), found.task) for p in images]
        found.folders += [str(folder)] * bool(images)
        return
    for lq_parts, gt in spec.sides:
        parts = [folder / p for p in lq_parts if (folder / p).is_dir()]
        if parts and (folder / gt).is_dir():
            lqs, gts = [p for part in parts for p in list_images(part)], list_images(folder / gt)
            pairs = pair_stems(lqs, gts, found.task, spec.many)
            if not lqs:
                pairs.mistakes.append(f"there are no images in {', '.join(f'{str(p)!r}' for p in parts)}")
            found.samples += pairs.samples
            found.mistakes += pairs.mistakes
            found.folders.append(str(folder))
            found.absent += [str(folder / p) for p in lq_parts if folder / p not in parts]
            return
