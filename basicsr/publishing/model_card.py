"""Model cards of weights that are made here: what they are, what trained them, what was measured and how, the licence."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basicsr.utils.errors import UserError
from basicsr.utils.files import read_text
from basicsr.utils.pretrained import README_PROTOCOL, read_manifest, shipped_metrics

_SETTINGS = {
    'GT_mean': 'results scaled to the mean of the ground truth', 'self_ensemble': 'averaged over flips and turns'
}


@dataclass(frozen=True)
class Facts:
    """Sentences for the card. licence: its name as hubs know it ('mit'), or a sentence. figures: of test sets by name, each
    `{column: value}`. how: what was done to measure them. use, limits: what the weights are for, and what they do badly."""
    data: str
    licence: str
    figures: dict[str, dict[str, float]]
    how: str = ''
    use: str = ''
    limits: str = ''


def facts_of_shipped(name: str) -> Facts | None:
    """What the manifest says of weights that come with the project; None where it does not know the name."""
    entry = read_manifest()['weights'].get(name)
    return None if entry is None else _facts(entry)


def cards(manifest: dict[str, Any]) -> dict[str, str]:
    """A card for each of the weights of a manifest."""
    return {
        name: card(name, entry['network'], entry['parameters'], _facts(entry), weights=name)
        for name, entry in manifest['weights'].items()
    }


def _facts(entry: dict[str, Any]) -> Facts:
    metrics = entry['metrics']
    figures = {
        f"{metrics['dataset']}, {kind}" if kind != 'plain' else metrics['dataset']: {
            metric: values[f'{metric.lower()} {README_PROTOCOL}'] for metric in ('PSNR', 'SSIM')
        } for kind, values in shipped_metrics(entry).items() if kind in ('plain', 'GT-mean')
    }
    return Facts(
        entry['data'], entry['licence'], figures,
        f"{metrics['images']} images, protocol {README_PROTOCOL}; GT-mean scales each result to the brightness of its"
        ' ground truth', entry.get('use', ''), entry.get('limits', ''))


def read_figures(file: str | Path) -> tuple[dict[str, dict[str, float]], str]:
    """Figures and how they were measured, of the `metrics.json` that `basicsr evaluate` writes. Raises `UserError`."""
    try:
        content: dict[str, Any] = json.loads(read_text(file))
        sets = content.get('datasets') or {content['dataset']: content}
        figures = {name: _numbers(values) for name, values in sets.items()}
        how = [f"{content['images']} images", *(text for key, text in _SETTINGS.items() if content.get(key))]
        how += [f"tiles of {content['tile']}"] if content.get('tile') else []
        how += [
            f"{label}: protocol {chosen['protocol']}" for label, chosen in content.get('metrics', {}).items()
            if chosen['protocol']
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"'{file}' is no metrics.json of `basicsr evaluate`") from error
    if not any(figures.values()):
        raise UserError(f"'{file}' holds no figures")
    return figures, '; '.join(how)


def card(title: str, network: dict[str, Any], parameters: int, facts: Facts, weights: str | None = None) -> str:
    """The text of `README.md`, with the head that model hubs read. weights: their name, where they come with the project."""
    known = ' ' not in facts.licence
    head = [
        '---', f"license: {facts.licence.lower() if known else 'other'}", 'library_name: retinexmamba',
        'pipeline_tag: image-to-image', '---'
    ]
    arguments = ', '.join(f'{key}: {value}' for key, value in network.items() if key != 'type')
    lines = [
        *head, '', f'# {title}', '',
        f"- Network: {network['type']} ({arguments or 'its defaults'}), {parameters:,d} parameters.",
        f'- Trained on: {_sentence(facts.data)}', f'- Licence: {_sentence(facts.licence)}',
        *([f'- For: {_sentence(facts.use)}'] if facts.use else []),
        *([f'- Limits: {_sentence(facts.limits)}'] if facts.limits else []), '', '## Measured', ''
    ]
    if facts.figures:
        columns = list(dict.fromkeys(column for row in facts.figures.values() for column in row))
        lines += [f"| data | {' | '.join(columns)} |", '|---' * (len(columns) + 1) + '|']
        lines += [
            f"| {name} | {' | '.join(_cell(row.get(column)) for column in columns)} |"
            for name, row in facts.figures.items()
        ]
        lines += ['', _sentence(facts.how)] if facts.how else []
    else:
        lines.append('Not measured.')
    lines += [
        '', '## Use', '', '```bash',
        f"basicsr enhance photo.jpg -o result.png --weights {weights or 'FOLDER   # or hf:OWNER/REPOSITORY'}", '```'
    ]
    if weights is None:
        lines += ['', '`config.json` holds the arguments of the network, `model.safetensors` its weights.']
    return '\n'.join(lines) + '\n'


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {
        k: v for k, v in values.items()
        if isinstance(v, (int, float)) and not isinstance(v, bool) and k not in ('images', 'tile')
    }


def _cell(value: float | None) -> str:
    return '-' if value is None else f'{value:.4f}'


def _sentence(text: str) -> str:
    return text if text.endswith('.') else f'{text}.'
