"""The page: photos, two sliders, before and after, what there is to download."""
from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from basicsr.app.desk import Desk, Opened
from basicsr.inference.amount import AUTO, Amount
from basicsr.utils.errors import UserError

_AGE = 600, 3600  # seconds: how often uploads are looked through, and how old they may become
_BINS = 64


def build_page(desk: Desk, default: str, root: Path) -> gr.Blocks:
    """The page of a desk.

    Args:
        default: the weights that are chosen at first. root: folder for results, of which each visitor has a part.
    """
    actions = _Actions(desk, root)
    with gr.Blocks(title='RetinexMamba', analytics_enabled=False, delete_cache=_AGE) as page:
        opened = gr.State(time_to_live=_AGE[1])
        with gr.Tab('Enhance'):
            with gr.Row():
                with gr.Column(scale=1):
                    files = gr.File(label='Photos', file_count='multiple', height=140, elem_id='photos')
                    shown = gr.Dropdown(label='Shown', choices=[], visible=False)
                    weights = gr.Dropdown(label='Weights', choices=desk.weights, value=default)
                    auto = gr.Checkbox(label='As much as the photo needs', value=True, elem_id='auto')
                    strength = gr.Slider(0, 1.5, value=1, step=.05, label='Strength', interactive=False,
                                         elem_id='strength')
                    exposure = gr.Slider(-3, 3, value=0, step=.25, label='Exposure in stops', elem_id='exposure')
                with gr.Column(scale=3):
                    compared = gr.ImageSlider(label='Before and after', type='numpy', format='png', interactive=False,
                                              elem_id='compared')
                    said = gr.Markdown(elem_id='said')
                    histogram = gr.Plot(show_label=False, elem_id='histogram')  # a label covers the darkest bars
                    enhance = gr.Button('Enhance', variant='primary', elem_id='enhance')
                    results = gr.File(label='Results', file_count='multiple', interactive=False, elem_id='results')
        with gr.Tab('Compare weights'):
            with gr.Row():
                left = gr.Dropdown(label='Left', choices=desk.weights, value=default, elem_id='left')
                right = gr.Dropdown(label='Right', choices=desk.weights, value=desk.weights[-1], elem_id='right')
            both = gr.ImageSlider(label='Left and right', type='numpy', format='png', interactive=False, elem_id='both')
            said_of_both = gr.Markdown('The photo is that of the first tab.')

        amount = [auto, strength, exposure]
        quiet: dict[str, Any] = {'api_visibility': 'private', 'show_progress': 'minimal'}
        # of a slider that is moved, the last place alone counts
        view: dict[str, Any] = {
            **quiet, 'trigger_mode': 'always_last', 'fn': actions.look, 'inputs': [opened, weights, *amount],
            'outputs': [compared, histogram, said]
        }
        pair: dict[str, Any] = {
            **quiet, 'trigger_mode': 'always_last', 'fn': actions.look_at_both,
            'inputs': [opened, left, right, *amount], 'outputs': [both, said_of_both]
        }
        files.change(actions.choose, files, shown, **quiet).then(actions.open, [files, shown], [opened, said],
                                                                 **quiet).then(**view).then(**pair)
        shown.input(actions.open, [files, shown], [opened, said], **quiet).then(**view).then(**pair)
        auto.change(lambda on: gr.update(interactive=not on), auto, strength, **quiet)
        controls: list[Any] = [weights, *amount]
        for control in controls:
            control.change(**view)
        controls = [left, right, *amount]
        for control in controls:
            control.change(**pair)
        enhance.click(actions.enhance, [files, weights, *amount], [results, said], api_visibility='private')
        page.unload(actions.forget)
    return page


class _Actions:
    """What happens when somebody does something on the page. Mistakes are words on it."""

    def __init__(self, desk: Desk, root: Path):
        self.desk, self.root = desk, root
        self.folders: dict[str, Path] = {}  # of visitors, by what their browsers call themselves

    def choose(self, files: list[str] | None) -> Any:
        names = [Path(file).name for file in files or ()]
        return gr.update(choices=[(name, i) for i, name in enumerate(names)], value=0 if names else None,
                         visible=len(names) > 1)

    def open(self, files: list[str] | None, chosen: int | None) -> tuple[Opened | None, str]:
        if not files:
            return None, ''
        try:
            return self.desk.opened(Path(files[chosen or 0])), ''
        except (UserError, OSError) as error:
            return None, str(error)

    def look(self, opened: Opened | None, weights: str, *amount: Any) -> tuple[Any, Any, Any]:
        if opened is None:
            return None, None, gr.skip()
        try:
            before, after, said = self.desk.look(opened, weights, _amount(*amount))
        except UserError as error:
            return None, None, str(error)
        return (before, after), _histogram(before, after), said and f'{opened.name} {said}'

    def look_at_both(self, opened: Opened | None, left: str, right: str, *amount: Any) -> tuple[Any, Any]:
        if opened is None:
            return None, 'The photo is that of the first tab.'
        try:
            sides = [self.desk.look(opened, weights, _amount(*amount)) for weights in (left, right)]
        except UserError as error:
            return None, str(error)
        return tuple(side[1] for side in sides), opened.name

    def enhance(self, files: list[str] | None, weights: str, auto: bool, strength: float, exposure: float,
                request: gr.Request) -> tuple[list[str], str]:
        if not files:
            return [], 'Drop photos first.'
        self.forget(request)  # of the last time
        self.root.mkdir(parents=True, exist_ok=True)
        # never a path that a visitor has a say in
        folder = self.folders[request.session_hash or ''] = Path(tempfile.mkdtemp(dir=self.root))
        try:
            written, failed = self.desk.enhanced([Path(file) for file in files], weights,
                                                 _amount(auto, strength, exposure), folder)
        except (UserError, OSError) as error:
            return [], str(error)
        return [str(file) for file in written], '\n\n'.join(failed)

    def forget(self, request: gr.Request) -> None:
        folder = self.folders.pop(request.session_hash or '', None)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _amount(auto: bool, strength: float, exposure: float) -> Amount:
    return Amount(AUTO if auto else float(strength), float(exposure))


def _histogram(before: np.ndarray, after: np.ndarray) -> Any:
    from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 1.6), layout='constrained')
    axis = figure.subplots()
    for img, label in ((before, 'before'), (after, 'after')):
        axis.hist(img.max(axis=2).ravel(), bins=_BINS, range=(0, 255), histtype='stepfilled', alpha=.5, label=label)
    axis.set_xlabel('brightest of red, green, blue')
    axis.set_yticks([])
    axis.legend(loc='upper right')
    return figure
