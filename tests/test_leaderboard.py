"""`basicsr benchmark`: measuring, what cannot be measured, tables."""
from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
import torch
from boards import dark_folders, found
from conftest import ROOT

from basicsr.archs import build_network
from basicsr.commands.benchmark import main as benchmark
from basicsr.commands.evaluate import main as evaluate
from basicsr.inference.restorer import ImageRestorer
from basicsr.leaderboard.board import read_board


def test_rows_say_what_evaluate_says_and_what_it_costs(board, nets, pairs, capsys):
    rows = [
        {'weights': 'plain.pth', 'claim': {'psnr': 30.5, 'gt_mean_psnr': 33, 'source': 'somebody'}},
        {'name': 'other', 'weights': 'cidnet.pth', 'knobs': {'alpha_s': 0.5}, 'licence': 'MIT'},
        {'weights': 'foreign.pth', 'arch_files': ['foreign_arch.py']},
    ]
    assert benchmark([board(*rows), '--root', str(nets), '--device', 'cpu']) == 0
    out = capsys.readouterr().out
    numbers = found(nets)
    for name, kind, more in (('plain.pth', 'plain', []), ('plain.pth', 'gt_mean', ['--GT_mean']),
                             ('other', 'plain', ['--alpha_s', '0.5'])):
        weights = 'cidnet.pth' if name == 'other' else name
        folders = ['--degraded_dir', str(pairs / 'input'), '--clean_dir', str(pairs / 'target')]
        where = nets / f'{name}_{kind}'
        assert evaluate(['--weights', str(nets / weights), *folders, '--output_dir', str(where), *more]) == 0
        said = json.loads((where / 'metrics.json').read_text())
        for label in ('psnr retinexformer', 'ssim basicsr', 'psnr matlab-y'):
            assert numbers[name][kind][label] == pytest.approx(said[label], abs=2e-4), (name, kind, label)
    truth = {k: v for k, v in numbers['foreign.pth'].items() if k in ('network', 'parameters', 'images', 'size')}
    assert truth == {'network': 'Foreign', 'parameters': 1, 'images': 4, 'size': '24x28'}
    assert all(row['seconds'] > 0 and row['memory'] >= 0 and row['machine'] for row in numbers.values())
    assert numbers['plain.pth']['macs'] > 0
    folder = nets / 'results' / 'benchmarks' / 'small'
    table = (folder / 'board.md').read_text()
    assert '| plain.pth | MSRResNet |' in table and '| 30.50 | 33.00 |' in table and '| other, alpha_s 0.5 | CIDNet |' in table
    assert '| other | a file | MIT |' in table and '| somebody |' in table
    assert '| PSNR | SSIM | PSNR, GT-mean |' in table and 'Protocol: retinexformer.' in table and 'Protocol' in out
    with (folder / 'board.csv').open(newline='') as file:
        lines = list(csv.DictReader(file))
    assert [line['name'] for line in lines] == ['plain.pth', 'other', 'foreign.pth']
    assert float(lines[0]['psnr basicsr GT-mean']) == numbers['plain.pth']['gt_mean']['psnr basicsr']
    assert r'\toprule' in (folder / 'board.tex').read_text() and cv2.imread(str(folder / 'board.png')) is not None


def test_weights_that_are_not_here_are_rows_with_claims(board, nets, capsys, monkeypatch):
    monkeypatch.setenv('BASICSR_WEIGHTS', str(nets / 'none'))
    rows = [{'weights': 'moceir_aio5'}, {'weights': 'plain.pth'}]
    assert benchmark([board(*rows, claims='LOL-v1'), '--root', str(nets), '--device', 'cpu']) == 0
    out = capsys.readouterr().out
    assert "not measured: moceir_aio5: the weights 'moceir_aio5' have to be got by hand" in out
    row = found(nets)['moceir_aio5']
    assert 'plain' not in row and row['claim']['psnr'] == 23.0 and row['licence'] == 'no licence is stated'
    table = (nets / 'results' / 'benchmarks' / 'small' / 'board.md').read_text()
    assert '| moceir_aio5 | not measured |' in table and '| 23.00 |' in table and 'Not measured: moceir_aio5.' in table
    assert str(nets) not in table


def test_a_row_that_fails_leaves_the_others(board, nets, capsys):
    (nets / 'odd.pth').write_bytes(b'no weights')
    rows = [{'weights': 'odd.pth'}, {'weights': 'plain.pth'}]
    assert benchmark([board(*rows), '--root', str(nets), '--device', 'cpu']) == 1
    out = capsys.readouterr().out
    assert "FAILED: odd.pth: exit status 2: '" in out and 'odd.pth' in out.partition('FAILED')[2]
    numbers = found(nets)
    assert numbers['plain.pth']['images'] == 4 and numbers['odd.pth']['missing'].startswith('exit status 2')


