"""Which input belongs to which ground truth, and which sample comes when."""
import os
import pickle
import re
from collections import Counter
from pathlib import Path

import pytest

from basicsr.cli import main
from basicsr.data import build_dataset
from basicsr.data.packing import make_lmdb
from basicsr.data.pairing import image_folder, is_its_own_truth, pair_by_name
from basicsr.data.samplers import EnlargedSampler, SampleIndex, ShardSampler
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.utils.errors import UserError


def touch(folder, *names):
    """Empty files: pairing looks at names only."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return str(folder)


def names(pairs):
    return [(Path(lq).name, Path(gt).name) for lq, gt in pairs]


def error_of(call, *args, **kwargs):
    with pytest.raises(UserError) as info:
        call(*args, **kwargs)
    return str(info.value)


# ---------------------------------------------------------------- pairing


def test_order_is_natural_and_types_may_differ(tmp_path):
    lq = touch(tmp_path / 'lq', '10.png', '2.JPG', '1.png', 'b.v2.png')
    gt = touch(tmp_path / 'gt', '1.png', '10.bmp', '2.png', 'b.v2.jpeg')
    pairs = pair_by_name(lq, gt)
    assert names(pairs) == [('1.png', '1.png'), ('2.JPG', '2.png'), ('10.png', '10.bmp'), ('b.v2.png', 'b.v2.jpeg')]
    assert all(Path(p).is_file() for pair in pairs for p in pair)


def test_naturally_equal_names_do_not_keep_the_order_of_the_file_system(tmp_path, monkeypatch):
    folder = touch(tmp_path / 'lq', '1.png', '01.png', '001.png', 'a.png', 'A.png', 'B.png')
    listed = sorted(Path(folder).iterdir())
    orders = []
    for order in (listed, listed[::-1]):
        monkeypatch.setattr(Path, 'iterdir', lambda self, order=order: iter(order))
        orders.append([p.name for p in image_folder(folder, 'dataroot_lq')])
    assert orders[0] == orders[1]
    assert orders[0][-1] == 'B.png'


@pytest.mark.parametrize('template, lq', [('{}_low', '7_low.png'), ('low-{}', 'low-7.png'), ('x', 'x.png')])
def test_template_gives_the_name_of_the_input(tmp_path, template, lq):
    pairs = pair_by_name(touch(tmp_path / 'lq', lq), touch(tmp_path / 'gt', '7.png'), template)
    assert names(pairs) == [(lq, '7.png')]


def test_every_file_without_partner_is_named(tmp_path):
    lq = touch(tmp_path / 'lq', '1.png', '2.png', '30.png', '31.png')
    gt = touch(tmp_path / 'gt', '1.png', '20.png', '21.png')
    message = error_of(pair_by_name, lq, gt)
    for part in ('dataroot_gt', 'dataroot_lq', lq, gt, '20.png, 21.png', '2.png, 30.png, 31.png', '1 pairs found'):
        assert part in message
    assert not re.search(r'\b1\.png', message)
    assert 'filename_tmpl' not in message  # some pairs were found, so names do not differ by a pattern


def test_names_that_differ_by_a_pattern_get_a_hint_and_a_template_says_what_it_wants(tmp_path):
    lq, gt = touch(tmp_path / 'lq', '1_low.png'), touch(tmp_path / 'gt', '1.png')
    assert 'filename_tmpl' in error_of(pair_by_name, lq, gt)
    assert "1.png (wants '1_dark.*')" in error_of(pair_by_name, lq, gt, '{}_dark')


def test_non_ascii_names(tmp_path):
    stems = ['写真 1', 'Ünïcode', 'фото']
    lq = touch(tmp_path / 'вход', *(f'{s}.png' for s in stems))
    gt = touch(tmp_path / 'цель', *(f'{s}.jpg' for s in stems))
    assert {(Path(a).stem, Path(b).stem) for a, b in pair_by_name(lq, gt)} == {(s, s) for s in stems}
    touch(tmp_path / 'цель', '夜.jpg')
    assert '夜.jpg' in error_of(pair_by_name, lq, gt)


def test_other_files_are_no_images(tmp_path):
    lq = touch(tmp_path / 'lq', '1.png', 'notes.txt', '.hidden.png', 'Thumbs.db')
    gt = touch(tmp_path / 'gt', '1.png', '.DS_Store', 'list.csv')
    os.mkdir(tmp_path / 'gt' / 'folder.png')
    assert names(pair_by_name(lq, gt)) == [('1.png', '1.png')]


def test_folder_missing_empty_or_without_images(tmp_path):
    full, empty = touch(tmp_path / 'gt', '1.png'), touch(tmp_path / 'empty')
    nested = touch(tmp_path / 'nested', 'readme.md')
    touch(tmp_path / 'nested' / 'input', '1.png')
    gone = str(tmp_path / 'gone')
    message = error_of(pair_by_name, gone, full)
    assert 'dataroot_lq' in message and gone in message
    assert 'dataroot_gt' in error_of(pair_by_name, full, gone)
    message = error_of(pair_by_name, empty, full)
    assert 'dataroot_lq' in message and 'empty' in message
    message = error_of(pair_by_name, nested, full)  # one level too high: what is there is shown
    assert 'input' in message and 'readme.md' in message
    assert 'not a folder' in error_of(pair_by_name, f'{full}/1.png', full)


@pytest.mark.parametrize('side', ['lq', 'gt'])
def test_two_files_of_one_name_are_refused(tmp_path, side):
    for name in ('lq', 'gt'):
        touch(tmp_path / name, '1.png', '2.png')
    touch(tmp_path / side, '2.jpg')
    message = error_of(pair_by_name, str(tmp_path / 'lq'), str(tmp_path / 'gt'))
    assert f'dataroot_{side}' in message and '2.jpg' in message and '2.png' in message


def test_meta_info_file_chooses_ground_truths(tmp_path):
    lq, gt = (touch(tmp_path / n, '1.png', '2.png', '3.png') for n in ('lq', 'gt'))
    meta = tmp_path / 'meta.txt'
    # a mark in front, Windows line ends, tabs and blank lines are what editors leave
    meta.write_bytes(b'\xef\xbb\xbf3.png (4,4,3)\r\n\r\n1.png\t(4,4,3)\r\n')
    assert names(pair_by_name(lq, gt, meta_info_file=str(meta))) == [('3.png', '3.png'), ('1.png', '1.png')]


@pytest.mark.parametrize('text, words', [('', 'lists no images'), ('\n \n', 'lists no images'),
                                         ('1.png\n8.png\n9.png\n', '8.png, 9.png'),
                                         ('1.png\n2.png\n1.png\n', 'more than once: 1.png'), (None, 'no file')])
def test_meta_info_file_that_cannot_be_used(tmp_path, text, words):
    lq, gt = (touch(tmp_path / n, '1.png', '2.png') for n in ('lq', 'gt'))
    meta = tmp_path / 'meta.txt'
    if text is not None:
        meta.write_text(text)
    message = error_of(pair_by_name, lq, gt, meta_info_file=str(meta))
    assert words in message and 'meta_info_file' in message and str(meta) in message


def test_single_images_by_list(tmp_path):
    root, meta = touch(tmp_path / 'lq', '0.png', '1.png', '2.png'), tmp_path / 'list.txt'
    meta.write_text('2.png (24,20,3)\n0.png (24,20,3)\n')
    dataset = SingleImageDataset({'dataroot_lq': root, 'meta_info_file': str(meta), 'phase': 'test'})
    assert [Path(p).name for p in dataset.paths] == ['2.png', '0.png']
    meta.write_text('\n')
    assert 'lists no images' in error_of(SingleImageDataset, root, meta_info_file=str(meta))


def test_mistake_names_the_block(tmp_path):
    roots = {'dataroot_lq': touch(tmp_path / 'lq', '1.png'), 'dataroot_gt': touch(tmp_path / 'gt')}
    message = error_of(build_dataset, roots | {'type': 'PairedImageDataset', 'phase': 'val', 'block': 'val_2'})
    assert message.startswith('datasets.val_2: dataroot_gt: there are no images')


# ---------------------------------------------------------------- samplers


def drawn(size=12, epoch=0, start=0, **kwargs):
    sampler = EnlargedSampler(range(size), **kwargs)
    sampler.set_epoch(epoch, start)
    return [(int(i), i.seed) for i in sampler]


def indices(**kwargs):
    return [i for i, _ in drawn(**kwargs)]


def test_order_follows_from_seed_and_epoch():
    assert drawn(seed=3, epoch=5) == drawn(seed=3, epoch=5)
    assert sorted(indices(seed=3)) == list(range(12))
    runs = [tuple(drawn(seed=s, epoch=e)) for s in (0, 1, 100) for e in (0, 1, 2)]
    assert len(set(runs)) == len(runs)
    # the orders differ too, without their augmentation seeds; BasicSR's ignore the seed, and sums of both would collide
    orders = {tuple(indices(seed=s, epoch=e, size=50)) for s in (0, 1) for e in (0, 1)}
    assert len(orders) == 4


def test_samples_have_seeds_of_their_own():
    seeds = [seed for epoch in range(3) for _, seed in drawn(size=5, ratio=4, epoch=epoch)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize('world', [1, 3])
def test_resume_continues_with_the_same_tail(world):
    for rank in range(world):
        whole = drawn(size=12, epoch=2, num_replicas=world, rank=rank)
        assert drawn(size=12, epoch=2, start=3, num_replicas=world, rank=rank) == whole[3:]


@pytest.mark.parametrize('size, world', [(12, 4), (12, 1), (13, 4), (3, 8)])
def test_processes_share_the_epoch(size, world):
    parts = [drawn(size=size, num_replicas=world, rank=r) for r in range(world)]
    assert len({len(p) for p in parts}) == 1  # a process with fewer would leave the others waiting
    assert {i for p in parts for i, _ in p} == set(range(size))
    assert sum(map(len, parts)) - size < world  # only what fills the last round comes twice
    seeds = [seed for p in parts for _, seed in p]
    assert len(set(seeds)) == len(seeds)


def test_an_enlarged_epoch_uses_every_sample_equally_often():
    counts = Counter(int(i) for i in EnlargedSampler(range(7), ratio=3.5))
    assert sum(counts.values()) == 25 and set(counts.values()) == {3, 4}
    assert len({int(i) for i in EnlargedSampler(range(100), ratio=0.5)} - set(range(50))) > 10


def test_ratio_and_shortest_epoch():
    assert sorted(indices(size=4, ratio=3)) == sorted(list(range(4)) * 3)
    assert len(EnlargedSampler(range(2), at_least=8)) == len(indices(size=2, at_least=8)) == 8
    assert set(indices(size=2, at_least=8)) == {0, 1}
    assert len(EnlargedSampler(range(20), at_least=8)) == 20
    assert len(EnlargedSampler(range(4), num_replicas=2, ratio=2.5)) == 5


def test_seed_travels_with_the_index():
    index = pickle.loads(pickle.dumps(SampleIndex(7, 123)))
    assert index == 7 and index.seed == 123 and [0] * 7 + ['x'] == [*[0] * 7, 'x'][:index + 1]


@pytest.mark.parametrize('size, world', [(7, 3), (2, 4), (5, 1)])
def test_validation_sees_every_image_once_in_order(size, world):
    parts = [ShardSampler(range(size), world, r) for r in range(world)]
    assert [len(p) for p in parts] == [len(list(p)) for p in parts]
    assert sorted(i for p in parts for i in p) == list(range(size))
    assert all(list(p) == sorted(p) for p in parts)


# ------------------------------------------------------------------------------------------------ one folder for both


@pytest.mark.parametrize('way', ['same', 'slash', 'dots', 'link', 'links of files', 'apart', 'copies'])
def test_a_folder_that_is_input_and_target_is_said(tiny_options, tmp_path, pairs, messages, capsys, way):
    target, other = pairs / 'target', pairs / 'other'
    if way == 'link':
        other.symlink_to(target)
    if way in ('links of files', 'copies'):
        other.mkdir()
        for file in target.iterdir():
            if way == 'copies':
                (other / file.name).write_bytes(file.read_bytes())
            else:
                (other / file.name).symlink_to(file)
    spelling = {'same': target, 'slash': f'{target}/', 'dots': f'{target}/../target', 'apart': pairs / 'input'}
    options = str(tiny_options(datasets={'val': {'dataroot_lq': str(spelling.get(way, other))}}))
    weights = str(tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_latest.pth')
    said = int(way not in ('apart', 'copies'))
    assert main(['train', '--opt', options]) == 0
    for argv in ([], ['test', '--opt', options, f'path.pretrain_network_g={weights}'],
                 ['evaluate', '--opt', options, '--weights', weights, '--output_dir', str(tmp_path / 'o')],
                 ['evaluate', '--weights', weights, '--degraded_dir', str(spelling.get(way, other)), '--clean_dir',
                  str(target), '--output_dir', str(tmp_path / 'o')]):  # yapf: disable
        assert not argv or main(argv) == 0
        assert len([m for m in messages if 'is its own ground truth' in m]) == said, argv
        assert not said or [m for m in messages if m.startswith(('datasets.val: the input', 'target: ', 'other: '))]
        messages.clear()
    capsys.readouterr()
    assert main(['check-data', '--opt', options]) == 0
    assert ('datasets.val: 4 inputs of 4 and the ground truth are the same file'
            in capsys.readouterr().out) == bool(said)


def test_one_database_for_both_is_said_and_noise_that_is_made_is_not(tmp_path, pairs):
    for name in ('target', 'input'):
        make_lmdb(pairs / name, tmp_path / f'{name}.lmdb')
    for block, expected in (
        ({
            'type': 'PairedImageDataset', 'dataroot_lq': tmp_path / 'target.lmdb',
            'dataroot_gt': tmp_path / 'target.lmdb'
        }, True),
        ({
            'type': 'PairedImageDataset', 'dataroot_lq': tmp_path / 'input.lmdb',
            'dataroot_gt': tmp_path / 'target.lmdb'
        }, False),
        ({'type': 'GaussianDenoisingDataset', 'dataroot_gt': pairs / 'target'}, False),
    ):
        block = {key: str(value) for key, value in block.items()} | {'phase': 'val'}
        assert is_its_own_truth(build_dataset(block)[0], block) == expected
