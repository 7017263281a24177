"""Several degradations in one training set or benchmark (all-in-one restoration)."""
from __future__ import annotations

from basicsr.data.all_in_one_tasks import TASKS, Found, Sample, canonical, look_up
from basicsr.data.reading import accepts_opt
from basicsr.data.task_samples import TaskSamples
from basicsr.utils.errors import UserError
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr.utils.values import Count, Natural, TaskName, TaskNames


@DATASET_REGISTRY.register()
@accepts_opt
class AllInOneDataset(TaskSamples):
    """Noise, rain, haze, blur and low light as in the three- and five-task settings (AirNet, PromptIR, MoCE-IR).

    Args:
        dataroot: folder with the tree of all tasks; `basicsr/data/all_in_one_tasks.py` lists the places.
        de_type: tasks denoise_15, denoise_25, denoise_50, derain, dehaze, deblur, synllie, in any order, or aliases such
            as denoise (the three) and lol. The noise follows from the name.
        roots: folder, or list of folders, of single tasks that lie elsewhere.
        ratios: how often the images of a task come in an epoch; default 3 for each denoising task, derain 120,
            dehaze 1, deblur 5, synllie 20.
        gt_size: side of the square training patch; None trains on whole images.
        geometric_augs: one of eight dihedral modes in training.
        crop16: centre-crop images to multiples of 16 first, as published evaluations do.
        seed: of the test noise, which depends on it and the file's name without suffix alone.
        phase: 'train' samples the training folders; others give the test folders' whole images, each once.

    Items: `lq`, `gt` float32 (3, H, W) RGB in [0, 1]; `lq_path`, `gt_path`; `task`, its name. Where
    the input is made here (noise, clipped and truncated to 8 bits), `lq_path` is the clean file.
    """

    def __init__(self, de_type: TaskNames, dataroot: str | None = None,
                 roots: dict[TaskName, str | list[str]] | None = None, ratios: dict[TaskName, Count] | None = None,
                 gt_size: Count | None = 128, geometric_augs: bool = True, crop16: bool = False, seed: Natural = 0,
                 phase: str = 'train'):
        tasks = canonical(de_type, 'de_type')
        if not tasks:
            raise UserError('de_type: give at least one task')
        places = {task: given for name, given in (roots or {}).items() for task in canonical([name], 'roots')}
        super().__init__([look_up(t, dataroot, phase == 'train', places.get(t)) for t in tasks], gt_size,
                         geometric_augs, 16 if crop16 else 1, seed, phase == 'train')
        if self.training:
            self.samples = repeated(self.found, ratios or {})


def repeated(found: list[Found], ratios: dict[str, int]) -> list[Sample]:
    """The samples of one epoch: those of each task as often as its ratio says."""
    counts = {t: TASKS[t].ratio for t in TASKS}
    for name, ratio in ratios.items():
        if ratio < 1:
            raise UserError(f"ratios: {ratio} for '{name}' must be at least 1; leave a task out of de_type instead")
        counts |= dict.fromkeys(canonical([name], 'ratios'), ratio)
    return [sample for f in found for sample in f.samples * counts[f.task]]
