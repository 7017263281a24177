"""README and docs: commands run, option files load, names and links lead somewhere."""
from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import string
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, outside_of_make, run_python

from basicsr.cli import _COMMANDS
from basicsr.config import load_options
from basicsr.leaderboard.board import read_board
from basicsr.search.space import read_space
from basicsr.train import train_pipeline

PAGES = [
    ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md')),
    *(ROOT / folder / 'README.md'
      for folder in ('data', 'benchmarks', 'pretrained_weights', 'Ablation_Model', 'basicsr/ops'))
]
CALLS = re.compile(r'^\s*(python3?|pip|make|basicsr|torchrun) ', re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block, and the comment of one line right before it."""
    page: Path
    line: int
    language: str
    comment: str
    text: str

    @property
    def place(self) -> str:
        return f'{self.page.relative_to(ROOT)}:{self.line}'

    @property
    def kind(self) -> str:
        """`run`, `not run`, `checked`, or the whole comment where it says none of these."""
        said = re.fullmatch(r'(not run|checked): \S.*', self.comment)
        return said[1] if said else self.comment or 'run'


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding='utf-8')
    pattern = r'(?:^<!-- (?P<said>[^\n]*) -->\n)?^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$'
    return [
        Block(page, text[:m.start('body')].count('\n'), m['language'], m['said'] or '', textwrap.dedent(m['body']))
        for m in re.finditer(pattern, text, re.MULTILINE | re.DOTALL)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def of(language: str, kind: str | None = None) -> list:
    found = [b for b in BLOCKS if b.language == language and kind in (None, b.kind)]
    return [pytest.param(b, id=b.place) for b in found]


# ------------------------------------------------------------------------------------------------ commands


def test_every_block_of_commands_is_run_or_says_why_not():
    assert len(of('bash', 'run')) >= 7 and len(of('bash', 'checked')) >= 15
    for block in BLOCKS:
        if block.language == 'bash':
            assert block.kind in ('run', 'not run', 'checked'), f'{block.place}: {block.comment}'
        else:
            assert block.language in ('', 'text', 'yaml', 'python'), block.place
            assert block.language or not CALLS.search(
                block.text), f'{block.place}: these commands are not marked as bash'


@pytest.fixture(scope='module')
def checkout(tmp_path_factory) -> Path:
    """A copy of the project in which two iterations are a training, with the files that the docs speak of."""
    root = tmp_path_factory.mktemp('checkout') / 'project'
    for name in ('basicsr', 'Enhancement', 'Options', 'Ablation_Model', 'scripts', 'benchmarks', 'pretrained_weights'):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('pyproject.toml', 'setup.py', 'Makefile', 'constraints.txt'):
        shutil.copy(ROOT / name, root)
    demo = ROOT / 'data' / 'demo'
    shutil.copytree(demo, root / 'data' / 'demo')
    for name, side in (('dark', 'input'), ('holiday', 'input'), ('theirs', 'input'), ('truth', 'target')):
        shutil.copytree(demo / 'test' / side, root / name)
    shutil.copy(demo / 'test' / 'input' / 'peaks.png', root / 'photo.jpg')
    options = root / 'Options' / 'RetinexMamba_demo.yml'
    short = options.read_text().replace('total_iter: 300', 'total_iter: 2').replace('periods: [300]', 'periods: [2]')
    short = short.replace('warmup_iter: 10', 'warmup_iter: 1').replace('gt_size: 64', 'gt_size: 16')
    short = short.replace('n_feat: 16', 'n_feat: 4')
    assert short.count(': 2\n') == 1
    options.write_text(short)
    run_python(
        '-c', 'from basicsr.archs import build_network as b; from basicsr.utils.weights import save_weights as s\n'
        'n = dict(type="RetinexMamba", n_feat=4, num_blocks=[1, 1, 1], d_state=8)\n'
        's("W.pth", {"params": b(n).state_dict(), "network_g": n, "name": "W"})', cwd=root)
    assert (root / 'W.pth').is_file()
    tools = root.parent / 'bin'
    tools.mkdir()
    for name, words in (('python', ''), ('basicsr', '-m basicsr')):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    return root


def environment(checkout: Path) -> dict[str, str]:
    path = os.pathsep.join([str(checkout.parent / 'bin'), os.environ['PATH']])
    return {**os.environ, 'PATH': path, 'PYTHONPATH': str(checkout), 'CUDA_VISIBLE_DEVICES': ''}


RAN: set[str] = set()  # a command that stands on several pages is run once


@pytest.mark.parametrize('block', of('bash', 'run'))
def test_commands_run(checkout, block):
    lines = [line.partition(' #')[0].strip() for line in block.text.replace('\\\n', ' ').splitlines()]
    # a training of 300 iterations is said to be one; two of them show that it runs
    commands = '\n'.join(line for line in lines if line not in RAN).replace('train.total_iter=300',
                                                                            'train.total_iter=2')
    RAN.update(lines)
    done = subprocess.run(['bash', '-e', '-x', '-c', commands], cwd=checkout, env=environment(checkout),
                          capture_output=True, text=True)
    assert done.returncode == 0, f'{done.stdout[-2000:]}\n{done.stderr[-3000:]}'


# runs programs up to the point where their arguments are parsed, and loads the option file that they name
PARSE = '''
import argparse, contextlib, io, json, runpy, sys
from basicsr.config import load_stages

class Parsed(BaseException):
    pass

def parsing(original):
    def parse(self, *args, **kwargs):
        raise Parsed(original(self, *args, **kwargs))
    return parse

for name in ("parse_args", "parse_intermixed_args"):
    setattr(argparse.ArgumentParser, name, parsing(getattr(argparse.ArgumentParser, name)))
path = list(sys.path)
for place, command in json.load(sys.stdin):
    sys.argv, sys.path[:] = command, path
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if command[0] == "basicsr":
                runpy.run_module("basicsr", run_name="__main__", alter_sys=False)
            else:
                sys.path[0] = command[0].rpartition("/")[0]
                runpy.run_path(command[0], run_name="__main__")
    except Parsed as parsed:
        found = vars(parsed.args[0])
        file = (found.get("files") or [found.get("opt")])[0]
        words = found.get("overrides") or found.get("rest") or []
        # a flag that takes all words that follow takes overrides, too
        words = [w for w in [*words, *(found.get("benchmarks") or []), *(found.get("weights") or "")] if "=" in w]
        if file:
            try:
                load_stages(file, words, is_train=None, check_files=False)
            except Exception as error:
                print(place, command, error)
    except BaseException as error:
        print(place, command, repr(error), said.getvalue()[-500:])
    else:
        print(place, command, "has parsed no arguments")
'''


def commands_of(block: Block) -> list[list[str]]:
    """The programs that a block calls, each with its arguments; variables that it sets are filled in."""
    values: dict[str, str] = {}
    found = []
    for line in block.text.replace('\\\n', ' ').splitlines():
        words = shlex.split(string.Template(line).safe_substitute(values), comments=True)
        while words and re.match(r'\w+=', words[0]):
            name, _, value = words.pop(0).partition('=')
            values[name] = value
        if words and words[0] in ('python', 'torchrun'):
            words = words[next(i for i, word in enumerate(words) if word.endswith('.py')):]
        if words:
            found.append(words)
    return found


def test_arguments_of_checked_commands_exist_and_their_option_files_load(checkout):
    calls = [(block.place, words) for block in BLOCKS if block.language == 'bash' and block.kind == 'checked'
             for words in commands_of(block)]
    made = [words for _, words in calls if words[0] == 'make']
    assert len(made) >= 6
    for words in made:
        done = subprocess.run(['make', '-n', *words[1:]], cwd=checkout, env=outside_of_make(), capture_output=True,
                              text=True)
        assert done.returncode == 0, done.stderr
    calls = [(place, words) for place, words in calls if words[0] != 'make']
    assert len(calls) > 35 and all(words[0] == 'basicsr' or words[0].endswith('.py') for _, words in calls)
    assert [words for _, words in calls if words[0] != 'basicsr' and not (checkout / words[0]).is_file()] == []
    calls = [(place, words) for place, words in calls if len(words) > 1]  # scripts without arguments would begin
    done = subprocess.run([sys.executable, '-c', PARSE], cwd=checkout, env=environment(checkout),
                          input=json.dumps(calls), capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == '', done.stdout + done.stderr


def test_commands_in_sentences_exist():
    names = {name for page in PAGES for name in re.findall(r'`basicsr ([a-z][\w-]*)', page.read_text(encoding='utf-8'))}
    assert len(names) > 8 and names <= set(_COMMANDS)


def test_the_list_of_commands_is_whole():
    rows = re.findall(r'^\| `([\w-]+)` \| (.*) \|$', (ROOT / 'docs' / 'commands.md').read_text(encoding='utf-8'), re.M)
    assert rows == [(name, text) for name, (_, text) in _COMMANDS.items()]


# ------------------------------------------------------------------------------------------------ option files

MY_ARCH = '''
from basicsr.archs.retinexmamba_arch import RetinexMamba
from basicsr.utils.registry import ARCH_REGISTRY

@ARCH_REGISTRY.register()
class MyNet(RetinexMamba):
    pass
'''
READ_STUDY = '''
from pathlib import Path
from basicsr.ablation.study import read_study
print(len(read_study("block.yml", 1, None, Path.cwd()).runs))
'''


def minimal() -> str:
    text = (ROOT / 'docs' / 'options.md').read_text(encoding='utf-8').split('## A minimal option file')[1]
    return text.split('```yaml\n')[1].split('```')[0]


def test_the_minimal_option_file_trains(tmp_path, monkeypatch):
    """Two iterations of it; all that it leaves out has a default."""
    from basicsr.config import load
    monkeypatch.setattr(load, 'project_root', lambda: tmp_path)
    (tmp_path / 'my.yml').write_text(minimal())
    assert len(minimal().splitlines()) <= 22
    train_pipeline(argv=['--opt', str(tmp_path / 'my.yml'), 'train.total_iter=2', 'num_gpu=0', 'val.val_freq=2'])
    run = tmp_path / 'experiments' / 'first_steps'
    assert (run / 'models' / 'net_g_latest.pth').is_file() and 'psnr' in (run / 'metrics.csv').read_text()


@pytest.mark.parametrize('block', of('yaml'))
def test_option_files_load(tmp_path, monkeypatch, block):
    """A whole one, a study, a board, a space of a search, or a part of an option file, which goes on a whole one."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / 'block.yml'
    file.write_text(block.text)
    if '\nvariants:' in block.text:
        (tmp_path / 'data' / 'LOLv1').mkdir(parents=True)
        for side in ('Train', 'Test'):
            (tmp_path / 'data' / 'LOLv1' / side).symlink_to(ROOT / 'data' / 'demo' / side.lower())
        (tmp_path / 'my_arch.py').write_text(MY_ARCH)
        done = run_python('-c', READ_STUDY, cwd=tmp_path)  # apart: it registers the network
        assert done.stdout.strip() == '4', done.stderr
    elif '\nrows:' in block.text:
        monkeypatch.setattr('basicsr.leaderboard.board.data_of', lambda block: [])  # what it reads is not there
        (tmp_path / 'experiments/mine/models').mkdir(parents=True)
        (tmp_path / 'experiments/mine/models/net_g_latest.pth').touch()
        (tmp_path / 'my_lol.yml').write_text(minimal())
        (tmp_path / 'my_arch.py').write_text('')
        assert len(read_board(file, tmp_path).rows) == 3
    elif block.text.startswith('space:'):
        assert read_space(file)
    else:
        if block.comment.startswith('on ') or not re.search(r'^(base|datasets):', block.text, re.MULTILINE):
            base = block.comment.removeprefix('on ') or str(tmp_path / 'minimal.yml')
            (tmp_path / 'minimal.yml').write_text(minimal())
            file.write_text(f'base: {base}\n{block.text}')
        load_options(file, is_train=True, check_files=False)


@pytest.mark.parametrize('block', of('python'))
def test_python_compiles_and_imports_what_is_there(block):
    compile(block.text, block.place, 'exec')
    exec('\n'.join(re.findall(r'^(?:from|import) .*', block.text, re.MULTILINE)), {})


# ------------------------------------------------------------------------------------------------ words and links


def test_the_readme_is_short():
    text = re.sub('<!-- board .*?<!-- end -->', '', (ROOT / 'README.md').read_text(encoding='utf-8'), flags=re.DOTALL)
    assert len(text.split()) <= 900


def anchors(page: Path) -> set[str]:
    headings = re.findall(r'^#+ (.*)$', page.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text(encoding='utf-8')):
        if not re.match(r'https?://', target):
            path, _, anchor = target.partition('#')
            there = page.parent / path if path else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


def test_every_page_is_reached_from_the_readme():
    seen, rest = set(), [ROOT / 'README.md']
    while rest:
        page = rest.pop()
        seen.add(page)
        links = re.findall(r'\]\(([^)\s#]+\.md)(?:#[^)]*)?\)', page.read_text(encoding='utf-8'))
        rest += {(page.parent / link).resolve() for link in links if '://' not in link} - seen - set(rest)
    assert set((ROOT / 'docs').glob('*.md')) <= seen
