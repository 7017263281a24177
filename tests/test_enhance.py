"""Photos through `basicsr enhance`: every picture comes back whole, and what is not kept is said before the work begins."""
from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from photo_files import XMP, camera, encoded, opened, picture, profile, tiff
from PIL import Image, ImageCms

from basicsr.archs import build_network
from basicsr.commands.enhance import main
from basicsr.photos.reading import read_photo
from basicsr.utils.weights import save_weights

DARK = picture() // 5
NETWORK = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> str:
    """Of a network that makes nearly no change: it adds to its input."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp('weights') / 'w.pth'
    save_weights(file, {'params': build_network(NETWORK).state_dict(), 'network_g': NETWORK})
    return str(file)


@pytest.fixture
def enhance(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: main([*map(str, words), '--weights', weights])


def written(name: str, data: bytes) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data)
    return name


# --- what people got into


def test_profile_metadata_and_alpha(enhance):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    words = Image.Exif()
    words[0x010F], words[0x0132] = 'Maker', '2024:05:01 10:00:00'
    image = Image.fromarray(DARK)
    clear = image.convert('RGBA')
    clear.putalpha(Image.linear_gradient('L').resize(clear.size))
    files = {
        'photo.jpg': encoded(image, 'JPEG', icc_profile=srgb, exif=words, dpi=(300, 300), quality=95),
        'palette.png': encoded(image.quantize(64), 'PNG', transparency=0), 'alpha.png': encoded(clear, 'PNG'),
        'alpha.tif': encoded(clear, 'TIFF'), 'alpha.webp': encoded(clear, 'WEBP', lossless=True)
    }
    for name, data in files.items():
        assert enhance(written(name, data), '-o', f'out_{name}') == 0
    photo = opened(Path('out_photo.jpg').read_bytes())
    assert photo.info['icc_profile'] == srgb and photo.info['dpi'] == (300, 300)
    assert dict(photo.getexif()) == {0x010F: 'Maker', 0x0132: '2024:05:01 10:00:00'}
    for name in ('alpha.png', 'alpha.tif', 'alpha.webp'):
        found = opened(Path(f'out_{name}').read_bytes())
        assert found.mode == 'RGBA'
        np.testing.assert_array_equal(np.asarray(found)[..., 3], np.asarray(clear)[..., 3])
    palette = opened(files['palette.png'])
    alpha = np.asarray(opened(Path('out_palette.png').read_bytes()))[..., 3]
    np.testing.assert_array_equal(alpha == 0, np.asarray(palette) == 0)


def test_a_grey_map_is_written_and_a_coloured_one_refused_before_weights_are_looked_for(enhance, capsys):
    assert enhance(written('a.pgm', encoded(picture(channels=1), 'PPM')), '-o', 'out/') == 0
    assert Path('out/a.pgm').read_bytes().startswith(b'P5\n64 48\n255\n')
    assert main([written('b.png', encoded(DARK, 'PNG')), '-o', 'b.pgm', '--weights', 'missing.pth']) == 2
    assert capsys.readouterr().err.endswith(
        "error: cannot write 'b.pgm': .pgm holds grey images; choose .ppm or .png\n")


def test_no_file_is_passed_over_in_silence(enhance, capsys, messages):
    written('in/a.png', encoded(DARK, 'PNG'))
    written('in/b.jfif', encoded(DARK, 'JPEG'))
    written('in/c.gif', encoded(Image.fromarray(DARK), 'GIF'))
    written('in/sub/d.png', encoded(DARK, 'PNG'))
    assert enhance('in', '-o', 'out') == 0
    assert sorted(os.listdir('out')) == ['a.png', 'b.jfif', 'c.gif']
    assert "'in': 3 images; passed over: 1 subfolder (sub); --recursive looks into subfolders" in messages
    assert capsys.readouterr().out == '3 of 3 images written to out\n'
    assert enhance('in/b.jfif', '-o', 'out2/') == 0 and opened(Path('out2/b.jfif').read_bytes()).format == 'JPEG'
    assert enhance('in/a.png', '-o', 'out3', 'in/sub/d.png') == 0 and sorted(os.listdir('out3')) == ['a.png', 'd.png']
    assert enhance('in', '-o', 'out4', '--recursive') == 0 and Path('out4/sub/d.png').is_file()


def test_every_page_is_enhanced(enhance, messages):
    pages = np.stack([picture(n) // 5 for n in range(3)])
    assert enhance(written('pages.tif', tiff(pages)), '-o', 'out.tif') == 0
    assert [frame.pixels.shape for frame in read_photo('out.tif').frames] == [(48, 64, 3)] * 3
    for n, page in enumerate(pages):
        assert enhance(written(f'{n}.tif', tiff(page)), '-o', f'out{n}.tif') == 0
        np.testing.assert_array_equal(
            read_photo(f'out{n}.tif').frames[0].pixels,
            read_photo('out.tif').frames[n].pixels)
    assert enhance('pages.tif', '-o', 'first.jpg') == 0
    assert 'first.jpg: of 3 pages the first is taken, JPEG holds one' in messages


@pytest.mark.parametrize('sheet', [False, True])
def test_equal_stems_are_three_results(enhance, sheet):
    for name, kind in (('a.png', 'PNG'), ('a.jpg', 'JPEG'), ('a.webp', 'WEBP')):
        written(f'in/{name}', encoded(DARK, kind))
    assert enhance('in', '-o', 'out', *(['--sheet'] if sheet else [])) == 0
    sheets = ['a.jpg_sheet.png', 'a.png_sheet.png', 'a.webp_sheet.png'] if sheet else []
    assert sorted(os.listdir('out')) == sorted(['a.jpg', 'a.png', 'a.webp', *sheets])
    for name in sheets:
        assert opened(Path('out', name).read_bytes()).size == (128, 48)


def test_equal_stems_in_evaluate_and_measure(weights, tmp_path, monkeypatch, capsys):
    from basicsr.commands.evaluate import main as evaluate
    from basicsr.commands.measure import main as measure
    monkeypatch.chdir(tmp_path)
    for name, kind in (('a.png', 'PNG'), ('a.jpg', 'JPEG'), ('b.png', 'PNG')):
        written(f'in/{name}', encoded(picture(size=(220, 220)), kind))
    assert evaluate(['--weights', weights, '--degraded_dir', 'in', '--output_dir', 'ev']) == 0
    assert sorted(path.name for path in Path('ev').glob('*.png')) == ['a.jpg.png', 'a.png.png', 'b.png']
    capsys.readouterr()
    assert measure(['in', '--metrics', 'niqe']) == 0
    said = capsys.readouterr().out
    assert 'mean of 3' in said and 'a.jpg ' in said and 'a.png ' in said


# --- wholly


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp', '.heic', '.avif', '.jp2'])
def test_a_photo_of_a_phone(enhance, suffix):
    """A P3 photo that lies on its side comes back upright, in P3, with the camera's words."""
    source = encoded(DARK, 'JPEG', quality=97, subsampling=0, exif=b'Exif\0\0' + camera(6), icc_profile=profile('p3'),
                     xmp=XMP)
    assert enhance(written('in.jpg', source), '-o', f'out{suffix}') == 0
    found = read_photo(f'out{suffix}')
    assert found.frames[0].pixels.shape == (64, 48, 3)
    assert found.meta.icc == profile('p3') and found.meta.xmp == XMP and found.meta.held()['EXIF']
    assert abs(found.frames[0].pixels.astype(int) - np.rot90(DARK, -1)).mean() < 12


