"""Arguments of a kernel as a command line writes them (`python -m fp4emu run --arg`)."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4emu.errors import Fault
from fp4emu.gpu import Gpu
from fp4emu.swizzle import Swizzle
from fp4emu.tensormap import DataType, TensorMap

Array = NDArray[Any]

FORMS = """\
  i32:5 u64:0x10 f32:1.5    a number: i8 to i64, u8 to u64, f16, f32, f64
  bytes:00ff80              the bytes of a parameter, in hexadecimal: structs
  a.npy                     the address of a copy of that array
  zeros:4096                the address of that many bytes of zeros; zeros:f32:64x128 says type and shape
  empty:f32:64x128          the address of memory that nobody has written: reading it first is a fault
  map:64x32:128B:a.npy      a tensor map of an array (a .npy, zeros: or empty:) with that box, innermost extent last,
                            and swizzle (none, 32B, 64B, 128B); map:64x32:none:bf16:a.npy names the element type"""

_NUMBERS = {
    **{f"{kind}{8 * size}": f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)},
    **{f"f{8 * size}": f"f{size}" for size in (2, 4, 8)},
}
_SWIZZLES = {"none": Swizzle.NONE, "32B": Swizzle.B32, "64B": Swizzle.B64, "128B": Swizzle.B128}
_TYPES = {name.lower(): member for name, member in DataType.__members__.items()}


class ArgumentError(Exception):
    """An argument that cannot be understood or read; the message says why."""


@dataclass(slots=True, eq=False)
class Argument:
    """One argument: `raw` bytes, or an array whose address is passed, or, with `box`, a tensor map of it.

    `written`: the array's bytes are copied to the GPU; otherwise its memory starts out unwritten.
    """

    text: str
    raw: bytes = b""
    array: Array | None = None
    written: bool = True
    box: tuple[int, ...] = ()
    swizzle: Swizzle = Swizzle.NONE
    element: DataType | None = None
    address: int = 0

    @property
    def size(self) -> int:
        """Bytes of the parameter."""
        return 128 if self.box else len(self.raw) if self.array is None else 8

    def place(self, gpu: Gpu) -> bytes:
        """Allocates and copies what the argument points to; the bytes of the parameter."""
        if self.array is None:
            return self.raw
        self.address = gpu.alloc(max(self.array.nbytes, 1))
        if self.written and self.array.nbytes:
            gpu.write(self.address, self.array)
        return self._map() if self.box else struct.pack("<Q", self.address)

    def result(self, gpu: Gpu) -> Array:
        """The array after the launch; a byte that nobody wrote is a `Fault`."""
        assert self.array is not None
        data = gpu.read(self.address, self.array.nbytes) if self.array.nbytes else b""
        return np.frombuffer(data, self.array.dtype).reshape(self.array.shape)

    def _map(self) -> bytes:
        array = self.array
        assert array is not None and self.element is not None
        try:
            return TensorMap(
                self.element,
                self.address,
                tuple(reversed(array.shape)),
                tuple(reversed([math.prod(array.shape[i:]) * array.itemsize for i in range(1, array.ndim)])),
                tuple(reversed(self.box)),
                swizzle=self.swizzle,
            ).encode()
        except Fault as fault:
            raise ArgumentError(f"{self.text}: {fault.message}") from None


def parse(text: str) -> Argument:
    """The argument that a text describes; `ArgumentError` says what is wrong with it."""
    kind, colon, rest = text.partition(":")
    if text.endswith(".npy") and kind not in ("map", "zeros", "empty"):
        return Argument(text, array=_load(text))
    if not colon:
        raise ArgumentError(f"{text!r} is no argument; the forms are\n{FORMS}")
    if kind in _NUMBERS:
        return Argument(text, raw=_number(text, kind, rest))
    if kind == "bytes":
        try:
            return Argument(text, raw=bytes.fromhex(rest))
        except ValueError:
            raise ArgumentError(f"{text!r}: bytes: is followed by pairs of hexadecimal digits") from None
    if kind in ("zeros", "empty"):
        return Argument(text, array=_zeros(text, rest), written=kind == "zeros")
    if kind == "map":
        return _tensor_map(text, rest)
    raise ArgumentError(f"{text!r}: {kind!r} is no kind of argument; the forms are\n{FORMS}")


def _number(text: str, kind: str, rest: str) -> bytes:
    dtype = np.dtype(_NUMBERS[kind]).newbyteorder("<")
    try:
        value: Any = float(rest) if kind[0] == "f" else int(rest, 0)
        with np.errstate(over="ignore"):
            made = np.array(value, dtype)
    except (ValueError, OverflowError):
        raise ArgumentError(f"{text!r}: {rest!r} is no {kind}") from None
    if kind[0] == "f" and np.isinf(made) and not math.isinf(value):
        raise ArgumentError(f"{text!r}: {rest} is beyond the largest {kind}")
    return made.tobytes()


def _load(path: str) -> Array:
    try:
        array = np.load(Path(path), allow_pickle=False)
    except OSError as error:
        raise ArgumentError(f"{path}: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise ArgumentError(f"{path} cannot be read as a .npy of numbers: {error}") from None
    except MemoryError:
        raise ArgumentError(f"{path} does not fit into memory") from None
    if not isinstance(array, np.ndarray):
        raise ArgumentError(f"{path} is an archive of arrays; a .npy of one array is needed")
    if array.dtype.kind not in "biufc" or not array.dtype.isnative:
        raise ArgumentError(f"{path} holds {array.dtype}; numbers in the machine's byte order are needed")
    return np.ascontiguousarray(array).reshape(array.shape)


def _zeros(text: str, rest: str) -> Array:
    """An array of zeros by bytes, or by type and shape."""
    kind, colon, shape = rest.rpartition(":")
    if colon and kind not in _NUMBERS:
        raise ArgumentError(f"{text!r}: {kind!r} is no type; it is one of {', '.join(_NUMBERS)}")
    extents = extent(shape)
    if extents is None:
        raise ArgumentError(f"{text!r}: {shape!r} is no size: bytes, or TYPE:SHAPE such as f32:64x128")
    try:
        return np.zeros(extents, _NUMBERS[kind] if colon else np.uint8)
    except (MemoryError, ValueError):
        raise ArgumentError(f"{text!r} does not fit into memory") from None


def _tensor_map(text: str, rest: str) -> Argument:
    box, _, rest = rest.partition(":")
    swizzle, _, source = rest.partition(":")
    extents = extent(box)
    if extents is None or swizzle not in _SWIZZLES or not source:
        raise ArgumentError(f"{text!r}: a tensor map is map:BOX:SWIZZLE:ARRAY, such as map:64x32:128B:a.npy")
    name, _, after = source.partition(":")
    element = _TYPES.get(name)
    array = after if element is not None else source
    if not array.endswith(".npy") and not array.startswith(("zeros:", "empty:")) or array.startswith("map:"):
        raise ArgumentError(f"{text!r}: a tensor map is one of an array: a .npy, zeros: or empty:")
    made = parse(array)
    assert made.array is not None
    if element is None:
        element = _TYPES.get(f"{made.array.dtype.kind}{8 * made.array.itemsize}")
    if element is None:
        raise ArgumentError(f"{text!r}: tensor maps have no {made.array.dtype}; name one of {', '.join(_TYPES)}")
    if len(extents) != made.array.ndim:
        raise ArgumentError(f"{text!r}: the box has {len(extents)} extents, the array {made.array.ndim}")
    bits = TensorMap(element, 0, (1,), (), (1,)).bits
    if bits != 8 * made.array.itemsize:
        raise ArgumentError(f"{text!r}: elements of {made.array.dtype} are no {name} of {bits} bits")
    return Argument(text, array=made.array, written=made.written, box=extents, swizzle=_SWIZZLES[swizzle],
                    element=element)  # fmt: skip


def extent(text: str) -> tuple[int, ...] | None:
    """`64x128` or `64,128` as numbers; None if it is no such thing."""
    if not re.fullmatch(r"[0-9]{1,12}([x,][0-9]{1,12})*", text):
        return None
    return tuple(int(part) for part in re.split("[x,]", text))
