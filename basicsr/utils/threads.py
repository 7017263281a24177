"""How the threads of PyTorch wait for one another; decided before it is imported."""
from __future__ import annotations

import os

_POLICY, _SPINS = 'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'
_SAID = (_POLICY, _SPINS, 'KMP_BLOCKTIME')  # what users say it by
# some microseconds, in which most waits of an idle machine end; GNU's runtime alone knows the number, and takes it before the
# policy
_FEW = '3000'


def wait_asleep() -> None:
    """Let threads sleep when they wait for longer than a moment, unless the user has said something else.

    By default they spin for milliseconds: beside other work on the machine, one that has got no core keeps the others waiting
    at full load, and work on all cores takes several times as long. Too late where PyTorch has been imported.
    """
    if not any(name in os.environ for name in _SAID):
        os.environ |= {_POLICY: 'PASSIVE', _SPINS: _FEW}


def how_threads_wait() -> str:
    """For people: what the variables say."""
    said = ', '.join(f'{name}={os.environ[name]}' for name in _SAID if name in os.environ)
    if not said:
        return f'spin while they wait, which is slow beside other work on the machine; {_POLICY}=PASSIVE lets them sleep'
    return f'sleep while they wait ({said})' if os.environ.get(_POLICY,
                                                               '').upper() == 'PASSIVE' else f'wait as {said} says'
