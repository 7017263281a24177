"""What MkDocs asks while it builds the site, see mkdocs.yml: pages made of other files, of commands and of networks.

Nothing is written into the tree. What a page says of a command or of an option comes from where the program itself has it.
"""
from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / 'scripts')) if path not in sys.path]

from site_pages import commands, dialect, links, options


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Headings get the anchors that the code hosting gives them, and every command its place below `Commands`."""
    config.mdx_configs.setdefault('toc', {})['slugify'] = slugify(case='lower')
    _below(config, 'Commands').extend({f'basicsr {name}': commands.page_of(name)} for name in commands.NAMES)
    _below(config, 'Weights that come with it').extend(links.CARDS)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for uri, origin in links.PAGES_OF.items():
        files.append(File.generated(config, uri, content=(ROOT / origin).read_text(encoding='utf-8')))
    for name in commands.NAMES:
        files.append(File.generated(config, commands.page_of(name), content=commands.render(name, ROOT / 'docs')))
    for origin in links.shown_files(ROOT):
        found = File.generated(config, links.shown_page(origin), content=links.show(ROOT / origin, origin))
        found.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(found)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    uri = page.file.src_uri
    text = re.sub(r'^<!-- api (\S+) -->$', r'::: \1', options.fill_in(markdown), flags=re.MULTILINE)
    text = links.on_the_site(text, uri, config.repo_url, {file.src_uri for file in files})
    return dialect.from_hosting(text)


def _below(config: MkDocsConfig, title: str) -> list[Any]:
    """The list below a title of the navigation."""
    found = _entry(config.nav or [], title)
    assert found is not None, f"mkdocs.yml has no '{title}'"
    return found


def _entry(nav: list[Any], title: str) -> list[Any] | None:
    """The list below a title, at any depth."""
    for item in nav:
        for name, below in item.items() if isinstance(item, dict) else ():
            if name == title:
                return below
            if isinstance(below, list) and (found := _entry(below, title)) is not None:
                return found
    return None
