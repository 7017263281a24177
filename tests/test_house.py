"""Rules of the house that a linter does not know."""
from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run_python

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# imports go one way: a package may import those before it in this list, and itself
ORDER = [
    'utils', 'photos', 'registry', 'config', 'ops', 'archs', 'losses', 'metrics', 'data', 'weights', 'inference',
    'video', 'app', 'evaluation', 'engine', 'models', 'training', 'ablation', 'search', 'publishing', 'leaderboard',
    'commands', 'entry'
]
HEAVY = ('torch', 'cv2', 'matplotlib', 'PIL', 'tifffile', 'imagecodecs')
PACKAGE = ROOT / 'basicsr'
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))

# module names that code for BasicSR imports: they may import everything, and nothing here imports them
DOORS = [
    'basicsr.archs.vgg_arch', 'basicsr.data.data_sampler', 'basicsr.data.data_util', 'basicsr.data.degradations',
    'basicsr.losses.basic_loss', 'basicsr.losses.losses', 'basicsr.metrics.metric_util', 'basicsr.metrics.psnr_ssim',
    'basicsr.models.archs', 'basicsr.models.losses', 'basicsr.models.lr_scheduler', 'basicsr.utils.color_util',
    'basicsr.utils.dist_util', 'basicsr.utils.download_util', 'basicsr.utils.file_client', 'basicsr.utils.img_util',
    'basicsr.utils.lmdb_util', 'basicsr.utils.message_logger', 'basicsr.utils.options'
]


def layer(module: str) -> str:
    parts = module.split('.')
    if module == 'basicsr.utils.registry':
        return 'registry'  # the import path of third-party code, one line that re-exports it
    if module in DOORS:
        return 'entry'
    name = parts[1] if len(parts) > 1 else 'entry'  # the package itself, whose names are there when they are asked for
    return name if name in ORDER else 'entry'


def imports(file: Path) -> list[tuple[str, int]]:
    """(module, line) of all of basicsr that a file imports, also inside functions, relatively, or by its name as text."""
    module = '.'.join(file.relative_to(ROOT).with_suffix('').parts)
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = module.split('.')[:-node.level] if node.level else []
            origin = '.'.join([*above, *([node.module] if node.module else [])])
            names = [f'{origin}.{a.name}' for a in node.names] if origin == 'basicsr' else [origin]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value.partition(':')[0]] if re.fullmatch(r'basicsr(\.\w+)+(:\w+)?', node.value) else []
        found += [(name, node.lineno) for name in names if name.startswith('basicsr.')]
    return found


def arrows() -> list[tuple[str, str, str]]:
    """(importing layer, imported layer, file:line) for every import of basicsr in the package."""
    found = []
    for file in sorted(PACKAGE.rglob('*.py')):
        module = '.'.join(file.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
        found += [(layer(module), layer(name), f'{file.relative_to(ROOT)}:{line}') for name, line in imports(file)
                  if name != 'basicsr.__version__']
    return found


def test_every_way_of_importing_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], 'ROOT', tmp_path)
    file = tmp_path / 'basicsr' / 'utils' / 'new.py'
    file.parent.mkdir(parents=True)
    file.write_text("from basicsr import train\nfrom ..models import x\nimport basicsr.data\nfrom . import y\n"
                    "place = 'basicsr.ops.ss2d:forward'\n")
    assert [name for name, _ in imports(file)
            ] == ['basicsr.train', 'basicsr.models', 'basicsr.data', 'basicsr.utils', 'basicsr.ops.ss2d']


def test_imports_go_one_way():
    assert len(arrows()) > 100
    wrong = [f'{where}: {a} imports {b}' for a, b, where in arrows() if ORDER.index(b) > ORDER.index(a)]
    assert wrong == []


def test_the_picture_of_the_house_is_true():
    """CONTRIBUTING.md draws the rooms in the order of imports, and knows all of them."""
    text = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
    picture = text.partition('## The house')[2].partition('```text\n')[2].partition('```')[0]
    rooms = re.findall(r'(?:^|  )([a-z]+)  +(?=\S)', picture, re.MULTILINE)
    assert rooms == ORDER
    assert {p.name for p in PACKAGE.iterdir() if (p / '__init__.py').is_file()} <= set(ORDER)


def test_inference_imports_nothing_that_trains():
    trains = ('engine', 'models', 'training', 'losses', 'data')
    assert [w for a, b, w in arrows() if a == 'inference' and b in trains] == []


def test_photos_import_helpers_alone():
    assert {b for a, b, _ in arrows() if a == 'photos'} == {'utils', 'photos'}


