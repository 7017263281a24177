"""MambaIR: what no golden file reaches, stochastic depth, its heads, and the scan that it shares."""
import pytest
import torch
from torch import nn

from basicsr.archs import build_network
from basicsr.archs.layers.norm import ChannelLayerNorm
from basicsr.archs.mambair.blocks import DropPath, VSSBlock
from basicsr.archs.mambair_arch import MambaIR
from basicsr.utils.errors import UserError

SMALL = {'type': 'MambaIR', 'embed_dim': 30, 'depths': [1, 2], 'd_state': 2}


def test_branches_are_left_out_by_sample_and_the_others_made_up_for():
    torch.manual_seed(0)
    layer, x = DropPath(0.25).train(), torch.ones(4000, 2, 1, 1)
    y = layer(x)
    assert y.unique().tolist() == [0., pytest.approx(4 / 3)] and torch.equal(y[:, 0], y[:, 1])
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert layer.eval()(x) is x


def test_rates_rise_over_all_groups():
    net = build_network(SMALL | {'drop_path_rate': 0.1})
    rates = [m.drop_path.rate for m in net.modules() if isinstance(m, VSSBlock)]
    assert rates == pytest.approx([0, 0.05, 0.1])


def test_norms_have_the_published_epsilon():
    assert {m.eps for m in build_network(SMALL).modules() if isinstance(m, ChannelLayerNorm)} == {1e-5}


def test_the_scan_is_as_wide_as_the_ratio_says_rounded_down():
    block = VSSBlock(43, 2, 1.2, 0., False)
    assert block.self_attention.d_inner == 51 and block.self_attention.dt_rank == 3


@torch.no_grad()
@pytest.mark.parametrize('changes',
                         [{}, {'upsampler': 'pixelshuffle', 'upscale': 3}, {'upsampler': 'pixelshuffle', 'upscale': 4},
                          {'upsampler': 'pixelshuffle'}, {'upsampler': 'pixelshuffledirect', 'upscale': 2
                                                          }, {'in_chans': 1, 'resi_connection': '3conv'}])
@pytest.mark.parametrize('size', [(1, 1), (5, 9)])
def test_any_size_goes_in(changes, size):
    net = build_network(SMALL | changes).eval()
    channels, scale = changes.get('in_chans', 3), changes.get('upscale', 1)
    assert net(torch.rand(2, channels, *size)).shape == (2, channels, scale * size[0], scale * size[1])


@torch.no_grad()
@pytest.mark.parametrize('head', [{}, {'upsampler': 'pixelshuffle'}, {'upsampler': 'pixelshuffledirect'}])
def test_grey_and_colour_have_the_type_of_their_images_under_autocast(head):
    for channels in (1, 3):
        net, x = build_network(SMALL | head | {'in_chans': channels}).eval(), torch.rand(1, channels, 4, 4)
        with torch.autocast('cpu', torch.bfloat16):
            assert net(x).dtype == torch.float32 and net(x.bfloat16()).dtype == torch.bfloat16


def test_checkpoints_give_the_same_gradients():
    torch.manual_seed(0)
    x, found = torch.rand(1, 3, 8, 8), []
    for flag in (False, True):
        torch.manual_seed(1)
        net = build_network(SMALL | {'use_checkpoint': flag, 'drop_path_rate': 0.}).train()
        net(x).square().mean().backward()
        found.append([p.grad for p in net.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found))


def test_linear_layers_begin_narrow():
    weights = [m.weight.std().item() for m in build_network(SMALL).modules() if isinstance(m, nn.Linear)]
    assert weights and all(0.015 < std < 0.025 for std in weights)


def test_no_head_is_taken_for_another():
    with pytest.raises(UserError, match='upscale 2 needs an upsampler'):
        build_network(SMALL | {'upscale': 2})
    with pytest.raises(UserError,
                       match="upsampler: 'nearest' is not allowed; one of: , pixelshuffle or pixelshuffledirect"):
        build_network(SMALL | {'upsampler': 'nearest'})
    with pytest.raises(ValueError, match="there is no upsampler 'nearest'"):
        MambaIR(upsampler='nearest')


@torch.no_grad()
@pytest.mark.parametrize(('upscale', 'size'), [(1, (7, 5)), (1, (13, 9)), (2, (9, 12))])
def test_published_figures_are_of_tiles(monkeypatch, upscale, size):
    """Tiles of their own, a tenth of a side around each, what was padded cut off; smaller images as a whole."""
    monkeypatch.setattr('basicsr.archs.mambair.published_eval._SIDE', 6)
    changes = {'upsampler': 'pixelshuffledirect', 'upscale': 2} if upscale == 2 else {}
    net = build_network(SMALL | changes | {'published_eval': True}).eval()
    whole = build_network(SMALL | changes).eval()
    whole.load_state_dict(net.state_dict())
    x = torch.rand(1, 3, *size)
    rows, columns = (side // 6 + 1 for side in size)
    padded = torch.nn.functional.pad(x, (0, -size[1] % columns, 0, -size[0] % rows), 'reflect')
    height, width = padded.shape[-2] // rows, padded.shape[-1] // columns
    wanted = torch.zeros(1, 3, upscale * padded.shape[-2], upscale * padded.shape[-1])
    for i in range(rows):
        for j in range(columns):
            top, left = max(0, i * height - height // 10), max(0, j * width - width // 10)
            tile = padded[..., top:(i + 1) * height + height // 10, left:(j + 1) * width + width // 10]
            y, (a, b) = whole(tile), (upscale * (i * height - top), upscale * (j * width - left))
            inner = y[..., a:a + upscale * height, b:b + upscale * width]
            wanted[..., upscale * i * height:upscale * (i + 1) * height,
                   upscale * j * width:upscale * (j + 1) * width] = inner
    torch.testing.assert_close(net(x), wanted[..., :upscale * size[0], :upscale * size[1]])
    assert torch.equal(net(x[..., :5, :5]), whole(x[..., :5, :5]))
    assert net.train()(x).shape[-2:] == (upscale * size[0], upscale * size[1])


@torch.no_grad()
def test_tiles_of_the_published_size_overlap():
    net = build_network(SMALL | {'depths': [1], 'published_eval': True}).eval()
    x = torch.rand(1, 3, 210, 30)
    upper = build_network(SMALL | {'depths': [1]}).eval()
    upper.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(x)[..., :105, :], upper(x[..., :115, :])[..., :105, :])
    torch.testing.assert_close(net(x)[..., 105:, :], upper(x[..., 95:, :])[..., 10:, :])
