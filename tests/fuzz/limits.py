"""What every hostile input has to keep: 5 seconds, 1 GB, and an error that has a code."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 5
MEMORY = 1 << 30


class TooLong(BaseException):
    """Not an Exception: nothing that handles errors may swallow it."""


def _stop(signum: int, frame: Any) -> None:
    raise TooLong


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """Fails where the block takes more than `SECONDS`, or makes the process `MEMORY` larger than it ever was."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    old = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    except TooLong as late:
        raise AssertionError(f"{what}: over {SECONDS} s") from late
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MEMORY, f"{what}: {grown / 1e9:.1f} GB"
