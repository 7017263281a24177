"""Clips through `basicsr video`: every frame at its time, sound byte for byte, and mistakes in one sentence."""
from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import Fake, Found, fake, make

from basicsr.commands.video import CODECS as NAMES
from basicsr.commands.video import main
from basicsr.inference.amount import Amount
from basicsr.inference.light import exposed
from basicsr.utils.errors import UserError
from basicsr.video.colours import upright
from basicsr.video.encoding import CODECS, choose

SVT = 'libsvtav1'
VARIABLE = [0, 10, 50, 60, 100, 175, 200, 260, 300, 333, 400, 500]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('SVT_LOG', '1')


@pytest.fixture
def video():
    return lambda *words: main([*map(str, words), '--weights', 'retinexmamba_tiny'])


# --- every frame, at its time, and all else


@pytest.mark.parametrize('name,codec,settings', [
    ('a.mp4', 'libx264', {}),
    ('a.mkv', 'libx264', {'times': VARIABLE}),
    ('a.mp4', 'libx264', {'times': VARIABLE}),
    ('a.mp4', 'libx265', {'pixel_format': 'yuv420p10le'}),
    ('a.mov', 'libx264', {'pixel_format': 'yuv444p', 'size': (63, 47)}),
    ('a.webm', 'libvpx-vp9', {'size': (63, 47), 'sound': False}),
    ('a.mkv', SVT, {}),
    ('a.ts', 'libx264', {}),
    ('a.mkv', 'ffv1', {'pixel_format': 'yuv444p10le', 'size': (63, 47)}),
    ('a.mkv', 'ffv1', {'pixel_format': 'gray'}),
    ('a.mkv', 'ffv1', {'pixel_format': 'bgr0'}),
])
def test_frames_times_and_sound_are_those_of_the_clip(name, codec, settings):
    before = Found(make(name, codec, **settings))
    after = fake(name, f'out_{name}')
    assert len(after.frames) == 12 and np.allclose(after.times, before.times, atol=1e-4)
    assert (after.codec, after.size, after.pixel_format) == (before.codec, before.size, before.pixel_format)
    assert after.packets == before.packets and after.kinds == before.kinds and after.tags == before.tags
    assert len(after.packets) > 15 or not settings.get('sound', True)
    # four times the light, but for what the codec loses
    wanted = exposed(before.picture(5).astype(np.float32) / 255, 2)
    assert np.abs(after.picture(5) / 255 - wanted).mean() < (.02 if codec == 'ffv1' else .05)


def test_the_command(video, capsys, messages):
    make('a.mp4')
    assert video('a.mp4', '-o', 'b.mp4') == 0
    before, after = Found('a.mp4'), Found('b.mp4')
    assert after.times == before.times and after.packets == before.packets
    assert after.brightness.mean() > 2 * before.brightness.mean()
    assert video('a.mp4', '-o', 'b.mp4') == 2
    assert capsys.readouterr().err.endswith(
        'error: b.mp4 would be replaced; choose another name, or give --overwrite\n')
    assert video('a.mp4', '-o', 'b.mp4', '--overwrite', '--frames', '5', '--codec', 'vp9', '--quality', '30') == 0
    after = Found('b.mp4')
    assert after.codec == 'vp9' and after.times == before.times[:5]
    assert after.packets == [p for p in before.packets if p[1] < 5 / 24]
    assert tuple(NAMES) == CODECS


def test_subtitles_chapters_languages_and_words_are_kept_or_named(messages):
    Path('a.srt').write_text('1\n00:00:00,100 --> 00:00:00,300\nHallo\n')
    before = Found(make('a.mkv', subtitles='a.srt'))
    after = fake('a.mkv', 'b.mkv')
    assert after.packets == before.packets and after.kinds == ['video', 'audio', 'subtitle']
    assert after.languages == before.languages and 'deu' in after.languages
    assert after.metadata['title'] == 'A dark clip' and after.metadata['ENCODER'] != ''
    assert [(c['start'], c['end'], c['metadata'])
            for c in after.chapters] == [(c['start'], c['end'], c['metadata'])
                                         for c in before.chapters] and len(after.chapters) == 1
    after = fake('a.mkv', 'b.mp4')
    assert 'a.mkv: not held by this .mp4 file, and left out: subtitle 2 (subrip)' in messages
    assert after.kinds[:2] == ['video', 'audio'] and len(after.chapters) == 1


