"""The weights that come with the project, as METRICS.md beside them and `basicsr list weights` show them."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from basicsr.utils.pretrained import README_PROTOCOL, describe_weights, read_manifest, shipped_metrics

# the first one's numbers stand alone where there is room for one
PROTOCOLS = (README_PROTOCOL, 'basicsr', 'restormer-rgb3d')
_HEAD = ('network', 'parameters', 'trained on', 'iterations', 'PSNR / SSIM', 'with GT-mean')


def measured(manifest: dict[str, Any]) -> str:
    """METRICS.md beside the manifest: what ships beside what papers claim, how each network was made, and every candidate of
    its run by every protocol."""
    rows = [
        row for name, entry in manifest['weights'].items()
        for row in (_measured(name, entry, name == manifest['default']), *_claimed(entry))
    ]
    lines = [
        '# Measured', '', 'The weights that come with the project. Written by `scripts/publish_weights.py`.', '',
        *_table(_HEAD, rows), '',
        f'PSNR and SSIM by the protocol `{README_PROTOCOL}`. GT-mean scales each result to the'
        ' brightness of its ground truth, which only a benchmark knows.', '',
        'Below: everything that each run has left, by three [protocols](../docs/metrics.md).'
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


def _measured(name: str, entry: dict[str, Any], default: bool) -> tuple[str, ...]:
    found, data = shipped_metrics(entry), entry['data'].rstrip('.').replace('|', '\\|')
    plain, brighter = (_values(found[kind], f' {README_PROTOCOL}') for kind in ('plain', 'GT-mean'))
    title = f"`{name}`{', the default' if default else ''}, measured"
    return title, f"{entry['parameters']:,d}", data, f"{entry['iterations']:,d}", plain, brighter


def _claimed(entry: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row of its own: what the paper says of its network is nothing that this one was measured to do."""
    paper = entry['paper']
    if not paper:
        return []
    source = paper['source'].rstrip('.').replace('|', '\\|')
    return [(f'*claimed for another network: {source}*', f"*{paper['parameters']}*", '', '', f'*{_values(paper)}*', '')]


def _values(means: dict[str, float], protocol: str = '') -> str:
    return f"{means[f'psnr{protocol}']:.2f} / {means[f'ssim{protocol}']:.3f}"


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
