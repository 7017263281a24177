"""What the tables and the picture of a board say."""
from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest
from boards import dark_folders, found, results

from basicsr.commands.benchmark import main as benchmark
from basicsr.leaderboard.board import Board, Row
from basicsr.leaderboard.claims import claimed
from basicsr.leaderboard.data_set import subfolders
from basicsr.leaderboard.picture import figure_of
from basicsr.leaderboard.report import collect, in_markdown, show, write
from basicsr.utils import pretrained
from basicsr.utils.published import read_published


def numbers(**more):
    return {
        'network': 'Net', 'parameters': 9, 'macs': 1, 'macs_scan': 0, 'seconds': 1., 'size': '2x3', 'memory': 1,
        'machine': 'one', 'images': 2, 'left_out': {}, 'plain': {'psnr basicsr': 20., 'ssim basicsr': .5
                                                                 }, 'gt_mean': {}
    } | more


def report_of(tmp_path, *rows, **found_of):
    """`rows`: names and claims. `found_of`: by name."""
    made = [Row(name, f'{name}.pth', None, (), None, {}, 'their page', 'MIT', claim) for name, claim in rows]
    board = Board('small', {}, ['basicsr'], {}, 1, tmp_path, source=None, rows=made)
    return collect(board, {row.name: found_of.get(row.name) for row in made}, {})


def test_who_claims_is_named_wherever_the_note_says_so(tmp_path):
    report = report_of(tmp_path, ('a', {'psnr': 30.5, 'source': 'somebody & co'}), ('b', {'ssim': .9}), a=numbers())
    write(report, tmp_path)
    note = 'Claims are those of the people named below'
    for text, line in ((in_markdown(report), '| b | their page | MIT | not said |'), (show(report), 'somebody & co'),
                       ((tmp_path / 'board.tex').read_text(), r'a & their page & MIT & somebody \& co \\'),
                       ((tmp_path / 'board.md').read_text(), '| a | their page | MIT | somebody & co |')):
        assert note in text and line in text.partition(note)[2] and text.count('claimed by') == 1
    assert (tmp_path / 'board.tex').read_text().count(r'\begin{tabular}') == 2
    assert '\na        their page  MIT      somebody & co\n' in show(report)  # texts are read from the left
    assert '\n| --- | --- | --- | --- |\n' in in_markdown(report)
    assert r'\begin{tabular}{llll}' in (tmp_path / 'board.tex').read_text()


def test_a_claim_of_nobody_is_said_to_be(tmp_path):
    report = report_of(tmp_path, ('a', {'psnr': 30.5}), ('b', {}), a=numbers())
    assert '| a | their page | MIT | not said |' in in_markdown(report)
    assert '| b | their page | MIT |  |' in in_markdown(report)


def test_what_was_left_out_is_told_with_where_to_get_it(tmp_path):
    report = report_of(tmp_path, ('a', {}), a=numbers(left_out={'brisque': "it needs '/home/me/file'"}))
    assert 'Left out: brisque. What they need is not here; docs/metrics.md says where to get it.' in in_markdown(report)
    assert '/home/me' not in in_markdown(report)  # a table goes to other machines


def test_a_mean_without_a_number_is_an_empty_cell(tmp_path):
    report = report_of(tmp_path, ('a', {}), ('b', {}), a=numbers(plain={'niqe': 3.5}), b=numbers(plain={'niqe': None}))
    assert in_markdown(report).splitlines()[2].endswith('| 3.500 |')
    assert in_markdown(report).splitlines()[3].endswith('|  |')
    write(report, tmp_path)


def test_the_least_and_the_largest_size_are_told(board, nets, pairs):
    for side in ('input', 'target'):
        for name, size in (('1', (60, 50)), ('10', (30, 32))):  # not the last image
            file = str(pairs / side / f'{name}.png')
            cv2.imwrite(file, cv2.resize(cv2.imread(file), size))
    assert benchmark([board({'weights': 'plain.pth'}), '--root', str(nets), '--device', 'cpu']) == 0
    assert found(nets)['plain.pth']['size'] == '24x28 to 50x60'
    assert 'network alone, 24x28 to 50x60 on' in (results(nets) / 'board.md').read_text()


