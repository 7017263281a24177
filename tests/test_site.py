"""The site of docs/: it is built without a warning, fetches nothing, and says of commands and options what they say."""
from __future__ import annotations

import argparse
import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

import basicsr
from basicsr.cli import _COMMANDS
from basicsr.config.signatures import signature_of
from basicsr.registry import ARCH_REGISTRY

DOCS = ROOT / 'docs'
HOW_TO = (DOCS / 'how_to.md').read_text(encoding='utf-8')
SHARED = ('MSRResNet', 'RRDBNet', 'VGGStyleDiscriminator', 'UNetDiscriminatorSN')  # there for upstream files
IN_PAGES = {
    name: page for page in sorted(DOCS.glob('*.md'))
    for names in re.findall(r'^<!-- options ([\w, ]+) -->$', page.read_text(encoding='utf-8'), re.MULTILINE)
    for name in names.split(', ')
}


@pytest.fixture(scope='module')
def pages():
    """The modules that make pages, without what builds the site."""
    before = list(sys.path)
    sys.path.insert(0, str(ROOT / 'scripts'))
    try:
        from site_pages import arguments, commands, dialect, links, options
    finally:
        sys.path[:] = before
    return argparse.Namespace(arguments=arguments, commands=commands, dialect=dialect, links=links, options=options)


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    for module in ('mkdocs', 'material', 'mkdocstrings_handlers.python'):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp('site')
    done = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir',
                           str(folder)], cwd=ROOT,
                          env={**os.environ, 'NO_MKDOCS_2_WARNING': '1',
                               'CUDA_VISIBLE_DEVICES': ''}, capture_output=True, text=True)
    assert done.returncode == 0 and 'WARNING' not in done.stderr, done.stderr[-5000:]
    return folder


def words_of(file: Path) -> str:
    """What a reader of the page sees, on one line."""
    text = file.read_text(encoding='utf-8')
    article = text[text.index('<article'):text.index('</article>')]
    return ' '.join(html.unescape(re.sub(r'<[^>]+>', ' ', article)).split())


# ------------------------------------------------------------------------------------------------ the built site


def test_it_is_built_without_a_warning(site):
    assert {'index.html', 'gallery.html', 'start_photographer.html', 'contributing.html',
            'measured.html'} <= {file.name for file in site.iterdir()}
    assert 'makes dark photographs bright' in words_of(site / 'index.html')


def test_nothing_is_fetched_from_elsewhere(site):
    """No script, style, font or picture; pages only link there."""
    fetching = re.compile(
        r'<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//|<link[^>]*rel="(?:stylesheet|preconnect|'
        r'preload)"[^>]*href="(?:https?:)?//|url\(["\']?(?:https?:)?//')
    files = [*site.rglob('*.html'), *site.rglob('*.css')]
    assert len(files) > 60
    assert [file.name for file in files if fetching.search(file.read_text(encoding='utf-8'))] == []


def test_it_names_no_place_of_this_machine(site):
    places = (str(ROOT), str(Path.home()) + os.sep)
    for file in site.rglob('*.html'):
        text = file.read_text(encoding='utf-8')
        assert not any(place in text for place in places), file.name


@pytest.mark.parametrize('name', _COMMANDS)
def test_help_and_site_say_the_same(site, pages, name):
    said = words_of(site / 'reference' / 'commands' / f'{name}.html')
    assert said.startswith(f'basicsr {name}') and _COMMANDS[name][1][1:] in said
    parser = pages.commands.parser_of(name)
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
            for text in (formatter._format_action_invocation(action),
                         formatter._expand_help(action) if action.help else ''):
                plain = ' '.join(text.replace('`', ' ').split())
                assert plain.replace(' ', '') in said.replace(' ', ''), text


@pytest.mark.parametrize('name', IN_PAGES)
def test_every_option_of_a_network_is_on_its_page(site, name):
    said = words_of(site / f'{IN_PAGES[name].stem}.html')
    for option in signature_of(ARCH_REGISTRY, name).fields:
        assert re.search(rf'\b{option}\b', said), option


def test_python_has_methods_with_their_arguments(site):
    said = words_of(site / 'python.html')
    for words in ('from_pretrained', 'save_pretrained', 'in which the network computes',
                  'stops by which the result is brighter', 'replace files that are there'):
        assert words in said, words


# ------------------------------------------------------------------------------------------------ what it is made of


