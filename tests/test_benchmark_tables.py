"""Tables of benchmarks/README.md against the rows that the benchmarks have written."""
from __future__ import annotations

import json
from statistics import fmean, median

import pytest
from conftest import ROOT, run_python

LINES = (ROOT / 'benchmarks' / 'README.md').read_text(encoding='utf-8').splitlines()
FILES = {'AVX2': 'amd-epyc-avx2-2-cores', 'AVX-512': 'amd-epyc-avx-512-2-cores'}


@pytest.mark.parametrize('network', ['CIDNet', 'DarkIR', 'NAFNet', 'NAFNetLocal', 'MoCE-IR', 'PromptIR'])
def test_networks_as_published(network):
    first = next(i for i, line in enumerate(LINES) if line.startswith(f'| {network} | AVX2 |'))
    for line, (cpu, file) in zip(LINES[first:], FILES.items()):
        rows = json.loads((ROOT / 'benchmarks' / 'results' / f'{file}.json').read_text())
        rows = rows[f"networks: {network.replace('-', '')}"]['rows']
        ratios = [f"{row['ratio']:.2f}" for row in rows if 'as published' in row['what']]
        assert line.strip('| ').split(' | ')[-5:] == [cpu, *ratios]


def test_threads_that_wait():
    rows = json.loads((ROOT / 'benchmarks' / 'results' / f"{FILES['AVX-512']}.json").read_text())
    rows = rows['threads asleep / spinning while they wait']['rows']
    first = next(i for i, line in enumerate(LINES) if line.startswith('| a picture of 400x600, alone |'))
    for line, row in zip(LINES[first:], rows, strict=False):
        cells = [f"{row['ours']:.3f}", f"{row['peer']:.3f}", f"{row['ours'] / row['peer']:.2f}"]
        assert line.strip('| ').split(' | ')[1:] == cells


NETWORKS = (ROOT / 'docs' / 'networks.md').read_text(encoding='utf-8').splitlines()
CALLED = {'MST++': 'MST_Plus_Plus'}


def test_tiles_of_every_network():
    stored = json.loads((ROOT / 'benchmarks' / 'results' / f"{FILES['AVX-512']}.json").read_text())
    first = NETWORKS.index('| network | photographs 256 / 512 | gradient 256 / 512 | shared |') + 2
    seen = set()
    for line in NETWORKS[first:]:
        if not line.startswith('|'):
            break
        title, *cells = line.strip('| ').split(' | ')[:3]
        name = 'RetinexFormer' if title.startswith('the same') else CALLED.get(title, title.partition(',')[0])
        shown = 'RetinexFormer, undescribed' if title.startswith('the same') else name
        rows = [row for row in stored[f'tiles: {name}']['rows'] if row['network'] == shown]
        for cell, gradient in zip(cells, (False, True)):
            of = [row for row in rows if (row['image'] == 'gradient') == gradient]
            worst = [min((row['dB'] for row in of if row['tile'] == tile), default=None) for tile in (256, 512)]
            assert cell.removesuffix(' dB') == ' / '.join(f'{dB:.0f}' for dB in worst if dB is not None), line
        seen.add(name)
    from basicsr.registry import ARCH_REGISTRY
    described = {line.split('`')[1] for line in NETWORKS if line.startswith('| `')}
    assert seen == described <= set(ARCH_REGISTRY.keys())


def test_what_short_trainings_came_to():
    rows = json.loads((ROOT / 'benchmarks' / 'results' / 'recipes.json').read_text())['rows']
    table = (ROOT / 'docs' / 'recipes.md').read_text(
        encoding='utf-8').split('<!-- recipes -->\n')[1].split('<!-- end')[0]
    shown = {cells[0]: cells[1:] for cells in (line.strip('| ').split(' | ') for line in table.splitlines()[2:])}
    assert list(shown) == list(dict.fromkeys(row['recipe'] for row in rows))
    for recipe, cells in shown.items():
        seeds = [row for row in rows if row['recipe'] == recipe]
        assert len(seeds) == 2
        each = ', '.join(f"{row['psnr']:.2f}" for row in seeds)
        means = [
            f'{fmean(row[key] for row in seeds):.{digits}f}'
            for key, digits in [('psnr', 2), ('gt_mean',
                                              2), ('ssim', 3), ('kept', 1), ('-1', 1), ('-2', 1), ('-3', 1), ('-4', 1)]
        ]
        assert cells == [means[0], each, *means[1:]], recipe


