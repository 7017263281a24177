"""`basicsr benchmark`: which numbers stay, and until when."""
from __future__ import annotations

import shutil

import pytest
from boards import PLAIN, dark_folders, found, results, save_network

from basicsr.commands.benchmark import main as benchmark
from basicsr.leaderboard import conduct
from basicsr.leaderboard.data_set import fingerprint


def test_what_is_measured_stays_until_something_changes(board, nets):
    row = {'weights': 'plain.pth'}
    command = [board(row), '--root', str(nets), '--device', 'cpu']
    assert benchmark(command) == 0
    file = nets / 'results' / 'benchmarks' / 'small' / 'rows' / 'plain.pth.json'
    first = file.read_bytes()
    assert benchmark(command) == 0 and file.read_bytes() == first  # seconds would be others
    assert benchmark([*command, '--report_only']) == 0 and file.read_bytes() == first
    save_network(nets / 'plain.pth', PLAIN, seed=1)
    assert benchmark(command) == 0 and file.read_bytes() != first


def test_numbers_of_other_data_or_weights_are_never_shown(board, nets, pairs, capsys):
    row = {'weights': 'plain.pth'}
    command = [board(row), '--root', str(nets), '--device', 'cpu']
    assert benchmark(command) == 0
    board(row, batch=2)
    assert benchmark([*command, '--report_only']) == 0 and found(nets)['plain.pth']['missing'] == 'not measured yet'
    board(row)
    assert benchmark([*command, '--report_only']) == 0 and found(nets)['plain.pth']['images'] == 4
    kept = (nets / 'plain.pth').read_bytes()
    (nets / 'plain.pth').write_bytes(b'no weights')
    assert benchmark([*command, '--report_only']) == 0 and found(nets)['plain.pth']['missing'] == 'not measured yet'
    assert benchmark(command) == 1
    assert 'plain' not in found(nets)['plain.pth'] and 'FAILED: plain.pth' in capsys.readouterr().out
    (nets / 'plain.pth').write_bytes(kept)
    assert benchmark([*command, '--report_only']) == 0 and found(nets)['plain.pth']['images'] == 4


@pytest.fixture
def measured(board, nets, capsys):
    """A board that was measured on the CPU into README.md: its command without the device, the file of its row, README.md."""
    readme = nets / 'README.md'
    readme.write_text('<!-- board small -->\n<!-- end -->\n')
    command = [board({'weights': 'plain.pth'}), '--root', str(nets), '--into', str(readme), '--device']
    assert benchmark([*command, 'cpu']) == 0 and '| plain.pth |' in readme.read_text()
    capsys.readouterr()
    return command, results(nets) / 'rows' / 'plain.pth.json', readme


@pytest.mark.parametrize('device', ['foo', 'cuda:77'])
def test_a_wrong_device_leaves_everything(measured, nets, device):
    command, file, readme = measured
    files = [file, readme, results(nets) / 'board.md']
    before = [path.read_bytes() for path in files]
    assert benchmark([*command, device]) == 2 and [path.read_bytes() for path in files] == before


def test_a_device_is_the_same_by_whatever_name(measured, monkeypatch):
    command, file, _ = measured
    before = file.read_bytes()
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    assert benchmark([*command, 'auto']) == 0 and file.read_bytes() == before


def test_a_device_on_which_a_row_fails_leaves_its_numbers(measured, nets, capsys):
    command, file, readme = measured
    before = file.read_bytes(), readme.read_text()
    assert benchmark([*command, 'meta']) == 1  # of PyTorch: it computes nothing
    assert (file.read_bytes(), readme.read_text()) == before
    out = capsys.readouterr().out
    assert 'FAILED: plain.pth: exit status ' in out and out.strip().endswith('; its earlier numbers stay')
    assert found(nets)['plain.pth']['missing'] == ''


def test_an_image_that_is_damaged_leaves_what_was_measured(measured, nets, pairs, capsys):
    command, file, readme = measured
    image = pairs / 'input' / '2.png'
    before, good = (file.read_bytes(), readme.read_text()), image.read_bytes()
    image.write_bytes(good[:len(good) // 2] + bytes(4) + good[len(good) // 2 + 4:])  # its header is as it was
    assert benchmark([*command, 'cpu']) == 1
    assert (file.read_bytes(), readme.read_text()) == before
    assert 'plain' not in found(nets)['plain.pth']  # numbers of other images
    assert f"'{readme}' stays as it is: no row has numbers" in capsys.readouterr().out
    image.write_bytes(good)
    assert benchmark([*command, 'cpu']) == 0
    assert (file.read_bytes(), readme.read_text()) == before and 'plain' in found(nets)['plain.pth']


def test_images_that_are_added_or_changed_are_measured(measured, nets, pairs, capsys):
    command, file, _ = measured
    for side in ('input', 'target'):
        shutil.copy(pairs / side / '1.png', pairs / side / '4.png')
    assert benchmark([*command, 'cpu', '--report_only']) == 0 and 'plain' not in found(nets)['plain.pth']
    assert benchmark([*command, 'cpu']) == 0 and found(nets)['plain.pth']['images'] == 5
    before = file.read_bytes()
    shutil.copy(pairs / 'input' / '2.png', pairs / 'input' / '4.png')
    shutil.copy(pairs / 'target' / '2.png', pairs / 'target' / '4.png')
    assert benchmark([*command, 'cpu']) == 0 and file.read_bytes() != before


def test_a_fingerprint_is_of_names_and_contents(tmp_path):
    roots = [tmp_path / 'lq', tmp_path / 'gt']
    for root in roots:
        (root / 'inner').mkdir(parents=True)
        (root / 'inner' / 'a.png').write_bytes(b'1')
    block = {'type': 'X', 'dataroot_lq': str(roots[0]), 'dataroot_gt': str(roots[1])}
    seen = [fingerprint(block)]
    assert fingerprint(dict(block)) == seen[0]
    (roots[0] / 'inner' / 'a.png').write_bytes(b'2')
    seen.append(fingerprint(block))
    (roots[0] / 'inner' / 'a.png').rename(roots[0] / 'inner' / 'b.png')
    seen.append(fingerprint(block))
    (roots[0] / 'list.txt').write_text('b')
    seen.append(fingerprint(block))
    shutil.move(roots[0] / 'list.txt', roots[1] / 'list.txt')
    seen += [fingerprint(block), fingerprint({**block, 'meta_info_file': str(roots[1] / 'list.txt')})]
    assert len(set(seen)) == 6


def test_a_metric_whose_file_has_come_is_measured(board, nets, capsys, monkeypatch):
    metrics = {'mine': {'type': 'calculate_brisque', 'weights': str(nets / 'none')}, 'rmse': {'type': 'calculate_rmse'}}
    command = [
        board({'weights': 'plain.pth'}, data=dark_folders(nets / 'dark', 'a'), metrics=metrics), '--root',
        str(nets), '--device', 'cpu'
    ]
    assert benchmark(command) == 0
    assert f"left out: mine: calculate_brisque: there is no file '{nets / 'none'}'" in capsys.readouterr().out
    assert found(nets)['plain.pth']['left_out']['rmse'] == 'it needs a ground truth'
    file = results(nets) / 'rows' / 'plain.pth.json'
    before = file.read_bytes()
    assert benchmark(command) == 0 and file.read_bytes() == before
    monkeypatch.setattr(conduct, 'try_metric', lambda block, device: None)
    assert benchmark(command) == 0 and file.read_bytes() != before
