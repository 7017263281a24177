"""Steps of a model between the loaded batch and the optimizer: progressive patches, mixup, padding, EMA."""
from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from basicsr.config import load_options
from basicsr.engine.ema import update_ema
from basicsr.models import build_model
from basicsr.registry import DATASET_REGISTRY
from basicsr.train import main
from basicsr.training.launch import start_run

NETWORK = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}


@pytest.fixture
def model(tiny_options):
    """An ImageCleanModel with three progressive stages over batches of 4."""
    data = {
        'batch_size_per_gpu': 4, 'gt_size': 24, 'mini_batch_sizes': [4, 3, 1], 'gt_sizes': [8, 16, 24],
        'iters': [10, 5, 1]
    }
    options = tiny_options(network_g=NETWORK, datasets={'train': data})
    return build_model(start_run(load_options(options, is_train=True)))


def batch(size=24, count=4):
    lq = torch.rand(count, 3, size, size)
    return {'lq': lq, 'gt': lq * 2, 'lq_path': [f'{i}.png' for i in range(count)]}


@pytest.mark.parametrize('iteration, count, size', [(1, 4, 8), (10, 4, 8), (11, 3, 16), (15, 3, 16), (16, 1, 24),
                                                    (999, 1, 24)])
def test_progressive_stages(model, iteration, count, size):
    model.feed_data(batch())
    model.optimize_parameters(iteration)
    assert model.lq.shape == model.gt.shape == (count, 3, size, size)
    assert torch.equal(model.gt, model.lq * 2) and len(model.paths) == count  # the same window, the same images


def test_windows_move(model):
    corners = set()
    for _ in range(20):
        model.feed_data(
            {'lq': torch.arange(24.).view(1, 1, 1, 24).expand(4, 3, 24, 24), 'gt': torch.zeros(4, 3, 24, 24)})
        model._shrink(4, 8)
        corners.add(model.lq[0, 0, 0, 0].item())
    assert len(corners) > 5 and max(corners) <= 16


def test_mixup_is_one_weight_and_one_order_for_both_images(model):
    data = batch()
    model.feed_data(data)
    model._mixup(1.2, False)
    assert torch.allclose(model.gt, model.lq * 2)
    original = data['lq'].flatten(1)
    solution = torch.linalg.lstsq(original.t(), model.lq.flatten(1).t()).solution  # rows: weights of the four images
    torch.testing.assert_close(solution.sum(0), torch.ones(4), rtol=0, atol=1e-3)
    weights = {round(v, 3) for v in solution.flatten().tolist()} - {0., 1., -0.}
    assert len(weights) <= 2


def test_identity_leaves_half_of_the_batches(model):
    random.seed(0)
    unchanged = 0
    for _ in range(200):
        data = batch(size=2)
        model.feed_data(data)
        model._mixup(1.2, True)
        unchanged += torch.equal(model.lq, data['lq'])
    assert 70 < unchanged < 130


def test_validation_pads_to_the_window_and_crops(model):
    seen = []
    model.opt['val']['window_size'] = 8
    model.net_g.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[-2:]))
    model.feed_data(batch(size=21, count=1))
    model.padded_test()
    assert seen == [(24, 24)] and model.output.shape[-2:] == (21, 21) and model.lq.shape[-2:] == (21, 21)


def test_list_outputs_are_summed_and_the_last_is_kept(model):
    pred = [torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)]
    losses = model.compute_losses(pred, torch.full((1, 3, 4, 4), 0.25))
    assert losses['l_pix'].item() == pytest.approx(0.25 + 0.75)


def test_ema_averages_weights_and_copies_buffers():
    net, average = (nn.BatchNorm1d(2) for _ in range(2))
    with torch.no_grad():
        net.weight.fill_(3)
        net.running_mean.fill_(5)
        net.num_batches_tracked.fill_(7)
    update_ema(average, net, 0.75)
    assert average.weight.tolist() == [1.5, 1.5] and average.running_mean.tolist() == [5, 5]
    assert average.num_batches_tracked.item() == 7
    update_ema(average, net, 0)
    assert torch.equal(average.weight, net.weight)


# ------------------------------------------------------------------------------------------------ what cannot be built


