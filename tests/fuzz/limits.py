"""What every hostile input has to keep: 5 seconds, 1 GB, and an error that has a code.

Seconds are the process's own: what others do on the machine does not count. Of a clock's, there may be 60.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS, OF_A_CLOCK = 5, 60
MEMORY = 1 << 30


class TooLong(BaseException):
    """Not an Exception: nothing that handles errors may swallow it."""


def _stop(signum: int, frame: Any) -> None:
    raise TooLong


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """Fails where the block takes more than `SECONDS`, or makes the process `MEMORY` larger than it ever was."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    old = [signal.signal(number, _stop) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, OF_A_CLOCK)
    try:
        yield
    except TooLong as late:
        raise AssertionError(f"{what}: over {SECONDS} s") from late
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), old, strict=True):
            signal.signal(number, handler)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MEMORY, f"{what}: {grown / 1e9:.1f} GB"
