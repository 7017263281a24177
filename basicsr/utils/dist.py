"""Processes of a distributed run. Without one, everything here answers as the single process that there is."""
from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from basicsr.utils.errors import UserError


def init_dist(launcher: str, backend: str = 'nccl', port: int | None = None) -> None:
    """Join the process group that torchrun ('pytorch') or Slurm started; falls back to gloo without CUDA."""
    if launcher == 'slurm':
        _slurm_environment(port)
    missing = [k for k in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if k not in os.environ]
    if missing:
        raise UserError(
            f"--launcher {launcher} needs the environment of a launcher ({', '.join(missing)} not set); start with: "
            'torchrun --nproc_per_node=N basicsr/train.py --opt X.yml --launcher pytorch')
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', os.environ['RANK'])) % torch.cuda.device_count())
    else:
        backend = 'gloo'
    dist.init_process_group(backend=backend)


def _slurm_environment(port: int | None) -> None:
    if 'SLURM_PROCID' not in os.environ:
        raise UserError('--launcher slurm needs to run under srun (SLURM_PROCID is not set)')
    nodes = subprocess.run(['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']], capture_output=True,
                           text=True, check=True)
    os.environ.setdefault('MASTER_ADDR', nodes.stdout.split()[0])
    os.environ.setdefault('MASTER_PORT', str(port or 29500))
    os.environ.update(RANK=os.environ['SLURM_PROCID'], WORLD_SIZE=os.environ['SLURM_NTASKS'],
                      LOCAL_RANK=os.environ.get('SLURM_LOCALID', '0'))


def is_dist() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_dist_info() -> tuple[int, int]:
    """(rank, world size)."""
    return (dist.get_rank(), dist.get_world_size()) if is_dist() else (0, 1)


def master_only(function: Callable) -> Callable:
    """Decorator: run on rank 0 only, return None elsewhere."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if get_dist_info()[0] == 0 else None

    return wrapper


def gather(value: Any) -> list[Any]:
    """`value` of every rank, on every rank. Any picklable object of ours."""
    if not is_dist():
        return [value]
    out: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(out, value)
    return out


def largest(number: int) -> int:
    """The largest of all ranks' numbers. The hosts wait for each other, and no GPU for its host."""
    if not is_dist():
        return number
    value = torch.tensor(number)
    dist.all_reduce(value, dist.ReduceOp.MAX, group=_hosts())
    return int(value)


@functools.cache
def _hosts() -> Any:
    return dist.group.WORLD if dist.get_backend() == 'gloo' else dist.new_group(backend='gloo')


def barrier() -> None:
    if is_dist():
        dist.barrier()


def shutdown() -> None:
    if is_dist():
        _hosts.cache_clear()
        dist.destroy_process_group()