@pytest.mark.parametrize(('changes', 'line', 'says'), [
    ({'network_g': {'type': 'RetinexMamba', 'n_feat': 6}}, 'network_g:',
     "network_g: network 'RetinexMamba' cannot be built: RetinexMamba: n_feat must be a multiple of 4"),
    ({'train': {'perceptual_opt': {'type': 'PerceptualLoss', 'layer_weights': {'conv9_9': 1}}}}, '  perceptual_opt:',
     "train.perceptual_opt: loss 'PerceptualLoss' cannot be built: vgg19 has no layer 'conv9_9'"),
    ({'train': {'losses': [{'type': 'MixedLoss', 'terms': [{'type': 'PerceptualLoss', 'layer_weights': {'a': 1}}]}]}
      }, '    - type: PerceptualLoss', "train.losses[0].terms[0]: loss 'PerceptualLoss' cannot be built: vgg19 has no"),
    ({'train': {'pixel_opt': {'type': 'MoEBalanceLoss'}}
      }, '  pixel_opt:', 'train.pixel_opt: MoEBalanceLoss compares no images'),
    ({'train': {'optim_g': {'type': 'SGD', 'lr': 1e-3, 'nesterov': True}}
      }, '  optim_g:', "train.optim_g: optimizer 'SGD' cannot be built: Nesterov momentum requires"),
    ({'train': {'optim_g': {'type': 'Adam', 'lr': 1e-3, 'capturable': True}}
      }, '  optim_g:', "train.optim_g: optimizer 'Adam' cannot be built: capturable is for parameters on a GPU"),
    ({'train': {'optim_g': {'type': 'Adam', 'lr': 1e-3, 'fused': True, 'foreach': True}}
      }, '  optim_g:', "train.optim_g: optimizer 'Adam' cannot be built: `fused` and `foreach`"),
    ({'datasets': {'train': {'mean': [1, 2]}}}, '  train:', 'datasets.train: mean: 2 values for three channels'),
    ({'datasets': {'val': {'filename_tmpl': 'x_{}'}}}, '  val:', 'datasets.val: images do not pair by name'),
])
def test_what_cannot_be_built_is_named_with_the_place_of_its_block(tiny_options, capsys, changes, line, says):
    file = tiny_options(**changes)
    assert main(['--opt', str(file)]) == 2
    number = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if text.startswith(line))
    assert f'error: {file}:{number}: {says}' in capsys.readouterr().err


def test_a_data_set_of_others_that_refuses_an_argument_is_named_too(tiny_options, tmp_path, capsys, monkeypatch):
    (tmp_path / 'strict_dataset.py'
     ).write_text('class Strict:\n    def __init__(self, side=1):\n        raise ValueError(f"side {side} is odd")\n')
    for name, value in (('_extra', []), ('_index', None), ('_objects', dict(DATASET_REGISTRY._objects))):
        monkeypatch.setattr(DATASET_REGISTRY, name, value)
    file = tiny_options(dataset_files=[str(tmp_path / 'strict_dataset.py')],
                        datasets={'train': {'type': 'Strict', 'side': 3, 'name': 'x'}})
    assert main(['--opt', str(file)]) == 2
    assert f"{file}:7: datasets.train: dataset 'Strict' cannot be built: side 3 is odd" in capsys.readouterr().err


MAKES_ITS_OWN = """
import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY


class Base(SRModel):

    def setup_schedulers(self):
        kind = self.opt['train']['scheduler'].pop('type')
        assert kind == 'CosineAnnealingLR'
        self.schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(o, **self.opt['train']['scheduler'])
                           for o in self.optimizers]

    def get_optimizer(self, optim_type, params, lr, **kwargs):
        if optim_type == 'Lion':
            return torch.optim.SGD(params, lr)
        return super().get_optimizer(optim_type, params, lr, **kwargs)


@MODEL_REGISTRY.register()
class MakesItsOwnModel(Base):
    pass
"""


def test_a_model_makes_optimizers_and_schedules_that_are_not_known_here(tiny_options, tmp_path, capsys, messages):
    (tmp_path / 'own_model.py').write_text(MAKES_ITS_OWN)
    blocks = {'optim_g': {'type': 'Lion', 'lr': 1e-3}, 'scheduler': {'type': 'CosineAnnealingLR', 'T_max': 10}}
    own = {'model_type': 'MakesItsOwnModel', 'model_files': [str(tmp_path / 'own_model.py')]}
    assert main([str(tiny_options('own', train=blocks, **own))]) == 0
    assert any("'Lion' is not known here; MakesItsOwnModel may make it" in m for m in messages)
    assert main([str(tiny_options('ours', train=blocks))]) == 2
    told = capsys.readouterr().err
    assert "no optimizer called 'Lion'" in told and "no scheduler called 'CosineAnnealingLR'" in told
