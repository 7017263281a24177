"""What is tried before a run touches its folders, so that mistakes show at once and not after days of training."""
from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from basicsr.archs import input_channels
from basicsr.config import LoadedOptions
from basicsr.config.report import raise_mistakes
from basicsr.data import build_dataset
from basicsr.data.build import build_val_data
from basicsr.data.loader import ImageLoader, Samples
from basicsr.data.pairing import file_of
from basicsr.data.protocol import about
from basicsr.data.resident_loader import ResidentLoader
from basicsr.evaluation.data_sets import DataSet, of_loader
from basicsr.evaluation.evaluate import Batch, Metrics
from basicsr.evaluation.preconditions import (
    check_enlarged,
    check_sizes,
    measured,
    or_too_small,
    say_same_files,
    sizes_of,
    try_metric,
    try_out,
)
from basicsr.evaluation.restoring import by_model
from basicsr.losses import build_loss
from basicsr.losses.loss_util import is_our_loss
from basicsr.models.image_restoration_model import ImageCleanModel
from basicsr.models.sr_model import SRModel
from basicsr.models.validation import validates_itself
from basicsr.registry import MODEL_REGISTRY
from basicsr.training.early_stop import EarlyStop
from basicsr.training.message_logger import tensorboard
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.utils.seed import undrawn


def check_stages(stages: Sequence[LoadedOptions]) -> None:
    """Build the data sets and the losses of all stages once, try what they say of themselves, and let go of them.

    Raises `UserError` with the mistakes of all stages. A single run finds its own when it builds them anyway.
    """
    if len(stages) < 2:
        return
    seen, mistakes = [], []
    for stage in stages:
        for check, part in _parts(stage.opt):
            if part in seen:
                continue
            seen.append(part)
            try:
                with stage.naming_places():
                    check(part)
            except UserError as error:
                mistakes.append(f"stage '{stage.opt['name']}': {error}")
    raise_mistakes(str(stages[0].file), list(dict.fromkeys(mistakes)))


def check_channels(opt: dict[str, Any], loaders: Sequence[ImageLoader | ResidentLoader]) -> None:
    """Read one sample of each data set. Raises `UserError` when the network does not take as many channels.

    A sample whose input is its ground truth is warned of.
    """
    wanted = input_channels(opt['network_g'])
    for loader in loaders:
        say_same_files(of_loader(loader))
        sample = loader.dataset[0]
        if wanted is None or not isinstance(sample, dict) or 'lq' not in sample:  # unknown, or a file to be named later
            continue
        given = len(sample['lq'])
        if given != wanted:
            raise UserError(f"datasets.{loader.dataset.opt['block']}: images have {given} channels"
                            f" ('{file_of(sample, loader.dataset.opt)}'),"
                            f" but network_g ({opt['network_g']['type']}) takes {wanted}")


def check_validation(opt: dict[str, Any], model: Any, loaders: Sequence[ImageLoader],
                     by: tuple[str, str] | None = None) -> None:
    """Everything that the first validation needs: metrics, ground truths, sizes of images by the headers of their files.

    Args:
        model: its network restores the smallest image of each set; the class alone tries all else. What others validate
            by themselves is their own affair.
        by: (option, label) of a metric that must be there on the first validation set; default what ends the run early.

    Raises `UserError`.
    """
    metrics, sets = opt['val']['metrics'], [of_loader(loader) for loader in loaders]
    if validates_itself(model):
        return
    sizes = [sizes_of(one) for one in sets]  # first, as it names all files that cannot be used
    given = [measured(metrics, one) for one in sets]
    _check_choices(opt, sets, given, by)
    network = None if isinstance(model, type) else model
    for label in (label for label in metrics if any(label in some for some in given)):
        try:
            try_metric(metrics[label], getattr(network, 'device', None))
        except UserError as error:
            raise UserError(f'val.metrics.{label}: {error}') from error
    for one, some, found in zip(sets, given, sizes):
        if network is None:
            check_sizes(one, some, found, opt.get('scale', 1))
        else:
            with undrawn(), network.validating():
                try_out(by_model(network), one, metrics, network.device, found)


def _check_choices(opt: dict[str, Any], sets: Sequence[DataSet], given: Sequence[Metrics],
                   by: tuple[str, str] | None) -> None:
    """Whether the metrics by which weights are chosen and runs are ended are measured at all."""
    if not (sets and opt['val']['metrics']):
        return
    train = opt.get('train') or {}
    if opt['is_train'] and train.get('early_stop'):
        by = by or ('train.early_stop', EarlyStop(opt).metric)
    if by and by[1] not in given[0]:
        raise UserError(f"{by[0]}: '{by[1]}' needs a ground truth, and datasets.{sets[0].block['block']}, the first"
                        ' validation set, has none; give it one, or name a metric that needs none')
    chosen = opt['val'].get('best_metric')
    if not opt['is_train'] or any((chosen or next(iter(opt['val']['metrics']))) in some for some in given):
        return
    if chosen:
        raise UserError(f"val.best_metric: '{chosen}' needs a ground truth, and no validation set has one, so that no"
                        ' weights could be the best; name a metric that needs none')
    get_root_logger().warning('no validation set has a ground truth, so no weights are kept as the best')