def test_folders_are_measured_each(board, nets, monkeypatch):
    data = dark_folders(nets / 'dark', 'DICM', 'vv', 'other')
    cv2.imwrite(str(nets / 'dark' / 'alone.png'), np.random.RandomState(5).randint(0, 90, (200, 210, 3), np.uint8))
    monkeypatch.setenv('BASICSR_WEIGHTS', str(nets / 'none'))
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    rows = [{'weights': 'plain.pth', 'claim': {'niqe': 3.5, 'source': 'me'}}, {'weights': 'cidnet_generalization'}]
    assert benchmark([board(*rows, data=data), '--root', str(nets), '--device', 'cpu']) == 0
    plain = found(nets)['plain.pth']['plain']
    niqe = {label: value for label, value in plain.items() if label.startswith('niqe')}
    assert list(niqe) == ['niqe', 'niqe DICM', 'niqe other', 'niqe vv']
    folder = results(nets)
    table = (folder / 'board.md').read_text().splitlines()
    head = [cell.strip() for cell in table[2].strip('|').split('|')]
    cells = {line.split('|')[1].strip(): [c.strip() for c in line.strip('|').split('|')] for line in table[4:6]}
    for label in niqe:
        assert cells['plain.pth'][head.index(label)] == f'{niqe[label]:.3f}'
    assert cells['plain.pth'][head.index('claimed niqe')] == '3.500'
    assert cells['cidnet_generalization'][head.index('claimed niqe DICM')] == '3.550'
    assert cells['cidnet_generalization'][head.index('claimed niqe vv')] == '3.240'
    assert 'claimed niqe other' not in head and 'its authors; NIQE in MATLAB' in '\n'.join(table)
    with (folder / 'board.csv').open(newline='') as file:
        lines = list(csv.DictReader(file))
    assert float(lines[0]['niqe DICM']) == niqe['niqe DICM'] and lines[1]['claimed niqe DICM'] == '3.55'
    alone = dict(data, dataroot_lq=str(nets / 'dark' / 'DICM'), recursive=False)
    assert benchmark([board(rows[0], data=alone, name='one'), '--root', str(nets), '--device', 'cpu']) == 0
    assert found(nets, 'one')['plain.pth']['plain']['niqe'] == pytest.approx(niqe['niqe DICM'], abs=1e-9)


def test_claims_of_one_folder_are_of_the_whole():
    published = read_published(pretrained.folder())['darkir_all_lol']
    whole = {'niqe': 3.759, 'brisque': 18.688, 'source': 'its authors; without ground truth'}
    assert claimed(published, 'DICM', {}) == claimed(published, None, {'DICM': ''}) == whole
    assert claimed(published, 'LOL-v1', {}) == {}
    assert claimed(published, None, {'DICM': ' DICM', 'VV': ' VV'})['brisque VV'] == 26.87


def test_what_is_behind_the_metrics_of_a_folder(tmp_path):
    data = dark_folders(tmp_path / 'dark', 'DICM')
    (tmp_path / 'dark' / 'empty').mkdir()
    assert subfolders(data) == {'DICM': ''}  # all images lie in it, so that their mean is its own
    dark_folders(tmp_path / 'dark', 'VV/inner')
    assert subfolders(data) == {'DICM': ' DICM', 'VV': ' VV'}
    assert subfolders({**data, 'recursive': False}) == subfolders({**data, 'dataroot_gt': 'x'}) == {}


def test_labels_of_the_picture_stay_inside():
    import matplotlib.pyplot as plt
    names = [f'{i}, weights with a name that is long' for i in range(5)]
    points = [{'name': name, 'seconds': .5 * 1.5**i, 'parameters': 10**i, 'plain': {'psnr': 20 + i}}
              for i, name in enumerate(names)]
    figure = figure_of('small', points, 'psnr', 'PSNR')
    figure.canvas.draw()
    axis, = figure.axes
    assert [text.get_text() for text in axis.texts] == names
    for text in axis.texts:
        box = text.get_window_extent()
        assert axis.bbox.x0 < box.x0 and box.x1 < axis.bbox.x1, text.get_text()
    plt.close(figure)
