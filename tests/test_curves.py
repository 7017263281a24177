"""The tables of a run's curves, as they are found when it goes on."""
from __future__ import annotations

import pytest

from basicsr.training.curves import Table

GOOD = 'iter,lr,l_pix\n1,0.1,2.5\n2,0.1,nan\n4,0.1,\n'


def test_a_table_goes_on_and_rows_that_come_again_are_dropped(tmp_path):
    (tmp_path / 'a.csv').write_text(GOOD)
    table = Table(tmp_path / 'a.csv', keep_until=2)
    assert [row['iter'] for row in table.rows] == ['1', '2']
    table.add(3, {'lr': .1, 'l_pix': 1.})
    assert (tmp_path / 'a.csv').read_text().split() == ['iter,lr,l_pix', '1,0.1,2.5', '2,0.1,nan', '3,0.1,1.0']


@pytest.mark.parametrize(
    'content',
    [
        b'1,0.1,2.5\n2,0.1,2.4\n',  # without its head
        b'step,l_pix\n1,2\n',
        b'iter,l_pix\n1,2,3\n',
        b'iter,l_pix\none,2\n',
        b'iter,l_pix\n1,two\n',
        b'iter,l_pix\n1,"2\n',
        b'iter,l_pix\n1,\xff\n',
        b'\0\0\0\0\n\0\0\0',
    ])
def test_what_is_no_table_is_kept_under_another_name_and_told(tmp_path, messages, content):
    file = tmp_path / 'metrics.csv'
    file.write_bytes(content)
    table = Table(file, keep_until=9)
    assert table.rows == [] and not file.exists()
    kept, = tmp_path.glob('metrics.csv.damaged_*')
    assert kept.read_bytes() == content
    assert any(f"'{file}' is damaged or no table of a run" in m and f"now '{kept.name}'" in m for m in messages)
    table.add(1, {'l_pix': 2.})
    assert file.read_text().split() == ['iter,l_pix', '1,2.0']
