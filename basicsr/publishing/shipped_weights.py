"""The weights that come with the project, as the README and `basicsr list weights` show them."""
from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError
from basicsr.utils.files import atomic_write
from basicsr.utils.pretrained import README_PROTOCOL, describe_weights, read_manifest, shipped_metrics

# the README shows the first one's numbers, METRICS.md those of all
PROTOCOLS = (README_PROTOCOL, 'basicsr', 'restormer-rgb3d')
START, END = '<!-- shipped weights -->', '<!-- end -->'

_NONE = 'None yet: this version comes without trained weights. Train a network, or give the weights of others.'
_HEAD = ('network', 'parameters', 'trained on', 'iterations', 'PSNR / SSIM', 'with GT-mean')


def markdown(manifest: dict[str, Any]) -> str:
    """The README's part between its marks: rows of what was measured and of what papers claim, and a note for each."""
    weights = manifest['weights']
    if not weights:
        return _NONE
    rows = [row for name, entry in weights.items() for row in (_measured(name, entry), *_claimed(entry))]
    notes = [
        _fill(f'Measured with the protocol `{README_PROTOCOL}`; more protocols, and how the weights were made:'
              ' [METRICS.md](pretrained_weights/METRICS.md). GT-mean scales each result to the brightness of its ground'
              ' truth, which only a benchmark knows.')
    ]
    notes += [_fill(_note(name, weights[name], name == manifest['default'])) for name in weights]
    return '\n\n'.join(['\n'.join(_table(_HEAD, rows)), *notes])


def measured(manifest: dict[str, Any]) -> str:
    """METRICS.md beside the manifest: how each network was made, and every candidate of its run by every protocol."""
    lines = [
        '# Measured', '', 'PSNR and SSIM of everything that a run has left, by three [protocols](../docs/metrics.md).'
        ' Written by `scripts/publish_weights.py`.'
    ]
    for name, entry in manifest['weights'].items():
        metrics, rows = entry['metrics'], []
        for label, found in metrics['candidates'].items():
            shown = f'**{label}**' if label == entry['entry'] else label
            for kind in ('plain', 'GT-mean'):
                values = (f"{found[kind][f'psnr {p}']:.2f} / {found[kind][f'ssim {p}']:.4f}" for p in PROTOCOLS)
                rows.append((shown, f"{found['iterations']:,d}", kind, *values))
        lines += [
            '', f'## {name}', '', *_history(entry), '',
            f"{metrics['images']} images of {metrics['dataset']}; what is shipped is in bold.", '', *_table(
                ('weights', 'iterations', '', *PROTOCOLS), rows)
        ]
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


def _measured(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    found, data = shipped_metrics(entry), entry['data'].rstrip('.').replace('|', '\\|')
    plain, brighter = (_values(found[kind], f' {README_PROTOCOL}') for kind in ('plain', 'GT-mean'))
    return f'`{name}`, measured', f"{entry['parameters']:,d}", data, f"{entry['iterations']:,d}", plain, brighter


def _claimed(entry: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row of its own: what the paper says of its network is nothing that this one was measured to do."""
    paper = entry['paper']
    if not paper:
        return []
    source = paper['source'].rstrip('.').replace('|', '\\|')
    return [(f'*claimed for another network: {source}*', f"*{paper['parameters']}*", '', '', f'*{_values(paper)}*', '')]


def _values(means: dict[str, float], protocol: str = '') -> str:
    return f"{means[f'psnr{protocol}']:.2f} / {means[f'ssim{protocol}']:.3f}"


def _note(name: str, entry: dict[str, Any], default: bool) -> str:
    options = f"[{Path(entry['options']).name}]({entry['options']})"
    return (f"`{name}`{', the default' if default else ''}: {entry['network']['type']} of {options}, measured on the"
            f" {entry['metrics']['images']} images of {entry['metrics']['dataset']}. Licence:"
            f" {_sentence(entry['licence'])}")


def _history(entry: dict[str, Any]) -> list[str]:
    changes = ', '.join(f'{key} {value}' for key, value in entry['changes'].items())
    return [
        f"- Options: [{Path(entry['options']).name}](../{entry['options']}); changed: {changes or 'none'}.",
        f"- Trained on: {_sentence(entry['data'])}",
        f"- Which weights of the run: {entry['entry']}. {_sentence(entry['selection'])}",
        f"- Machine: {_sentence(entry['machine'])}", f"- Licence: {_sentence(entry['licence'])}"
    ]


def _sentence(text: str) -> str:
    return text if text.endswith('.') else f'{text}.'


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return [lines[0], '|' + '---|' * len(head), *lines[1:]]


def _fill(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
