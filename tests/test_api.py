"""`from basicsr import Restorer`: types of images, amounts, files, folders of the hub, mistakes."""
from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from photo_files import profile
from PIL import Image

from basicsr import Restorer
from basicsr.archs import build_network
from basicsr.commands.enhance import main as enhance
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.utils.weights import save_weights

SMALL = {'type': 'RetinexFormer', 'n_feat': 8, 'num_blocks': [1, 1, 1]}


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp('weights') / 'net.pth'
    save_weights(file, {'params': build_network(SMALL).state_dict(), 'network_g': SMALL})
    return file


@pytest.fixture(scope='module')
def restore(weights):
    return Restorer.from_pretrained(weights, device='cpu')


@pytest.fixture(scope='module')
def photo():
    """RGB in 8 bits."""
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 90, (5, 6, 3), np.uint8), (44, 36), interpolation=cv2.INTER_CUBIC)


def as_type(photo, dtype):
    scale = {'uint8': 1, 'uint16': 257, '>u2': 257}.get(dtype)
    return (photo.astype(np.uint16) * scale).astype(dtype) if scale else (photo / 255).astype(dtype)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float16', 'float32', 'float64', '>u2', '>f4'])
def test_arrays_come_back_in_their_type(restore, photo, dtype):
    img = as_type(photo, dtype)
    before = img.copy()
    out = restore(img)
    assert type(out) is np.ndarray and out.dtype == img.dtype and out.shape == img.shape and (img == before).all()
    peak = np.iinfo(dtype).max if out.dtype.kind == 'u' else 1
    reference = restore(photo).astype(float) / 255
    assert np.abs(out.astype(float) / peak - reference).max() < 1.2 / 255
    assert (restore(photo) != photo).any()


@pytest.mark.parametrize('shape', [(36, 44), (36, 44, 1), (36, 44, 2), (36, 44, 4), (3, 36, 44, 3), (2, 36, 44, 4)])
def test_shapes(restore, photo, shape):
    channels = shape[-1] if len(shape) > 2 else 1
    img = np.dstack([photo, photo[..., :1]])[..., 4 - channels if channels < 3 else 0:][..., :channels]
    img = np.broadcast_to(img.reshape(shape[-3:] if len(shape) > 2 else shape), shape)
    out = restore(img)
    assert out.shape == shape and out.dtype == np.uint8
    if channels in (2, 4):
        assert (out[..., -1] == img[..., -1]).all()
    if len(shape) == 4:
        assert (out == restore(img[0])).all()


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('batch', [False, True])
def test_tensors_come_back_in_their_type(restore, photo, dtype, batch):
    plain = torch.from_numpy(photo).movedim(-1, 0)
    x = (plain if dtype == torch.uint8 else plain / 255).to(dtype)
    x = x[None].expand(2, -1, -1, -1) if batch else x
    if dtype == torch.float32:
        x = x.clone().requires_grad_()
    out = restore(x)
    assert out.dtype == dtype and out.shape == x.shape and out.device == x.device and not out.requires_grad
    reference = torch.from_numpy(restore(photo)).movedim(-1, 0)
    scale = 1 if dtype == torch.uint8 else 255
    limit = {torch.bfloat16: 3.}.get(dtype, 1.2)  # its steps below white are of a whole level
    assert (out.double() * scale - reference).abs().max() < limit


@pytest.mark.parametrize('mode, back', [('1', 'L'), ('L', 'L'), ('LA', 'LA'), ('P', 'RGB'), ('RGB', 'RGB'),
                                        ('RGBA', 'RGBA'), ('CMYK', 'RGB'), ('YCbCr', 'RGB'), ('I;16', 'I;16'),
                                        ('I', 'I'), ('F', 'F')])
def test_images_of_pillow_keep_mode_and_info(restore, photo, mode, back):
    if mode in ('I;16', 'I', 'F'):
        values = photo[..., 0] / 255
        image = Image.fromarray({
            'I;16': (values * 65535).astype(np.uint16), 'I': (values * 65535).astype(np.int32),
            'F': values.astype(np.float32)
        }[mode])
    else:
        image = Image.fromarray(photo).convert(mode)
    image.info['dpi'], pixels = (300, 300), np.array(image)
    out = restore(image)
    assert isinstance(out,
                      Image.Image) and out.mode == back and out.size == image.size and out.info['dpi'] == (300, 300)
    assert (np.array(image) == pixels).all()
    if mode == 'RGB':
        assert (np.array(out) == restore(photo)).all()
    if mode in ('I;16', 'I', 'F'):
        peak = 1 if mode == 'F' else 65535
        assert np.abs(np.array(out) / peak - restore(photo[..., 0]) / 255.).max() < 1.2 / 255


