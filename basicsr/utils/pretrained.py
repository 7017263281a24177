"""Weights by name or address, as files. `pretrained_weights/manifest.json` says what comes with the project and what it does,
`published.json` what others have published, which is fetched on its first use."""
from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError, nearest, some
from basicsr.utils.fetching import cache
from basicsr.utils.fetching.addresses import is_address, read_address
from basicsr.utils.files import as_stored
from basicsr.utils.logger import get_root_logger
from basicsr.utils.names import below
from basicsr.utils.places import shipped_root
from basicsr.utils.published import Published, read_published

WEIGHT_SUFFIXES = ('.pth', '.pt', '.ckpt', '.safetensors')
LIMIT = 20_000_000  # bytes of a file that comes with the project
README_PROTOCOL = 'retinexformer'  # of numbers that stand alone
OTHER_WEIGHTS = ('a folder of the hub, a name of `basicsr list weights`, hf:OWNER/REPOSITORY[@REVISION][:FILE],'
                 ' or https://...')  # beside files, for the help of commands


def folder() -> Path:
    """Where the manifest and its files are."""
    return shipped_root() / 'pretrained_weights'


def read_manifest(where: Path | None = None) -> dict[str, Any]:
    """`{default: name or None, weights: {name: entry}}`; empty where there is no manifest. See the folder's README.

    Args:
        where: the folder, default `folder()`.

    Raises:
        UserError: when it is damaged.
    """
    file = (where or folder()) / 'manifest.json'
    if not file.is_file():
        return {'default': None, 'weights': {}}
    try:
        manifest = json.loads(file.read_text(encoding='utf-8'))
        return {'default': manifest['default'], 'weights': dict(manifest['weights'])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{file}' is damaged; restore it (git checkout, or install again)") from error


def default_weights() -> str | None:
    """The name of the weights that `enhance` takes when it is given none; None when none come with the project."""
    return read_manifest()['default']


@dataclass(frozen=True)
class WeightFile:
    """Weights that were named, as a file. title: what results of them are called. network: `{type, **arguments}` where the
    tables tell it, else None."""
    path: Path
    title: str
    network: dict[str, Any] | None = None


def find_weights(given: str | Path) -> Path:
    """The file of `locate`."""
    return locate(given).path


def locate(given: str | Path | WeightFile, again: bool = False) -> WeightFile:
    """The weight file of a path, of a folder with `model.safetensors`, of a name or an address.

    Names are those of the manifest and of what others have published; addresses are `hf:owner/repository[@revision][:file]`
    and `https://...`. What is not here yet is fetched.

    Args:
        again: fetch anew what can be fetched.

    Raises:
        UserError: when it is none of these, when it cannot be fetched, or when the file is not what was published.
    """
    if isinstance(given, WeightFile):
        return given
    path, name = Path(as_stored(given)), str(given)
    if path.is_file():
        return WeightFile(path, path.stem)
    if (path / 'model.safetensors').is_file():
        return WeightFile(path / 'model.safetensors', path.resolve().name)
    where, known = folder(), read_manifest()['weights']
    if name in known:
        file = below(where, known[name]['file'], what=f"'{where / 'manifest.json'}'")
        _check(file, known[name], name)
        return WeightFile(file, file.stem)
    published = read_published(where)
    if name in published:
        return _published(name, published[name], again)
    if is_address(name):
        source = read_address(name)
        fetched = cache.fetch(source, again=again)
        if fetched.first:
            get_root_logger().info(
                f'licence of {source}: {fetched.licence or "nothing states it here, ask its authors"}')
        return WeightFile(fetched.path, source.title)
    raise UserError(unknown(name))


def unknown(name: str) -> str:
    """The sentence for what is neither a weight file nor a name."""
    names = [*read_manifest()['weights'], *read_published(folder())]
    listed = f" Names: {some(names, 8)}{' (basicsr list weights)' if len(names) > 8 else ''}" if names else ''
    return (f"there is no weight file '{name}', and no weights of that name come with the toolbox."
            f'{nearest(name, names)}{listed}')


def known_network(name: str) -> dict[str, Any] | None:
    """`{type, **arguments}` that the tables say of weights of this name; None where they do not."""
    entry, row = read_manifest()['weights'].get(name), read_published(folder()).get(name)
    if entry:
        return entry['network']
    return None if row is None or row.arguments is None else {'type': row.network, **row.arguments}


def is_fetched(given: str) -> bool:
    """Whether a text is an address, or the name of weights that others have published."""
    return is_address(given) or given in read_published(folder())


def is_here(given: str) -> bool:
    """Whether `locate` has nothing to fetch, and nothing that somebody must get by hand."""
    row = read_published(folder()).get(given)
    if row:
        return file_of(given, row) is not None
    return not is_address(given) or cache.find_fetched(read_address(given)) is not None


def file_of(name: str, row: Published) -> Path | None:
    """Where published weights are on this machine; None where they are not."""
    if row.address:
        return cache.find_fetched(read_address(row.address))
    return next((place for place in _places(name, row) if place.is_file()), None)


def _published(name: str, row: Published, again: bool) -> WeightFile:
    expected = cache.Expected(row.bytes, row.sha256)
    fetched = (cache.fetch(read_address(row.address), expected, again) if row.address else cache.recognise(
        name, _got_by_hand(name, row), expected, again))
    if fetched.first:
        get_root_logger().info(f'licence of {name}: {row.licence.weights}; of the code: {row.licence.code}')
    if row.licence.non_commercial:
        get_root_logger().warning(f'{name} is for non-commercial use only: {row.licence.weights}')
    return WeightFile(fetched.path, name, known_network(name))


def _got_by_hand(name: str, row: Published) -> Path:
    found = file_of(name, row)
    if found is None and row.by_hand:
        raise UserError(
            f"the weights '{name}' have to be got by hand: get '{row.by_hand.file}' from {row.by_hand.where},"
            f" and save it as '{_places(name, row)[0]}'")
    return Path(str(found))


def _places(name: str, row: Published) -> list[Path]:
    """Where weights that were got by hand may be, the place to save them first; of some the file's name is not known."""
    theirs = Path(row.by_hand.file if row.by_hand else '').suffix
    suffixes = dict.fromkeys(([theirs] if theirs in WEIGHT_SUFFIXES else []) + [*WEIGHT_SUFFIXES])
    return [place / f'{name}{suffix}' for suffix in suffixes for place in (cache.folder(), folder())]


def describe_weights(name: str) -> str:
    """What the manifest says of them in one line: measured PSNR and SSIM with their protocol, licence."""
    entry = read_manifest()['weights'][name]
    metrics, plain = entry['metrics'], shipped_metrics(entry)['plain']
    return (f"{plain[f'psnr {README_PROTOCOL}']:.2f} dB PSNR, {plain[f'ssim {README_PROTOCOL}']:.4f} SSIM on the"
            f" {metrics['images']} images of {metrics['dataset']} (protocol {README_PROTOCOL}); licence:"
            f" {entry['licence']}")


def shipped_metrics(entry: dict[str, Any]) -> dict[str, Any]:
    """`{iterations, plain: {...}, GT-mean: {...}}` of the candidate that was published."""
    return entry['metrics']['candidates'][entry['entry']]


def _check(file: Path, entry: dict[str, Any], name: str) -> None:
    again = 'get it again (git checkout, or install again)'
    if not file.is_file():
        raise UserError(f"the weights '{name}' should be in '{file}', which is missing; {again}")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() == entry['sha256']:
        return
    if re.match(rb'version https?://\S*(git-lfs|media)', data):
        raise UserError(f"'{file}' is a pointer of Git LFS and not the weights; git lfs pull fetches them")
    how = (f"it has {len(data):,d} of {entry['bytes']:,d} bytes"
           if len(data) != entry['bytes'] else 'its SHA-256 is another one')
    raise UserError(f"'{file}' is not what was published as '{name}' ({how}); {again}")