def test_archs_know_tensors_only():
    """No option mapping, no device, no distributed code, no file, no log, no download in a network."""
    networks = [*(PACKAGE / 'archs').glob('*_arch.py'), *(PACKAGE / 'archs').glob('*/*.py')]
    assert len(networks) > 40
    for file in networks:
        text = file.read_text()
        for word in ('.cuda(', 'torch.distributed', 'open(', "opt['", 'get_root_logger', 'published_file', 'print('):
            assert word not in text, f'{file.name} contains {word}'
    door = 'basicsr/archs/__init__.py:'  # builds networks from options
    known = {b for a, b, where in arrows() if a == 'archs' and not where.startswith(door)}
    assert known <= {'utils', 'registry', 'ops', 'archs'}


def test_layers_are_shared_and_parts_of_a_family_are_its_own():
    archs = PACKAGE / 'archs'
    relatives = {'restormer': {'lora_gate_restormer'}}  # families that build on another's parts

    importers: dict[str, list[Path]] = {}
    for file in archs.rglob('*.py'):
        for name in re.findall(r'^from basicsr\.archs\.(\S+) import', file.read_text(), re.MULTILINE):
            importers.setdefault(name, []).append(file)

    def families(module: str) -> set[str]:
        """That use it themselves, or by a layer that does."""
        found = set()
        for file in importers.get(module, []):
            if file.parent.name == 'layers':
                found |= families(f'layers.{file.stem}')
            else:
                found.add(file.stem.removesuffix('_arch') if file.parent == archs else file.parent.name)
        return found

    layers = [f'layers.{file.stem}' for file in (archs / 'layers').glob('[!_]*.py')]
    assert layers and [layer for layer in layers if len(families(layer)) < 2] == []
    for folder in (p for p in archs.iterdir() if p.is_dir() and p.name not in ('layers', '__pycache__')):
        used = set().union(*(families(name) for name in importers if name.split('.')[0] == folder.name))
        assert used and used <= {folder.name, *relatives.get(folder.name, ())}, folder.name
        assert (archs / f'{folder.name}_arch.py').is_file()


@pytest.mark.parametrize('statement', [
    'import basicsr', 'import basicsr.registry', 'import basicsr.config.check', 'import basicsr.cli',
    'import basicsr.photos.naming', 'import basicsr.photos.reading, basicsr.photos.writing'
])
def test_light_imports(statement):
    done = run_python('-c', f'import sys; {statement}; print([m for m in {HEAVY} if m in sys.modules])', cwd=ROOT)
    assert done.stdout.strip() == '[]', done.stderr


def test_no_module_hides_the_standard_library():
    """`python basicsr/train.py` once put that folder first on the path; `test` is taken off it again by the script."""
    names = {p.stem for p in PACKAGE.iterdir() if p.suffix == '.py' or (p / '__init__.py').is_file()}
    assert names & set(sys.stdlib_module_names) <= {'test', '__init__'}


def test_every_network_has_its_four_places():
    """A network X is found in the source, in a test, in an option file and in the docs."""
    from basicsr.registry import ARCH_REGISTRY
    texts = {
        'tests': [p.read_text() for p in (ROOT / 'tests').glob('test_*.py')],
        'Options or Ablation_Model': [
            p.read_text() for folder in ('Options', 'Ablation_Model') for p in (ROOT / folder).glob('*.yml')
        ],
        'docs': [p.read_text() for p in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]],
    }
    for name, entry in ARCH_REGISTRY.index().items():
        if name in ('MSRResNet', 'RRDBNet', 'VGGStyleDiscriminator', 'UNetDiscriminatorSN'):  # there for upstream files
            continue
        for place, contents in texts.items():
            assert any(re.search(rf'\b{name}\b', text)
                       for text in contents), f'{name} ({Path(entry.file).name}) is not found in {place}'


def test_all_registered_names_import_and_have_docstrings():
    from basicsr.registry import REGISTRIES, SCHEDULER_REGISTRY
    for registry in (*REGISTRIES, SCHEDULER_REGISTRY):
        for name, obj in registry:
            assert obj.__doc__, f'{registry.noun} {name} has no docstring'


def test_the_package_says_that_it_is_typed(monkeypatch):
    """The marker is packed, and `make lint` runs what keeps its promise, on the whole package."""
    from setuptools.dist import Distribution
    monkeypatch.chdir(ROOT)
    distribution = Distribution(
        {'packages': ['basicsr'], 'package_data': PROJECT['tool']['setuptools']['package-data']})
    command = distribution.get_command_obj('build_py')
    command.ensure_finalized()
    packed = {name for package, *_, names in command.data_files if package == 'basicsr' for name in names}
    assert 'py.typed' in packed
    checked = PROJECT['tool']['mypy']
    assert checked['packages'] == ['basicsr'] and not any('ignore_errors' in rules for rules in checked['overrides'])
    assert '$(BIN)/python -m mypy\n' in (ROOT / 'Makefile').read_text(encoding='utf-8')