def test_a_turned_clip_comes_back_upright():
    if not hasattr(av.video.stream.VideoStream, 'set_display_rotation'):
        pytest.skip('this PyAV cannot write a rotation')
    before = Found(make('a.mkv', 'ffv1', 'yuv444p', rotation=90))
    assert before.frames[0].rotation == 90
    after = fake('a.mkv', 'b.mkv', amount=Amount(strength=0))
    assert after.size == (48, 64) and after.frames[0].rotation == 0
    assert np.abs(after.picture(3).astype(int) - np.rot90(before.picture(3))).mean() < .1


def test_pixels_that_are_not_square_stay_so(messages):
    for rotation, shape in ((None, Fraction(4, 3)), (90, Fraction(3, 4))):
        if rotation is None or hasattr(av.video.stream.VideoStream, 'set_display_rotation'):
            make('a.mp4', rotation=rotation, sample_aspect_ratio=Fraction(4, 3), sound=False)
            assert fake('a.mp4', 'b.mp4').shape == shape
    fake('a.mp4', 'b.mkv', codec='ffv1')
    assert 'a.mp4: not held by this .mkv file, and left out: the shape of its pixels, which are not square' in messages


def test_a_picture_is_turned_and_mirrored_as_its_matrix_says():
    img = np.arange(24).reshape(2, 4, 3)
    turned = {(0, -1, 1, 0): np.rot90(img), (0, 1, -1, 0): np.rot90(img, 3), (-1, 0, 0, -1): np.rot90(img, 2),
              (-1, 0, 0, 1): img[:, ::-1], (1, 0, 0, -1): img[::-1], (0, 1, 1, 0): img.swapaxes(0, 1)}
    for matrix, wanted in turned.items():
        np.testing.assert_array_equal(upright(img, matrix), wanted)
    assert upright(img, None) is img


def test_without_strength_frames_are_exact(video):
    for pixel_format in ('yuv420p', 'yuv420p10le', 'yuv422p'):
        before = Found(make('a.mkv', 'ffv1', pixel_format))
        assert video('a.mkv', '-o', 'b.mkv', '--strength', '0', '--overwrite') == 0
        for old, new in zip(before.frames, Found('b.mkv').frames):
            assert [bytes(plane) for plane in old.planes] == [bytes(plane) for plane in new.planes]


def test_what_a_codec_cannot_hold_is_said():

    def remarks(source, codec, size=(64, 48)):
        chosen = choose('a.mkv', 'ffv1', av.VideoFormat(source, 64, 48), size, codec)
        return chosen.pixel_format, *chosen.remarks

    assert remarks('yuv420p', None) == ('yuv420p', )
    assert remarks('yuv420p', 'h264', (63, 47)) == ('yuv444p', )
    assert remarks('yuv444p', 'av1')[1] == 'colours get fewer pixels, as av1 is written here'
    assert remarks('yuv420p12le', 'h264') == ('yuv420p10le', '12 bits become 10, as h264 is written here')
    assert remarks('yuva420p', 'h264') == ('yuv420p', 'its transparency is lost, as h264 is written here')
    assert remarks('gbrp', 'h264') == ('yuv444p', )
    assert remarks('nv12', 'ffv1') == ('yuv420p', )
    assert choose('a.webm', 'h264', av.VideoFormat('yuv420p'), (64, 48)).remarks == ('is h264, and becomes vp9', )


# --- what is no clip, or a damaged one


def cut_off(name: str, share: float) -> str:
    data = Path(name).read_bytes()
    Path(f'cut_{name}').write_bytes(data[:int(len(data) * share)])
    return f'cut_{name}'


def test_a_cut_off_clip_is_told_before_the_network_begins(video, capsys):
    make('a.mkv', noise=15, frames=24)
    assert video(cut_off('a.mkv', .6), '-o', 'b.mkv') == 2
    said = capsys.readouterr().err
    assert "'cut_a.mkv' is " in said and 'frame' in said and '--frames ' in said
    count = said.rpartition('--frames ')[2].split()[0]
    assert not os.path.exists('b.mkv')
    assert video('cut_a.mkv', '-o', 'b.mkv', '--frames', count) == 0
    assert len(Found('b.mkv').frames) == int(count) > 3
    make('c.mp4')
    assert video(cut_off('c.mp4', .5), '-o', 'd.mp4') == 2  # its index was at the end
    assert capsys.readouterr().err.startswith("error: 'cut_c.mp4' is no video that can be read (")


