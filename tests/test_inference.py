"""Enhancing photos: the command, tiling, self-ensemble."""
from __future__ import annotations

import itertools
import os
import resource
import sys

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, run_python

from basicsr.archs import build_network
from basicsr.archs.description import Description
from basicsr.commands.enhance import main as enhance
from basicsr.inference import memory
from basicsr.inference import restorer as restorer_module
from basicsr.inference.ensemble import self_ensemble
from basicsr.inference.restorer import ImageRestorer
from basicsr.inference.tiling import run_tiled, spans
from basicsr.utils.errors import UserError
from basicsr.utils.img import imread, to_float
from basicsr.utils.weights import save_weights

NETWORK = {'type': 'RetinexMamba', 'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    save_weights(tmp_path / 'w.pth', {'params': build_network(NETWORK).state_dict()})
    return tmp_path / 'w.pth'


# --- tiling and self-ensemble


@pytest.mark.parametrize('length, tile, overlap', [(10, 4, 1), (17, 8, 4), (8, 8, 2), (9, 8, 2), (100, 33, 16)])
def test_spans_cover_everything(length, tile, overlap):
    found = list(spans(length, tile, overlap))
    assert found[0][0] == 0 and found[-1][1] == length
    assert all(end - start == tile for start, end in found)
    assert all(b[0] < a[1] for a, b in itertools.pairwise(found))


@pytest.mark.parametrize('scale', [1, 2])
def test_tiles_of_a_local_operation_equal_the_whole(scale):
    x = torch.rand(1, 3, 37, 61)

    def forward(t, place=None):
        return torch.nn.functional.interpolate(t, scale_factor=scale, mode='nearest') * 2 + 1

    torch.testing.assert_close(run_tiled(forward, x, 16, 6), forward(x))


def test_tiles_blend_where_they_disagree():
    """Each tile answers with a constant of its own: the result never leaves their range and has no hard seam."""
    count = iter(range(100))
    out = run_tiled(lambda t, place: torch.full_like(t, float(next(count) % 2)), torch.zeros(1, 1, 16, 64), 16, 8)
    assert out.min() >= 0 and out.max() <= 1
    assert (out[..., 1:] - out[..., :-1]).abs().max() < 0.25


def test_self_ensemble_of_an_equivariant_function_is_that_function():
    x = torch.rand(2, 3, 8, 12)
    torch.testing.assert_close(self_ensemble(lambda t: t * 3, x), x * 3)
    seen = []
    self_ensemble(lambda t: seen.append(t.sum(1).flatten().tolist().__repr__() + str(t.shape)) or t, x)
    assert len(set(seen)) == 8


def test_memory_that_runs_out_leads_to_tiles():

    class Hungry(torch.nn.Module):
        largest = 0

        def forward(self, x):
            if x.shape[-1] * x.shape[-2] > 200 * 200:
                raise torch.OutOfMemoryError('CUDA out of memory')
            Hungry.largest = max(Hungry.largest, *x.shape[-2:])
            return x

    img = np.random.RandomState(0).rand(300, 500, 3).astype(np.float32)
    np.testing.assert_allclose(ImageRestorer(Hungry())(img), img, atol=1e-6)
    assert Hungry.largest <= 200

    class Insatiable(torch.nn.Module):

        def forward(self, x):
            raise torch.OutOfMemoryError('CUDA out of memory')

    with pytest.raises(UserError, match='not enough memory'):
        ImageRestorer(Insatiable())(img)


def test_networks_that_work_in_strips_are_given_whole_images(messages):
    """The scans of RetinexMamba run through the whole image: a tile does not change its answer."""
    net = build_network(NETWORK)
    photo = np.random.default_rng(0).random((90, 140, 3), dtype=np.float32)
    whole = ImageRestorer(net)(photo)
    np.testing.assert_array_equal(ImageRestorer(net, tile=64, tile_overlap=16)(photo), whole)
    said, = (message for message in messages if 'tile' in message)
    assert said.startswith('tiles of 64 pixels are taken only of images that do not fit into memory')


@pytest.mark.parametrize('options', [
    NETWORK,
    {'type': 'NAFNet', 'width': 4, 'enc_blk_nums': [1, 1], 'middle_blk_num': 1, 'dec_blk_nums': [1, 1]},
], ids=lambda options: options['type'])
def test_the_way_through_one_large_image_is_told(options, monkeypatch):
    monkeypatch.setattr(restorer_module, 'LARGE', 60 * 80)
    torch.manual_seed(0)
    net, img = build_network(options), np.random.default_rng(0).random((64, 100, 3), dtype=np.float32)
    restorer, seen = ImageRestorer(net), []
    wanted = restorer(img)
    state = torch.get_rng_state()
    restorer.watch = lambda *told: seen.append(told)
    np.testing.assert_array_equal(restorer(img), wanted)
    assert torch.equal(torch.get_rng_state(), state)
    parts = [done for done, _, _ in seen]
    assert parts[0] == 0 and parts[-1] == 100 and len(parts) > 8 and parts == sorted(set(parts))
    assert {told[1:] for told in seen} == {(100, '%')} and not any(m._forward_hooks for m in net.modules())
    del seen[:]
    restorer(img[:40])
    assert seen == []  # a moment


def test_a_network_whose_work_cannot_be_counted_has_a_bar_of_one_step(monkeypatch):

    class Large(torch.nn.Module):

        def forward(self, x):
            if x.shape[-1] < 200:
                raise ValueError('too small')
            return x

    monkeypatch.setattr(restorer_module, 'LARGE', 60 * 80)
    restorer, seen = ImageRestorer(Large()), []
    restorer.watch = lambda *told: seen.append(told)
    assert restorer(np.zeros((100, 300, 3), np.float32)).shape == (100, 300, 3)
    assert seen == [(0, 100, '%'), (100, 100, '%')]


def test_a_tile_is_taken_where_the_image_does_not_fit(messages):

    class Hungry(torch.nn.Module):
        description = Description(tiling='', strips=True)

        def forward(self, x):
            if x.shape[-1] > 100:
                raise torch.OutOfMemoryError('CUDA out of memory')
            return x

    img = np.random.RandomState(0).rand(120, 300, 3).astype(np.float32)
    np.testing.assert_allclose(ImageRestorer(Hungry(), tile=96)(img), img, atol=1e-6)
    assert any('trying tiles of 96 pixels' in message for message in messages)


@pytest.mark.parametrize(('free', 'tiles'), [(2**30, None), (70_000_000, 200)])
def test_a_photo_too_large_for_the_free_memory_is_cut_into_tiles(free, tiles):
    """In a process of its own, whose C library keeps nothing of what was freed. Only Linux needs a limit, and gets one."""
    tiles = tiles if sys.platform == 'linux' else None
    code = f"""
import numpy as np
from basicsr.archs import build_network
from basicsr.inference import memory
from basicsr.inference import restorer as restorer_module
from basicsr.inference.restorer import ImageRestorer
restorer = ImageRestorer(build_network({NETWORK}))
img = np.random.RandomState(0).rand(400, 400, 3).astype(np.float32)
restorer(img[:40, :40])
memory.free_memory = lambda: {free}
print(restorer(img).shape)
"""
    keeps_nothing = {'MALLOC_MMAP_THRESHOLD_': '65536', 'MALLOC_TRIM_THRESHOLD_': '65536'}
    done = run_python('-c', code, cwd=ROOT, env=os.environ | keeps_nothing)
    assert done.returncode == 0 and done.stdout == '(400, 400, 3)\n', done.stderr
    assert ('does not fit into the memory of cpu' in done.stderr) == (tiles is not None)
    assert tiles is None or f'trying tiles of {tiles} pixels' in done.stderr


def test_memory_beyond_what_is_free_is_refused_and_the_limit_goes_away(monkeypatch):
    limits, refused = resource.getrlimit(resource.RLIMIT_DATA), None
    monkeypatch.setattr(memory, 'free_memory', lambda: 1000)
    try:
        with memory.bounded_memory(torch.device('cpu')):
            torch.empty(2**28)
    except RuntimeError as error:
        refused = error
    assert (refused is not None and memory.is_out_of_memory(refused)) == (sys.platform == 'linux')
    assert resource.getrlimit(resource.RLIMIT_DATA) == limits
    assert torch.empty(2**28).numel() == 2**28


def test_free_memory_is_below_that_of_the_machine():
    free = memory.free_memory()
    assert free is None or 2**20 < free <= os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


# --- enhance


def test_one_photo_without_yaml(pairs, weights, tmp_path):
    assert enhance(
        [str(pairs / 'input' / '1.png'), '-o',
         str(tmp_path / 'out' / 'bright.jpg'), '--weights',
         str(weights)]) == 0
    assert imread(tmp_path / 'out' / 'bright.jpg').shape == (24, 28, 3)


def test_result_is_the_network_output_clamped_and_rounded(pairs, weights, tmp_path):
    assert enhance([str(pairs / 'input' / '1.png'), '-o', str(tmp_path), '--weights', str(weights)]) == 0
    net = build_network(NETWORK).eval()
    net.load_state_dict(torch.load(weights)['params'])
    x = torch.from_numpy(to_float(imread(pairs / 'input' / '1.png'))[..., ::-1].copy()).permute(2, 0, 1)[None]
    want = (net(x).detach().clamp(0, 1)[0].permute(1, 2, 0).numpy() * 255).round()
    np.testing.assert_array_equal(imread(tmp_path / '1.png')[..., ::-1], want)


def test_folder_with_a_damaged_file_does_the_rest(pairs, weights, tmp_path, capsys):
    good = (pairs / 'input' / '2.png').read_bytes()
    (pairs / 'input' / '3.png').write_bytes(good[:len(good) // 2])
    assert enhance([str(pairs / 'input'), '-o', str(tmp_path / 'out'), '--weights', str(weights), '--sheet']) == 2
    captured = capsys.readouterr()
    assert "3.png' is cut off" in captured.err and '3 of 4 images written' in captured.out
    assert {p.name for p in (tmp_path / 'out').glob('*[0-9].png')} == {'1.png', '2.png', '10.png'}
    assert imread(tmp_path / 'out' / '10_sheet.png').shape == (24, 56, 3)


def test_sixteen_bits_stay_sixteen_bits(weights, tmp_path):
    img = np.random.RandomState(0).randint(0, 65536, (16, 20, 3), np.uint16)
    cv2.imwrite(str(tmp_path / 'deep.png'), img)
    assert enhance([str(tmp_path / 'deep.png'), '-o', str(tmp_path / 'out'), '--weights', str(weights)]) == 0
    assert imread(tmp_path / 'out' / 'deep.png').dtype == np.uint16


@pytest.mark.parametrize('options', [{}, {'dual_pixel_task': True}], ids=['residual', 'dual'])
def test_grey_networks_get_and_give_grey_images(pairs, tmp_path, options):
    small = {
        'type': 'Restormer', 'inp_channels': 1, 'out_channels': 1, 'dim': 8, 'num_blocks': [1, 1, 1, 1],
        'num_refinement_blocks': 1, **options
    }
    net = build_network(small).eval()
    save_weights(tmp_path / 'grey.pth', {'params': net.state_dict()})
    file = pairs / 'input' / '1.png'
    assert enhance([str(file), '-o', str(tmp_path / 'out'), '--weights', str(tmp_path / 'grey.pth'), '--sheet']) == 0
    result = cv2.imread(str(tmp_path / 'out' / '1.png'), cv2.IMREAD_UNCHANGED)
    assert result.shape == (24, 28) and imread(tmp_path / 'out' / '1_sheet.png').shape == (24, 56, 3)
    grey = cv2.cvtColor(to_float(imread(file)), cv2.COLOR_BGR2GRAY)
    want = net(torch.from_numpy(grey)[None, None]).detach()[0, 0].clamp(0, 1).numpy() * 255
    assert abs(result - want).max() < 0.51


def test_networks_of_other_channels_are_told_once(pairs, tmp_path, capsys):
    net = build_network({
        'type': 'Restormer', 'inp_channels': 6, 'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1,
        'dual_pixel_task': True
    })
    save_weights(tmp_path / 'dual.pth', {'params': net.state_dict()})
    assert enhance([str(pairs / 'input'), '-o', str(tmp_path / 'out'), '--weights', str(tmp_path / 'dual.pth')]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.count('\n') == 1 and 'takes images of 6 channels' in error


@pytest.mark.parametrize('arguments, message', [
    (['missing.png', '-o', 'out'], "there is no file or folder 'missing.png'"),
    (['{data}/input', '-o', 'out.png'], 'must name a folder'),
    (['{data}/input/1.png', '-o', '{data}/input/1.png'], 'would be written over'),
    (['{data}/input/1.png', '-o', 'x.xyz'], "unknown image type '.xyz'"),
    (['{data}/input/1.png', '-o', 'out', '--tile', '40'], 'more than twice its overlap'),
    (['{data}/input/1.png', '-o', 'out', '--device', 'cuda:7'], "device 'cuda:7' cannot be used"),
    (['{data}', '-o', 'out'], 'there are no images in'),
])
def test_mistakes_are_one_sentence(pairs, weights, capsys, arguments, message):
    arguments = [a.format(data=pairs) for a in arguments]
    assert enhance([*arguments, '--weights', str(weights)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith('error: ') and error.count('\n') == 1


def test_weights_of_unknown_networks(pairs, tmp_path, capsys):
    save_weights(tmp_path / 'x.pth', {'params': {'layer.weight': torch.zeros(3)}})
    assert enhance([str(pairs / 'input'), '-o', str(tmp_path / 'out'), '--weights', str(tmp_path / 'x.pth')]) == 2
    assert 'does not say which network it belongs to; give the option file with --opt' in capsys.readouterr().err


def test_folder_that_cannot_be_written(pairs, weights, tmp_path, capsys):
    (tmp_path / 'out').write_text('a file in the way')
    assert enhance([str(pairs / 'input'), '-o', str(tmp_path / 'out'), '--weights', str(weights)]) == 2
    assert 'Traceback' not in capsys.readouterr().err
