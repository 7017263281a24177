"""The versions of everything else: ranges, what `make` installs, and what is said of them."""
from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, outside_of_make
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
PYTHONS = ('3.10', '3.11', '3.12', '3.13')


def direct() -> list[Requirement]:
    """What the project itself names for `pip install -e '.[dev]'`."""
    extras = PROJECT['optional-dependencies']
    texts = [
        *PROJECT['dependencies'], *(text for name in ('test', 'metrics', 'export', 'dev') for text in extras[name])
    ]
    return [r for r in map(Requirement, texts) if r.name != PROJECT['name']]


def pins(file: str, python: str, system: str = 'linux') -> dict[str, str]:
    """Name to version, as pip would read the file there."""
    where = {
        'python_version': python, 'python_full_version': f'{python}.9', 'sys_platform': system,
        'platform_machine': 'x86_64' if system == 'linux' else 'arm64'
    }
    lines = [line for line in (ROOT / file).read_text(encoding='utf-8').splitlines() if not line.startswith('#')]
    found = [r for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate(where)]
    assert all(re.fullmatch(r'==[\w.]+', str(r.specifier)) for r in found)
    versions = {canonicalize_name(r.name): str(r.specifier)[2:] for r in found}
    assert len(versions) == len(found)
    return versions


@pytest.mark.parametrize('system', ['linux', 'darwin'])
@pytest.mark.parametrize('python', PYTHONS)
def test_constraints_hold_a_version_of_every_dependency(python, system):
    versions = pins('constraints.txt', python, system)
    for requirement in direct():
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement
    assert ('triton' in versions) == (system == 'linux')


@pytest.mark.parametrize('python', PYTHONS[:2])
def test_the_oldest_versions_are_the_lower_bounds(python):
    versions = pins('constraints-oldest.txt', python)
    for requirement in direct():
        bound, = requirement.specifier
        assert bound.operator == '>=', requirement
        assert re.sub(r'(\.0)+$', '',
                      versions[canonicalize_name(requirement.name)]).startswith(bound.version), requirement


def test_the_docs_say_what_is_supported():
    text = (ROOT / 'docs' / 'install.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| (oldest|`make`|newest)[^|]*\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|', text, re.M)
    found = {name: versions for name, *versions in rows}
    for name, file in (('oldest', 'constraints-oldest.txt'), ('`make`', 'constraints.txt')):
        versions = pins(file, '3.11')
        assert found[name] == [versions[package] for package in ('torch', 'triton', 'numpy')]
    as_numbers = {name: [tuple(map(int, v.split('.'))) for v in row] for name, row in found.items()}
    assert as_numbers['oldest'] < as_numbers['`make`'] <= as_numbers['newest']


def dry_run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = ['make', '-n', *arguments, f'VENV={tmp_path}/venv']
    return subprocess.run(command, cwd=ROOT, env=outside_of_make(), capture_output=True, text=True)


@pytest.mark.skipif(not shutil.which('make'), reason='needs make')
def test_make_installs_the_constraints_and_the_cpu_build_on_request(tmp_path):
    for arguments in (['demo'], ['test'], ['lint', 'TORCH=cpu'], ['demo', 'TORCH=cpu']):
        lines = [line for line in dry_run(tmp_path, *arguments).stdout.splitlines() if 'pip install' in line]
        assert len(lines) >= 2 and all('-c constraints.txt' in line for line in lines)
        assert all(('https://download.pytorch.org/whl/cpu' in line) == ('TORCH=cpu' in arguments) for line in lines)
    lines = [line for line in dry_run(tmp_path, 'test', 'CONSTRAINTS=').stdout.splitlines() if 'pip install' in line]
    assert lines and all('--upgrade' in line and ' -c ' not in line for line in lines)
    done = dry_run(tmp_path, 'demo', 'TORCH=gpu')
    assert done.returncode and 'TORCH=gpu is not known' in done.stderr
