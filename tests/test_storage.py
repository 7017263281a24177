"""Files and databases: what is written is what is read, and a failure never costs what was there."""
import os
import pickle

import cv2
import lmdb
import numpy as np
import pytest
import torch

from basicsr.cli import main as basicsr
from basicsr.commands.lmdb import main
from basicsr.data.loader import ImageLoader
from basicsr.data.packing import make_lmdb
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.utils.errors import UserError
from basicsr.utils.files import archive_existing, atomic_write, scandir
from basicsr.utils.img import imfrombytes, img2tensor, imread, imwrite, pad_to_multiple, tensor2img
from basicsr.utils.storage import FileClient, read_lmdb_keys


def noise(h=12, w=10, dtype=np.uint8, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (h, w, channels)).astype(dtype)


def folder_of(path, names, size=(12, 10)):
    for i, name in enumerate(names):
        imwrite(noise(*size, seed=i), path / name)
    return str(path)


NAMES = ['2.png', '10.png', 'with space.png', 'dots.v1.png', '夜.png']

# ---------------------------------------------------------------- databases


@pytest.fixture
def roots(tmp_path):
    """Folders and databases of the same pairs; one input is a JPEG, which is packed decoded."""
    for side in ('lq', 'gt'):
        folder_of(tmp_path / side, NAMES + [f'photo.{"jpg" if side == "lq" else "png"}'])
        make_lmdb(tmp_path / side, tmp_path / f'{side}.lmdb')
    return tmp_path


@pytest.mark.parametrize('slash', ['', '/'])
def test_database_gives_the_tensors_of_the_folder(roots, slash):
    disk = PairedImageDataset(f'{roots}/gt', f'{roots}/lq', phase='val')
    base = PairedImageDataset(f'{roots}/gt.lmdb{slash}', f'{roots}/lq.lmdb{slash}', {'type': 'lmdb'}, phase='val')
    assert len(disk) == len(base) == 6
    for a, b in zip(disk, base):
        assert torch.equal(a['lq'], b['lq']) and torch.equal(a['gt'], b['gt'])
        assert os.path.splitext(os.path.basename(a['gt_path']))[0] == b['gt_path'] == b['lq_path']


@pytest.mark.parametrize('more', [{}, {'phase': 'val'}, {'gt_size': 4}], ids=str)
def test_pairs_that_do_not_go_together_are_named_with_their_database(roots, more):
    pairs = PairedImageDataset(f'{roots}/gt.lmdb/', f'{roots}/lq.lmdb', scale=2, **more)
    with pytest.raises(UserError, match=rf"'{roots}/gt\.lmdb/2' is 10x12, but its input is 10x12"):
        pairs[0]
    with pytest.raises(UserError, match=rf"'{roots}/gt\.lmdb/2' is 10x12"):
        pairs.input_size(0)


def test_what_is_wrong_with_samples_is_told_with_their_database(roots, tiny_options, capsys):
    """By `check-data`, and before training: sizes, metrics, channels, and inputs that are their own ground truth."""
    val = {'dataroot_lq': f'{roots}/lq.lmdb', 'dataroot_gt': f'{roots}/gt.lmdb'}
    options = str(tiny_options(datasets={'train': val, 'val': val}))
    assert basicsr(['check-data', '--opt', options, 'val.metrics.niqe={"type": "calculate_niqe"}']) == 2
    assert f"datasets.val: '{roots}/lq.lmdb/2' is 10x12 pixels" in capsys.readouterr().err
    assert basicsr(['train', '--opt', options, 'val.metrics.niqe={"type": "calculate_niqe"}']) == 2
    assert f"datasets.val: '{roots}/lq.lmdb/2' is 10x12 pixels" in capsys.readouterr().err
    assert basicsr(['train', '--opt', options, 'datasets.train.color=y']) == 2
    assert f"images have 1 channels ('{roots}/lq.lmdb/2')" in capsys.readouterr().err


