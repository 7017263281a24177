"""RRDBNet and the discriminators under BasicSR's names, against their definitions; names of published weights."""
import pytest
import torch
from loss_inputs import vgg_file
from torch.nn import functional as F

from basicsr.archs import build_network, describe
from basicsr.archs.discriminator_arch import UNetDiscriminatorSN, VGGStyleDiscriminator
from basicsr.archs.rrdbnet_arch import RRDB, ResidualDenseBlock, RRDBNet
from basicsr.archs.vgg_arch import NAMES, VGGFeatureExtractor
from basicsr.losses import imagenet
from basicsr.losses.vgg import VGGFeatures
from basicsr.utils.errors import UserError
from basicsr.weights.detection import detect


def conv(state, name, x):
    return F.conv2d(x, state[f'{name}.weight'], state.get(f'{name}.bias'), padding=1)


def plain_rrdbnet(state, x, blocks, fold):
    """The published network, convolution by convolution."""

    def lrelu(x):
        return F.leaky_relu(x, 0.2)

    def dense(name, x):
        x1 = lrelu(conv(state, f'{name}.conv1', x))
        x2 = lrelu(conv(state, f'{name}.conv2', torch.cat((x, x1), 1)))
        x3 = lrelu(conv(state, f'{name}.conv3', torch.cat((x, x1, x2), 1)))
        x4 = lrelu(conv(state, f'{name}.conv4', torch.cat((x, x1, x2, x3), 1)))
        return conv(state, f'{name}.conv5', torch.cat((x, x1, x2, x3, x4), 1)) * 0.2 + x

    feat = conv(state, 'conv_first', F.pixel_unshuffle(x, fold) if fold > 1 else x)
    body = feat
    for i in range(blocks):
        out = body
        for j in (1, 2, 3):
            out = dense(f'body.{i}.rdb{j}', out)
        body = out * 0.2 + body
    feat = feat + conv(state, 'conv_body', body)
    for name in ('conv_up1', 'conv_up2'):
        feat = lrelu(conv(state, name, feat.repeat_interleave(2, 2).repeat_interleave(2, 3)))
    return conv(state, 'conv_last', lrelu(conv(state, 'conv_hr', feat)))


