"""Arguments that are prepared: what a kernel makes of them once, kept beside the argument, and who may read it.

`kernel.prepare(w)` runs what the manifest says of it (`manifest.Prepared`) and returns the same `Quantized` with a
`Prepared`. Codes and scales stay what they were: plans for natural weights read these, and so does every other device.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from fp4num import Quantized
from fp4rt import arrays
from fp4rt.arrays import View
from fp4rt.errors import ArgumentError
from fp4rt.manifest import Manifest, dump_prepared
from fp4rt.manifest import Prepared as Made

#: What no tensor's counter and no checksum of a pair is.
_CHANGED = (-1, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What was made of one argument, once.

    `kernel`, `arg`: whose. `identity`: of what made it; that of another kernel, or of one compiled otherwise, differs.
    `buffer`: uint8 [bytes], where the codes are; None where there is nothing to read: on the reference, and where
    `unfit` rows could not be made, whose scales lie too far apart (docs/numerics.md). `codes`, `scales`: what it was
    made of, with the `state` in which they were: torch's counters of changes, or checksums of numpy's arrays.
    """

    kernel: str
    arg: str
    identity: str
    buffer: Any
    unfit: int
    codes: Any
    scales: Any
    state: tuple[int, int]

    def __repr__(self) -> str:
        if self.unfit:
            return f"prepared for {self.kernel}, in vain: scales of {self.unfit} rows lie too far apart"
        size = "" if self.buffer is None else f", {self.buffer.shape[0]} bytes"
        return f"prepared for {self.kernel}{size}"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled with what it was made of; counters of tensors start anew where it is unpickled."""
        state = None if self.intact(self.codes, self.scales) else _CHANGED
        return restored, (self.kernel, self.arg, self.identity, self.buffer, self.unfit, self.codes, self.scales, state)

    def moved(self, f: Callable[[Any], Any], codes: Any, scales: Any) -> Prepared:
        """The same beside codes and scales that `f` has made of its own, on another device or of another library."""
        intact = self.intact(self.codes, self.scales)
        state = state_of(codes, scales) if intact else _CHANGED
        buffer = None if self.buffer is None else f(self.buffer)
        return replace(self, buffer=buffer, codes=codes, scales=scales, state=state)

    def intact(self, codes: Any, scales: Any) -> bool:
        """Whether these are the arrays that it was made of, and nobody has changed them since, as far as they tell."""
        return codes is self.codes and scales is self.scales and self.state == state_of(codes, scales)


def kind_of(value: Quantized) -> tuple[str, bool] | None:
    """What tells prepared values apart whose calls differ: what made them, and whether there is a buffer; None for a
    value that is not prepared. AttributeError for one with something else, or that has changed: the checks say so."""
    found = value.prepared
    if found is None:
        return None
    if not found.intact(value.codes, value.scales):
        raise AttributeError("it has changed")
    return found.identity, found.buffer is not None


def restored(
    kernel: str, arg: str, identity: str, buffer: Any, unfit: int, codes: Any, scales: Any, state: Any
) -> Prepared:
    """The `Prepared` that `__reduce__` took apart."""
    return Prepared(kernel, arg, identity, buffer, unfit, codes, scales,
                    state_of(codes, scales) if state is None else tuple(state))  # fmt: skip


def state_of(*parts: Any) -> tuple[int, int]:
    """What changes when one of the arrays is changed: a counter of a tensor (0 of one that has none), a checksum of a
    numpy array."""
    first, second = (_state(part) for part in parts)
    return first, second


def _state(part: Any) -> int:
    if isinstance(part, np.ndarray):
        return zlib.crc32(np.ascontiguousarray(part).reshape(-1).view(np.uint8))
    try:
        return int(part._version)
    except RuntimeError:  # a tensor made in inference mode counts no changes
        return 0


@lru_cache(maxsize=256)
def _identity(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def identity(manifest: Manifest, made: Made) -> str:
    """The SHA-256 of what makes it: its launches and their code. Who reads it may be compiled otherwise."""
    alone = dump_prepared(replace(made, variants=()))
    modules = {launch.module or manifest.name for launch in made.plan.launches}
    code = {name: digest for name, digest in manifest.files.items() if name.rpartition(".")[0] in modules}
    return _identity(json.dumps([alone, dict(sorted(code.items()))]))


class Preparing:
    """A kernel's side of it: which arguments it prepares, and whether a prepared one is its own."""

    def __init__(self, manifest: Manifest, *, reads: bool) -> None:
        self._name = manifest.kernel.name
        self._made = {made.arg: (made, identity(manifest, made)) for made in manifest.prepared}
        #: Whether plans are run here at all: the reference reads natural weights.
        self._reads = reads

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments that can be prepared."""
        return tuple(self._made)

    def record(self, arg: str, value: Quantized, buffer: Any, unfit: int) -> Quantized:
        """The value with what was made of it."""
        state = state_of(value.codes, value.scales)
        kept = None if unfit else buffer
        found = Prepared(self._name, arg, self._made[arg][1], kept, unfit, value.codes, value.scales, state)
        return replace(value, prepared=found)

    def read(self, arg: str, value: Quantized, parts: Mapping[str, View]) -> View | None:
        """The buffer of a prepared argument, None where its natural codes are read. `parts` has the checked codes.

        Raises ArgumentError FP6310 (another kernel's), FP6311 (changed since), FP6312 (not where the codes are).
        """
        found: Any = value.prepared
        if found is None:
            return None
        known = self._made.get(arg)
        if type(found) is not Prepared or known is None or found.identity != known[1] or found.arg != arg:
            whose = (
                f"{found.arg!r} of {found.kernel}"
                if type(found) is Prepared
                else f"an object of type {type(found).__name__}"
            )
            other = (
                ", which was compiled otherwise" if known is not None and whose == f"{arg!r} of {self._name}" else ""
            )
            raise ArgumentError(
                f"{arg!r} is prepared as {whose}{other}, and not for this kernel, {self._name}",
                argument=arg,
                code="FP6310",
                help=f"pass {arg}.natural(), or prepare that with this kernel"
                if known is not None
                else f"pass {arg}.natural(): this kernel prepares {', '.join(self._made) or 'nothing'}",
            )
        if not found.intact(value.codes, value.scales):
            raise ArgumentError(
                f"{arg!r} has changed since it was prepared: its codes and scales are not those that were made ready",
                argument=arg,
                code="FP6311",
                help=f"kernel.prepare({arg}={arg}.natural()) again after a change",
            )
        if found.unfit or not self._reads:
            return None
        codes = parts[f"{arg}.codes"]
        buffer = None if found.buffer is None else arrays.view(found.buffer)
        if buffer is None or buffer.family != codes.family or buffer.device != codes.device:
            where = "on the reference, which makes nothing ready" if found.buffer is None else "somewhere else"
            raise ArgumentError(
                f"{arg!r} was prepared {where}: what was made of it is not beside its codes",
                argument=arg,
                code="FP6312",
                help=f"kernel.prepare({arg}={arg}.natural()) with the kernel of this device; .to(device) moves both",
            )
        return buffer
