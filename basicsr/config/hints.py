"""Words that people bring from elsewhere, and where this toolbox has the option they mean. Only for messages."""
from __future__ import annotations

from collections.abc import Collection

from basicsr.utils.errors import nearest

_MEANT = {
    'batch': 'datasets.train.batch_size_per_gpu',
    'batchsize': 'datasets.train.batch_size_per_gpu',
    'bs': 'datasets.train.batch_size_per_gpu',
    'batch_size': 'datasets.train.batch_size_per_gpu',
    'num_workers': 'datasets.train.num_worker_per_gpu',
    'workers': 'datasets.train.num_worker_per_gpu',
    'patch_size': 'datasets.train.gt_size',
    'crop_size': 'datasets.train.gt_size',
    'model': 'network_g',
    'arch': 'network_g',
    'network': 'network_g',
    'weights': 'path.pretrain_network_g',
    'pretrained': 'path.pretrain_network_g',
    'checkpoint': 'path.pretrain_network_g',
    'resume': 'path.resume_state',
    'epoch': 'train.total_iter',
    'epochs': 'train.total_iter',
    'num_epochs': 'train.total_iter',
    'max_iter': 'train.total_iter',
    'iters': 'train.total_iter',
    'niter': 'train.total_iter',
    'iterations': 'train.total_iter',
    'lr': 'train.optim_g.lr',
    'learning_rate': 'train.optim_g.lr',
    'optimizer': 'train.optim_g',
    'weight_decay': 'train.optim_g.weight_decay',
    'criterion': 'train.pixel_opt',
    'loss': 'train.pixel_opt',
    'ema': 'train.ema_decay',
    'grad_clip': 'train.grad_clip_norm',
    'metrics': 'val.metrics',
    'save_freq': 'logger.save_checkpoint_freq',
    'log_freq': 'logger.print_freq',
    'seed': 'manual_seed',
    'gpus': 'num_gpu',
    'device': 'num_gpu',
}
# what is no option at all
_SAID = {'shuffle': 'training images are shuffled, and others never'}


def meant(word: str, allowed: Collection[str]) -> str:
    """' Did you mean X?' for an unknown key, where X is allowed in its place or stands elsewhere; '' for no idea."""
    if word.lower() in _SAID:
        return f' Not needed: {_SAID[word.lower()]}.'
    place = _MEANT.get(word.lower())
    if place is None:
        return nearest(word, allowed)
    key = place.rpartition('.')[2]
    return f" Did you mean '{key if key in allowed else place}'?"