def test_clear_parts_of_a_palette_stay_clear(restore, photo):
    image = Image.fromarray(photo).convert('P')
    image.info['transparency'] = int(np.array(image)[0, 0])
    out = restore(image)
    assert out.mode == 'RGBA' and 'transparency' not in out.info
    assert ((np.array(out)[..., 3] == 0) == (np.array(image) == image.info['transparency'])).all()


def test_colours_of_a_profile_are_those_of_the_command(restore, weights, photo, tmp_path):
    display_p3 = profile('p3')
    Image.fromarray(photo).save(tmp_path / 'p3.png', icc_profile=display_p3)
    assert enhance([
        str(tmp_path / 'p3.png'), '-o',
        str(tmp_path / 'out.png'), '--weights',
        str(weights), '--strength', '1', '--device', 'cpu'
    ]) == 0
    with Image.open(tmp_path / 'p3.png') as image, Image.open(tmp_path / 'out.png') as expected:
        out = restore(image)
        assert out.info['icc_profile'] == display_p3 and (np.array(out) == np.array(expected)).all()
    assert (np.array(out) != restore(photo)).any()


def test_amounts_of_the_call_and_of_the_object(restore, weights, photo):
    whole = restore(photo)
    assert (restore(photo, strength=0) == photo).all()
    half = restore(photo, strength=.5)
    assert (half != whole).any() and (half != photo).any()
    always = Restorer.from_pretrained(weights, device='cpu', strength=.5, exposure=1)
    assert (always(photo, exposure=0) == half).all() and always(photo).mean() > half.mean()
    assert always(photo, strength='auto').shape == photo.shape
    large = np.repeat(np.repeat(photo, 30, 0), 30, 1)
    assert max(restore(large, preview=True).shape) == 1000


def test_precision_and_tiles(weights, photo):
    whole = Restorer.from_pretrained(weights, device='cpu')(photo).astype(int)
    for settings in ({'dtype': torch.bfloat16}, {'dtype': 'bfloat16'}, {'tile': 32, 'tile_overlap': 8},
                     {'self_ensemble': True}, {'device': torch.device('cpu')}):
        out = Restorer.from_pretrained(weights, **{'device': 'cpu'} | settings)(photo)
        assert out.shape == photo.shape and np.abs(out - whole).mean() < 8, settings


def test_files_as_the_command_does_them(restore, weights, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / 'dark.jpg', exif=b'Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0', dpi=(96, 96))
    assert restore.files(tmp_path / 'dark.jpg', tmp_path / 'a.jpg') == [tmp_path / 'a.jpg']
    command = [str(tmp_path / 'dark.jpg'), '-o', str(tmp_path / 'b.jpg'), '--weights', str(weights), '--strength', '1']
    assert enhance([*command, '--device', 'cpu']) == 0
    assert (tmp_path / 'a.jpg').read_bytes() == (tmp_path / 'b.jpg').read_bytes()
    with pytest.raises(UserError, match='exists'):
        restore.files(tmp_path / 'dark.jpg', tmp_path / 'a.jpg')
    assert restore.files(str(tmp_path / 'dark.jpg'), tmp_path / 'a.jpg', overwrite=True, strength=0)
    assert (tmp_path / 'a.jpg').read_bytes() != (tmp_path / 'b.jpg').read_bytes()
    assert len(restore.files(tmp_path, tmp_path / 'out')) == 3


def test_a_folder_of_the_hub_and_back(restore, photo, tmp_path):
    restore.save_pretrained(tmp_path / 'mine')
    again = Restorer.from_pretrained(tmp_path / 'mine', device='cpu')
    assert (again(photo) == restore(photo)).all() and again.network['type'] == 'RetinexFormer'
    assert isinstance(again.net, torch.nn.Module) and not again.net.training and again.device.type == 'cpu'


def test_the_networks_own_knobs(photo, tmp_path):
    options = {'type': 'CIDNet', 'channels': [4, 4, 8, 16]}
    save_weights(tmp_path / 'net.pth', {'params': build_network(options).state_dict(), 'network_g': options})
    grey = Restorer.from_pretrained(tmp_path / 'net.pth', device='cpu', alpha_s=0)(photo)
    assert np.ptp(grey, axis=2).max() <= 1
    with pytest.raises(UserError, match='alpha_z'):
        Restorer.from_pretrained(tmp_path / 'net.pth', device='cpu', alpha_z=0)


def test_without_a_name_it_is_the_default():
    from basicsr.utils.pretrained import default_weights, known_network
    assert Restorer.from_pretrained(device='cpu').network == known_network(default_weights())


