"""What the tables of a study say."""
from __future__ import annotations

import csv

import cv2

from basicsr.ablation import report as ablation_report


def spread(mean, std=None):
    return {'mean': mean, 'std': std, 'by_seed': {'3': mean}}


def row(name, **more):
    return {
        'name': name, 'network': {}, 'psnr': None, 'ssim': None, 'psnr_difference': None, 'ssim_difference': None,
        'paper': {}, 'failed': {}
    } | more


CLAIMED = {'psnr': 24.03, 'source': 'A & B'}
REPORT = {
    'study': 'S',
    'reference': 'full',
    'protocol': 'retinexformer',
    'weights': 'last',
    'seeds': [3],
    'iterations': [2],
    'data': ['LOL_v1'],
    'images': 15,
    'variants': [
        row('full', parameters=4589001, macs=61937185792, macs_scan=17049845760, seconds=0.25, size='400x600',
            machine='CPU', psnr=spread(20.123, 0.456), ssim=spread(0.8, 0.01), paper=CLAIMED),
        row('50 % a_b', psnr=spread(21), ssim=spread(0.7), psnr_difference=0.877, ssim_difference=-0.1),
        row('lost', failed={3: 'it burnt'}),
    ],
}


def test_markdown_and_terminal():
    text = ablation_report.markdown(REPORT)
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if line.startswith('|')]
    assert rows[0] == list(ablation_report.COLUMNS)
    assert rows[2] == [
        'full', '4,589,001', '61.94', '44.89', '0.250', '20.12 ± 0.46', '0.8000 ± 0.0100', '', '', '24.03'
    ]
    assert rows[3] == ['50 % a_b', '', '', '', '', '21.00', '0.7000', '+0.88', '-0.1000', '']
    assert rows[4] == ['lost'] + [''] * 9 and 'Missing runs: lost, seed 3 (it burnt).' in text
    assert 'one seed (3), so nothing is known about the spread' in text and '400x600 on CPU' in text
    assert 'claims (A & B)' in text
    shown = ablation_report.show(REPORT).splitlines()
    assert shown[1].split()[:2] == ['variant', 'parameters'] and len({len(line) for line in shown[1:5]}) == 1


def test_latex():
    lines = ablation_report.latex(REPORT).splitlines()
    table = [line for line in lines if line.endswith(r'\\')]
    assert len(table) == 4 and {line.count(' & ') for line in table} == {9}
    assert table[1].startswith(r'full & 4,589,001 & 61.94 & 44.89 & 0.250 & 20.12 $\pm$ 0.46')
    assert table[2].startswith(r'50 \% a\_b & ') and '& $+$0.88 & $-$0.1000 &' in table[2]
    assert r'\begin{tabular}{lrrrrrrrrr}' in lines and r'\end{tabular}' in lines


def test_files(tmp_path):
    files = ablation_report.write(REPORT, tmp_path)
    assert [f.name for f in files] == ['report.md', 'report.tex', 'report.csv', 'report.json', 'report.png']
    with (tmp_path / 'report.csv').open(newline='') as file:
        full, half, lost = csv.DictReader(file)
    found = full['parameters'], full['psnr_mean'], full['psnr_std'], full['psnr_paper']
    assert found == ('4589001', '20.123', '0.456', '24.03')
    assert (half['psnr_difference'], half['psnr_std'], half['runs']) == ('0.877', '', '1')
    assert (lost['psnr_mean'], lost['runs'], lost['failed']) == ('', '0', '1')
    picture = cv2.imread(str(tmp_path / 'report.png'))
    assert picture.std() > 5 and picture.shape[1] == 1300


def test_columns_without_content_are_left_out():
    text = ablation_report.markdown(REPORT | {'variants': [row('full', psnr=spread(20), ssim=spread(0.5))]})
    assert '| variant | PSNR | SSIM |' in text and 'claims' not in text and 'Seconds' not in text
