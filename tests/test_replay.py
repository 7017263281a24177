"""The bookkeeping of recordings, with a recorder that needs no GPU."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from fake_recorder import FakeRecorder
from torch import nn

from basicsr.archs.description import Description
from basicsr.inference.restorer import ImageRestorer
from basicsr.utils.replay import Replayed, copies, python_state, reason


def double(x, *more):
    return {'sum': x + sum(more), 'name': 'double', 'pair': (2 * x, None)}


def test_three_calls_then_a_recording_that_is_replayed_at_once():
    recorder, total = FakeRecorder(), torch.zeros(())

    def function(x):
        total.add_(x.sum())  # in place: every call counts, none twice
        return 2 * x

    replayed = Replayed(function, recorder, 'test')
    results = [replayed(torch.full((2, ), float(i))) for i in range(6)]
    assert recorder.log == ['warm', 'warm', 'watch', 'record', 'replay', 'replay', 'replay']
    assert [r.tolist() for r in results] == [[2. * i] * 2 for i in range(6)]  # kept, although the places are the same
    assert total.item() == 30 and replayed.recordings == 1


def test_results_keep_their_nest():

    class Pair(NamedTuple):
        names: tuple[str, ...]
        value: torch.Tensor

    given = {'a': [Pair(('x', 'y'), torch.ones(2, requires_grad=True))], 'b': 3}
    kept = copies(given)
    assert kept['a'][0].names == ('x', 'y') and kept['b'] == 3 and isinstance(kept['a'][0], Pair)
    assert not kept['a'][0].value.requires_grad and torch.equal(kept['a'][0].value, given['a'][0].value)
    assert Replayed(double, FakeRecorder(), 'test', warmup=0)(torch.ones(1), torch.ones(1))['sum'].item() == 2


def test_sizes_types_and_memory_orders_are_apart_and_windows_are_not():
    recorder = FakeRecorder()
    replayed = Replayed(double, recorder, 'test', warmup=1)
    x = torch.rand(1, 3, 8, 8)
    for t in (x, x.double(), x[..., :4], x.contiguous(memory_format=torch.channels_last)):
        for _ in range(2):
            assert torch.equal(replayed(t)['pair'][0], 2 * t)
    assert replayed.recordings == 4
    big = torch.rand(1, 3, 9, 9)
    assert torch.equal(replayed(big[..., 1:, :8])['sum'], big[..., 1:, :8])  # as dense as `x`
    assert replayed.recordings == 4 and recorder.log.count('record') == 4


def test_without_a_recorder_it_is_the_function():
    inputs = []
    replayed = Replayed(inputs.append, None, 'test')
    x = torch.ones(2)
    for _ in range(5):
        replayed(x)
    assert all(t is x for t in inputs) and len(inputs) == 5
    replayed.clear()


def test_further_sizes_are_called_and_that_is_said_once(messages):
    replayed = Replayed(double, FakeRecorder(), 'training', warmup=1, limit=2)
    for n in (1, 2, 3, 4):
        for _ in range(3):
            assert replayed(torch.ones(n))['sum'].tolist() == [1.] * n
    assert replayed.recordings == 2
    assert messages == ['training runs without CUDA graphs: 2 sizes are recorded; further ones are not']


def test_the_recording_that_was_not_used_for_longest_makes_room():
    recorder = FakeRecorder()
    replayed = Replayed(double, recorder, 'test', warmup=1, limit=2, evict=True)
    for n in (1, 1, 2, 2, 1, 3, 3):  # 3 takes the place of 2
        replayed(torch.ones(n))
    recorder.log.clear()
    replayed(torch.ones(1))
    assert recorder.log == ['replay']
    for _ in range(2):  # not at once: sizes that alternate would all be recorded each time
        replayed(torch.ones(2))
    assert recorder.log == ['replay', 'wait', 'record', 'replay'] and replayed.recordings == 2


@pytest.mark.parametrize('waits, log', [
    (['first time', None], ['watch', 'watch', 'record', 'replay', 'replay']),
    (['always', 'always'], ['watch', 'watch']),
])
def test_a_host_that_waits_twice_ends_it(messages, waits, log):
    recorder, calls = FakeRecorder(wait=list(waits)), []
    replayed = Replayed(lambda x: calls.append(1) or x + 1, recorder, 'training', warmup=1)
    for _ in range(4):
        assert replayed(torch.ones(1)).item() == 2
    assert recorder.log == log and len(calls) == 4
    assert messages == (['training runs without CUDA graphs: always'] if 'always' in waits else [])


def test_a_recording_that_fails_is_said_once_and_repaired(messages):
    repaired = []
    replayed = Replayed(double, FakeRecorder(breaks=RuntimeError('not permitted\nmore')), 'training', warmup=1,
                        on_failure=lambda: repaired.append(1))
    for n in (1, 2):
        for _ in range(4):
            assert replayed(torch.ones(n))['sum'].tolist() == [1.] * n
    assert messages == ['training runs without CUDA graphs: RuntimeError: not permitted'] and repaired == [1, 1]
    try:
        try:
            raise ValueError('first')
        finally:
            raise RuntimeError('second')
    except RuntimeError as error:
        assert reason(error) == 'ValueError: first'


def test_recordings_make_room_for_a_size_that_needs_it():
    recorder, tried, repaired = FakeRecorder(), [], []

    def function(x):
        tried.append(len(x))
        if tried == [2, 2, 3] and replayed.recordings:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return x + 1

    replayed = Replayed(function, recorder, 'test', warmup=1, on_failure=lambda: repaired.append(1))
    for n in (2, 2, 3, 3):
        assert replayed(torch.ones(n)).tolist() == [2.] * n
    assert tried == [2, 2, 3, 3, 3] and repaired == [1] and replayed.recordings == 1


def test_what_python_keeps_between_calls_is_noticed(messages):

    class Counting(nn.Module):
        calls, total = 0, 0

        def forward(self, x):
            Counting.calls += 1
            return x * Counting.calls

    loss, recorder = nn.Sequential(Counting()), FakeRecorder()
    replayed = Replayed(loss, recorder, 'training', state=lambda: python_state(loss))
    assert [replayed(torch.ones(1)).item() for _ in range(5)] == [1, 2, 3, 4, 5]
    assert messages == ['training runs without CUDA graphs: Counting.calls changes from call to call']
    assert 'record' not in recorder.log


def test_cleared_recordings_give_their_memory_back_and_come_again():
    recorder = FakeRecorder()
    replayed = Replayed(double, recorder, 'test', warmup=1)
    for _ in range(2):
        replayed(torch.ones(1))
    recorder.log.clear()
    replayed.clear()
    assert recorder.log == ['wait', 'new pool'] and replayed.recordings == 0
    replayed(torch.ones(1))
    assert recorder.log[2:] == ['record', 'replay']


# ------------------------------------------------------------------------------------------------ restoring images


class Brighter(nn.Module):
    description = Description(tiling='')

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.shapes, self.full = [], None

    def forward(self, x):
        self.shapes.append(tuple(x.shape[-2:]))
        if self.full and x.shape[-1] > self.full and len(self.shapes) > 1:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return [x, x * self.gain]


def recorded(restorer):
    recorder = restorer.replayed.recorder = FakeRecorder()
    return recorder


def test_images_of_one_size_are_replayed():
    restorer = ImageRestorer(Brighter(), multiple=8)
    recorder = recorded(restorer)
    images = [np.random.RandomState(i).rand(20, 30, 3).astype(np.float32) for i in range(4)]
    for img in images:
        np.testing.assert_array_equal(restorer(img), img * np.float32(0.5))
    assert recorder.log == ['watch', 'record', 'replay', 'replay', 'replay']
    with torch.no_grad():
        restorer.net.gain.fill_(0.25)  # in place: replays know it
    np.testing.assert_array_equal(restorer(images[0]), images[0] * np.float32(0.25))
    for size in (16, 24, 16, 24, 8, 8):
        restorer(images[0][:size, :size])
    assert restorer.replayed.recordings == 2 and recorder.log.count('wait') == 1


def test_tiles_of_one_size_are_replayed():
    restorer = ImageRestorer(Brighter(), tile=64, tile_overlap=16, ensemble=True)
    recorder = recorded(restorer)
    img = np.random.RandomState(0).rand(100, 150, 3).astype(np.float32)
    np.testing.assert_allclose(restorer(img), img * 0.5, atol=1e-6)
    assert recorder.log.count('record') == 1
    assert recorder.log.count('replay') == 8 * 6 - 1  # turned ones are of the same size


def test_recordings_are_given_up_before_tiles_are_tried(messages):
    restorer = ImageRestorer(Brighter(), tile_overlap=16)
    recorder = recorded(restorer)
    small, large = np.full((64, 64, 3), .5, np.float32), np.full((64, 200, 3), .5, np.float32)
    for _ in range(2):
        restorer(small)
    restorer.net.full = 150
    np.testing.assert_allclose(restorer(large), large * 0.5, atol=1e-6)
    assert 'new pool' in recorder.log and restorer.net.shapes.count((64, 200)) == 2
    assert len(messages) == 1 and 'trying tiles of 100 pixels' in messages[0]
