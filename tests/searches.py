"""Small searches for options, and training that is only played."""
from __future__ import annotations

from pathlib import Path

import optuna

from basicsr.training.early_stop import Stop

SPACE = """
space:
  train.optim_g.lr: {low: 1e-4, high: 1e-2, log: true}
  network_g.num_feat: {low: 2, high: 6, step: 2}
  train.optim_g.betas: {choices: [[0.9, 0.99], [0.5, 0.9]]}
fixed:
  train.grad_clip_norm: 1.0
trial_only:
  train.total_iter: 4
  val.val_freq: 2
sampler: {seed: 0}
"""
NETWORK = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}


def files_of(tiny_options, tmp_path):
    """Arguments of a search, of (trials, space text)."""

    def arguments(trials: int, space: str = SPACE, *more: str) -> list[str]:
        options = tiny_options(network_g=NETWORK, train={'total_iter': 9})
        (tmp_path / 'space.yml').write_text(space)
        return ['--opt', str(options), '--space', str(tmp_path / 'space.yml'), '--trials', str(trials), *more]

    return arguments


def database(tmp_path: Path) -> optuna.Study:
    return optuna.load_study(study_name='tiny', storage=f'sqlite:///{tmp_path}/experiments/tiny_search/study.db')


def states(tmp_path: Path) -> list[str]:
    return [t.state.name for t in database(tmp_path).trials]


def scripted(values: dict[int, list[float] | BaseException]):
    """In place of training: the validations of trial k, or what it raises."""

    def run(loaded, launcher, callbacks):
        given = values[int(loaded.opt['name'].rpartition('trial')[2])]
        if isinstance(given, BaseException):
            raise given
        try:
            for i, value in enumerate(given):
                callbacks[0].on_validation(2 * i + 2, {'toy': {'psnr': value}})
        except Stop:
            pass

    return run
