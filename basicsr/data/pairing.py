"""Which input belongs to which ground truth: by name, in natural order, with every mistake named."""
from __future__ import annotations

from collections import Counter, namedtuple
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from basicsr.utils.errors import UserError, counted, some
from basicsr.utils.files import IMAGE_SUFFIXES, read_text, scan_images
from basicsr.utils.logger import get_root_logger
from basicsr.utils.names import distinct, normal
from basicsr.utils.notes import note
from basicsr.utils.storage import full_name, read_lmdb_keys

Item = TypeVar('Item')


class Keyed(tuple):
    """Of a named tuple: its fields also as keys, `pair['lq_path']`, as BasicSR's mappings of paths are read."""
    __slots__ = ()
    _fields: Any

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self._fields:
            raise KeyError(key)
        return getattr(self, key)


class Pair(Keyed, namedtuple('Pair', ('lq_path', 'gt_path'))):
    """Input and ground truth: paths, or keys of databases."""
    __slots__ = ()


def image_folder(folder: str, option: str, recursive: bool = False) -> list[Path]:
    """Images of a folder; an empty one is an error, since nothing could be trained or measured."""
    path = Path(folder)
    if not path.is_dir():
        raise UserError(f"{option}: '{folder}' is not a folder")
    found = scan_images(path, recursive)
    others = found.passed_over()
    if not found.images:
        below = found.folders and not recursive and option.startswith('dataroot')
        deeper = '; recursive: true looks into subfolders' if below else ''
        holds = f'it holds {others}{deeper}' if others else 'it is empty'
        raise UserError(f"{option}: there are no images ({', '.join(IMAGE_SUFFIXES)}) in '{folder}'; {holds}")
    if found.broken:
        note(f"{option}: '{folder}' holds {counted(len(found.broken), 'broken link')}: {some(found.broken)}", True)
    if others:
        get_root_logger().info(f"'{folder}': {counted(len(found.images), 'image')}; passed over: {others}")
    return [path / image for image in found.images]


def file_of(item: Mapping[str, Any], block: Mapping[str, Any], side: str = 'lq') -> str:
    """What messages call the input of an item, or its ground truth ('gt'); `block`: of options, with the roots."""
    root = block.get(f'dataroot_{side}', block.get('dataroot_gt'))  # inputs may be made of the ground truths
    return full_name(root, item[f'{side}_path'])


def is_its_own_truth(item: Mapping[str, Any], block: Mapping[str, Any]) -> bool:
    """Whether input and ground truth of an item are one file, or one entry of one database, by whatever path.

    A data set that makes its inputs of the clean images, and therefore has no folder of them, is none of this kind.
    """
    lq, gt = item.get('lq_path'), item.get('gt_path')
    roots = block.get('dataroot_lq', block.get('dataroot_lqL')), block.get('dataroot_gt')
    if not (isinstance(lq, str) and isinstance(gt, str)) or (lq == gt and None in roots):
        return False
    if not Path(lq).exists() and None not in roots:
        return lq == gt and same_file(*map(str, roots))
    return same_file(lq, gt)


def same_file(a: str, b: str) -> bool:
    """Whether two paths lead to one file or folder."""
    return Path(a).exists() and Path(b).exists() and Path(a).samefile(b)


def pair_by_name(dataroot_lq: str, dataroot_gt: str, filename_tmpl: str = '{}', meta_info_file: str | None = None,
                 option: str = 'dataroot_lq', recursive: bool = False) -> list[Pair]:
    """(input, ground truth) paths in natural order of the ground truth.

    A ground truth `stem.ext` belongs to the input `filename_tmpl.format(stem)` of any image type. With
    `meta_info_file` only the ground truths listed in it, one in each line, are taken. `option` is what messages call the
    input's folder. With `recursive` the folders' subfolders count as well, and are part of a name.

    Raises:
        UserError: naming every file without a partner, and files that differ in nothing but their type.
    """
    gts, lqs = image_folder(dataroot_gt, 'dataroot_gt', recursive), image_folder(dataroot_lq, option, recursive)
    if meta_info_file:
        gts = listed(gts, meta_info_file, dataroot_gt)
    lq_by_stem = by_stem(lqs, dataroot_lq, option)
    pairs, alone = [], []
    for own, gt in by_stem(gts, dataroot_gt, 'dataroot_gt').items():
        stem = _input_name(filename_tmpl, own)
        if stem in lq_by_stem:
            pairs.append(Pair(str(lq_by_stem.pop(stem)), str(gt)))
        else:
            name = str(gt.relative_to(dataroot_gt))
            alone.append(f"{name} (wants '{stem}.*')" if stem != own else name)
    left = [] if meta_info_file else [str(p.relative_to(dataroot_lq)) for p in lq_by_stem.values()]
    if alone or left:
        raise unpaired(alone, left, dataroot_lq, dataroot_gt, len(pairs), option)
    return pairs


def _input_name(filename_tmpl: str, own: str) -> str:
    """The input's name, without suffix and normalised, by the ground truth's."""
    try:
        return normal(filename_tmpl.format(own))
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(f"filename_tmpl '{filename_tmpl}' must hold one '{{}}' for the ground truth's name") from error


