"""The start of a run: processes, devices, seed, folders, log file."""
from __future__ import annotations

import random
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import torch
from addict import Dict

from basicsr.config import LoadedOptions, dict2str, freeze
from basicsr.config.files import data_of
from basicsr.engine.checkpoint import Finished
from basicsr.registry import ARCH_REGISTRY, MODEL_REGISTRY
from basicsr.utils.dist import barrier, gather, get_dist_info, init_dist, is_dist
from basicsr.utils.errors import UserError
from basicsr.utils.files import archive_existing, atomic_write, kept, write_json
from basicsr.utils.logger import get_root_logger, timestamp
from basicsr.utils.machine import environment, shadowing
from basicsr.utils.outputs import check_stays
from basicsr.utils.ownership import archived_unless_owned, check_free, check_makeable, owned
from basicsr.utils.seed import set_random_seed


def unfinished(stages: list[LoadedOptions]) -> list[LoadedOptions]:
    """The runs that are left of an option file's stages: with `auto_resume`, from the first that has not ended.

    Only that one can be resumed; `run_folders` archives what the folders of later ones hold from an earlier start.
    Raises `Finished` when every stage has ended.
    """
    if len(stages) == 1 or not stages[0].opt['auto_resume']:
        return stages
    last = [Path(stage.opt['path']['models']) / 'net_g_latest.pth' for stage in stages]
    done = list(takewhile(Path.is_file, last))
    if len(done) == len(stages):
        raise Finished(f"every stage is finished, the last weights are '{done[-1]}'; nothing is left to do")
    stages = stages[len(done):]
    stages[0].notices += [f"a stage that has ended is skipped: '{file}'" for file in done]
    return stages


def start_run(loaded: LoadedOptions, launcher: str = 'none') -> Dict:
    """Join the process group, choose devices, seed everything. Returns the frozen options that models receive."""
    opt = loaded.opt
    opt['dist'] = launcher != 'none'
    if opt['dist'] and not is_dist():  # a later stage is in the group already
        init_dist(launcher, opt['dist_params']['backend'], opt['dist_params']['port'])
    opt['rank'], opt['world_size'] = get_dist_info()
    opt['num_gpu'] = resolve_num_gpu(opt['num_gpu'], opt['dist'])
    if opt.get('manual_seed') is None:
        opt['manual_seed'] = gather(random.randint(1, 10000))[0]
    set_random_seed(opt['manual_seed'] + opt['rank'])
    torch.backends.cudnn.benchmark = opt.get('train', {}).get('cudnn_benchmark', True)
    # of ten ways to do a convolution, PyTorch's default, the first three hold the fastest or one nearly as fast; trying all
    # of them is most of the first iteration
    torch.backends.cudnn.benchmark_limit = 3
    return freeze(opt)


