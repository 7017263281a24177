"""`benchmarks/gpu.py` rehearsed without a GPU: what is measured is kept, whatever ends the run."""
from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from basicsr.ops.cuda import plans

pytest.importorskip('triton')
BENCHMARKS = ROOT / 'benchmarks'

SECTION = '''
import os, time
def rows(x):
    yield {'what': x}
def fail():
    yield {'what': 'before'}
    raise ValueError('as planned')
def tasks(context):
    return [('first', lambda: rows('a')), ('raises', fail), ('dies', lambda: os._exit(7)), ('after', lambda: rows('b')),
            ('hangs', lambda: time.sleep(600)), ('last', lambda: rows(len(context.rows)))]
'''


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def rows_of(file: Path, topic: str) -> list[dict]:
    return json.loads(file.read_text()).get(topic, {}).get('rows', []) if file.is_file() else []


def test_a_killed_run_leaves_its_rows(tmp_path):
    file = tmp_path / 'rows.json'
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    run = subprocess.Popen([
        sys.executable,
        str(BENCHMARKS / 'gpu.py'), '--sections', 'scan', 'tune', '--seconds', '3000', '--out',
        str(file)
    ], env=env, stdout=subprocess.DEVNULL)
    try:
        while not rows_of(file, 'gpu tune') and run.poll() is None:
            time.sleep(0.1)
    finally:
        run.kill()
        run.wait()
    scan, tune = rows_of(file, 'gpu scan'), rows_of(file, 'gpu tune')
    assert {'shape', 'dtype', 'forward graph', 'both graph', 'plan'} <= scan[0].keys()
    assert [row for row in scan if 'failed' in row] == [] and 'all of a step' in {row['shape'] for row in scan}
    assert tune[0]['stored'] == 'yes'  # the first of the table, until one is faster
    assert not (ROOT / 'basicsr/ops/cuda/tuned.json').with_suffix('.tmp').exists()
    assert json.loads(file.read_text())['gpu scan']['torch'] == torch.__version__


def test_a_task_that_dies_or_hangs_costs_itself_only(tmp_path, monkeypatch, benchmarks):
    import gpu_run
    (tmp_path / 'faulty_section.py').write_text(SECTION)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(gpu_run, 'task_seconds', lambda context: 1 if context.begun[-1:] == ['hangs'] else 3000)
    found, said = [], []
    gpu_run.run_section('faulty_section', gpu_run.Context('cpu', {}, time.time() + 3000), found.append, said.append)
    assert found == [{'what': 'a'}, {'what': 'before'}, {'what': 'raises', 'failed': 'ValueError: as planned'}, {
        'what': 'dies', 'failed': 'the process died (7)'
    }, {'what': 'b'}, {'what': 'hangs', 'failed': 'no row in 1 s'}, {'what': 4}] and said == []


def test_the_kernels_are_right_by_the_script_itself(benchmarks):
    import gpu_correct
    import gpu_run
    context = gpu_run.Context('cpu', {}, time.time() + 3000)
    rows = [row for _, task in gpu_correct.tasks(context) for row in task()]
    assert {row['what'] for row in rows} == {'image', 'triton', 'sequence', 'plain backend', 'long image'}
    assert {row['dtype'] for row in rows} == {'float32', 'bfloat16', 'float16', 'float64'}
    assert [row for row in rows if row['right'] != 'yes'] == []


def test_sections_come_in_order(benchmarks):
    import gpu
    assert gpu.parse([]).sections == ['correct', 'scan', 'networks', 'published']
    assert gpu.parse(['--tune', '--profile']).sections == list(gpu.SECTIONS)
    assert gpu.parse(['--sections', 'profile', 'scan', '--tune']).sections == ['profile', 'scan', 'tune']


def test_a_forced_plan_is_seen_by_all_threads():
    kind = plans.Kind(16, 3)
    first, second = plans.candidates(kind)[:2]
    seen = []
    with plans.forced(second):
        thread = threading.Thread(target=lambda: seen.append(plans.choose(kind, '')))
        thread.start(), thread.join()
        with plans.forced(first):
            assert plans.choose(kind, '') is first
        with plans.forced(None):
            assert plans.choose(kind, '') is second
    assert seen == [second] and plans.choose(kind, '') is first


