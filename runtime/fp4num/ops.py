"""The arithmetic that quantizer rules are written in.

A rule calls these operations on an `Ops`: `Numpy` computes them, `Recorder` (program.py) writes them down for a code
generator. Every float operation is float32 and rounded once, to nearest even; subnormals are kept. So a rule is one
sequence of operations that numpy, the emulator and the tensor core's PTX do alike, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np

from fp4num import f32
from fp4num.codecs import Rounding, decode, encode

V = TypeVar("V")

FloatOp = Literal["add", "sub", "mul", "div", "min", "max"]
IntOp = Literal["iadd", "isub", "iand", "ishl", "ishr", "imin", "imax"]
Test = Literal["eq", "lt", "ieq"]


class Ops(Protocol[V]):
    """Operations on values of type V: float32, int32 or truth values, which the caller keeps apart."""

    def constant(self, value: float) -> V:
        """A float32 constant: `value` rounded to nearest."""
        ...

    def integer(self, value: int) -> V:
        """An int32 constant."""
        ...

    def float_op(self, op: FloatOp, a: V, b: V) -> V:
        """`min` and `max` return the operand that is not NaN, as PTX `min.f32` and `max.f32` do."""
        ...

    def int_op(self, op: IntOp, a: V, b: V) -> V:
        """int32 arithmetic; `ishr` is arithmetic; shift counts are below 32."""
        ...

    def test(self, op: Test, a: V, b: V) -> V:
        """A truth value; a comparison with NaN is false."""
        ...

    def select(self, condition: V, yes: V, no: V) -> V:
        """`yes` where the condition holds, else `no`."""
        ...

    def either(self, a: V, b: V) -> V:
        """Logical or of two truth values."""
        ...

    def absolute(self, x: V) -> V:
        """|x|: the sign bit cleared."""
        ...

    def bits(self, x: V) -> V:
        """The bits of a float32 as int32."""
        ...

    def encode(self, x: V, element: str, rounding: Rounding = "nearest") -> V:
        """The code of a float32 as int32: `cvt.{rn,rz,rp}.satfinite`."""
        ...

    def decode(self, code: V, element: str) -> V:
        """The float32 value of a code in the low bits of an int32."""
        ...

    def name(self, name: str, value: V) -> V:
        """`value` itself, under a name that the emitted code and the documentation show."""
        ...


class Numpy:
    """`Ops` on numpy arrays. Run it under `np.errstate(all="ignore")`: rules divide by zero and overflow."""

    _FLOAT: ClassVar[dict[FloatOp, Callable[..., Any]]] = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "min": f32.minimum,
        "max": f32.maximum,
    }
    _INT: ClassVar[dict[IntOp, np.ufunc]] = {
        "iadd": np.add,
        "isub": np.subtract,
        "iand": np.bitwise_and,
        "ishl": np.left_shift,
        "ishr": np.right_shift,
        "imin": np.minimum,
        "imax": np.maximum,
    }
    _TEST: ClassVar[dict[Test, np.ufunc]] = {"eq": np.equal, "lt": np.less, "ieq": np.equal}

    def constant(self, value: float) -> Any:
        return np.float32(value)

    def integer(self, value: int) -> Any:
        return np.int32(value)

    def float_op(self, op: FloatOp, a: Any, b: Any) -> Any:
        return self._FLOAT[op](np.asarray(a, np.float32), np.asarray(b, np.float32))

    def int_op(self, op: IntOp, a: Any, b: Any) -> Any:
        return self._INT[op](a, b, dtype=np.int32)

    def test(self, op: Test, a: Any, b: Any) -> Any:
        return self._TEST[op](a, b)

    def select(self, condition: Any, yes: Any, no: Any) -> Any:
        return np.where(condition, yes, no)

    def either(self, a: Any, b: Any) -> Any:
        return np.logical_or(a, b)

    def absolute(self, x: Any) -> Any:
        return np.abs(x)

    def bits(self, x: Any) -> Any:
        return np.asarray(x, np.float32).view(np.int32)

    def encode(self, x: Any, element: str, rounding: Rounding = "nearest") -> Any:
        return encode(x, element, rounding).astype(np.int32)

    def decode(self, code: Any, element: str) -> Any:
        return decode(np.asarray(code), element)

    def name(self, name: str, value: Any) -> Any:
        return value