def test_the_table_of_short_trainings_is_printed_and_nothing_else():
    base = ROOT / 'results' / 'photos_recipe' / 'base.yml'  # what reading the study writes
    before = base.stat().st_mtime_ns if base.is_file() else None
    done = run_python(ROOT / 'benchmarks' / 'recipes.py', cwd=ROOT)
    table = (ROOT / 'docs' / 'recipes.md').read_text(
        encoding='utf-8').split('<!-- recipes -->\n')[1].split('<!-- end')[0]
    assert (done.returncode, done.stdout) == (0, table), done.stderr
    assert (base.stat().st_mtime_ns if base.is_file() else None) == before


def test_what_the_weights_do_to_photographs():
    stored = json.loads((ROOT / 'benchmarks' / 'results' / f"{FILES['AVX2']}.json").read_text())
    table = (ROOT / 'docs' / 'enhancing.md').read_text(
        encoding='utf-8').split('<!-- photographs -->\n')[1].split('<!-- end')[0]
    shown = [line.strip('| ').split(' | ') for line in table.splitlines()[2:]]
    rows = stored['photographs: mean (worst)']['rows']
    assert [cells[1:] for cells in shown] == [[row[key] for key in ('kept', '-1', '-2', '-3', '-4')] for row in rows]
    assert [cells[0].strip('`') for cells in shown] == ['a gamma curve', *(row['weights'] for row in rows[1:])]


def test_what_two_seeds_of_short_trainings_can_say():
    rows = json.loads((ROOT / 'benchmarks' / 'results' / 'recipes.json').read_text())['rows']
    said = (ROOT / 'docs' / 'recipes.md').read_text(encoding='utf-8').replace('\n', ' ')
    spread = {}
    for key in ('psnr', 'gt_mean', 'kept'):
        by_recipe = {row['recipe']: [r[key] for r in rows if r['recipe'] == row['recipe']] for row in rows}
        spread[key] = [abs(a - b) for a, b in by_recipe.values()]
    # the difference of two means of two seeds spreads as much as one seed: their difference by the root of two
    chance = {key: 2 * (fmean(d * d for d in found) / 2)**.5 for key, found in spread.items()}
    assert (
        f"differ by {median(spread['psnr']):.1f} dB plain and {median(spread['gt_mean']):.1f} with GT-mean (median), by"
        f" {max(spread['psnr']):.1f} and {max(spread['gt_mean']):.1f} at most") in said
    assert (
        f"less than {chance['psnr']:.1f} dB plain, or {chance['gt_mean']:.1f} with GT-mean, may be chance (two standard"
        f" deviations). On bright photographs it is {chance['kept']:.1f} dB") in said


@pytest.mark.parametrize('title, options', [('RetinexMamba, official options', {'type': 'RetinexMamba'}),
                                            ('RetinexFormer, official options', {'type': 'RetinexFormer'}),
                                            ('MST_Plus_Plus, 3 stages', {'type': 'MST_Plus_Plus', 'stage': 3}),
                                            ('MASRNet ', {'type': 'MASRNet'}), ('CIDNet', {'type': 'CIDNet'}),
                                            ('DarkIR-m', {'type': 'DarkIR'}), ('Restormer', {'type': 'Restormer'})])
def test_what_networks_cost(title, options):
    from basicsr.ablation.costs import count_macs
    from basicsr.archs import build_network
    net = build_network(options)
    macs, scan = count_macs(net)
    line, = (line for line in (ROOT / 'docs' / 'costs.md').read_text(encoding='utf-8').splitlines()
             if line.startswith(f'| {title}'))
    assert f'{sum(p.numel() for p in net.parameters()):,d}, {macs / 1e9:.1f} G' in line
    assert not scan or f'({scan / 1e9:.1f} of it the scan)' in line
