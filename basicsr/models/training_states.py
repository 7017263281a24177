"""Training states: all that a model needs to go on as if it had never stopped, its networks and averages included."""
from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from basicsr.engine.checkpoint import is_of, weights_beside
from basicsr.engine.optimizer import load_optimizer_state, optimizer_state
from basicsr.engine.schedule import follows_options, resume_schedule
from basicsr.models.validation import ValidationMethods
from basicsr.utils.dist import gather
from basicsr.utils.errors import UserError, counted
from basicsr.utils.logger import get_root_logger
from basicsr.utils.seed import get_rng_state, set_rng_state
from basicsr.utils.weights import load_weights, save_weights, strip_prefixes
from basicsr.weights.fitting import load_into

_AVERAGE = '_ema'


class StateMethods(ValidationMethods):
    """The part of BasicSR's model contract that writes and reads training states.

    A state holds the weights of every network of the model, that is of every attribute `net_*`: `net_g` and its average
    as `params` and `params_ema`, as weight files do, the others in `networks`. What optimizers train beside them is in
    `parameters`, in the order of each optimizer.
    """
    optimizers: list[torch.optim.Optimizer]
    schedulers: list[Any]

    def get_bare_model(self, net: nn.Module) -> nn.Module:
        return net.module if isinstance(net, (DataParallel, DistributedDataParallel)) else net

    def cpu_state(self, net: nn.Module) -> dict[str, torch.Tensor]:
        return {k: v.detach().cpu().contiguous() for k, v in self.get_bare_model(net).state_dict().items()}

    def networks(self) -> dict[str, nn.Module]:
        """The model's networks and their averages (`net_g_ema`) by the attributes that hold them."""
        return {k: v for k, v in vars(self).items() if k.startswith('net_') and isinstance(v, nn.Module)}

    def network_states(self) -> dict[str, dict[str, torch.Tensor]]:
        """`params`, and `params_ema` where there is an average, as weight files hold them; empty without `net_g`."""
        nets = {'params': getattr(self, 'net_g', None), f'params{_AVERAGE}': getattr(self, f'net_g{_AVERAGE}', None)}
        return {key: self.cpu_state(net) for key, net in nets.items() if net is not None}

    def other_parameters(self) -> list[list[nn.Parameter]]:
        """Of each optimizer the parameters that belong to none of `networks`."""
        known = {id(p) for net in self.networks().values() for p in net.parameters()}
        return [[p for group in o.param_groups for p in group['params'] if id(p) not in known] for o in self.optimizers]

    def extra_state(self) -> dict[str, Any]:
        """What a subclass adds to the training state."""
        return {}

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Write `training_states/<iter>.state`; called on every rank, since each has random numbers of its own."""
        if current_iter == -1:
            return
        rng = gather(get_rng_state())
        others = {
            k: self.cpu_state(net) for k, net in self.networks().items() if k not in ('net_g', f'net_g{_AVERAGE}')
        }
        state = {
            **plain(self.driver.state_dict()), 'epoch': epoch, 'iter': current_iter, 'rng': rng,
            'optimizers': [optimizer_state(o) for o in self.optimizers],
            'schedulers': [s.state_dict() for s in self.schedulers], **self.network_states(), 'networks': others,
            'parameters': [[p.detach().cpu() for p in some] for some in self.other_parameters()], **self.extra_state()
        }
        if self.opt['rank'] == 0:
            save_weights(Path(self.opt['path']['training_states']) / f'{current_iter}.state', state)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Continue from the content of a `.state` file that fits: optimizers, schedules, random numbers.

        Rates and what else options say of optimizers and schedules is what they say now.
        """
        driven = [scheduler.optimizer for scheduler in self.schedulers if follows_options(scheduler)]
        for optimizer, state in zip(self.optimizers, resume_state['optimizers']):
            load_optimizer_state(optimizer, state, keep_options=any(optimizer is d for d in driven))
        for scheduler, state in zip(self.schedulers, resume_state['schedulers']):
            resume_schedule(scheduler, state)
        # a resumed schedule goes on before the optimizer's first step of this process, which PyTorch takes for a mistake
        warnings.filterwarnings('ignore', message=r'Detected call of `lr_scheduler\.step\(\)` before')
        rng = resume_state.get('rng') or []
        if len(rng) == self.opt['world_size']:
            set_rng_state(rng[self.opt['rank']])
        elif rng:
            get_root_logger().warning(
                f"the training state is of {len(rng)} processes, this run has {self.opt['world_size']}:"
                ' random numbers begin anew')

    def load_resumed_networks(self, state_file: Path, resume_state: dict[str, Any]) -> None:
        """Replace the weights of every network by those of the training state, or of the weight files beside it.

        What is nowhere is told: another network keeps the weights that it has, an average begins with its network's.

        Raises:
            UserError: where the weights of `net_g` are missing, or weights do not fit.
        """
        ignored = self.opt['path'].get('ignore_resume_networks') or []
        missing, nets = [], self.networks()
        for name, net in sorted(nets.items()):  # an average after its network
            base = name.removesuffix(_AVERAGE)
            if base.replace('net_', 'network_', 1) in ignored:
                continue
            source, weights = self._resumed(name, state_file, resume_state)
            if weights is not None:
                named = source if name == 'net_g' else f'{source}, {name}'
                load_into(self.get_bare_model(net), strip_prefixes(weights), named, strict=True, trained=True)
            elif name == 'net_g':
                raise UserError(f"'{state_file}' holds no weights, and there is no '{source}' beside it")
            elif base != name and base in nets:
                self.get_bare_model(net).load_state_dict(self.get_bare_model(nets[base]).state_dict())
                missing.append(f'the average of {base}, which begins with its weights')
            else:
                missing.append(f'{name}, which stays as it was made')
        missing += [
            f'{name} of the state, which this run does not have' for name in _held(resume_state) if name not in nets
        ]
        missing += self._resume_parameters(resume_state.get('parameters') or [])
        if missing:
            get_root_logger().warning(f"'{state_file}': not resumed: {'; '.join(missing)}")

    def _resume_parameters(self, held: list[list[torch.Tensor]]) -> list[str]:
        """Take the values of `other_parameters`; which stay as they were made."""
        missing = []
        for number, mine in enumerate(self.other_parameters(), start=1):
            theirs = held[number - 1] if number <= len(held) else []
            if [p.shape for p in mine] == [p.shape for p in theirs]:
                for parameter, value in zip(mine, theirs):
                    parameter.data.copy_(value)
            elif mine:
                missing.append(
                    f'{counted(len(mine), "parameter")} of optimizer {number} that no net_* of the model holds, which'
                    f' stay{"s" if len(mine) == 1 else ""} as made')
        return missing

    def _resumed(self, name: str, state_file: Path,
                 resume_state: dict[str, Any]) -> tuple[str, dict[str, torch.Tensor] | None]:
        """The file that weights of a network come from, or should, and the weights."""
        held = dict(_weights_in(resume_state))
        if name in held:
            return str(state_file), held[name]
        path, average = self.opt['path'], name.endswith(_AVERAGE)
        models = path['models'] if is_of(state_file, path['training_states']) else None
        file = weights_beside(state_file, name.removesuffix(_AVERAGE), resume_state['iter'], models)
        entry = f'params{_AVERAGE}' if average else 'params'
        weights = load_weights(file, preferred=entry) if file.is_file() else None
        if weights is None or (average and weights.choice != entry):  # of one network alone: that is not its average
            return str(file), None
        get_root_logger().info(f"Loading {name} from '{file}', entry: {weights.choice}")
        return str(file), weights.state


def _weights_in(state: dict[str, Any]) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """(attribute, weights) of the networks that a training state holds."""
    for key in ('params', f'params{_AVERAGE}'):
        if key in state:
            yield key.replace('params', 'net_g'), state[key]
    yield from (state.get('networks') or {}).items()


def _held(state: dict[str, Any]) -> list[str]:
    return [name for name, _ in _weights_in(state)]


def plain(value: Any) -> Any:
    """Options as built-in containers, which weight files may hold."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value
