"""Functions of CUDA's device runtime that a module calls and does not define: `vprintf` and `__assertfail`.

What a launch prints stands in `Gpu.printed` after it, thread by thread in the order of CTAs and threads, and each
thread's in its own order: the GPU promises none between threads.
"""

from __future__ import annotations

import re
import struct

from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import ThreadContext, signed
from fp4emu.registry import instruction

SECTION = "CUDA C++ Programming Guide, Formatted Output"
MOST = 4096
"""Characters of a format or a string before its end must come."""
_CONVERSION = re.compile(
    r"%(?P<flags>[-+ #0]*)(?P<width>\*|\d*)(?P<precision>\.(?:\*|\d*))?(?P<length>hh|h|ll|l|j|z|t)?(?P<what>.)",
    re.DOTALL,
)


@instruction("call vprintf", "", style="thread", section=SECTION, outputs=1)
def vprintf(thread: ThreadContext, ins: Instruction, text: int, arguments: int) -> int:
    """Prints for a thread; returns the number of arguments."""
    if not text:
        return 0xFFFF_FFFF
    taken = _Arguments(thread, arguments)
    format_ = _string(thread, text)
    result: list[str] = []
    position = 0
    for found in _CONVERSION.finditer(format_):
        result += [format_[position : found.start()], _converted(thread, found, taken)]
        position = found.end()
    result.append(format_[position:])
    x, y, z = thread.cta.id
    thread.machine.printed.append(((z, y, x, 32 * thread.warp.index + thread.lane), "".join(result)))
    return taken.count


@instruction("call __assertfail", "", style="thread", section="CUDA C++ Programming Guide, Assertion")
def assert_fail(thread: ThreadContext, ins: Instruction, *arguments: int) -> None:
    """The fault of an assertion: (what, file, line, function, size of a character)."""
    if len(arguments) < 4:
        raise Fault("a call of __assertfail with other arguments than its five")
    what, file, function = (_report(thread, arguments[i]) for i in (0, 1, 3))
    raise Fault(f"a call of __assertfail: assertion failed: {file}:{arguments[2]}: {function}: {what}")


def _report(thread: ThreadContext, address: int) -> str:
    """A string, or where it should be."""
    try:
        return _string(thread, address)
    except Fault:
        return f"(no string at {address:#x})"


def _string(thread: ThreadContext, address: int) -> str:
    """A string in memory, to its zero."""
    found = bytearray()
    while len(found) < MOST:
        byte = thread.memory.read(address + len(found), 1)
        if byte == b"\0":
            return found.decode("utf-8", "replace")
        found += byte
    raise Fault(f"the string at {address:#x} does not end within {MOST} characters")


class _Arguments:
    """The arguments of a call, one after the other in a buffer, each aligned to its size."""

    def __init__(self, thread: ThreadContext, address: int) -> None:
        self._thread, self._address = thread, address
        self._offset = self.count = 0

    def take(self, size: int) -> int:
        """The bits of the next one."""
        start = -(-self._offset // size) * size
        self._offset, self.count = start + size, self.count + 1
        return int.from_bytes(self._thread.memory.read(self._address + start, size), "little")

    def number(self, written: str) -> str:
        """A width or a precision, which `*` takes from the arguments."""
        return written.replace("*", str(signed(self.take(4)))) if "*" in written else written


def _converted(thread: ThreadContext, found: re.Match[str], taken: _Arguments) -> str:
    what = found["what"]
    if what == "%":
        return "%"
    flags, width = found["flags"], taken.number(found["width"] or "")
    precision = taken.number(found["precision"] or "")
    size = 8 if found["length"] in ("l", "ll", "j", "z", "t") else 4
    layout = f"%{flags}{width}{precision}"
    if what in "di":
        return (layout + "d") % signed(taken.take(size), 8 * size)
    if what == "o" and "#" in flags:
        return (f"%{flags.replace('#', '')}{width}s") % f"0{taken.take(size):o}"
    if what in "uxXo":
        return (layout + ("d" if what == "u" else what)) % taken.take(size)
    if what in "feEgGF":
        return (layout + what) % struct.unpack("<d", taken.take(8).to_bytes(8, "little"))[0]
    if what == "c":
        return (layout + "s") % chr(taken.take(4) & 0xFF)
    if what == "s":
        return (layout + "s") % _string(thread, taken.take(8))
    if what == "p":
        return (f"%{flags}{width}s") % f"{taken.take(8):#x}"
    raise Fault(
        f"printf: the conversion {found[0]!r} is not emulated", hint="d i u x X o f e g c s p and %%, with h l ll"
    )
