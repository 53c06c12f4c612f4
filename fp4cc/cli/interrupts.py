"""Ending early: Ctrl-C, a request to terminate, a reader that went away. One line at most, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

#: What ends a command: Ctrl-C, `kill`, and a terminal that is closed.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "the terminal was closed"}


class Interrupted(BaseException):
    """Raised in the main thread where a signal found it, so that every `finally` on the way out runs."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)

    @property
    def status(self) -> int:
        """The exit status that shells use: 128 and the signal."""
        return 128 + self.number

    def __str__(self) -> str:
        return _WORDS.get(self.number, self.number.name)


@contextmanager
def interruptible() -> Generator[None]:
    """Within this the first of the signals raises `Interrupted`, and later ones wait until all is cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread alone
        return

    def stop(number: int, _: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:  # `nohup` and shells' background jobs ignore some on purpose
            signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def drop_output() -> None:
    """Send what standard output still buffers nowhere: the interpreter flushes it at exit, and would complain."""
    with contextlib.suppress(OSError, ValueError):  # it is no file of the system's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
