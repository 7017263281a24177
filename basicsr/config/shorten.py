"""The options of a run of another length, with all schedules in proportion."""
from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any


def shortened(opt: dict[str, Any], total_iter: int) -> dict[str, Any]:
    """Changes that make a run of `total_iter` iterations of these options, all schedules in proportion.

    Training states, log lines and validations keep their distance where that is short enough.
    """
    train, data = opt['train'], opt['datasets']['train']
    share = total_iter / train['total_iter']
    changes: dict[str, Any] = {'train.total_iter': total_iter}

    def shrink(lengths: list[int]) -> list[int]:
        ends = [0, *(round(end * share) for end in accumulate(lengths))]
        return [max(1, b - a) for a, b in pairwise(ends)]

    if train['scheduler'].get('periods'):
        changes['train.scheduler.periods'] = shrink(train['scheduler']['periods'])
    if train['scheduler'].get('milestones'):
        changes['train.scheduler.milestones'] = [round(m * share) for m in train['scheduler']['milestones']]
    if train['scheduler'].get('warmup_iter'):
        changes['train.scheduler.warmup_iter'] = int(train['scheduler']['warmup_iter'] * share)
    if train['warmup_iter'] > 0:
        changes['train.warmup_iter'] = int(train['warmup_iter'] * share)
    if data.get('iters'):
        changes['datasets.train.iters'] = shrink(data['iters'])
    distances = (
        ('logger.save_checkpoint_freq', opt['logger']['save_checkpoint_freq'], 5),
        ('logger.print_freq', opt['logger']['print_freq'], 10),
        ('val.val_freq', opt['val'].get('val_freq'), 1),
    )
    for key, value, parts in distances:
        if value:
            changes[key] = min(value, -(-total_iter // parts))
    return changes
