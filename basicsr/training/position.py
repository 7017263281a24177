"""Where in an epoch a run is, and what that means once images, batches or processes are others."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from basicsr.data.loader import ImageLoader
from basicsr.data.resident_loader import ResidentLoader
from basicsr.data.samplers import EnlargedSampler
from basicsr.utils.errors import counted


class Order(NamedTuple):
    """What the order of the samples follows from, beside the seed; part of every training state.

    Attributes:
        images: samples of the training set. processes: of the run. batch_size: of each process.
        batches: of an epoch.
    """
    images: int
    processes: int
    batch_size: int
    batches: int

    @property
    def step(self) -> int:
        """Images of one iteration."""
        return self.processes * self.batch_size


def order_of(loader: ImageLoader | ResidentLoader, sampler: EnlargedSampler) -> Order:
    return Order(sampler.size, sampler.num_replicas, loader.batch_size, len(loader))


def resumed_at(state: Mapping[str, Any], now: Order) -> tuple[int, int]:
    """Epoch, and batches of it that are done; an epoch whose samples would come in another order begins again."""
    epoch, before, done = state['epoch'], _order_in(state, now), _done(state)
    if done >= before.batches:  # saved after the last batch
        return epoch + 1, 0
    done = done if _same(before, now) else 0
    return (epoch, done) if done < now.batches else (epoch + 1, 0)


def other_order(state: Mapping[str, Any], now: Order) -> list[str]:
    """Sentences for the log: which numbers have changed that no option says, and whether the epoch goes on."""
    before, said = _order_in(state, now), []
    if 'run_state' not in state:
        said.append(f"the state says no more of its run than epoch {state['epoch']} and iteration {state['iter']}: this"
                    ' epoch begins again with other samples, random numbers and best values begin anew')
    if before.images != now.images:
        said.append(f'the training set had {counted(before.images, "image")} and has {now.images}')
    if before.processes != now.processes:
        step = 'a step still takes' if before.step == now.step else f'a step took {before.step} and takes'
        said.append(f'the run had {_words(before)["processes"]} and has {now.processes}: {step} {now.step} images, and'
                    ' rates are those of the options')
    if 0 < _done(state) < before.batches and not _same(before, now):
        was, is_now = (', '.join(text for key, text in _words(order).items()
                                 if getattr(before, key) != getattr(now, key)) for order in (before, now))
        said.append(f'the state is from the middle of an epoch with {was}; with {is_now} this epoch begins again')
    return said


def _words(order: Order) -> dict[str, str]:
    processes = f"{order.processes} process{'' if order.processes == 1 else 'es'}"
    return {
        'images': counted(order.images, 'image'), 'processes': processes, 'batch_size': f'batches of {order.batch_size}'
    }


def _order_in(state: Mapping[str, Any], now: Order) -> Order:
    """What a state says; of what it does not, the numbers of now. BasicSR's say nothing."""
    given = state.get('run_state') or {}
    known = {'processes': len(state.get('rng') or []) or now.processes}
    return now._replace(**known | {key: given[key] for key in Order._fields if key in given})


def _done(state: Mapping[str, Any]) -> int:
    return (state.get('run_state') or {}).get('batches_done', 0)


def _same(before: Order, now: Order) -> bool:
    """Whether the samples of an epoch come in the same order, the same number of them in each step."""
    return (before.images, before.step) == (now.images, now.step)