def test_a_frame_that_is_damaged_inside_is_named(video, capsys):
    data = bytearray(Path(make('a.mp4', noise=15, frames=24)).read_bytes())
    middle = len(data) // 2
    data[middle:middle + 3000] = bytes(value ^ 0x5a for value in data[middle:middle + 3000])
    Path('a.mp4').write_bytes(data)
    assert video('a.mp4', '-o', 'b.mp4') == 2
    said = capsys.readouterr().err
    assert said.startswith("error: 'a.mp4' is damaged: frame ") and 'before it can; --frames ' in said


def test_mistakes_are_one_sentence(video, capsys, monkeypatch):
    Path('text.mp4').write_text('no video ' * 100)
    make('sound.mp4', frames=0)
    make('a.mp4')
    os.mkdir('folder')
    for words, said in (
        (['text.mp4', '-o',
          'b.mp4'], "'text.mp4' is no video that can be read (Invalid data found when processing input)"),
        (['gone.mp4', '-o', 'b.mp4'], "cannot use the file 'gone.mp4': no such file or directory"),
        (['folder', '-o', 'b.mp4'], "cannot use the file 'folder': it is a folder"),
        (['a.mp4', '-o',
          'b.mp5'], "cannot write 'b.mp5': the suffix of a video is one of .mp4, .m4v, .mov, .mkv, .webm,"
         " .ts, .mts, .m2ts. Did you mean '.mp4'?"),
        (['a.mp4', '-o', 'a.mp4',
          '--overwrite'], "-o: 'a.mp4' is to be read and would be written over; choose another name"),
        (['a.mp4', '-o', 'b.mp4', '--codec',
          'ffv1'], "cannot write 'b.mp4' as ffv1: .mp4 files hold none; one of h264, hevc, av1, vp9"),
        (['a.mp4', '-o', 'b.mkv', '--codec', 'ffv1', '--quality', '3'], 'ffv1 is lossless: leave out --quality'),
        (['a.mp4', '-o', 'b.mp4', '--quality', '70'], '--quality is a whole number from 0 (best) to 63, not 70'),
        (['a.mp4', '-o', 'b.mp4', '--smooth', '-1'], '--smooth is a number of seconds from 0 (off) to 60, not -1'),
        (['a.mp4', '-o', 'b.mp4', '--frames', '0'], '--frames is a number of frames, at least 1, not 0'),
    ):
        assert video(*words) == 2
        assert capsys.readouterr().err == f'error: {said}\n'
    assert not [name for name in os.listdir() if name.startswith(('b.', '.'))]
    monkeypatch.setattr('basicsr.commands.video.find_spec', lambda name: None)
    assert video('a.mp4', '-o', 'b.mp4') == 2
    assert capsys.readouterr().err == (
        "error: videos are read and written by PyAV: pip install 'retinexmamba[video]'\n")


@pytest.mark.parametrize('failure', [KeyboardInterrupt(), UserError('no memory')])
def test_a_stop_leaves_nothing_behind(failure):
    make('a.mp4')
    before = sorted(os.listdir())
    with pytest.raises(type(failure)):
        fake('a.mp4', 'b.mp4', Fake(fail_at=6, failure=failure))
    assert sorted(os.listdir()) == before
    Path('b.mp4').write_bytes(b'earlier')
    with pytest.raises(type(failure)):
        fake('a.mp4', 'b.mp4', Fake(fail_at=6, failure=failure))
    assert Path('b.mp4').read_bytes() == b'earlier'


def test_an_answer_that_is_not_finite_names_its_frame():
    make('a.mp4')

    class Broken(Fake):

        def __call__(self, *args, **settings):
            answer = super().__call__(*args, **settings)
            return answer * np.nan if self.calls == 4 else answer  # the first call asks for the size

    with pytest.raises(UserError, match=r'^frame 3: '):
        fake('a.mp4', 'b.mp4', Broken())