def test_meta_info_lists_key_shape_and_level(roots):
    lines = (roots / 'gt.lmdb' / 'meta_info.txt').read_text(encoding='utf-8').splitlines()
    assert lines[:2] == ['2.png (12,10,3) 1', '10.png (12,10,3) 1']
    assert read_lmdb_keys(f'{roots}/lq.lmdb') == ['2', '10', 'dots.v1', 'photo', 'with space', '夜']
    assert {p.name for p in (roots / 'gt.lmdb').iterdir()} == {'data.mdb', 'lock.mdb', 'meta_info.txt'}


def test_key_with_folder_as_other_tools_write_it(tmp_path):
    with lmdb.open(str(tmp_path / 'a.lmdb')) as env, env.begin(write=True) as transaction:
        transaction.put(b'0001/im_1', cv2.imencode('.png', noise())[1].tobytes())
    (tmp_path / 'a.lmdb' / 'meta_info.txt').write_text('0001/im_1.png (12,10,3) 1\n')
    sample = SingleImageDataset(f'{tmp_path}/a.lmdb')[0]
    assert sample['lq_path'] == '0001/im_1' and sample['lq'].shape == (3, 12, 10)


def test_one_database_may_be_read_twice_and_by_workers(roots):
    # LMDB itself refuses a second handle in one process: lq = gt, or the same set for training and validation
    both = PairedImageDataset(f'{roots}/gt.lmdb', f'{roots}/gt.lmdb', phase='val')
    again = SingleImageDataset(f'{roots}/gt.lmdb')
    assert torch.equal(both[0]['lq'], both[0]['gt']) and torch.equal(again[0]['lq'], both[0]['lq'])
    batch = next(iter(ImageLoader(both, {}, batch_size=2, num_workers=1)))  # forked after the database was opened
    assert torch.equal(batch['gt'][0], both[0]['gt'])
    assert torch.equal(pickle.loads(pickle.dumps(again))[1]['lq'], both[1]['lq'])


def test_database_grows_beyond_its_first_size(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / 'in', [f'{i}.png' for i in range(40)], (40, 40))  # 200 kB of noise
    with monkeypatch.context() as patch:
        patch.setattr(lmdb, 'open', lambda path, map_size: lmdb.Environment(path, map_size=1 << 16))
        patch.setattr('basicsr.data.packing._COMMIT_BYTES', 60_000)
        assert make_lmdb(folder, tmp_path / 'out.lmdb') == 40
    disk, base = SingleImageDataset(folder), SingleImageDataset(f'{tmp_path}/out.lmdb')
    assert len(base) == 40 and all(torch.equal(a['lq'], b['lq']) for a, b in zip(disk, base))


def test_what_cannot_be_packed(tmp_path, capsys):
    folder = folder_of(tmp_path / 'in', ['1.png', '2.png'])
    with pytest.raises(UserError, match=r"must end in '\.lmdb'"):
        make_lmdb(folder, tmp_path / 'out')
    (tmp_path / 'old.lmdb').mkdir()
    with pytest.raises(UserError, match='exists already'):
        make_lmdb(folder, tmp_path / 'old.lmdb')
    imwrite(noise(), tmp_path / 'in' / '2.bmp')
    with pytest.raises(UserError, match=r"2\.bmp.*2\.png"):  # one would replace the other under the key '2'
        make_lmdb(folder, tmp_path / 'out.lmdb')
    (tmp_path / 'in' / '2.bmp').write_bytes((tmp_path / 'in' / '1.png').read_bytes()[:80])
    (tmp_path / 'in' / '2.png').unlink()
    for _ in range(2):  # the second attempt finds what the first has left
        with pytest.raises(UserError, match=r"2\.bmp' is cut off"):
            make_lmdb(folder, tmp_path / 'out.lmdb')
    assert not (tmp_path / 'out.lmdb').exists()
    (tmp_path / 'in' / '2.bmp').unlink()
    assert main([folder, f'{tmp_path}/out.lmdb']) == 0 and '1 images' in capsys.readouterr().out


