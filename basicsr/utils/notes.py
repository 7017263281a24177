"""What reading has to say of a file that it reads all the same: a warning in the log, or collected for who asks."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from basicsr.utils.logger import get_root_logger


class Note(NamedTuple):
    """A sentence that names the file. `doubtful`: its pixels may be damaged."""
    text: str
    doubtful: bool = False


_collected: ContextVar[list[Note] | None] = ContextVar('collected', default=None)


def note(text: str, doubtful: bool = False) -> None:
    """Log a warning, or add it to what the innermost `collect_notes` of this thread collects."""
    found = _collected.get()
    if found is None:
        get_root_logger().warning(text)
    else:
        found.append(Note(text, doubtful))


def doubt(text: str) -> None:
    """A `note` of what makes it likely that pixels of a file are damaged."""
    note(f'{text}, so a part of the picture may be wrong', doubtful=True)


@contextmanager
def collect_notes() -> Iterator[list[Note]]:
    """The notes of what is read inside, instead of warnings: for processes and threads whose log nobody should see."""
    found: list[Note] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)
