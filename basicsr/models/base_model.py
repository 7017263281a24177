"""What every model shares: devices, optimizers, schedules, weight files, training states."""
from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from basicsr.engine.ema import update_ema
from basicsr.engine.optimizer import build_optimizer
from basicsr.models.training_states import StateMethods, plain
from basicsr.models.validation import Alone, Driver
from basicsr.registry import SCHEDULER_REGISTRY, build
from basicsr.utils.dist import is_dist, master_only
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.utils.weights import load_weights, save_weights
from basicsr.weights.fitting import load_into
from basicsr.weights.semantic_prior import equip


class BaseModel(StateMethods):
    """BasicSR's model contract. Subclasses define `feed_data`, `optimize_parameters`, `test` and `save`.

    Attributes:
        opt: frozen options. device: where networks run. is_train: whether training settings exist.
        optimizers, schedulers: what a training state holds.
        log_dict: floats of the last iteration, by name.
        driver: the training loop, once it has attached itself.
        net_g, net_g_ema: the network that is trained, and its average where there is one.
    """
    net_g: nn.Module
    net_g_ema: nn.Module
    test: Callable[[], None]

    def __init__(self, opt: dict[str, Any]):
        self.opt = opt
        self.device = torch.device('cuda' if opt['num_gpu'] != 0 else 'cpu')
        self.is_train = opt['is_train']
        self.schedulers: list[Any] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self.log_dict: dict[str, float] = OrderedDict()
        self.driver: Driver = Alone(opt)

    # --- the loop's view -------------------------------------------------------------------------------------------

    def padded_test(self) -> None:
        """`test` on an input of any size."""
        self.test()

    def get_current_log(self) -> dict[str, float]:
        return self.log_dict

    def get_current_learning_rate(self) -> list[float]:
        """Rates of the first optimizer's groups."""
        return [group['lr'] for group in self.optimizers[0].param_groups]

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Set the rates of iteration `current_iter` (1-based): a linear warm-up to the schedule, then the schedule."""
        if current_iter > 1:
            for scheduler in self.schedulers:
                scheduler.step()
        if current_iter < warmup_iter:
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group['lr'] = group['initial_lr'] * current_iter / warmup_iter

    # --- networks --------------------------------------------------------------------------------------------------

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Give it the segmenter that it may ask for, move it to the device, wrap it for several processes or GPUs."""
        net = equip(net).to(self.device)
        train = self.opt.get('train', {})
        if train.get('channels_last'):
            net = net.to(memory_format=torch.channels_last)
        if train.get('compile') and self.is_train:
            net.compile(mode=None if train['compile'] is True else train['compile'])
        if self.opt['dist'] and any(p.requires_grad for p in net.parameters()):
            ids = [torch.cuda.current_device()] if self.device.type == 'cuda' else None
            unused = self.opt.get('find_unused_parameters', 'auto')
            if unused == 'auto':
                from basicsr.models.unused import has_unused
                unused = has_unused(net, self.opt['network_g'])
            return DistributedDataParallel(net, device_ids=ids, find_unused_parameters=unused)
        return DataParallel(net) if self.opt['num_gpu'] > 1 and not self.opt['dist'] else net

    def print_network(self, net: nn.Module) -> None:
        """Log class and parameter count; the full layout only at debug level."""
        bare = self.get_bare_model(net)
        get_root_logger().info(
            f'Network: {type(bare).__name__}, with parameters: {sum(p.numel() for p in bare.parameters()):,d}')
        get_root_logger().debug(str(bare))

    def model_ema(self, decay: float = 0.999) -> None:
        """One update of `net_g_ema`; 0 copies `net_g`."""
        update_ema(self.net_g_ema, self.get_bare_model(self.net_g), decay)

    # --- optimizers and schedules ----------------------------------------------------------------------------------

    def get_optimizer(self, optim_type: str, params: Any, lr: float, **kwargs: Any) -> torch.optim.Optimizer:
        cls = getattr(torch.optim, optim_type, None)
        if cls is None:
            raise UserError(f"train.optim_g.type: there is no optimizer called '{optim_type}'")
        try:
            return build_optimizer(cls, params, lr, **kwargs)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            block = {'type': optim_type, 'lr': lr, **kwargs}
            raise UserError(f"optimizer '{optim_type}' cannot be built: {error}", block=block) from error

    def setup_schedulers(self) -> None:
        """One schedule per optimizer, from `train.scheduler`."""
        train = self.opt['train']
        for optimizer in self.optimizers:
            options = deepcopy(dict(train['scheduler']))
            if 'total_iter' in inspect.signature(SCHEDULER_REGISTRY.get(options['type'])).parameters:
                options['total_iter'] = train['total_iter']
            try:
                self.schedulers.append(build(SCHEDULER_REGISTRY, options, optimizer))
            except (TypeError, ValueError) as error:
                raise UserError(f"scheduler '{options['type']}' cannot be built: {error}",
                                block=train['scheduler']) from error

    def reduce_loss_dict(self, loss_dict: dict[str, torch.Tensor]) -> dict[str, float]:
        """Loss values as floats; averaged over processes on rank 0."""
        with torch.no_grad():
            names = list(loss_dict)
            values = torch.stack([loss_dict[k].detach().float().mean() for k in names])
            if is_dist():
                torch.distributed.reduce(values, dst=0)
                values /= self.opt['world_size']
            return OrderedDict(zip(names, values.tolist()))

    # --- files -----------------------------------------------------------------------------------------------------

    def load_network(self, net: nn.Module, load_path: str, strict: bool = True,
                     param_key: str | None = 'params') -> None:
        """Read weights into a network, saying which entry of the file was taken."""
        weights = load_weights(load_path, preferred=param_key)
        get_root_logger().info(
            f"Loading {type(self.get_bare_model(net)).__name__} from '{load_path}', entry: {weights.choice}")
        load_into(self.get_bare_model(net), weights.state, load_path, strict, trained=self.is_train)

    @master_only
    def save_network(self, net: nn.Module | list[nn.Module], net_label: str, current_iter: int,
                     param_key: str | list[str] = 'params') -> None:
        """Write `models/net_<label>_<iter>.pth` (`latest` for -1) with what the network is beside its weights."""
        nets = net if isinstance(net, list) else [net]
        keys = [param_key] if isinstance(param_key, str) else param_key
        name = f'{net_label}_{"latest" if current_iter == -1 else current_iter}.pth'
        content = {key: self.cpu_state(n) for key, n in zip(keys, nets)}
        save_weights(Path(self.opt['path']['models']) / name, content | self.identity(net_label))

    def identity(self, net_label: str = 'net_g') -> dict[str, Any]:
        """Which network the weights belong to, so that a weight file can be used without its option file."""
        options = self.opt.get(f'network_{net_label[-1]}')
        return {f'network_{net_label[-1]}': plain(options), 'name': self.opt['name']} if options else {}
