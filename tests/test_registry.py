"""Registries: names are known without imports, suggestions, conflicts, aliases, places, files from outside."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

from basicsr.config.signatures import Unread, model_for, read_signature
from basicsr.registry import (
    ARCH_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    REGISTRIES,
    SCHEDULER_REGISTRY,
    Registry,
)
from basicsr.utils import registry as upstream_path
from basicsr.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def nets():
    """An empty registry of networks: no file of the package ends like this."""
    return Registry('arch', 'network', 'archs', '_no_such_suffix.py')


def write(folder, name, text):
    file = folder / name
    file.write_text(text, encoding='utf-8')
    return file


def python(code, cwd=ROOT):
    """Output of a fresh interpreter."""
    result = subprocess.run([sys.executable, '-c', code], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_names_are_known_without_importing_anything():
    code = '''
import sys
from basicsr.registry import REGISTRIES, SCHEDULER_REGISTRY
names = {n for r in (*REGISTRIES, SCHEDULER_REGISTRY) for n in r.keys()}
assert {'RetinexMamba', 'MSRResNet', 'PairedImageDataset', 'Dataset_PairedImage', 'SRModel', 'ImageCleanModel', 'L1Loss',
        'CharbonnierLoss', 'calculate_psnr', 'calculate_ssim', 'MultiStepLR'} <= names, names
assert all(r.where(n).startswith(('basicsr/', 'Ablation_Model/')) for r in REGISTRIES for n in r.keys())
print(*({'torch', 'cv2', 'numpy', 'pydantic'} & set(sys.modules)), 'end')
'''
    assert python(code) == ['end']


def test_importing_one_network_does_not_import_the_others():
    code = '''
import sys
from basicsr.registry import ARCH_REGISTRY
assert ARCH_REGISTRY.get('MSRResNet').__name__ == 'MSRResNet'
print(*(m for m in sys.modules if m.startswith('basicsr.archs.') and m.endswith('_arch')))
'''
    assert python(code) == ['basicsr.archs.srresnet_arch']


def test_the_table_agrees_with_what_importing_registers():
    """Reading the source must not promise anything that the import then does not give."""
    for registry in (*REGISTRIES, SCHEDULER_REGISTRY):
        for name, obj in registry:
            entry = registry.index()[name]
            assert obj.__name__ == entry.node.name
            assert (ROOT / registry.where(name)).samefile(sys.modules[obj.__module__].__file__)


def test_unknown_names_get_the_nearest_spelling_and_the_places_searched():
    assert 'L1Los' not in LOSS_REGISTRY and 'L1Loss' in LOSS_REGISTRY
    with pytest.raises(UserError) as caught:
        LOSS_REGISTRY.get('l1los')
    text = str(caught.value)
    assert "there is no loss called 'l1los'. Did you mean 'L1Loss'?" in text
    assert 'CharbonnierLoss' in text and 'basicsr/losses/*_loss.py' in text
    with pytest.raises(UserError) as caught:
        ARCH_REGISTRY.get('zzzzqqq')
    assert 'Did you mean' not in str(caught.value)


def test_registering_a_name_twice(nets):

    @nets.register()
    class Net:
        pass

    first = Net
    assert nets.get('Net') is first and nets.register(first) is first  # the same class again is no conflict
    with pytest.raises(KeyError, match=r"network 'Net' is registered twice"):
        nets.register(type('Other', (), {'__name__': 'Net'}), name='Net')

    class Outer:

        class Net:
            pass

    with pytest.raises(KeyError, match='registered twice'):
        nets.register()(Outer.Net)
    assert nets.get('Net') is first


def test_aliases_and_suffixes(nets):

    @nets.register()
    @nets.register(name='Dataset_Alias')
    @nets.register(suffix='v2')
    class Net:
        pass

    assert nets.keys() == ['Dataset_Alias', 'Net', 'Net_v2']
    assert nets.get('Dataset_Alias') is nets.get('Net_v2') is nets.get('Net') is Net
    assert [name for name, _ in nets] == nets.keys()


def test_aliases_and_suffixes_are_read_from_the_source(nets, tmp_path):
    nets.add_file(
        write(
            tmp_path, 'many_arch.py', '''
from basicsr.utils.registry import ARCH_REGISTRY
raise RuntimeError('imported')
@ARCH_REGISTRY.register(name='Alias')
@ARCH_REGISTRY.register(suffix='x')
class Net: ...
@ARCH_REGISTRY.register(suffix='basicsr')
class Old: ...
@registry.ARCH_REGISTRY.register()
class Dotted: ...
@OTHER_REGISTRY.register()
class Undecorated: ...
class _Private: ...
'''))
    assert nets.keys() == ['Alias', 'Dotted', 'Net_x', 'Old', 'Old_basicsr', 'Undecorated']
    with pytest.raises(UserError, match=r'cannot import .*many_arch\.py.*RuntimeError: imported'):
        nets.get('Alias')


def test_the_suffix_of_basicsr_need_not_be_written(tmp_path):
    registry = Registry('own', 'thing', 'archs', '_no_such_suffix.py')
    registry.add_file(write(tmp_path, 'thing.py', 'class _Hidden: ...\nclass Thing_basicsr: ...\n'))
    assert registry.get('Thing') is registry.get('Thing_basicsr')
    assert 'Thing' in registry and 'Thing_other' not in registry


def test_files_from_outside(nets, tmp_path):
    helper = write(tmp_path, 'neighbour_of_net.py', 'WIDTH = 3\n')
    file = write(tmp_path, 'own_net.py', 'from neighbour_of_net import WIDTH\nclass OwnNet:\n    width = WIDTH\n')
    before = list(sys.path)
    nets.add_file(file)
    nets.add_file(str(file))  # twice is once
    assert nets.files() == [file] and nets.where('OwnNet') == str(file)
    assert 'neighbour_of_net' not in sys.modules
    assert nets.get('OwnNet').width == 3 and helper.is_file()
    assert nets.get('OwnNet') is nets.get('OwnNet')
    assert sys.path == before
    with pytest.raises(UserError, match=r"arch_files: there is no file '.*gone\.py'"):
        nets.add_file(tmp_path / 'gone.py')


def test_sources_are_read_once_and_again_when_they_change(nets, tmp_path, monkeypatch):
    file = write(tmp_path, 'one_arch.py', 'class One: pass')
    nets.add_file(file)
    read, parse = [], ast.parse
    monkeypatch.setattr(ast, 'parse',
                        lambda *args, **options: read.append(options.get('filename')) or parse(*args, **options))
    first = nets.index()['One']
    nets.add_file(write(tmp_path, 'two_arch.py', 'class Two: pass'))
    assert nets.index()['One'] == first and 'Two' in nets and read == [str(file), str(tmp_path / 'two_arch.py')]
    write(tmp_path, 'one_arch.py', 'class Another: pass')
    nets.add_file(write(tmp_path, 'three_arch.py', 'class Three: pass'))
    assert 'Another' in nets and 'One' not in nets


def test_a_file_from_outside_replaces_ours_of_that_name(tmp_path):
    file = write(tmp_path, 'mine_arch.py', 'class MSRResNet:\n    mine = True\n')
    registry = Registry('arch', 'network', 'archs', '_arch.py')
    assert registry.where('MSRResNet') == 'basicsr/archs/srresnet_arch.py'
    registry.add_file(file)
    assert registry.where('MSRResNet') == str(file) and registry.get('MSRResNet').mine


@pytest.mark.parametrize('content', ['def broken(:\n', 'class A: pass\nreturn 5 +\n'])
def test_a_file_with_a_syntax_error_is_named_with_its_line(nets, tmp_path, content):
    file = write(tmp_path, 'broken_arch.py', content)
    nets.add_file(file)
    with pytest.raises(UserError) as caught:
        nets.keys()
    assert str(file) in str(caught.value) and f'line {content.count(chr(10))}' in str(caught.value)


def test_a_failed_import_can_be_tried_again(nets, tmp_path):
    file = write(tmp_path, 'flaky_net.py', 'import module_that_nobody_has\nclass Flaky: ...\n')
    nets.add_file(file)
    for _ in range(2):
        with pytest.raises(UserError, match="No module named 'module_that_nobody_has'"):
            nets.get('Flaky')
    file.write_text('class Flaky: ...\n')
    assert nets.get('Flaky').__name__ == 'Flaky'


def test_the_import_path_of_basicsr():
    for name, registry in zip(('ARCH', 'DATASET', 'MODEL', 'LOSS', 'METRIC'), REGISTRIES):
        assert getattr(upstream_path, f'{name}_REGISTRY') is registry


def test_signatures_are_read_from_the_source(tmp_path):
    registry = Registry('arch', 'network', 'archs', '_no_such_suffix.py')
    registry.add_file(
        write(
            tmp_path, 'signatures.py', '''
from basicsr.data.paired_image_dataset import PairedImageDataset
class Base:
    def __init__(self, width: int, act='gelu', *, deep: "bool" = False): ...
class Child(Base): ...
class Grandchild(Child):
    def __init__(self, more=nn.GELU, **kwargs): ...
class Computed:
    def __init__(self, depths=(6, ) * 2 + (-1, ), rate=1 / 4, most=10 ** 9, long=[0] * 10 ** 9, none=None): ...
class Same(Same): ...
class NoArguments: ...
class Opt(PairedImageDataset):
    def __init__(self, opt):
        opt['noise']
def swallows(img, crop=0, **kwargs): return img
def reads(img, **kwargs): return kwargs['x']
'''))

    def signature(name):
        return read_signature(registry.index()[name])

    assert {k: d for k, (_, d) in signature('Child').fields.items()} == {'width': ..., 'act': 'gelu', 'deep': False}
    assert not signature('Child').open
    assert repr(signature('Grandchild').fields['more'][1]) == 'nn.GELU' and signature('Grandchild').open
    computed = {k: d for k, (_, d) in signature('Computed').fields.items()}
    assert computed == {'depths': (6, 6, -1), 'rate': 0.25, 'most': '10 ** 9', 'long': '[0] * 10 ** 9', 'none': None}
    assert isinstance(computed['most'], Unread) and model_for(registry, 'Grandchild')().f_more is None
    assert signature('NoArguments').open and signature('Same').open
    assert signature('Opt').takes_opt and {'noise', 'dataroot_gt', 'gt_size'} <= signature('Opt').words
    assert signature('swallows').open and signature('reads').open  # from outside: BasicSR passes anything
    assert not read_signature(METRIC_REGISTRY.index()['calculate_psnr']).open
    assert all(isinstance(e.node, (ast.ClassDef, ast.FunctionDef)) for e in registry.index().values())


def test_annotations_say_their_bounds_in_every_spelling(load, tmp_path):
    (tmp_path / 'own_arch.py').write_text('''
import typing
from typing import Annotated, Optional
import annotated_types as at
from annotated_types import Ge, Gt, Le, Len, Lt, MinLen
class Own:
    def __init__(self, a: Annotated[int, Ge(1)] = 1, b: Annotated[float, Gt(0), Lt(1)] = 0.5,
                 c: Annotated[list[int], Len(2, 2)] = (1, 2), d: 'Annotated[int, Le(-1)]' = -1,
                 e: typing.Optional[int] = None, f: typing.Annotated[str, at.MinLen(1)] = 'x', g: float = 1.,
                 h: Tensor = None, i: Annotated[int, Strange(3)] = 3): ...
''')
    wrong = {'a': (0, 'must be greater than or equal to 1, not 0'), 'b': (1, 'must be less than 1, not 1'),
              'c': ([1], 'needs at least 2 values, not 1'), 'd': (0, 'must be less than or equal to -1, not 0'),
              'e': ('x', "must be a whole number, not 'x'"), 'f': ("''", 'must not be empty'),
              'g': ('true', 'must be a number, not true')}  # yapf: disable
    own = [f'arch_files=[{tmp_path}/own_arch.py]', 'network_g={type: Own}']
    try:
        for name, (value, says) in wrong.items():
            with pytest.raises(UserError) as caught:
                load(overrides=[*own, f'network_g.{name}={value}'])
            assert str(
                caught.value).splitlines()[1:] == [f"  override 'network_g.{name}={value}': network_g.{name}: {says}"]
        assert load(overrides=own).notices == []
        notices = load(overrides=[*own, 'network_g.h=3', 'network_g.i=4', 'network_g.a="5"']).notices
        assert notices == [
            f"override 'network_g.{name}={value}': network_g.{name}: not checked: the annotation '{annotation}' names what"
            ' options do not know'
            for name, value, annotation in (('h', 3, 'Tensor'), ('i', 4, 'Annotated[int, Strange(3)]'))
        ]
    finally:
        ARCH_REGISTRY._extra.clear()
        ARCH_REGISTRY._index = None
