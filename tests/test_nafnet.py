"""NAFNet: means of windows, levels, training sizes."""
import pytest
import torch
import torch.nn.functional as F

from basicsr.archs import build_network
from basicsr.archs.nafnet_arch import NAFNetLocal, WindowMean
from basicsr.utils.errors import UserError


def slow_window_mean(x, size):
    """By the definition: a valid mean, then the border repeated, less of it before than behind."""
    kernel = [min(k, side) for k, side in zip(size, x.shape[-2:])]
    y = F.avg_pool2d(x, kernel, stride=1)
    (h, w), (hh, ww) = x.shape[-2:], y.shape[-2:]
    left, top = (w - ww) // 2, (h - hh) // 2
    return F.pad(y, (left, w - ww - left, top, h - hh - top), mode='replicate')


@pytest.mark.parametrize('size', [(4, 3), (5, 40), (40, 6), (9, 12)])
def test_means_of_windows(size):
    x = torch.rand(2, 3, 9, 13)
    torch.testing.assert_close(WindowMean(size)(x), slow_window_mean(x, size), atol=1e-6, rtol=1e-5)


def test_a_window_that_holds_all_is_the_global_mean():
    x = torch.rand(2, 3, 9, 13)
    assert torch.equal(WindowMean((9, 13))(x), x.mean((2, 3), keepdim=True))


def test_sums_of_large_images_keep_their_digits():
    x = torch.full((1, 1, 1200, 1600), 0.7)
    assert (WindowMean((384, 384))(x) - 0.7).abs().max() < 1e-7


@pytest.mark.parametrize(
    ('train_size', 'levels', 'want'),
    [
        ((1, 3, 256, 256), 4, [(384, 384), (192, 192), (96, 96), (48, 48), (24, 24)]),
        ((1, 3, 101, 60), 2, [(155, 96), (77, 48), (38, 24)]),  # padded to 104 x 60; 151 is 1.5 * 101 without its half
    ])
def test_windows_follow_the_training_patches(train_size, levels, want):
    net = build_network({
        'type': 'NAFNetLocal', 'width': 2, 'enc_blk_nums': [1] * levels, 'dec_blk_nums': [1] * levels,
        'train_size': train_size
    })
    if train_size[2] == 101:
        want = [((104 >> i) * 151 // 101, (60 >> i) * 90 // 60) for i in range(3)]
    assert [net.pool(i).size for i in range(levels + 1)] == want


@pytest.mark.parametrize('name', ['NAFNet', 'NAFNetLocal', 'DarkIR'])
@pytest.mark.parametrize('down, up', [([1, 1], [1]), ([1], [1, 1]), ([1], [1, 1, 1, 1, 1])])
def test_levels_must_match(name, down, up):
    said = f'{name}: enc_blk_nums and dec_blk_nums are of the same levels, but there are {len(down)} and {len(up)}'
    with pytest.raises(UserError, match=said):
        build_network({'type': name, 'width': 2, 'enc_blk_nums': down, 'dec_blk_nums': up})


@pytest.mark.parametrize('train_size', [[1, 3, 256], [256], [1, 3, 256, 0]])
def test_a_training_size_is_images_channels_height_and_width(train_size):
    with pytest.raises(ValueError, match=r'train_size is \(images, channels, height, width\), each 1 or more, not \['):
        NAFNetLocal(2, train_size=train_size)
