"""Files in parts: what is cut is joined again; parts that are missing, damaged or of another packing."""
import json
import os
import tarfile

import pytest

from basicsr.utils.errors import UserError
from basicsr.utils.parts import collect, cut, join

SIZE = 30_000


@pytest.fixture
def files(tmp_path):
    sizes = {'a/large.bin': 100_001, 'a/empty': 0, 'b ä.txt': 12_345}
    for name, size in sizes.items():
        (tmp_path / 'source' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'source' / name).write_bytes(os.urandom(size))
    return {f'x/{name}': tmp_path / 'source' / name for name in sizes}


def test_parts_have_the_size_asked_for_and_join_to_the_same_files(files, tmp_path):
    listing, *parts = cut(files, tmp_path / 'out', 'data', SIZE)
    assert [p.name for p in parts] == [f'data_{i:03d}.part' for i in range(len(parts))] and len(parts) > 4
    assert {p.stat().st_size for p in parts[:-1]} == {SIZE} and parts[-1].stat().st_size <= SIZE
    assert json.loads(listing.read_text())['files'] == 3
    assert collect([tmp_path / 'out'], tmp_path / 'in') == {'data': []}
    assert join(tmp_path / 'in', 'data', tmp_path / 'target') == list(files)
    assert all((tmp_path / 'target' / name).read_bytes() == path.read_bytes() for name, path in files.items())
    assert not any((tmp_path / 'in').iterdir())


def test_parts_arrive_in_any_order_and_several_loads(files, tmp_path):
    listing, *parts = cut(files, tmp_path / 'out', 'data', SIZE)
    loads = [[parts[2], listing], [parts[0], parts[4]], [parts[1], *parts[3:]]]
    missing = []
    for i, load in enumerate(loads):
        (tmp_path / f'load{i}').mkdir()
        for path in load:
            (tmp_path / f'load{i}' / path.name).write_bytes(path.read_bytes())
        missing.append(collect([tmp_path / f'load{i}'], tmp_path / 'in')['data'])
    names = [p.name for p in parts]
    assert missing == [[n for n in names if n != names[2]], [names[1], names[3], *names[5:]], []]


def test_a_damaged_part_is_named_and_asked_for_again(files, tmp_path):
    second = cut(files, tmp_path / 'out', 'data', SIZE)[2]
    good = second.read_bytes()
    second.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(UserError, match=r"'data_001\.part' is damaged"):
        collect([tmp_path / 'out'], tmp_path / 'in')
    second.write_bytes(good)
    assert collect([tmp_path / 'out'], tmp_path / 'in') == {'data': []}


def test_another_packing_of_the_label_replaces_the_first(files, tmp_path):
    _, *parts = cut(files, tmp_path / 'out', 'data', SIZE)
    parts[-1].unlink()
    assert collect([tmp_path / 'out'], tmp_path / 'in')['data'] == [parts[-1].name]
    cut({'one': files['x/b ä.txt']}, tmp_path / 'again', 'data', SIZE)
    assert collect([tmp_path / 'again'], tmp_path / 'in') == {'data': []}
    assert join(tmp_path / 'in', 'data', tmp_path / 'target') == ['one']
    assert not any((tmp_path / 'in').iterdir())


def test_nothing_is_written_outside_of_the_target(files, tmp_path):
    cut({'../outside': files['x/a/large.bin']}, tmp_path / 'out', 'data', SIZE)
    with pytest.raises(tarfile.FilterError):
        join(tmp_path / 'out', 'data', tmp_path / 'target')
    assert not (tmp_path / 'outside').exists()


@pytest.mark.parametrize(('folder', 'reason'), [('none', 'is not a folder'), ('source', 'there are no parts')])
def test_wrong_folders(files, tmp_path, folder, reason):
    with pytest.raises(UserError, match=reason):
        collect([tmp_path / folder], tmp_path / 'in')
