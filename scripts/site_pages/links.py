"""Links that are right in the repository, made right on the site."""
from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from site_pages.dialect import outside_fences

ROOT = Path(__file__).resolve().parents[2]
# pages of the site that are files outside docs/
PAGES_OF = {
    'index.md': 'README.md',
    'data_folder.md': 'data/README.md',
    'measured.md': 'pretrained_weights/METRICS.md',
    'weight_files.md': 'pretrained_weights/README.md',
    'ablation_models.md': 'Ablation_Model/README.md',
    'speed.md': 'benchmarks/README.md',
    'scan_operators.md': 'basicsr/ops/README.md',
    'contributing.md': 'CONTRIBUTING.md',
    'changelog.md': 'CHANGELOG.md',
    'demo_photographs.md': 'data/demo/NOTICE.md',
}
CARDS = {
    f'cards/{file.name}': f'pretrained_weights/cards/{file.name}'
    for file in sorted((ROOT / 'pretrained_weights/cards').glob('*.md'))
}
PAGES_OF |= CARDS
_URI_OF = {origin: uri for uri, origin in PAGES_OF.items()}
_SHOWN = {'.yml': 'yaml', '.cff': 'yaml', '.txt': 'text', '': 'text'}  # files that get a page with their text
_LONGEST = 100_000  # bytes of such a file
_LINK = re.compile(r'(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^)\s]+)\)')


def on_the_site(text: str, uri: str, repo_url: str | None, known: set[str]) -> str:
    """The page with its relative links turned to pages of the site; to `repo_url` or plain words where there is none."""
    return outside_fences(text, lambda part: _LINK.sub(_rewriting(uri, repo_url, known), part))


def shown_files(root: Path = ROOT) -> list[str]:
    """Text files of the repository that pages link to, and that are no pages themselves."""
    pages = [*(f'docs/{file.name}' for file in (root / 'docs').glob('*.md')), *PAGES_OF.values()]
    found = set()
    for origin in pages:
        text = (root / origin).read_text(encoding='utf-8')
        for match in _LINK.finditer(text):
            if not _elsewhere(match['target']):
                path = _in_the_repository(origin, match['target'].partition('#')[0])
                file = root / path
                small = file.suffix in _SHOWN and file.is_file() and file.stat().st_size < _LONGEST
                if small and _site_uri(path) is None:
                    found.add(path)
    return sorted(found)


def shown_page(origin: str) -> str:
    return f'files/{origin}.md'


def show(file: Path, origin: str) -> str:
    text = file.read_text(encoding='utf-8').rstrip()
    return f'# {origin}\n\n````{_SHOWN[file.suffix]}\n{text}\n````\n'


def _rewriting(uri: str, repo_url: str | None, known: set[str]) -> Callable[[re.Match[str]], str]:
    origin = PAGES_OF.get(uri, f'docs/{uri}')

    def rewritten(match: re.Match[str]) -> str:
        path, hash_, anchor = match['target'].partition('#')
        if _elsewhere(match['target']) or not path or uri.startswith(('reference/', 'files/')):
            return match[0]
        place = _in_the_repository(origin, path)
        there = _site_uri(place)
        if there is None and shown_page(place) in known:
            there = shown_page(place)
        if there is not None:
            target = posixpath.relpath(there, posixpath.dirname(uri) or '.') + hash_ + anchor
        elif repo_url:
            target = f'{repo_url.rstrip("/")}/blob/main/{place}'
        else:
            return match['text']
        return f'{match["image"]}[{match["text"]}]({target})'

    return rewritten


def _elsewhere(target: str) -> bool:
    return re.match(r'[a-z]+:', target) is not None


def _in_the_repository(origin: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))


def _site_uri(place: str) -> str | None:
    """Of a path in the repository; None where it has none."""
    return place.removeprefix('docs/') if place.startswith('docs/') else _URI_OF.get(place)