@pytest.mark.parametrize('image, error, words', [
    ('photo.jpg', TypeError, 'restore.files'), ([[1, 2]], TypeError, 'not list'),
    (np.zeros((4, 4, 3), np.int64), TypeError, 'not int64'), (np.zeros((4, 4), bool), TypeError, 'not bool'),
    (np.zeros((4, 4, 5), np.uint8), ValueError, r'\(4, 4, 5\)'), (np.zeros(4, np.uint8), ValueError, r'\(4,\)'),
    (np.zeros((0, 4, 3), np.uint8), ValueError, 'no pixels'), (Image.new('RGB', (5, 0)), ValueError, 'no pixels'),
    (np.full((4, 4, 3), np.nan, np.float32), ValueError, 'NaN'),
    (torch.zeros(4, 4), ValueError, r'\(4, 4\)'), (torch.zeros(1, 4, 4, dtype=torch.int64), TypeError, 'int64'),
    (torch.zeros(1, 3, 0, 4), ValueError, 'no pixels'),
    (Image.fromarray(np.full((4, 4), 70000, np.int32)), ValueError, '65535')
])  # yapf: disable
def test_what_is_no_image_is_said(restore, image, error, words):
    with pytest.raises(error, match=words):
        restore(image)


def test_numbers_up_to_255_as_floats_are_warned_of(restore, photo, monkeypatch):
    heard = []
    monkeypatch.setattr(get_root_logger(), 'warning', heard.append)
    restore(photo.astype(np.float32))
    assert len(heard) == 1 and 'divided by their peak' in heard[0]


@pytest.mark.parametrize('settings, words', [({'dtype': 'int8'}, 'float32, bfloat16, float16'),
                                             ({'strength': 3}, '1.5'), ({'tile': 8}, 'overlap'),
                                             ({'tile': 64.5}, 'whole number of pixels, not 64.5'),
                                             ({'device': 'cuda:99'}, 'cuda:99')])
def test_wrong_settings(weights, settings, words):
    with pytest.raises(UserError, match=words):
        Restorer.from_pretrained(weights, **{'device': 'cpu'} | settings)


def test_an_empty_name_is_no_folder(restore, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='no folder'):
        restore.save_pretrained('')
    assert not list(tmp_path.iterdir())


def test_importing_the_package_loads_nothing_heavy():
    code = ('import sys, basicsr; assert basicsr.__version__ and "Restorer" in dir(basicsr);'
            'print(sorted({m.partition(".")[0] for m in sys.modules} & {"torch", "cv2", "numpy", "PIL", "yaml"}))')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout == '[]\n'


def test_a_photo_that_cannot_be_read_does_not_stop_the_others(restore, photo, tmp_path):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'a.png').write_bytes(b'no picture')
    Image.fromarray(photo).save(tmp_path / 'in' / 'b.png')
    with pytest.raises(UserError, match=r'a\.png'):
        restore.files(tmp_path / 'in', tmp_path / 'out')
    assert [file.name for file in (tmp_path / 'out').iterdir()] == ['b.png']


def test_blending_is_refused_where_the_network_enlarges(photo, tmp_path):
    options = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 2}
    save_weights(tmp_path / 'net.pth', {'params': build_network(options).state_dict(), 'network_g': options})
    larger = Restorer.from_pretrained(tmp_path / 'net.pth', device='cpu')
    assert larger(photo).shape == (72, 88, 3)
    with pytest.raises(UserError, match='2 times'):
        larger(photo, strength=.5)


@pytest.mark.parametrize('mode, back', [('RGB', 'RGBA'), ('L', 'LA')])
def test_a_colour_that_stands_for_nothing_becomes_alpha(weights, mode, back):
    image = Image.new(mode, (8, 8), 0)
    image.putpixel((3, 3), (9, 9, 9) if mode == 'RGB' else 9)
    image.info['transparency'] = (9, 9, 9) if mode == 'RGB' else 9
    result = Restorer.from_pretrained(weights, device='cpu')(image)
    alpha = np.asarray(result.getchannel('A'))
    assert result.mode == back and 'transparency' not in result.info and alpha[3, 3] == 0 and (alpha == 0).sum() == 1


def test_a_profile_of_lab_is_not_left_to_rgb(weights):
    image = Image.new('RGB', (8, 8), (90, 60, 30)).convert('RGB')
    from PIL import ImageCms
    lab = ImageCms.profileToProfile(image, ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'),
                                    outputMode='LAB')
    result = Restorer.from_pretrained(weights, device='cpu')(lab)
    assert result.mode == 'RGB' and not result.info.get('icc_profile')


def test_numbers_of_numpy_are_numbers(weights):
    restore = Restorer.from_pretrained(weights, device='cpu')
    image = np.full((8, 8, 3), 40, np.uint8)
    assert np.array_equal(restore(image, strength=np.float32(.5)), restore(image, strength=.5))
