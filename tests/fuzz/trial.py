"""One spec through check, lowering for every target, and emission, within bounds of time and memory."""

from __future__ import annotations

import ast as python
import resource
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import plans
from fp4cc.diagnostics import CODES, Diagnostic, DiagnosticError, render, to_json
from fp4cc.ir.verify import verify
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4cc.targets import NAMES

SECONDS = 5.0
BYTES = 1 << 30


class TooSlow(Exception):
    """A spec took more than SECONDS of processor time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a spec: its codes, the texts that were emitted by target and kernel, and the seconds."""

    codes: tuple[str, ...]
    emitted: dict[tuple[str, str], str]
    seconds: float


@contextmanager
def bounded(seconds: float = SECONDS, size: int = BYTES) -> Generator[None]:
    """Raise TooSlow after so much processor time, and MemoryError when so many bytes more are wanted."""

    def stop(_number: int, _frame: object) -> None:
        raise TooSlow

    used = _virtual_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGVTALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + size, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


def _virtual_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def attempt(text: str) -> Outcome:
    """Take a spec as far as it goes.

    Raises AssertionError for a diagnostic without a code or a place, TooSlow, MemoryError, and what nobody caught.
    """
    start = time.process_time()
    with bounded():
        checked = analyze(Source("spec.fp4", text))
        found: list[Diagnostic] = list(checked.diagnostics)
        _judge(found, text)
        emitted: dict[tuple[str, str], str] = {}
        for kernel in () if checked.failed else checked.kernels[:8]:
            verify(kernel)
            for target in NAMES:
                try:
                    lowered = lower(kernel, target)
                except DiagnosticError as refused:
                    _judge(refused.diagnostics, text)
                    found.extend(refused.diagnostics)
                    continue
                for name, plan in list(plans(lowered).items())[:3]:
                    emitted[target, name] = emit(plan)
                    python.parse(emitted[target, name])
    return Outcome(tuple(dict.fromkeys(d.code for d in found)), emitted, time.process_time() - start)


def _judge(found: tuple[Diagnostic, ...] | list[Diagnostic], text: str) -> None:
    for d in found:
        assert d.code in CODES and not d.code.startswith("FP9"), d
        assert d.span is not None or d.code == "FP1009", d
        assert d.span is None or d.span.source.name != "spec.fp4" or 0 <= d.span.start <= d.span.end <= len(text), d
    shown = render(found)
    assert "\x1b" not in shown
    shown.encode()
    to_json(found)
