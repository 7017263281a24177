"""Pre-computed semantic maps: from the command that makes them to training, validation and inference."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_python
from test_datasets import encoded, make_pairs
from test_isalux import SMALL, network
from test_semantic_prior import segmenter_file

from basicsr.commands.evaluate import main as evaluate
from basicsr.commands.segment import main as segment
from basicsr.config import load_options
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.inference.restorer import ImageRestorer
from basicsr.models import build_model
from basicsr.train import main as train
from basicsr.training.launch import start_run
from basicsr.utils.errors import UserError
from basicsr.utils.pretrained import WeightFile
from basicsr.utils.weights import save_weights
from basicsr.weights.semantic_prior import load_semantic_prior

EXTERNAL = {'type': 'ISALux', **SMALL, 'semantic': 'external', 'num_classes': 3}


def coded_maps(root: Path, suffix: str = '.npy', h: int = 24, w: int = 20) -> dict[str, str | int]:
    """Maps whose channels are row / 255, column / 255 and 7 / 255: the input of `make_pairs` of number 0 in BGR order."""
    (root / 'sem').mkdir()
    y, x = np.mgrid[:h, :w]
    content = (np.stack([y, x, np.full_like(y, 7)]) / 255).astype(np.float16)
    for i in range(3):
        if suffix == '.npz':
            np.savez_compressed(root / 'sem' / f'{i}.npz', content)
        else:
            np.save(root / 'sem' / f'{i}.npy', content)
    return {'dataroot_sem': f'{root}/sem', 'sem_classes': 3}


# ---------------------------------------------------------------------------------------------- data sets


@pytest.mark.parametrize('suffix', ['.npy', '.npz'])
@pytest.mark.parametrize('options',
                         [{}, {'geometric_augs': True}, {'use_hflip': True, 'use_rot': True}, {'gt_size': None}],
                         ids=str)
@pytest.mark.parametrize('gt_size, scale', [(8, 1), (44, 1), (24, 2)])
def test_a_map_is_cropped_padded_and_turned_like_its_image(tmp_path, suffix, options, gt_size, scale):
    data = make_pairs(tmp_path, scale=scale) | coded_maps(tmp_path, suffix)
    dataset = PairedImageDataset(**data, scale=scale, **{'gt_size': gt_size, **options})
    for _ in range(8):
        sample = dataset[0]
        assert sample['sem'].dtype == torch.float32
        torch.testing.assert_close(sample['sem'].flip(0), sample['lq'], rtol=2**-11, atol=0)


def test_whole_images_in_validation_and_without_ground_truth(tmp_path):
    pairs, maps = make_pairs(tmp_path), coded_maps(tmp_path)
    for dataset in (PairedImageDataset(**pairs, **maps, phase='val'), SingleImageDataset(pairs['dataroot_lq'], **maps)):
        torch.testing.assert_close(dataset[0]['sem'].flip(0), dataset[0]['lq'], rtol=2**-11, atol=0)


def test_pictures_of_class_numbers_become_certain_maps(tmp_path):
    data = make_pairs(tmp_path, count=1)
    (tmp_path / 'sem').mkdir()
    numbers = np.arange(24 * 20).reshape(24, 20).astype(np.uint8) % 5
    (tmp_path / 'sem' / '0.png').write_bytes(encoded(numbers))
    sem = PairedImageDataset(**data, dataroot_sem=f'{tmp_path}/sem', sem_classes=5, phase='val')[0]['sem']
    assert sem.shape == (5, 24, 20) and torch.equal(sem.argmax(0), torch.from_numpy(numbers).long())
    assert torch.equal(sem.sum(0), torch.ones(24, 20))
    for wrong, classes in ((numbers, 4), (np.stack([numbers] * 3, -1), 5)):
        (tmp_path / 'sem' / '0.png').write_bytes(encoded(wrong))
        with pytest.raises(UserError, match=f'class numbers below {classes}'):
            PairedImageDataset(**data, dataroot_sem=f'{tmp_path}/sem', sem_classes=classes)[0]


@pytest.mark.parametrize('content, says', [
    (np.zeros((4, 24, 20), np.float16), 'has 4 classes and 20x24 pixels, its image needs 3 and 20x24'),
    (np.zeros((3, 20, 24), np.float16), 'has 3 classes and 24x20 pixels'),
    (np.zeros((24, 20), np.float16), 'not probabilities'),
    (np.zeros((3, 24, 20), np.int64), 'not probabilities'),
    (b'\x93NUMPY\x01\x00garbage', 'cannot be read as a map'),
], ids=str)
def test_files_that_are_no_maps_are_named(tmp_path, content, says):
    data = make_pairs(tmp_path) | coded_maps(tmp_path)
    file = tmp_path / 'sem' / '1.npy'
    file.write_bytes(content) if isinstance(content, bytes) else np.save(file, content)
    with pytest.raises(UserError, match=says) as caught:
        PairedImageDataset(**data)[1]
    assert str(file) in str(caught.value)


def test_missing_maps_are_named(tmp_path):
    data = make_pairs(tmp_path) | coded_maps(tmp_path)
    (tmp_path / 'sem' / '1.npy').unlink()
    with pytest.raises(UserError, match='has no map of 1 '):
        PairedImageDataset(**data)
    with pytest.raises(UserError, match='basicsr segment'):
        PairedImageDataset(**data | {'dataroot_sem': f'{tmp_path}/nowhere'})


# ---------------------------------------------------------------------------------------------- the command


def test_the_command_writes_what_the_segmenter_sees(pairs, tmp_path, capsys):
    weights = segmenter_file(tmp_path)
    assert segment([str(pairs / 'input'), '-o', str(tmp_path / 'maps'), '--weights', weights, '--device', 'cpu']) == 0
    assert '4 maps written' in capsys.readouterr().out
    assert segment([str(pairs / 'input'), '-o', str(tmp_path / 'maps'), '--weights', weights]) == 2
    assert '4 more' not in (said := capsys.readouterr().err) and 'would be replaced' in said
    data = {'dataroot_lq': str(pairs / 'input'), 'dataroot_sem': str(tmp_path / 'maps')}
    sample = SingleImageDataset(**data)[0]
    assert sample['sem'].shape == (21, 24, 28)
    expected = load_semantic_prior(weights)(sample['lq'][None])[0]
    torch.testing.assert_close(sample['sem'], expected, rtol=2**-11, atol=2**-24)


def test_weights_of_the_segmenter_may_be_an_entry_a_name_or_an_address(pairs, tmp_path, capsys, monkeypatch):
    plain = torch.load(segmenter_file(tmp_path))
    seventh = 1e6 * (torch.arange(21) == 7)
    other = {k: v + seventh if k == 'classifier.low_classifier.bias' else v for k, v in plain.items()}
    save_weights(tmp_path / 'two.pth', {'first': plain, 'second': other})
    given = []
    monkeypatch.setattr('basicsr.weights.semantic_prior.locate',
                        lambda name: given.append(name) or WeightFile(tmp_path / 'two.pth', 'two'))
    made = {}
    for key in ('first', 'second'):
        argv = [str(pairs / 'input'), '-o', str(tmp_path / key), '--weights', 'hf:owner/net', '--key', key]
        assert segment(argv) == 0
        made[key] = np.load(tmp_path / key / '1.npy')
    assert given == ['hf:owner/net'] * 2
    assert (made['second'].argmax(0) == 7).all() and not (made['first'].argmax(0) == 7).all()
    assert segment([*argv[:-1], 'third', '--overwrite']) == 2
    assert "two.pth' has no entry 'third'" in capsys.readouterr().err


@pytest.mark.parametrize('arguments, says', [
    (['{data}', '-o', 'x', '--weights', 'torchvison'], "Did you mean 'torchvision'"),
    (['{data}', '-o', 'x', '--weights', 'off'], 'is no segmenter'),
    (['nowhere', '-o', 'x'], "FOLDER: 'nowhere' is not a folder"),
])
def test_mistakes_are_one_sentence(pairs, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert segment([a.format(data=pairs / 'input') for a in arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count('\n') == 1 and not (tmp_path / 'x').exists()


# ---------------------------------------------------------------------------------------------- training and using


@pytest.fixture
def options(tiny_options, pairs, tmp_path):
    """An option file of a small ISALux that is given maps of three classes."""
    (tmp_path / 'maps').mkdir()
    for name in ('1', '2', '3', '10'):
        logits = torch.randn(3, 24, 28, generator=torch.Generator().manual_seed(int(name)))
        np.save(tmp_path / 'maps' / f'{name}.npy', logits.softmax(0).half().numpy())
    maps = {'dataroot_sem': str(tmp_path / 'maps'), 'sem_classes': 3}
    return tiny_options(network_g=EXTERNAL, datasets={'train': maps, 'val': maps}, val={'window_size': 16},
                        train={'ema_decay': 0.9, 'mixing_augs': {'mixup': True}})


def test_a_network_trains_and_is_evaluated_with_its_maps(options, tmp_path, capsys):
    assert train([str(options)]) == 0
    file = tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_latest.pth'
    run = ['--opt', str(options), '--weights', str(file), '--output_dir', str(tmp_path / 'o')]
    scores = []
    for extra in ([], ['--GT_mean'], ['--self_ensemble']):
        assert evaluate([*run, *extra]) == 0
        scores.append(json.loads((tmp_path / 'o' / 'metrics.json').read_text())['psnr basicsr'])
    assert len(set(scores)) == 3 and scores[1] > scores[0]


def model_and_batch(options: Path, *overrides: str, batch: int = 4):
    model = build_model(start_run(load_options(options, overrides, is_train=True)))
    generator = torch.Generator().manual_seed(1)
    lq, gt = torch.rand(2, batch, 3, 16, 16, generator=generator)
    data = {'lq': lq, 'gt': gt, 'sem': torch.randn(batch, 3, 16, 16, generator=generator).softmax(1)}
    return model, data


def test_accumulation_divides_the_maps_with_the_batch(options):
    gradients = []
    for count in (1, 2):
        model, data = model_and_batch(options, f'train.accumulate={count}', 'train.mixing_augs=~')
        model.feed_data(data)
        model.optimize_parameters(1)
        gradients.append(torch.cat([p.grad.flatten() for p in model.net_g.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)


def test_patches_and_mixup_keep_image_and_map_together(options):
    model, data = model_and_batch(options)
    data['lq'] = data['sem'].clone()
    model.feed_data(data)
    model._shrink(1, 8)  # of the two that a loader delivers
    assert model.lq.shape == (2, 3, 8, 8) and torch.equal(model.guides[0], model.lq)
    model._mixup(1.2, False)
    assert torch.equal(model.guides[0], model.lq)


def test_inference_flips_pads_and_cuts_the_map_with_the_image():
    net, generator = network(num_classes=3), torch.Generator().manual_seed(2)
    image, guide = (torch.rand(37, 50, 3, generator=generator).numpy() for _ in range(2))
    tensors = [torch.from_numpy(a).permute(2, 0, 1)[None] for a in (image, guide)]
    with torch.no_grad():
        expected = net(*tensors)[0].permute(1, 2, 0).clamp(0, 1).numpy()
    np.testing.assert_allclose(ImageRestorer(net)(image, guide), expected, atol=1e-6)

    class Difference(torch.nn.Module):

        def forward(self, x, sem):
            return 0.5 + x - sem

    restorer = ImageRestorer(Difference(), tile=24, tile_overlap=4, ensemble=True, multiple=8)
    np.testing.assert_allclose(restorer(image / 2, image / 2), np.full_like(image, 0.5), atol=1e-6)
    with pytest.raises(UserError, match='dataroot_sem'):
        ImageRestorer(net)(image)


def test_options_know_the_folder_of_maps(options, tmp_path):
    file = tmp_path / 'w.pth'
    save_weights(file, {'params': network(num_classes=3).state_dict()})
    wrong = f'datasets.val.dataroot_sem={tmp_path}/nowhere'
    done = run_python('-m', 'basicsr.cli', 'evaluate', '--opt', options, '--weights', file, wrong,
                      cwd=Path(__file__).parents[1])
    assert done.returncode == 2 and 'datasets.val.dataroot_sem' in done.stderr and 'does not exist' in done.stderr
