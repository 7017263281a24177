"""Helpers that arch files of BasicSR import from `arch_util`."""
import pytest
import torch
from torch import nn

from basicsr.archs import arch_util, build_network


def test_flow_warp():
    x = torch.rand(2, 3, 5, 7)
    torch.testing.assert_close(arch_util.flow_warp(x, torch.zeros(2, 5, 7, 2)), x)
    flow = torch.zeros(2, 5, 7, 2)
    flow[..., 0], flow[..., 1] = 2, -1  # x of the pixel two to the right, one above
    warped = arch_util.flow_warp(x, flow)
    torch.testing.assert_close(warped[:, :, 1:, :-2], x[:, :, :-1, 2:])
    assert (warped[:, :, 0] == 0).all() and (warped[..., -2:] == 0).all()
    border = arch_util.flow_warp(x, flow, interp_mode='nearest', padding_mode='border')
    torch.testing.assert_close(border[:, :, 0, :-2], x[:, :, 0, 2:])
    torch.testing.assert_close(arch_util.flow_warp(x[..., :1], torch.zeros(2, 5, 1, 2)), x[..., :1])
    with pytest.raises(ValueError, match='5x7'):
        arch_util.flow_warp(x, torch.zeros(2, 7, 5, 2))
    half = arch_util.flow_warp(x[:, :, :, :2], torch.full((2, 5, 2, 2), 0.5) * torch.tensor([1., 0.]))
    torch.testing.assert_close(half[..., 0], x[..., :2].mean(-1))


def test_pixel_unshuffle():
    x = torch.arange(32.).view(1, 2, 4, 4)
    y = arch_util.pixel_unshuffle(x, 2)
    assert y.shape == (1, 8, 2, 2) and y[0, :4, 0, 0].tolist() == [0, 1, 4, 5] and y[0, 4, 1, 1] == 26
    torch.testing.assert_close(nn.PixelShuffle(2)(y), x)


@pytest.mark.parametrize('scale', [1, 2, 3, 4, 8])
def test_upsample(scale):
    module = arch_util.Upsample(scale, 4)
    assert module(torch.rand(1, 4, 5, 6)).shape == (1, 4, 5 * scale, 6 * scale)
    for bad in (0, 5, 6, -2):
        with pytest.raises(ValueError, match=f'scale {bad} is not supported'):
            arch_util.Upsample(bad, 4)


def test_make_layer_and_initial_weights():
    layer = arch_util.make_layer(arch_util.ResidualBlockNoBN, 3, num_feat=8, res_scale=0.5)
    assert isinstance(layer, nn.Sequential) and len(layer) == 3
    assert len({id(p) for p in layer.parameters()}) == 12 and layer[0].res_scale == 0.5
    x = torch.rand(1, 8, 4, 4)
    block = layer[0]
    torch.testing.assert_close(block(x), x + 0.5 * block.conv2(torch.relu(block.conv1(x))))
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64), nn.Linear(512, 64, bias=False))
    arch_util.default_init_weights(module, 0.1, bias_fill=0.5)
    assert module[0].weight.std().item() == pytest.approx(0.1 * (2 / 576)**0.5, rel=0.05)
    assert module[2].weight.std().item() == pytest.approx(0.1 * (2 / 512)**0.5, rel=0.05)
    assert (module[0].bias == 0.5).all() and (module[1].weight == 1).all()
    assert all(p.requires_grad for p in module.parameters())


def test_to_2tuple():
    assert arch_util.to_2tuple(3) == (3, 3) and arch_util.to_2tuple((3, 4)) == (3, 4)
    assert arch_util.to_2tuple('ab') == ('ab', 'ab')


@pytest.mark.parametrize('upscale', [1, 2, 3, 4])
def test_srresnet(upscale):
    net = build_network({'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': upscale})
    assert net(torch.rand(1, 3, 5, 6)).shape == (1, 3, 5 * upscale, 6 * upscale)
