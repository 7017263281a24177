"""What a data set says of itself beyond its items."""
import torch

from basicsr.data.protocol import SaysMore, about
from basicsr.data.task_samples import TaskSamples


class Bare(torch.utils.data.Dataset):

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {'lq': torch.zeros(3, 2, 2), 'task': ['rain', 'haze'][index]}


def test_what_a_data_set_says_of_itself_and_what_is_taken_where_it_says_nothing():
    bare = Bare()
    assert (about(bare).summary(), about(bare).absent(), about(bare).tasks()) == ('', [], ['rain', 'haze'])
    assert about(bare).stored() is bare
    bare.tasks = ['something', 'else']  # an attribute of its own, no method
    assert about(bare).tasks() == ['rain', 'haze']
    bare.summary, bare.absent, bare.stored, bare.tasks = lambda: 'two', lambda: ['a'], lambda: [1], lambda: ['x', 'y']
    assert (about(bare).summary(), about(bare).absent(), about(bare).tasks()) == ('two', ['a'], ['x', 'y'])
    assert about(bare).stored() == [1]


def test_optional_methods_are_documented_and_those_of_several_tasks_have_all():
    names = {name for name in vars(SaysMore) if not name.startswith('_')}
    assert names == {'summary', 'absent', 'stored', 'tasks', 'input_sizes', 'has_gt'}
    assert all(getattr(SaysMore, name).__doc__ and hasattr(TaskSamples, name) for name in names)
