"""Depthwise convolutions with dilation: the same as PyTorch's, in every layout, size and device that takes another way."""
import pytest
import torch
import torch.nn.functional as F

from basicsr.archs.layers.dilated import DilatedDepthwiseConv2d


@pytest.mark.parametrize('dilation', [1, 2, 4, 5, 9])
@pytest.mark.parametrize('size', [(1, 1), (3, 20), (18, 27), (19, 28)])
@pytest.mark.parametrize('learns', [True, False])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
def test_it_is_the_convolution(dilation, size, learns, layout):
    torch.manual_seed(0)
    conv = DilatedDepthwiseConv2d(3, dilation).double()
    x = torch.randn(2, 3, *size, dtype=torch.double).contiguous(memory_format=layout).requires_grad_(learns)
    conv.requires_grad_(learns)
    expected = F.conv2d(x, conv.weight, conv.bias, padding=dilation, dilation=dilation, groups=3)
    found = conv(x)
    torch.testing.assert_close(found, expected)
    if learns:
        grad = torch.randn_like(found)
        inputs = (x, conv.weight, conv.bias)
        ours, theirs = (torch.autograd.grad(y, inputs, grad) for y in (found, expected))
        torch.testing.assert_close(ours, theirs)


def test_an_exported_one_is_one_operator():
    conv, sizes = DilatedDepthwiseConv2d(2, 9), torch.export.Dim('height', min=4, max=4096)
    program = torch.export.export(conv.eval(), (torch.rand(1, 2, 12, 12), ), dynamic_shapes=({2: sizes}, ))
    assert [node.target for node in program.graph.nodes
            if node.op == 'call_function'] == [torch.ops.aten.conv2d.default]
    x = torch.rand(1, 2, 31, 12)
    torch.testing.assert_close(program.module()(x), conv(x))
