"""The weights that come with the project, as the README and `basicsr list weights` show them."""
from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError
from basicsr.utils.files import atomic_write
from basicsr.utils.pretrained import README_PROTOCOL, describe_weights, read_manifest, shipped_metrics

# the first one's numbers stand alone; of the others the README shows the PSNR
PROTOCOLS = (README_PROTOCOL, 'basicsr', 'restormer-rgb3d')
START, END = '<!-- shipped weights -->', '<!-- end -->'

_DIGITS = {'psnr': '.2f', 'ssim': '.3f'}
_NONE = 'None yet: this version comes without trained weights. Train a network, or give the weights of others.'
_HEAD = ('network', 'parameters', 'trained on', 'iterations', 'PSNR', 'SSIM', 'with GT-mean',
         f'PSNR by {" / ".join(PROTOCOLS[1:])}; with GT-mean')


def markdown(manifest: dict[str, Any]) -> str:
    """The README's part between its marks: a row and a paragraph for each network of the manifest."""
    weights = manifest['weights']
    if not weights:
        return _NONE
    lines = [_row(_HEAD), '|' + '---|' * len(_HEAD), *(_row(_cells(name, weights[name])) for name in weights)]
    notes = [
        _fill(f'Measured here by the protocol `{README_PROTOCOL}` unless another is named; in brackets what the paper'
              ' claims. GT-mean scales each result to the brightness of its ground truth, which only a benchmark'
              ' knows.')
    ]
    notes += [_fill(_note(name, weights[name], name == manifest['default'])) for name in weights]
    return '\n\n'.join(['\n'.join(lines), *notes])


def measured(manifest: dict[str, Any]) -> str:
    """METRICS.md beside the manifest: every candidate of every network, plain and with GT-mean, by every protocol."""
    lines = [
        '# Measured', '', 'PSNR and SSIM of everything that a run has left, by three [protocols](../docs/metrics.md).'
        ' Written by `scripts/publish_weights.py`.'
    ]
    for name, entry in manifest['weights'].items():
        metrics = entry['metrics']
        lines += [
            '', f"## {name}", '', f"{metrics['images']} images of {metrics['dataset']}; what is shipped is in bold.",
            '',
            _row(('weights', 'iterations', '', *PROTOCOLS)), '|' + '---|' * (3 + len(PROTOCOLS))
        ]
        for label, found in metrics['candidates'].items():
            shown = f'**{label}**' if label == entry['entry'] else label
            for kind in ('plain', 'GT-mean'):
                values = (f"{found[kind][f'psnr {p}']:.2f} / {found[kind][f'ssim {p}']:.4f}" for p in PROTOCOLS)
                lines.append(_row((shown, f"{found['iterations']:,d}", kind, *values)))
    return '\n'.join(lines) + '\n'


def listing() -> list[str]:
    """Two lines for each network of the manifest."""
    manifest = read_manifest()
    labels = {name: f'{name} (default)' if name == manifest['default'] else name for name in manifest['weights']}
    width, lines = max(map(len, labels.values()), default=0) + 2, []
    for name, entry in manifest['weights'].items():
        lines.append(f"  {labels[name]:<{width}}{entry['network']['type']}, {entry['parameters']:,d} parameters")
        lines.append(f'    {describe_weights(name)}')
    return lines or ['  none come with this version']


def split_readme(readme: Path) -> tuple[str, str, str]:
    """The text before, between and after the marks. Raises `UserError` when they are not there once each."""
    text = readme.read_text(encoding='utf-8') if readme.is_file() else ''
    before, start, rest = text.partition(f'{START}\n')
    between, end, after = rest.partition(f'\n{END}')
    if not (start and end) or START in rest or END in after:
        raise UserError(f"'{readme}' must hold the lines '{START}' and '{END}' once, with the table between them")
    return before, between, after


def write_readme(readme: Path, manifest: dict[str, Any]) -> None:
    """Put what the manifest says between the marks, atomically."""
    before, _, after = split_readme(readme)
    with atomic_write(readme, 'w') as file:
        file.write(f'{before}{START}\n{markdown(manifest)}\n{END}{after}')


def _cells(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    found, paper = shipped_metrics(entry), entry['paper'] or {}
    plain, gt_mean = found['plain'], found['GT-mean']
    claimed = {metric: f' ({paper[metric]:{digits}})' if paper else '' for metric, digits in _DIGITS.items()}
    psnr, ssim = (f'{plain[f"{metric} {README_PROTOCOL}"]:{digits}}{claimed[metric]}'
                  for metric, digits in _DIGITS.items())
    brighter = ' / '.join(f'{gt_mean[f"{metric} {README_PROTOCOL}"]:{digits}}' for metric, digits in _DIGITS.items())
    others = '; '.join(' / '.join(f'{means[f"psnr {p}"]:.2f}' for p in PROTOCOLS[1:]) for means in (plain, gt_mean))
    data = entry['data'].rstrip('.').replace('|', '\\|')
    return f'`{name}`', f"{entry['parameters']:,d}", data, f"{entry['iterations']:,d}", psnr, ssim, brighter, others


def _note(name: str, entry: dict[str, Any], default: bool) -> str:
    metrics, paper = entry['metrics'], entry['paper']
    options = f"[{Path(entry['options']).name}]({entry['options']})"
    parts = [
        f"`{name}`{', the default' if default else ''}: {entry['network']['type']} of {options}, measured on the"
        f" {metrics['images']} images of {metrics['dataset']}.",
        *([f"Options changed: {', '.join(f'{key} {value}' for key, value in entry['changes'].items())}."]
          if entry['changes'] else []), f"Which weights of the run: {entry['entry']}. {_sentence(entry['selection'])}",
        f"Machine: {_sentence(entry['machine'])}", f"Licence: {_sentence(entry['licence'])}"
    ]
    return ' '.join(parts + ([f"In brackets: {_sentence(paper['source'])}"] if paper else []))


def _sentence(text: str) -> str:
    return text if text.endswith('.') else f'{text}.'


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _fill(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
