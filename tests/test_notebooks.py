"""Notebooks of the docs, run from their first cell to their last."""
from __future__ import annotations

import json
import re

import pytest
from conftest import ROOT, run_python

NOTEBOOKS = sorted((ROOT / 'docs').glob('*.ipynb'))


@pytest.mark.parametrize('file', NOTEBOOKS, ids=lambda f: f.name)
def test_a_notebook_runs(file, tmp_path):
    cells = json.loads(file.read_text(encoding='utf-8'))['cells']
    code = [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']
    assert len(code) > 3 and not any(cell.get('outputs') for cell in cells)
    (tmp_path / 'notebook.py').write_text('\n\n'.join(code), encoding='utf-8')
    done = run_python(tmp_path / 'notebook.py', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r'uint16 \d{5}', done.stdout) and 'bright.jpg' in done.stdout