def resolve_num_gpu(wanted: int | Literal['auto'], is_dist: bool) -> int:
    """'auto' to the number of visible GPUs. Raises `UserError` for more than there are."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == 'auto':
        return min(there, 1) if is_dist else there
    if wanted > there and not (is_dist and there):
        raise UserError(
            f'num_gpu: {wanted}, but {there or "no"} GPU{"s are" if there != 1 else " is"} visible here; use num_gpu: auto,'
            ' or num_gpu=0 for the CPU')
    return wanted


@contextmanager
def run_folders(opt: Dict, resuming: bool, later: Sequence[LoadedOptions] = (),
                online: AbstractContextManager[Any] | None = None) -> Iterator[None]:
    """The run's folders, made and owned by rank 0. An earlier run of the same name is renamed, unless it is continued.

    `later`: the stages after this one. What an earlier start left of them is renamed as well, now and not when they
    start: a resume after this stage would otherwise take them for finished. `online`: entered before a folder is touched, as
    it may fail. Raises `UserError` where another process
    owns one of the folders, or where one cannot be made; then none is touched. A run whose folder, or that of its weights
    or states, is taken away ends at its next write there.
    """
    path = opt['path']
    root = Path(path['experiments_root'] if opt['is_train'] else path['results_root'])
    with ExitStack() as stack:
        if opt['rank'] == 0:
            after = [Path(stage.opt['path']['experiments_root']) for stage in later]
            check_free(root, *after)
            if not resuming:
                check_stays(root, (given for block in opt['datasets'].values() for given in data_of(block)))
            logged = opt['is_train'] and (opt['logger']['use_tb_logger'] or Path(path['tb_logger']).exists())
            check_makeable(root, *after, *([Path(path['tb_logger'])] if logged else []))
            if online is not None:
                stack.enter_context(online)
            archived = stack.enter_context(owned(root, archive=not resuming))
            for folder in after:
                archived_unless_owned(folder)
            for options in (*([opt] if opt['is_train'] and not resuming else []), *(stage.opt for stage in later)):
                archive_existing(options['path']['tb_logger'])
            if archived:
                get_root_logger().info(f"an earlier run '{root.name}' is now '{archived.name}'" + _why_archived(opt))
            for key in ('models', 'training_states', 'visualization') if opt['is_train'] else ('visualization', ):
                Path(path[key]).mkdir(parents=True, exist_ok=True)
        barrier()
        # pictures may be removed to make room
        for folder in (root, *(Path(path[key]) for key in ('models', 'training_states') if opt['is_train'])):
            if folder.is_dir():  # the disk of another machine may hold none
                stack.enter_context(kept(folder))
        yield


def _why_archived(opt: Dict) -> str:
    if opt['auto_resume']:
        return '; it holds no training state to go on from'
    return '; --auto_resume would have continued it' if opt['is_train'] else ''


def open_log(opt: Dict, loaded: LoadedOptions) -> None:
    """Log file with environment, notices and options; beside it the option file, without need of a base, and all
    options as JSON."""
    kind = 'train' if opt['is_train'] else 'test'
    if opt['rank'] == 0:
        Path(opt['path']['log']).mkdir(parents=True, exist_ok=True)
        logger = get_root_logger(log_file=Path(opt['path']['log']) / f'{kind}_{opt["name"]}_{timestamp()}.log')
    else:
        logger = get_root_logger()
    logger.info(environment())
    for notice in loaded.notices:
        logger.warning(notice)
    shadow = shadowing()
    if shadow:
        logger.warning(shadow)
    logger.debug(dict2str(opt))
    for registry, name in ((ARCH_REGISTRY, opt['network_g']['type']), (MODEL_REGISTRY, opt['model_type'])):
        logger.info(f"{registry.noun} '{name}' from {registry.where(name)}")
    logger.info(_places(opt))
    if opt['rank'] == 0 and opt['is_train']:
        _copy_options(loaded, Path(opt['path']['experiments_root']))
        _write_options(opt)


def _places(opt: Dict) -> str:
    """Where everything of the run goes."""
    path = opt['path']
    if not opt['is_train']:
        return f"Results go to '{path['results_root']}'"
    more = f"; TensorBoard reads '{path['tb_logger']}'" if opt['logger']['use_tb_logger'] else ''
    return (
        f"Everything of this run goes to '{path['experiments_root']}': weights to models/ and best/, training states to"
        f' training_states/, pictures to visualization/, tables and curves beside the log{more}')


def _write_options(opt: Dict) -> None:
    """What the run really does: the option file with overrides, defaults, and what was found on the machine."""
    write_json(Path(opt['path']['experiments_root']) / 'options.json', opt.to_dict())


def _copy_options(loaded: LoadedOptions, folder: Path) -> None:
    target = folder / loaded.file.name
    if target.exists() and target.samefile(loaded.file):  # resuming with the copy itself
        return
    header = f'# GENERATE TIME: {time.asctime()}\n# CMD:\n# {shlex.join(loaded.command)}\n\n'
    with atomic_write(target, 'w') as file:
        file.write(header + loaded.text)
