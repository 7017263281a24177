"""What a run does about a step that is not finite, `train.nonfinite`: stop, skip it, or roll back."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from basicsr.engine.finite import Step
from basicsr.utils.dist import get_dist_info
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.utils.weights import save_weights

_IN_A_ROW, _KEPT = 100, 10  # steps that are left out one after the other; batches that are kept of a run


class NotFinite(UserError):
    """A step was not finite, and a trainer may roll back."""


class NonFinite:
    """Told of each such step, whose update was left out on the device.

    Args:
        mode: of `train.nonfinite`. folder: of the run, where batches are kept in `nonfinite/`; None keeps none.
    """

    def __init__(self, mode: Literal['stop', 'skip', 'rollback'], folder: Path | None):
        self.mode, self.folder = mode, folder
        self._last, self._row = 0, 0

    def __call__(self, step: Step) -> None:
        """Raises `NotFinite`, and when skipping `UserError` where nothing but such steps comes."""
        what = f"{', '.join(step.names)} is not finite at iteration {step.iteration} (rank {get_dist_info()[0]})"
        files = f"{self._keep(step)}. Files of this batch: {', '.join(step.paths) or 'unknown'}"
        if self.mode == 'rollback':
            raise NotFinite(f'{what}{files}')
        if self.mode == 'stop':
            raise NotFinite(f'{what}, so training stops; weights are as of the last checkpoint{files}')
        self._row = self._row + 1 if step.iteration == self._last + 1 else 1
        self._last = step.iteration
        if self._row == _IN_A_ROW:
            raise UserError(f'{what}, as in {_IN_A_ROW} iterations in a row, so training stops{files}')
        get_root_logger().warning(f'{what}: this step is left out{files}')

    def _keep(self, step: Step) -> str:
        if self.folder is None or not self.folder.is_dir() or not step.batch:
            return ''
        file = self.folder / 'nonfinite' / f'{step.iteration}_rank{get_dist_info()[0]}.pth'
        if not file.exists() and len(list(file.parent.glob('*.pth'))) >= _KEPT:
            return ''
        content: dict[str, Any] = dict(zip(('lq', 'gt'), (t.detach().cpu() for t in step.batch[:2])))
        content |= {'guides': [t.detach().cpu() for t in step.batch[2:]], 'iteration': step.iteration}
        file.parent.mkdir(exist_ok=True)
        save_weights(file, content | {'not_finite': list(step.names), 'files': list(step.paths)})
        return f"; the batch is kept in '{file}'"