def check_training_data(block: dict[str, Any], data: Samples | None = None) -> dict[int, tuple[int, int]]:
    """The sizes of all stored inputs, by the headers of their files; {} where unknown. `data`: default what `block` says.

    Raises `UserError` for files that cannot be used, which would end an epoch in its middle.
    """
    return sizes_of(DataSet(about(build_dataset(block) if data is None else data).stored(), block))


def check_patch(model: Any, loader: ImageLoader | ResidentLoader, sizes: Mapping[int, tuple[int, int]]) -> None:
    """The smallest patch, without patches the smallest image, goes through network and losses, and trains nothing.

    `sizes`: those of the stored inputs, as far as they are known. Raises `UserError` where network or losses refuse it.
    Models of others may train in other ways, and their losses may count how often they are called; they are not asked.
    """
    if type(model) not in (SRModel, ImageCleanModel):
        return
    one = of_loader(loader)
    block, scale, index, cut = one.block, model.opt.get('scale', 1), 0, min(one.block.get('gt_sizes') or [0])
    if not getattr(one.data, 'gt_size', block.get('gt_size')):
        one = one._replace(data=about(one.data).stored())
        index = min(sizes, key=lambda i: min(sizes[i]), default=0)

    def run(batch: Batch) -> None:
        model.feed_data(batch)
        if model.gt is None:
            raise UserError(f"datasets.{block['block']}: there is no ground truth to train on")
        model.test()
        lq, result, gt = (tuple(x.shape[-2:]) for x in (model.lq, model.output, model.gt))
        check_enlarged(batch, lq, result, gt, f"datasets.{block['block']}: ")
        for loss in (loss for _, loss in model.image_losses() if is_our_loss(loss)):
            loss(model.output, model.gt)

    batch = next(iter(ImageLoader(one.data, block, batch_size=1, sampler=[index])))
    if cut:
        batch |= {key: batch[key][..., :side, :side] for key, side in (('gt', cut), ('lq', cut // scale))}
    with undrawn(), model.validating():
        or_too_small(run, batch, f"datasets.{block['block']}: ")


def check_loggers(opt: dict[str, Any]) -> None:
    """Import what logs and draws curves, and log in to wandb. Raises `UserError` where that fails."""
    if opt['rank'] != 0:  # the others log nothing
        return
    _try_import('matplotlib', 'curves.png is drawn', lambda: importlib.import_module('matplotlib'))
    logs = opt['logger']
    if logs['use_tb_logger']:
        _try_import('tensorboard', 'logger.use_tb_logger is set', tensorboard)
        if (logs.get('wandb') or {}).get('project'):
            _try_import('wandb', 'logger.wandb is set', lambda: importlib.import_module('wandb'))
            _try_wandb(logs['wandb'])


def _try_import(package: str, why: str, load: Callable[[], Any]) -> None:
    if importlib.util.find_spec(package) is None:
        raise UserError(f'{why}, but {package} is not installed: pip install {package}')
    try:
        load()
    except Exception as error:  # versions that do not go together fail in many ways
        raise UserError(f'{why}, but {package} cannot be imported ({type(error).__name__}: {_line(error)})') from error


def _try_wandb(options: dict[str, Any]) -> None:
    """The names and the login that `init_wandb` will need; without a server where wandb works offline."""
    import wandb
    try:
        wandb.Settings(project=options['project'], run_id=options.get('resume_id'))
    except Exception as error:  # of wandb or pydantic, by its version
        raise UserError(f'logger.wandb: {_line(error)}') from error
    try:
        wandb.login()
    except Exception as error:  # a service may fail in any way
        raise UserError(f'logger.wandb: {_line(error)} (or WANDB_MODE=offline in the environment, or'
                        ' logger.wandb.project=null)') from error


def _line(error: Exception) -> str:
    return ' '.join(str(error).split())


def _parts(opt: dict[str, Any]) -> Iterator[tuple[Callable[[dict[str, Any]], Any], dict[str, Any]]]:
    """(function, options) of everything that is built from files."""
    for key, block in opt['datasets'].items():
        yield (check_training_data if key == 'train' else build_dataset), block
    train = opt['train']
    yield (lambda _: check_validation(opt, MODEL_REGISTRY.get(opt['model_type']), build_val_data(opt))), {
        key: opt.get(key) for key in ('model_type', 'scale', 'datasets', 'val')
    }
    for block in (train.get('pixel_opt'), train.get('perceptual_opt'), *(train.get('losses') or [])):
        if block:
            yield build_loss, block