def test_what_is_lost_is_said_before_the_network_runs(enhance, messages, monkeypatch):
    from basicsr.inference.restorer import ImageRestorer
    known = []
    monkeypatch.setattr(ImageRestorer, '__call__', lambda self, img: known.extend(messages) or img)
    alpha = np.full((48, 64), 99, np.uint8)
    deep = np.dstack([DARK, alpha]).astype(np.uint16) * 257
    assert enhance(written('a.tif', tiff(deep, extrasamples=['unassalpha'])), '-o', 'out.jpg') == 0
    assert 'out.jpg: transparency is lost, JPEG holds none; 16 bits become 8' in known


def test_grey_comes_back_grey(enhance):
    assert enhance(written('g.jpg', encoded(picture(channels=1), 'JPEG')), '-o', 'out.jpg') == 0
    assert opened(Path('out.jpg').read_bytes()).mode == 'L'


def test_an_animation_moves_on(enhance):
    frames = [Image.fromarray(picture(n)) for n in range(3)]
    data = encoded(frames[0], 'GIF', save_all=True, append_images=frames[1:], duration=70, loop=0)
    assert enhance(written('a.gif', data), '-o', 'b.gif') == 0
    image = opened(Path('b.gif').read_bytes())
    assert image.n_frames == 3 and image.info['duration'] == 70 and image.info['loop'] == 0