def test_what_is_no_database(tmp_path, roots):
    folder = folder_of(tmp_path / 'in', ['1.png'])
    for root in (folder, f'{tmp_path}/gone.lmdb'):
        with pytest.raises(UserError, match=r'is not a database|do not end in'):
            SingleImageDataset(root, {'type': 'lmdb'})
    broken = tmp_path / 'broken.lmdb'
    broken.mkdir()
    with pytest.raises(UserError, match='is not a database'):
        SingleImageDataset(str(broken))
    (broken / 'meta_info.txt').write_text('1.png (12,10,3) 1\n')
    for content in (None, b'rubbish' * 3000):
        if content:
            (broken / 'data.mdb').write_bytes(content)
        with pytest.raises(UserError, match=r"broken\.lmdb' cannot be opened"):
            SingleImageDataset(str(broken))[0]
    with pytest.raises(UserError, match='io_backend is disk'):
        SingleImageDataset(f'{roots}/gt.lmdb', {'type': 'disk'})
    with open(roots / 'gt.lmdb' / 'meta_info.txt', 'a') as file:
        file.write('11.png (12,10,3) 1\n')
    with pytest.raises(UserError, match=r"1 of dataroot_gt .*: 11$"):
        PairedImageDataset(f'{roots}/gt.lmdb', f'{roots}/lq.lmdb')
    with pytest.raises(UserError, match="no entry '11'"):
        SingleImageDataset(f'{roots}/gt.lmdb')[6]


def test_file_client(roots):
    raw = FileClient('disk').get(f'{roots}/gt/2.png', 'gt')
    assert raw == (roots / 'gt' / '2.png').read_bytes()
    assert FileClient('lmdb', db_paths=f'{roots}/gt.lmdb').get('2') == raw
    client = FileClient('lmdb', [f'{roots}/lq.lmdb', f'{roots}/gt.lmdb'], ['lq', 'gt'])
    assert client.get('2', 'gt') == raw and np.array_equal(imfrombytes(client.get('2', 'lq')), noise())
    with pytest.raises(UserError, match='petrel'):
        FileClient('petrel')


# ---------------------------------------------------------------- image files


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('name', ['a.png', 'b.TIF', 'новая папка/夜 1.png', 'x' * 250 + '.png'])
def test_written_image_is_read_back(tmp_path, name, dtype):
    img = noise(dtype=dtype)
    assert imwrite(img, tmp_path / name)
    back = imread(tmp_path / name)
    assert back.dtype == dtype and np.array_equal(back, img)
    assert not list(tmp_path.rglob('.*'))


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"a\.xyz"):
        imwrite(noise(), tmp_path / 'a.xyz')
    with pytest.raises(UserError, match='no folder'):
        imwrite(noise(), tmp_path / 'new' / 'a.png', auto_mkdir=False)
    with pytest.raises(UserError, match='holds 8 bits'):  # OpenCV would clip nearly everything to white
        imwrite(noise(dtype=np.uint16), tmp_path / 'a.jpg')
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match='not an image'):
        imfrombytes(b'')


def test_atomic_write(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'umask',
                        None)  # all threads have the same: changing it for a moment opens their files to all
    path = tmp_path / 'sub' / 'file.txt'
    with atomic_write(path, 'w') as file:
        file.write('ä\n')
        assert not path.exists()
    assert path.read_bytes() == 'ä\n'.encode()
    (tmp_path / 'plain').touch()
    assert path.stat().st_mode == (tmp_path / 'plain').stat().st_mode
    for error in (RuntimeError, KeyboardInterrupt, OSError):
        with pytest.raises(error), atomic_write(path, 'w') as file:
            file.write('half')
            raise error
    assert path.read_bytes() == 'ä\n'.encode() and [p.name for p in path.parent.iterdir()] == ['file.txt']
    with pytest.raises(OSError) as info, atomic_write(tmp_path / 'sub'):
        pass
    assert info.value.filename == str(tmp_path / 'sub')  # the user's name, not the temporary one
    assert {p.name for p in tmp_path.iterdir()} == {'sub', 'plain'}


