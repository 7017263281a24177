"""The module name of BasicSR for the features of `basicsr.losses.vgg`."""
from __future__ import annotations

from collections.abc import Sequence

from basicsr.losses.vgg import VGGFeatures, layer_names
from basicsr.utils.errors import UserError

__all__ = ['NAMES', 'VGGFeatureExtractor']

NAMES = {name: layer_names(name) for name in ('vgg16', 'vgg19')}


class VGGFeatureExtractor(VGGFeatures):
    """`VGGFeatures` by BasicSR's arguments.

    Args:
        layer_name_list, vgg_type, use_input_norm, range_norm: as there.
        requires_grad: train the network as well.
        remove_pooling, pooling_stride: only as they are by default.
    """

    def __init__(self, layer_name_list: Sequence[str], vgg_type: str = 'vgg19', use_input_norm: bool = True,
                 range_norm: bool = False, requires_grad: bool = False, remove_pooling: bool = False,
                 pooling_stride: int = 2):
        if remove_pooling or pooling_stride != 2:
            raise UserError('VGGFeatureExtractor: its pooling is always there, with a stride of 2')
        super().__init__(layer_name_list, vgg_type, use_input_norm, range_norm)
        self.train(requires_grad).requires_grad_(requires_grad)
