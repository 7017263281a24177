"""How the threads of PyTorch wait for one another; decided before it is imported."""
from __future__ import annotations

import os

_POLICY = 'OMP_WAIT_POLICY'
_SAID = (_POLICY, 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')  # what users say it by


def wait_asleep() -> None:
    """Let threads sleep while they wait, unless the user has said something else.

    By default they spin: beside other work on the machine, one that has got no core keeps the others waiting at full load,
    and work on all cores takes several times as long as on one. Too late where PyTorch has been imported.
    """
    if not any(name in os.environ for name in _SAID):
        os.environ[_POLICY] = 'PASSIVE'


def how_threads_wait() -> str:
    """For people: what the variables say."""
    said = ', '.join(f'{name}={os.environ[name]}' for name in _SAID if name in os.environ)
    if not said:
        return f'spin while they wait, which is slow beside other work on the machine; {_POLICY}=PASSIVE lets them sleep'
    return f'sleep while they wait ({said})' if os.environ.get(_POLICY,
                                                               '').upper() == 'PASSIVE' else f'wait as {said} says'