def test_archive_existing_never_overwrites(tmp_path):
    assert archive_existing(tmp_path / 'run') is None
    targets = []
    for i in range(3):  # within one second
        (tmp_path / 'run').mkdir()
        (tmp_path / 'run' / 'log').write_text(str(i))
        targets.append(archive_existing(tmp_path / 'run'))
    assert len(set(targets)) == 3 and not (tmp_path / 'run').exists()
    assert [(t / 'log').read_text() for t in targets if t.name.startswith('run_archived_')] == ['0', '1', '2']


def test_scandir(tmp_path):
    for name in ('10.txt', '9.txt', 'a.png', '.hidden.txt', 'sub/1.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(scandir(str(tmp_path))) == ['9.txt', '10.txt', 'a.png']
    assert list(scandir(str(tmp_path), ('.png', '.jpg'))) == ['a.png']
    assert list(scandir(str(tmp_path), '.txt', recursive=True)) == ['9.txt', '10.txt', os.path.join('sub', '1.txt')]
    assert list(scandir(str(tmp_path), '.png', full_path=True)) == [str(tmp_path / 'a.png')]


# ---------------------------------------------------------------- arrays and tensors


def test_img2tensor_and_back():
    img = noise()
    tensor = img2tensor(img)
    assert tensor.dtype == torch.float32 and torch.equal(tensor[0], torch.from_numpy(img[..., 2]).float())
    assert np.array_equal(tensor2img(tensor / 255), img)
    assert np.array_equal(tensor2img([tensor[None] / 255]), img)
    one, two = img2tensor([img[..., :1], img], bgr2rgb=False, float32=False)
    assert one.shape == (1, 12, 10) and two.dtype == torch.uint8 and np.array_equal(two.permute(1, 2, 0), img)


def test_tensor2img_leaves_its_input_alone_and_clamps():
    tensor, kept = (torch.tensor([-1., 0.5, 2.]).view(3, 1, 1).repeat(1, 2, 2) for _ in range(2))
    assert tensor2img(tensor).tolist()[0][0] == [255, 128, 0]  # BGR; 127.5 rounds to even
    assert tensor2img(tensor, rgb2bgr=False, out_type=np.float32).tolist()[0][0] == [0, 0.5, 1]
    assert tensor2img(tensor, rgb2bgr=False, min_max=(-1, 3)).tolist()[0][0] == [0, 96, 191]
    assert torch.equal(tensor, kept)


def test_tensor2img_grey_and_grid():
    grey = torch.rand(1, 4, 5)
    wanted = (grey[0] * 255).round().to(torch.uint8).numpy()
    for shape in ((4, 5), (1, 4, 5), (1, 1, 4, 5)):
        assert np.array_equal(tensor2img(grey.view(shape)), wanted)
    batch = torch.rand(3, 3, 4, 5)
    grid = tensor2img(batch)
    assert grid.shape == (8, 10, 3)
    for i, (y, x) in enumerate([(0, 0), (0, 5), (4, 0)]):
        assert np.array_equal(grid[y:y + 4, x:x + 5], tensor2img(batch[i]))
    assert not grid[4:, 5:].any()


@pytest.mark.parametrize('h, w', [(7, 13), (8, 16), (1, 1), (3, 20), (5, 5), (2, 9)])
def test_pad_to_multiple(h, w):
    x = torch.rand(2, 3, h, w)
    out = pad_to_multiple(x, 8)
    assert out.shape == (2, 3, -(-h // 8) * 8, -(-w // 8) * 8) and torch.equal(out[..., :h, :w], x)
    if (h, w) == (7, 13):
        assert torch.equal(out[..., :7, 13:], x[..., 9:12].flip(-1))  # reflection without the edge pixel