# --- one after the other


def test_failures_do_not_stop_the_others_and_skip_existing_goes_on(enhance, capsys):
    for name in ('1', '2', '3'):
        written(f'in/{name}.jpg', encoded(DARK, 'JPEG'))
    whole = Path('in/2.jpg').read_bytes()
    Path('in/2.jpg').write_bytes(whole[:200])
    assert enhance('in', '-o', 'out') == 2
    said = capsys.readouterr()
    assert said.out == '2 of 3 images written to out\n' and "error: 'in/2.jpg' is cut off" in said.err
    Path('in/2.jpg').write_bytes(whole)
    before = Path('out/1.jpg').stat()
    assert enhance('in', '-o', 'out') == 2 and "2 of the output files exist" in capsys.readouterr().err
    assert enhance('in', '-o', 'out', '--skip_existing') == 0
    assert capsys.readouterr().out == '1 of 1 image written to out; 2 others were there\n'
    assert Path('out/1.jpg').stat().st_mtime_ns == before.st_mtime_ns
    assert enhance('in', '-o', 'out', '--skip_existing') == 0
    assert capsys.readouterr().out == '0 of 0 images written to out; 3 others were there\n'
    assert enhance('in', '-o', 'out', '--overwrite') == 0
    assert Path('out/1.jpg').stat().st_ino != before.st_ino


def test_existing_outputs_are_refused_before_weights_are_looked_for(enhance, capsys):
    written('a.png', encoded(DARK, 'PNG'))
    written('b.png', b'precious')
    assert main(['a.png', '-o', 'b.png', '--weights', 'missing.pth']) == 2
    assert "'b.png' exists" in capsys.readouterr().err and Path('b.png').read_bytes() == b'precious'


@pytest.mark.parametrize('data', [b'', b'words'])
def test_standard_input_that_is_no_photo(weights, data):
    done = _piped(['-', '-o', '-', '--weights', weights], data)
    assert done.returncode == 2 and done.stdout == b'' and b"'standard input' is" in done.stderr


def test_from_standard_input_to_standard_output(weights, tmp_path):
    data = encoded(DARK, 'JPEG', quality=90)
    done = _piped(['-', '-o', '-', '--weights', weights], data)
    assert done.returncode == 0, done.stderr
    image = Image.open(io.BytesIO(done.stdout))  # nothing else is there
    assert image.format == 'JPEG' and image.quantization == opened(data).quantization
    assert done.stdout.endswith(b'\xff\xd9')


def _piped(words: list[str], data: bytes) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'basicsr.cli', 'enhance', *words], input=data, capture_output=True,
                          cwd=ROOT)


def test_a_stop_by_hand_leaves_whole_files_alone(enhance, monkeypatch, messages, capsys):
    from basicsr.inference.restorer import ImageRestorer
    for name in ('1', '2', '3'):
        written(f'in/{name}.png', encoded(DARK, 'PNG'))
    count = iter(range(9))

    def call(self, img):
        if next(count) == 1:
            raise KeyboardInterrupt
        return img

    monkeypatch.setattr(ImageRestorer, '__call__', call)
    assert enhance('in', '-o', 'out', '--strength', '1') == 130  # one call for each photo
    assert os.listdir('out') == ['1.png'] and 'stopped after 1 of 3 images; --skip_existing goes on' in messages


def test_tiles_and_photos_are_counted_on_a_terminal(enhance, monkeypatch, capsys):
    monkeypatch.setattr('sys.stderr.isatty', lambda: True, raising=False)
    written('in/1.png', encoded(DARK, 'PNG'))
    assert enhance('in/1.png', '-o', 'a.png', '--tile', '32', '--tile_overlap', '8') == 0
    assert 'tile' in capsys.readouterr().err
    written('in/2.png', encoded(DARK, 'PNG'))
    assert enhance('in', '-o', 'out') == 0
    assert '2/2' in capsys.readouterr().err


def test_the_script_is_the_command(weights, tmp_path):
    (tmp_path / 'a.png').write_bytes(encoded(DARK, 'PNG'))
    done = subprocess.run(
        [sys.executable, ROOT / 'Enhancement' / 'enhance.py', 'a.png', '-o', 'b.png', '--weights', weights],
        cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and read_photo(tmp_path / 'b.png').frames[0].pixels.shape == (48, 64, 3), done.stderr
