"""Steps of small models on random batches, for comparisons."""
from __future__ import annotations

import random

import torch

NETWORK = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
SMALL = {'type': 'RetinexMamba', 'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2}


def batch(seed, count=4, size=24):
    lq = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return {'lq': lq, 'gt': lq.sqrt(), 'lq_path': [f'{seed}_{i}.png' for i in range(count)]}


def steps(model, count, warmup=-1, first=1):
    random.seed(0)
    torch.manual_seed(0)
    logs = []
    for i in range(first, first + count):
        model.update_learning_rate(i, warmup)
        model.feed_data(batch(i))
        model.optimize_parameters(i)
        logs.append((model.get_current_learning_rate(), dict(model.get_current_log())))
    return logs


def tensors(model):
    found = {f'g.{k}': v for k, v in model.net_g.state_dict().items()}
    if hasattr(model, 'net_g_ema'):
        found |= {f'ema.{k}': v for k, v in model.net_g_ema.state_dict().items()}
    state = model.optimizer_g.state_dict()['state']
    return found | {f'{i}.{k}': v for i, values in state.items() for k, v in values.items() if v is not None}


def assert_same(one, two):
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert torch.equal(value, two[key]), key


PROGRESSIVE = {
    'batch_size_per_gpu': 4, 'gt_size': 24, 'mini_batch_sizes': [4, 2], 'gt_sizes': [8, 24], 'iters': [30, 20]
}
EVERYTHING = {
    'total_iter': 50, 'ema_decay': 0.9, 'grad_clip_norm': 0.05, 'accumulate': 2,
    'mixing_augs': {'mixup': True, 'use_identity': True}, 'scheduler': {'type': 'TrueCosineAnnealingLR', 'T_max': 50}
}