def pair_lmdb(dataroot_lq: str, dataroot_gt: str, filename_tmpl: str = '{}') -> list[Pair]:
    """Keys of two LMDB databases: those that both hold, as BasicSR makes them, or the input's by `filename_tmpl`."""
    lq, gt = ({normal(key): key for key in read_lmdb_keys(root)} for root in (dataroot_lq, dataroot_gt))
    if lq.keys() != gt.keys():
        gt = {_input_name(filename_tmpl, name): key for name, key in gt.items()}
    alone, left = [gt[k] for k in gt if k not in lq], sorted(lq[k] for k in lq if k not in gt)
    if alone or left:
        raise unpaired(alone, left, dataroot_lq, dataroot_gt, len(gt) - len(alone))
    return [Pair(lq[k], gt[k]) for k in gt]


def unpaired(alone: list[str], left: list[str], dataroot_lq: str, dataroot_gt: str, paired: int,
             option: str = 'dataroot_lq', by: str = 'name') -> UserError:
    parts, details = [], []
    for names, side, root, other in ((alone, 'dataroot_gt', dataroot_gt, 'input'), (left, option, dataroot_lq,
                                                                                    'ground truth')):
        if names:
            parts.append(f"{len(names)} of {side} '{root}' have no {other}: {some(names)}")
            details += [f"{side}: no {other} for '{name}'" for name in names]
    hint = ''
    if not paired and by == 'name':
        hint = (
            "; if names differ by a pattern, give filename_tmpl, e.g. '{}_low' for 7.png and 7_low.png, or pair_by: number"
            " for low7.png and normal7.png")
    return UserError(f"images do not pair by {by} ({paired} pairs found). {'. '.join(parts)}{hint}", details=details)


def stem_below(path: str | Path, folder: str | Path) -> str:
    """A path's name within a folder, without suffix: 'a/7' for 'folder/a/7.png'."""
    return Path(path).relative_to(folder).with_suffix('').as_posix()


def own_names(paths: Sequence[str | Path], folder: str | Path) -> list[str]:
    """What is made of each file is called: `stem_below`, with the suffix where files differ in nothing else."""
    inside = [Path(path).relative_to(folder) for path in paths]
    by_folder: dict[Path, list[int]] = {}
    for index, path in enumerate(inside):
        by_folder.setdefault(path.parent, []).append(index)
    names = [''] * len(inside)
    for parent, indices in by_folder.items():
        for index, name in zip(indices, distinct([inside[i] for i in indices], [''] * len(indices))):
            names[index] = (parent / name).as_posix()
    return names


def by_stem(paths: list[Path], folder: str | Path, option: str) -> dict[str, Path]:
    """Paths by `stem_below(path, folder)`, normalised.

    Raises `UserError` for two files that differ in nothing but their suffix, or the Unicode form of their name.
    """
    out: dict[str, Path] = {}
    for path in paths:
        stem = normal(stem_below(path, folder))
        if stem in out:
            same = '' if out[stem].stem == path.stem else ' in two Unicode forms (NFC and NFD)'
            raise UserError(
                f"{option}: '{out[stem].name}' and '{path.name}' in '{path.parent}' have the same name{same}")
        out[stem] = path
    return out


def listed_names(meta_info_file: str, known: Callable[[str], bool]) -> list[str]:
    """Each line where it is a known name, which may hold spaces; else its first word, as BasicSR's lists have it.

    Raises `UserError` for a file that is missing, lists nothing, or a name twice."""
    if not Path(meta_info_file).is_file():
        raise UserError(f"meta_info_file: there is no file '{meta_info_file}'")
    lines = read_text(meta_info_file).splitlines()
    names = Counter(line.strip() if known(line.strip()) else line.split()[0] for line in lines if line.strip())
    if not names:
        raise UserError(f"meta_info_file '{meta_info_file}' lists no images")
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise UserError(f"meta_info_file '{meta_info_file}' lists more than once: {some(twice)}")
    return list(names)


def listed(gts: list[Path], meta_info_file: str, folder: str) -> list[Path]:
    by_name = {normal(p.relative_to(folder).as_posix()): p for p in gts}
    names = listed_names(meta_info_file, lambda name: normal(name) in by_name)
    missing = [n for n in names if normal(n) not in by_name]
    if missing:
        lacks = f"meta_info_file '{meta_info_file}' lists images that '{folder}' lacks: "
        raise UserError(lacks + some(missing), details=[lacks + name for name in missing])
    return [by_name[normal(n)] for n in names]


def take_range(pairs: list[Item], pair_range: str) -> list[Item]:
    """`pairs[start:stop:step]` of a text 'start:stop:step' whose parts may be left out. Raises `UserError`."""
    try:
        part = slice(*(int(text) if text.strip() else None for text in pair_range.split(':')))
        chosen = pairs[part] if ':' in pair_range else None
    except (ValueError, TypeError):
        chosen = None
    if chosen is None:
        raise UserError(f"pair_range: '{pair_range}' is no slice; ':460' takes the first 460 pairs, '460:' the others")
    if not chosen:
        raise UserError(f"pair_range: '{pair_range}' leaves none of the {len(pairs)} pairs")
    return chosen
