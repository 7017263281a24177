"""What of BasicSR is not here, and says so; small helpers by its names."""
import importlib

import numpy as np
import pytest
import torch
from conftest import ROOT
from test_third_party import OPTIONS, folder, put, train  # noqa: F401
from torch.nn import functional as F

from basicsr import losses
from basicsr.archs.arch_util import LayerNorm2d, resize_flow
from basicsr.losses.basic_loss import charbonnier_loss, l1_loss, mse_loss
from basicsr.losses.loss_util import reduce_loss
from basicsr.metrics.metric_util import reorder_image, to_y_channel
from basicsr.models.lr_scheduler import get_position_from_periods
from basicsr.utils.absent import ABSENT
from basicsr.utils.color import bgr2ycbcr

NAMES = [f'basicsr.{package}.{name}' for package, names in ABSENT.items() for name in names.split()]


@pytest.mark.parametrize('name', NAMES)
def test_modules_that_are_not_here_say_so(name):
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(name)
    assert str(caught.value).startswith(f"'{name}' of BasicSR is not in this toolbox; ") and caught.value.name == name


def test_other_names_are_python_s_own_affair():
    for name in ('basicsr.archs.nothing_arch', 'basicsr.nothing', 'dcn', 'basicsr.swinir_arch'):
        with pytest.raises(ModuleNotFoundError, match='No module named'):
            importlib.import_module(name)
    with pytest.raises(ModuleNotFoundError, match=r"'basicsr\.archs\.swinir_arch' of BasicSR is not"):
        importlib.import_module('basicsr.models.archs.swinir_arch')
    with pytest.raises(ImportError, match=r"'basicsr\.archs\.arch_util\.DCNv2Pack' of BasicSR is not"):
        from basicsr.archs.arch_util import DCNv2Pack  # noqa: F401
    with pytest.raises(ImportError, match='cannot import name'):
        from basicsr.archs.arch_util import NothingPack  # noqa: F401


def test_the_docs_name_them():
    text = (ROOT / 'docs' / 'options.md').read_text(encoding='utf-8').partition('Not here')[2]
    for word in ('SwinIR', 'EDSR', 'RCAN', 'StyleGAN', 'EDVR', 'BasicVSR', 'deformable', 'FID', 'RealESRGANModel'):
        assert word in text, word


def test_a_file_that_needs_one_ends_with_a_sentence_and_a_copy_of_it_is_found(folder):  # noqa: F811
    arch = ('from torch import nn\nfrom basicsr.archs.swinir_arch import Base\n\n\nclass Own(Base):\n    pass\n')
    file = put(folder, OPTIONS.replace('MSRResNet', 'Own'), arch=arch)
    code, text, run = train(file)
    assert code == 2 and 'Traceback' not in text and not run.exists()
    assert "own_arch.py': ModuleNotFoundError: 'basicsr.archs.swinir_arch' of BasicSR is not in this toolbox" in text
    (folder / 'swinir_arch.py').write_text('from .srresnet_arch import MSRResNet as Base\n')
    assert train(file)[0] == 0


def test_losses_as_functions():
    a, b = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(l1_loss(a, b), (a - b).abs().mean())
    torch.testing.assert_close(mse_loss(a, b, reduction='none'), (a - b)**2)
    torch.testing.assert_close(charbonnier_loss(a, b, reduction='sum', eps=0.1), ((a - b)**2 + 0.1).sqrt().sum())
    weight = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(l1_loss(a, b, weight), ((a - b).abs() * weight).sum() / (3 * weight.sum()))
    assert [reduce_loss(a, how).numel() for how in ('none', 'mean', 'sum')] == [96, 1, 1]
    with pytest.raises(AttributeError, match="no attribute 'NoLoss'"):
        _ = losses.NoLoss


def test_images_of_metrics():
    img = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    assert np.array_equal(reorder_image(img.transpose(2, 0, 1), 'CHW'), img) and reorder_image(img) is img
    assert reorder_image(img[..., 0]).shape == (5, 6, 1)
    with pytest.raises(ValueError, match="'HCW' is not supported"):
        reorder_image(img, 'HCW')
    luma = to_y_channel(img)
    assert luma.shape == (5, 6, 1) and luma.dtype == np.float32
    np.testing.assert_allclose(luma[..., 0], bgr2ycbcr(img / 255, y_only=True) * 255, atol=1e-4)
    assert to_y_channel(img[..., :1]).shape == (5, 6, 1)


def test_flows_of_another_size():
    flow = torch.stack([torch.full((4, 6), 3.), torch.full((4, 6), -2.)])[None]
    for kind, sizes in (('ratio', (2, 0.5)), ('shape', (8, 3))):
        out = resize_flow(flow, kind, sizes)
        assert out.shape == (1, 2, 8, 3) and out[0, 0].unique().tolist() == [1.5] and out[0,
                                                                                          1].unique().tolist() == [-4]
    with pytest.raises(ValueError, match="size_type 'size'"):
        resize_flow(flow, 'size', (8, 3))


def test_the_norm_of_nafnet_and_positions_in_periods():
    norm, x = LayerNorm2d(8), torch.rand(2, 8, 3, 4)
    torch.nn.init.normal_(norm.weight)
    wanted = F.layer_norm(x.permute(0, 2, 3, 1), (8, ), norm.weight, norm.bias, 1e-6).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), wanted)
    assert set(norm.state_dict()) == {'weight', 'bias'}
    assert [get_position_from_periods(i, [100, 200, 300]) for i in (1, 100, 101, 210, 300)] == [0, 0, 1, 2, 2]