def test_folders_without_ground_truth_are_measured_by_what_needs_none(board, nets, capsys):
    data = dark_folders(nets / 'dark', 'DICM')
    assert benchmark([board({'weights': 'plain.pth'}, data=data), '--root', str(nets), '--device', 'cpu']) == 0
    row = found(nets)['plain.pth']
    assert set(row['plain']) | set(row['left_out']) == {'niqe', 'brisque'} and row['gt_mean'] == {}
    assert 'niqe' in row['plain']
    assert 'niqe' in (nets / 'results' / 'benchmarks' / 'small' / 'board.md').read_text()


def test_images_of_one_size_go_together_and_change_nothing(board, nets, pairs):
    for name in ('2', '10'):
        for side in ('input', 'target'):
            file = str(pairs / side / f'{name}.png')
            cv2.imwrite(file, cv2.resize(cv2.imread(file), (40, 32)))
    numbers = []
    for batch in (1, 3):
        assert benchmark([board({'weights': 'cidnet.pth'}, batch=batch), '--root', str(nets), '--device', 'cpu']) == 0
        numbers.append(found(nets)['cidnet.pth'])
    assert numbers[0]['plain'] == pytest.approx(numbers[1]['plain'], abs=1e-4) and numbers[1]['images'] == 4


def test_several_images_are_those_that_each_of_them_is():
    torch.manual_seed(0)
    net = build_network({'type': 'CIDNet', 'channels': [4, 4, 8, 16]})
    images = [np.random.RandomState(i).rand(21, 30, 3).astype(np.float32) for i in range(3)]
    for options in ({}, {'ensemble': True}, {'tile': 80}):
        restorer = ImageRestorer(net, **options)
        for together, alone in zip(restorer.several(images), map(restorer, images)):
            np.testing.assert_allclose(together, alone, atol=2e-6)


@pytest.mark.parametrize('file', sorted((ROOT / 'Options' / 'benchmarks').glob('*.yml')), ids=lambda file: file.stem)
def test_the_boards_of_the_project_are_right(file, monkeypatch, tmp_path):
    monkeypatch.setattr('basicsr.leaderboard.board.data_of', lambda block: [])  # data sets are not in the tree
    rows = read_board(file, tmp_path).rows
    assert len(rows) >= 4 and all(row.source for row in rows)


def test_the_table_inside_a_markdown_file(board, nets, capsys):
    file = nets / 'README.md'
    around = b'# Caf\xe9\n\n<!-- board small pictures/small.png -->\n', b'<!-- end -->\r\nmore\n<!-- end -->\n'
    file.write_bytes(around[0] + b'old\n' + around[1])
    command = [board({'weights': 'plain.pth'}), '--root', str(nets), '--device', 'cpu', '--into', str(file)]
    assert benchmark(command) == 0 and 'README.md' in capsys.readouterr().out
    content = file.read_bytes()
    assert content.startswith(around[0]) and content.endswith(around[1]) and b'old' not in content
    between = content[len(around[0]):-len(around[1])].decode()
    table = (nets / 'results' / 'benchmarks' / 'small' / 'board.md').read_text()
    assert between.startswith('| weights |') and between.split('![')[0].strip() in table
    assert between.endswith('![quality against seconds](pictures/small.png)\n')
    assert cv2.imread(str(nets / 'pictures' / 'small.png')) is not None
    assert benchmark([*command, '--report_only']) == 0 and file.read_bytes() == content


@pytest.mark.parametrize('text', [
    '', '<!-- board small -->\n', '<!-- end -->\n<!-- board small -->\n', '<!-- board other -->\n<!-- end -->\n',
    '<!-- board small -->\n<!-- board small -->\n<!-- end -->\n', '<!-- board small ../a.png -->\n<!-- end -->\n',
    '<!-- board small /a.png -->\n<!-- end -->\n', '<!-- board small notes.md -->\n<!-- end -->\n'
])
def test_a_file_without_a_place_is_refused_before_measuring(board, nets, capsys, text):
    file = nets / 'notes.md'
    file.write_text(text)
    assert benchmark([board({'weights': 'plain.pth'}), '--root', str(nets), '--into', str(file)]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and 'must ' in error and str(file) in error
    assert file.read_text() == text and not (nets / 'results').exists()


def test_the_projects_own_table_says_what_the_manifest_says():
    manifest = json.loads((ROOT / 'pretrained_weights' / 'manifest.json').read_text())['weights']
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    table = text.split('<!-- board LOL_v1 docs/lol_v1.png -->\n')[1].split('\n\n')[0].splitlines()
    rows = {cells[0]: cells for cells in (line.strip('| ').split(' | ') for line in table[2:])}
    for name, entry in manifest.items():
        found = entry['metrics']['candidates'][entry['entry']]
        said = [
            format(found[kind][f'{metric} retinexformer'], digits) for kind in ('plain', 'GT-mean')
            for metric, digits in (('psnr', '.2f'), ('ssim', '.4f'))
        ]
        assert rows[name][2] == f"{entry['parameters']:,d}" and rows[name][6:10] == said
    assert (ROOT / 'docs' / 'lol_v1.png').is_file()
