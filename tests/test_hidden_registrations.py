"""Components that are registered in ways that their source does not show."""
import sys
from pathlib import Path

import pytest

from basicsr.config.signatures import is_outside, signature_of
from basicsr.registry import ARCH_REGISTRY, MODEL_REGISTRY, REGISTRIES
from basicsr.utils.errors import UserError
from basicsr.utils.registrations import registers_more


def write(folder, name, text):
    file = folder / name
    file.write_text(text, encoding='utf-8')
    return file


HIDDEN = {
    'by a call': 'class Own: ...\nARCH_REGISTRY.register(Own, name="Hidden")\n',
    'by a suffix': 'class Hid: ...\nARCH_REGISTRY.register(Hid, suffix="den")\n',
    'in a loop': 'class _A: ...\nfor name in ("Hidden", "More"):\n    ARCH_REGISTRY.register(_A, name=name)\n',
    'below if': 'if True:\n    @ARCH_REGISTRY.register()\n    class Hidden: ...\n',
    'by another name': 'from basicsr.utils.registry import ARCH_REGISTRY as R\n@R.register(name="Hidden")\nclass _A: ...\n',
    'in what it imports': 'import neighbour_that_registers\n',
}
REGISTERS = 'from basicsr.utils.registry import ARCH_REGISTRY\n'


@pytest.mark.parametrize('how', HIDDEN)
def test_what_a_source_does_not_show_is_found_by_importing(tmp_path, how):
    write(tmp_path, 'neighbour_that_registers.py', REGISTERS + HIDDEN['by a call'].replace('Own', 'Named'))
    file = write(tmp_path, f'{how.replace(" ", "_")}_arch.py', REGISTERS + HIDDEN[how])
    known = {m for m in sys.modules if file.stem in m}
    name = 'Hid_den' if how == 'by a suffix' else 'Hidden'
    assert name not in ARCH_REGISTRY
    ARCH_REGISTRY.add_file(file)
    assert 'MSRResNet' in ARCH_REGISTRY and {m for m in sys.modules if file.stem in m} == known  # no need to
    assert name in ARCH_REGISTRY and name in ARCH_REGISTRY.keys()
    assert ARCH_REGISTRY.get(name).__name__ in ('Own', 'Hid', '_A', 'Hidden', 'Named')
    assert Path(ARCH_REGISTRY.where(name)).parent == tmp_path
    assert signature_of(ARCH_REGISTRY, name).fields == {} and is_outside(ARCH_REGISTRY, name)
    sys.modules.pop('neighbour_that_registers', None)


def test_files_of_another_kind_may_register_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(
        MODEL_REGISTRY, '_extra',
        [write(tmp_path, 'both_model.py', REGISTERS + '@ARCH_REGISTRY.register()\nclass InModel: ...\n')])
    assert ARCH_REGISTRY.get('InModel').__module__ == 'basicsr.models.both_model'


def test_one_of_ours_is_replaced_by_a_call(tmp_path):
    text = REGISTERS + 'from net_of_others import MSRResNet\nARCH_REGISTRY.register(MSRResNet)\n'
    write(tmp_path, 'net_of_others.py', 'class MSRResNet:\n    theirs = True\n')
    ARCH_REGISTRY._objects.pop('MSRResNet', None)
    ARCH_REGISTRY.add_file(write(tmp_path, 'calls_arch.py', text))
    assert ARCH_REGISTRY.get('MSRResNet').theirs


def test_a_file_that_may_have_registered_a_name_and_cannot_be_imported_is_told(tmp_path):
    ARCH_REGISTRY.add_file(write(tmp_path, 'lost_arch.py', 'import module_that_nobody_has\n'))
    with pytest.raises(UserError,
                       match=r"What it may register is not known: cannot import '.*lost_arch\.py': .*nobody_has"):
        ARCH_REGISTRY.get('Lost')


def test_no_file_of_ours_registers_what_its_source_does_not_show():
    """Else a misspelt name would import it."""
    for registry in REGISTRIES:
        word = f'{registry.name.upper()}_REGISTRY'
        files = {file: kind is registry for kind in REGISTRIES for file in kind.files()}
        assert [str(file) for file, shown in files.items() if registers_more(file, word, shown)] == []