def test_every_command_has_a_recipe():
    assert set(re.findall(r'^## (.+)$', HOW_TO, re.MULTILINE)) == set(_COMMANDS)
    for part in HOW_TO.split('\n## ')[1:]:
        name = part.partition('\n')[0]
        assert re.search(rf'^basicsr {name}\b', part, re.MULTILINE), name


def test_every_network_has_a_page_with_its_options():
    ours = {
        name for name, entry in ARCH_REGISTRY.index().items() if 'basicsr' in Path(entry.file).relative_to(ROOT).parts
    }
    assert ours - set(SHARED) == set(IN_PAGES)


@pytest.mark.parametrize('name', IN_PAGES)
def test_options_have_words_and_tables_name_what_is_there(pages, name):
    text = IN_PAGES[name].read_text(encoding='utf-8')
    place = next(m for m in pages.options._PLACE.finditer(text) if name in m['names'].split(', '))
    networks = place['names'].split(', ')
    own = pages.options.own_words(place['own'])
    known = set().union(*(signature_of(ARCH_REGISTRY, network).fields for network in networks))
    assert set(own) <= known
    for row in pages.options.table(name, own).splitlines()[2:]:
        option, kind, default, _, meaning = [cell.strip() for cell in re.split(r'(?<!\\)\|', row)[1:-1]]
        assert option and kind and default and meaning, row


def test_ranges_are_those_of_the_schema(pages):
    table = pages.options.table('MambaIR', {})
    assert '| `embed_dim` | whole number | `180` | at least 30 |' in table
    assert '| `drop_path_rate` | number | `0.1` | at least 0, below 1 |' in table
    assert "| `upsampler` | word | `''` | `''`, `pixelshuffle`, `pixelshuffledirect` |" in table
    assert '| `num_blocks` | 3 whole numbers | `[1, 2, 2]` | each at least 0 |' in pages.options.table(
        'RetinexMamba', {})
    assert '| `sigma` | number or null | `null` | above 0 |' in pages.options.table('IllRecNet', {})


def test_arguments_of_one_line_are_told_apart(pages):
    text = 'X.\n\nArgs:\n    a, b: both. c: of `d: e`,\n        and more.\n    d ... f: as in `Y`.\n\nSource: a: none.'
    assert pages.arguments.described(text, 'abcdef') == {
        'a': 'both.', 'b': 'both.', 'c': 'of `d: e`, and more.', 'd': 'as in `Y`.', 'e': 'as in `Y`.', 'f': 'as in `Y`.'
    }


def test_links_lead_to_pages_or_are_words(pages):
    text = '[a](../README.md#install) [b](../Options/x.yml) [`c`](../basicsr/cli.py) ![d](demo.png) [e](https://f.g/h)\n'
    known = {'files/Options/x.yml.md'}
    assert pages.links.on_the_site(
        text, 'install.md', None,
        known) == ('[a](index.md#install) [b](files/Options/x.yml.md) `c` ![d](demo.png) [e](https://f.g/h)\n')
    at_hosting = pages.links.on_the_site(text, 'install.md', 'https://code/p/', known)
    assert '[`c`](https://code/p/blob/main/basicsr/cli.py)' in at_hosting
    assert pages.links.on_the_site('[a](docs/search.md)', 'contributing.md', None, set()) == '[a](search.md)'
    assert pages.links.on_the_site('```\n[a](../x.py)\n```', 'install.md', None, set()) == '```\n[a](../x.py)\n```'


def test_lists_and_tables_of_code_hosting(pages):
    text = 'Words:\n- one\n  goes on\n- two\n\n1. `x`:\n\n   ```python\n   def f():\n       y\n   ```\n2. last\n\nEnd.\n'
    assert pages.dialect.from_hosting(text) == (
        'Words:\n\n- one\n    goes on\n- two\n\n1. `x`:\n\n    ```python\n    def f():\n        y\n    ```\n2. last\n\nEnd.\n'
    )
    assert pages.dialect.from_hosting(r'| `a \| b` | c \| d |') == r'| `a | b` | c \| d |'
    assert pages.dialect.from_hosting(
        '<!-- checked: x -->\n```bash\n# <!-- y -->\n```') == '\n```bash\n# <!-- y -->\n```'


def test_the_citation_is_of_this_version():
    found = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert found['title'] == 'retinexmamba' and found['license'] == 'MIT' and found['type'] == 'software'
    assert found['version'] == basicsr.__version__ and found['cff-version'] == '1.2.0' and found['authors']