@pytest.mark.parametrize('scale', [1, 2, 4])
@torch.no_grad()
def test_rrdbnet_is_the_published_network(scale):
    torch.manual_seed(0)
    net = RRDBNet(3, 3, scale=scale, num_feat=8, num_block=2, num_grow_ch=4).double()
    x = torch.rand(2, 3, 8, 12, dtype=torch.float64)
    wanted = plain_rrdbnet(net.state_dict(), x, 2, 4 // scale)
    assert wanted.shape[-2:] == (8 * scale, 12 * scale)
    torch.testing.assert_close(net(x), wanted)
    assert describe(net).multiple == 4 // scale and net(x[..., :7, :9]).shape == (2, 3, 7 * scale, 9 * scale)
    assert detect(net.state_dict()) == {
        'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'scale': scale, 'num_feat': 8, 'num_block': 2,
        'num_grow_ch': 4
    }
    with pytest.raises(ValueError, match='scale must be 1, 2 or 4, not 3'):
        RRDBNet(scale=3)


def test_sizes_and_names_of_published_weights():
    with torch.device('meta'):
        net = build_network({'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3})
        assert sum(p.numel() for p in net.parameters()) == 16_697_987
        judge = UNetDiscriminatorSN(3)
        assert sum(p.numel() for p in judge.parameters()) == 4_376_897
    assert {'body.22.rdb3.conv5.bias', 'conv_up2.weight', 'conv_hr.bias'} <= net.state_dict().keys()
    names = {k.partition('.')[0] + k.partition('.')[2].removeprefix('weight') for k in judge.state_dict()}
    assert names == {'conv0', 'conv0bias', 'conv9', 'conv9bias'
                     } | {f'conv{i}{part}' for i in range(1, 9) for part in ('_orig', '_u', '_v')}
    state = VGGStyleDiscriminator(3, 4).state_dict()
    assert {k.partition('.')[0]
            for k in state} == {f'{kind}{i}_{j}' for i in range(5) for j in (0, 1)
                                for kind in ('conv', 'bn')} - {'bn0_0'} | {'linear1', 'linear2'}
    assert 'conv0_0.bias' in state and 'conv0_1.bias' not in state and state['linear1.weight'].shape == (100, 32 * 16)


def test_blocks_by_themselves():
    x = torch.rand(1, 8, 5, 5)
    block = ResidualDenseBlock(8, 4)
    assert block(x).shape == RRDB(8, 4)(x).shape == x.shape
    torch.nn.init.zeros_(block.conv5.weight)
    assert torch.equal(block(x), x)


@torch.no_grad()
def test_a_judgement_of_each_pixel():
    torch.manual_seed(0)
    net, x = UNetDiscriminatorSN(3, num_feat=4).double(), torch.rand(2, 3, 16, 24, dtype=torch.float64)
    for _ in range(20):  # training finds the norms
        net(x)
    state = net.eval().state_dict()
    for i in range(1, 9):  # what spectral normalisation divides by
        weight, u, v = (state[f'conv{i}.weight_{k}'] for k in ('orig', 'u', 'v'))
        state[f'conv{i}.weight'] = weight / (u @ weight.flatten(1) @ v)

    def lrelu(name, x, stride=1):
        return F.leaky_relu(F.conv2d(x, state[f'{name}.weight'], state.get(f'{name}.bias'), stride, 1), 0.2)

    def up(x):
        return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)

    x0 = lrelu('conv0', x)
    x1 = lrelu('conv1', x0, 2)
    x2 = lrelu('conv2', x1, 2)
    x3 = lrelu('conv3', x2, 2)
    x4 = lrelu('conv4', up(x3)) + x2
    x5 = lrelu('conv5', up(x4)) + x1
    x6 = lrelu('conv6', up(x5)) + x0
    wanted = conv(state, 'conv9', lrelu('conv8', lrelu('conv7', x6)))
    torch.testing.assert_close(net(x), wanted)
    plain = UNetDiscriminatorSN(3, num_feat=4, skip_connection=False).double().eval()
    plain.load_state_dict(net.state_dict())
    assert wanted.shape == (2, 1, 16, 24) and not torch.allclose(plain(x), wanted)
    with pytest.raises(ValueError, match='multiples of 8, not 12x16'):
        net(x[..., :12])


def test_features_by_the_names_of_basicsr(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, 'find_weights', lambda network: vgg_file(tmp_path / 'vgg.pth', network, 6))
    assert NAMES['vgg19'][:3] == ['conv1_1', 'relu1_1', 'conv1_2'] and len(NAMES['vgg16']) == 31
    net = VGGFeatureExtractor(['conv1_2', 'relu2_1'], vgg_type='vgg19')
    assert isinstance(net, VGGFeatures) and not net.training and not any(p.requires_grad for p in net.parameters())
    found = net(torch.rand(1, 3, 16, 16))
    assert {k: v.shape for k, v in found.items()} == {'conv1_2': (1, 64, 16, 16), 'relu2_1': (1, 128, 8, 8)}
    trained = VGGFeatureExtractor(['conv1_1'], requires_grad=True)
    assert trained.training and all(p.requires_grad for p in trained.parameters())
    with pytest.raises(UserError, match='pooling is always there'):
        VGGFeatureExtractor(['conv1_1'], remove_pooling=True)


@pytest.mark.parametrize('size', [128, 256])
@torch.no_grad()
def test_one_judgement_of_an_image(size):
    torch.manual_seed(0)
    net, x = VGGStyleDiscriminator(3, num_feat=2, input_size=size).eval(), torch.rand(2, 3, size, size)
    y = x
    for i in range(5 if size == 128 else 6):
        for j, stride in ((0, 1), (1, 2)):
            y = F.conv2d(y, *(getattr(getattr(net, f'conv{i}_{j}'), k) for k in ('weight', 'bias')), stride, 1)
            if (i, j) != (0, 0):
                y = y / (1 + 1e-5)**0.5  # a batch norm that has seen nothing yet
            y = F.leaky_relu(y, 0.2)
    assert y.shape == (2, 16, 4, 4)
    torch.testing.assert_close(net(x), net.linear2(F.leaky_relu(net.linear1(y.flatten(1)), 0.2)))
    with pytest.raises(ValueError, match=f'{size}x{size}, its input_size, not of 64x{size}'):
        net(x[..., :64])
    with pytest.raises(ValueError, match='must be 128 or 256, not 64'):
        VGGStyleDiscriminator(input_size=64)