def test_every_section_can_be_planned(benchmarks, tmp_path):
    import gpu
    import gpu_run
    for module in gpu.SECTIONS.values():
        context = gpu_run.Context('cpu', {'scratch': str(tmp_path)}, time.time() + 3000)
        assert importlib.import_module(module).tasks(context), module


def test_networks_are_timed_when_all_have_started(benchmarks, tmp_path, monkeypatch):
    import gpu_networks
    import gpu_run
    context = gpu_run.Context('cpu', {'scratch': str(tmp_path)}, time.time() + 3000)
    jobs = [('RetinexFormer_LOL_v1', 'bf16'), ('MASRNet_LOL_v1', 'float32'), ('RetinexFormer_LOL_v1', 'nonsense')]
    rows = list(gpu_networks.Fleet(jobs, context).report())
    whats = [(row['network'].partition('_')[0], row['what']) for row in rows]
    assert sorted(whats[:2]) == [('MASRNet', 'float32 started'), ('RetinexFormer', 'bf16 started')]
    assert {('MASRNet', 'float32'), ('RetinexFormer', 'bf16'), ('RetinexFormer', 'eager bf16 step'),
            ('RetinexFormer', 'infer bf16')} == set(whats[2:]) - {('RetinexFormer', 'infer float32')}
    assert all(row.get('iter/s', 1) > 0 for row in rows)


def test_an_earlier_table_stays_until_the_new_one_is_whole(benchmarks, tmp_path):
    from common import store
    file = tmp_path / 'new' / 'results' / 'rows.json'
    store('gpu scan', [{'a': 1}] * 16, file)
    for n in (1, 2):
        store('gpu scan', [{'a': 2}] * n, file, finished=False)
        assert len(rows_of(file, 'gpu scan')) == n and len(rows_of(file, 'gpu scan before')) == 16
    store('gpu scan', [{'a': 2}] * 3, file)
    assert len(rows_of(file, 'gpu scan')) == 3 and rows_of(file, 'gpu scan before') == []


def test_a_full_disk_ends_nothing(benchmarks, tmp_path, monkeypatch, capsys):
    import common
    import gpu
    import gpu_run

    def full(*arguments, **settings):
        raise OSError(28, 'No space left on device')

    def section(module, context, add, say):
        add({'what': 'row'})
        return []

    monkeypatch.setattr(common, 'store', full)
    monkeypatch.setattr(gpu_run, 'run_section', section)
    args = gpu.parse(['--sections', 'scan', 'tune'])
    assert gpu.run(args, 'cpu', tmp_path / 'rows.json', '') == {'scan': [{'what': 'row'}], 'tune': [{'what': 'row'}]}
    assert 'tune: what row' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, message', [
    (['--golden', '{empty}/none'], 'is no folder'),
    (['--golden', '{empty}'], 'no golden.py'),
    (['--wheels', '{empty}/none'], 'is no folder'),
    (['--mamba', '{empty}/none'], 'is no folder'),
    (['--seconds', 'nan'], '--seconds must be above 0'),
    (['--seconds', '0'], '--seconds must be above 0'),
    (['--out', '{empty}'], 'is a folder'),
])
def test_mistakes_are_told_before_anything_runs(benchmarks, tmp_path, capsys, arguments, message):
    import gpu
    with pytest.raises(SystemExit) as ended:
        gpu.parse([text.format(empty=tmp_path) for text in arguments])
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_what_could_not_be_looked_at_is_not_right(benchmarks):
    import gpu
    assert gpu.wrong('correct', {'right': 'no'}) and gpu.wrong('correct', {'what': 'image', 'failed': 'RuntimeError'})
    assert not gpu.wrong('correct', {'right': 'yes'}) and not gpu.wrong('scan', {'failed': 'too little memory'})
