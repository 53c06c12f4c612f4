"""The schema of a kernel as an operator: which tensors an argument is, in which order, and how they are named.

quantized `a`      Tensor a_codes, Tensor a_scales, Tensor a_tensor_scale, and for ragged rows Tensor a_offsets
plain `x`, `f32[]` Tensor x
`inout c`          Tensor(c!) c
`param gain`       float gain=1.0, or SymInt
"""

from __future__ import annotations

import keyword
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4num import Quantized
from fp4rt import arrays
from fp4rt.among import numbers_rows
from fp4rt.checks import describe_axes, format_difference, scale_source
from fp4rt.errors import ArgumentError, TorchError
from fp4rt.torch.tensors import shape_of_codes
from fp4rt.typed import Arg, TypedKernel

_FLOATS = ("f32", "bf16", "f16", "e4m3", "e5m2")


class Slot:
    """One tensor argument and its parts."""

    def __init__(self, arg: Arg, kernel: TypedKernel) -> None:
        self.arg = arg
        self.name = arg.name
        self.described = describe_axes(arg)
        self.format = f = arg.format
        self.has_scales = f is not None and f.scale is not None
        self.offsets = arg.axes[-2].by if f is not None and len(arg.axes) > 1 else None
        self.alias = scale_source(kernel, arg) if arg.direction == "out" else None
        self.own_scale = f is not None and f.tensor_scale is not None and self.alias is None
        self.dtype: Any = None if f is not None else getattr(torch, arrays.TORCH_DTYPES[str(arg.dtype)][0])
        self.scale_dtype: Any = torch.float32 if f is not None and f.scale == "f32" else torch.uint8
        self.suffixes: tuple[str, ...] = ("",)
        if f is not None:
            parts = ["_codes", "_scales" if self.has_scales else "", "_tensor_scale" if self.own_scale else ""]
            if arg.direction != "out" and self.offsets is not None:
                parts.append("_offsets")
            self.suffixes = tuple(part for part in parts if part)

    def parts_of(self, value: Any) -> list[Any]:
        """The tensors of a value."""
        if self.format is None:
            return [value]
        parts = [value.codes]
        if self.has_scales:
            parts.append(value.scales)
        if self.own_scale:
            parts.append(value.tensor_scale)
        if len(self.suffixes) > len(parts):
            parts.append(value.offsets)
        return parts

    def value_of(self, parts: Sequence[Any]) -> Any:
        """The value that `parts_of` took apart."""
        f = self.format
        if f is None:
            return parts[0]
        found = dict(zip(self.suffixes, parts, strict=True))
        codes = found["_codes"]
        scales, tensor_scale = found.get("_scales"), found.get("_tensor_scale")
        return Quantized(codes, scales, tensor_scale, f, shape_of_codes(codes, f), found.get("_offsets"))

    def check(self, value: object) -> None:
        """ArgumentError for what the tensors of a value would not show: its format, shape, and parts it lacks."""
        assert self.format is not None
        if not isinstance(value, Quantized):
            raise self._wrong("FP6103", f"expected a Quantized, found {type(value).__name__}")
        if value.format is not self.format and (difference := format_difference(self.format, value.format)):
            raise self._wrong("FP6108", f"the value is {value.format.name}: {difference}")
        if (value.offsets is None) != (self.offsets is None):
            made = "without offsets" if value.offsets is None else "with offsets"
            raise self._wrong("FP6113", f"the value was made {made}")
        if self.own_scale and value.tensor_scale is None:
            raise self._wrong("FP6103", "the value has no tensor scale")
        if not torch.compiler.is_compiling() and tuple(value.shape) != shape_of_codes(value.codes, self.format):
            shape, codes = tuple(value.shape), tuple(value.codes.shape)
            raise self._wrong("FP6105", f"the value says to be of shape {shape}, which codes of shape {codes} are not")

    def _wrong(self, code: str, what: str) -> Exception:
        """ArgumentError; where torch.compile traces the call, which can show no other, a TypeError of the same text."""
        text = f"{self.name!r} is {self.described}, but {what}"
        if torch.compiler.is_compiling():
            return TypeError(f"{code}: {text}")
        return ArgumentError(text, argument=self.name, code=code)


class Param:
    """A param with its default, None where the call has to give it."""

    def __init__(self, arg: Arg) -> None:
        self.name = arg.name
        self.kind = "float" if arg.dtype == "f32" else "SymInt"
        self.default: Any = None
        if arg.default is not None:
            self.default = float(arg.default) if arg.dtype == "f32" else int(arg.default)

    def text(self, name: str) -> str:
        """`float gain=1.0`; a default that torch cannot spell is left to the call by name."""
        if self.default is None or not math.isfinite(self.default):
            return f"{self.kind} {name}"
        return f"{self.kind} {name}={self.default!r}"


class Schema:
    """How the arguments and outputs of a kernel map to tensors in a row."""

    def __init__(self, kernel: TypedKernel) -> None:
        self.inputs = [Slot(a, kernel) for a in kernel.args if a.direction in ("in", "inout")]
        self.outs = [Slot(a, kernel) for a in kernel.args if a.direction == "out"]
        if not self.inputs:
            raise TorchError(f"{kernel.name} reads no tensor: torch finds an operator's device by its tensors")
        known = {s.name: s for s in (*self.inputs, *self.outs)}
        #: What a call returns, in the order of the spec.
        self.written = [known[a.name] for a in kernel.outputs]
        params = [Param(a) for a in kernel.args if a.direction == "param"]
        self.params = sorted(params, key=lambda p: "=" in p.text(""))  # those without a default first
        self.results = sum(len(s.suffixes) for s in self.outs)
        self.names = frozenset((*(s.name for s in self.inputs), *(p.name for p in params)))
        self.required = self.names - {p.name for p in params if p.default is not None}
        #: First and last place of each input's parts.
        self._spans: list[tuple[Slot, int, int]] = []
        place = 0
        for slot in self.inputs:
            self._spans.append((slot, place, place + len(slot.suffixes)))
            place += len(slot.suffixes)
        self.tensors = place
        #: (place, buffer name) of what the kernel reads, and the buffer names of what it returns, in order.
        self.input_parts = [
            (first + i, f"{slot.name}{suffix.replace('_', '.', 1)}")
            for slot, first, _ in self._spans
            for i, suffix in enumerate(slot.suffixes)
            if suffix != "_offsets"
        ]
        self.output_parts = [f"{s.name}{suffix.replace('_', '.', 1)}" for s in self.outs for suffix in s.suffixes]
        #: Whether what an input holds is looked at, where it can be.
        self.content = numbers_rows(kernel) or any(
            s.has_scales or any(x.by or x.upto for x in s.arg.axes) for s in self.inputs
        )
        #: Places of what the kernel writes in place.
        self.mutated = [
            place for slot, first, last in self._spans if slot.arg.direction == "inout" for place in range(first, last)
        ]
        self.float_places = [first for slot, first, _ in self._spans if slot.arg.dtype in _FLOATS]
        plain = [f"{s.name}{suffix}" for s in self.inputs for suffix in s.suffixes] + [p.name for p in self.params]
        self.flat_names = _distinct(plain)
        self.text = self._text()

    def _text(self) -> str:
        names = iter(self.flat_names)
        parts: list[str] = []
        for slot in self.inputs:
            for _ in slot.suffixes:
                name = next(names)
                parts.append(f"Tensor(a{len(parts)}!) {name}" if slot.arg.direction == "inout" else f"Tensor {name}")
        parts += [p.text(next(names)) for p in self.params]
        results = "Tensor" if self.results == 1 else f"({', '.join(['Tensor'] * self.results)})"
        return f"({', '.join(parts)}) -> {results}"

    def positional(self, flat: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """All arguments in a row, of which torch gave some by name or left defaults out."""
        if len(flat) == len(self.flat_names):
            return tuple(flat)
        defaults = dict(zip(self.flat_names[-len(self.params) :], (p.default for p in self.params), strict=True))
        rest = self.flat_names[len(flat) :]
        return (*flat, *(named.get(name, defaults.get(name)) for name in rest))

    def arguments(self, flat: Sequence[Any]) -> dict[str, Any]:
        """The kernel's arguments by name of the operator's in a row."""
        args = {slot.name: slot.value_of(flat[first:last]) for slot, first, last in self._spans}
        return {**args, **self.scalars(flat)}

    def scalars(self, flat: Sequence[Any]) -> dict[str, Any]:
        """The params by name of the operator's arguments in a row, of which torch leaves defaults out."""
        return {
            param.name: flat[place] if place < len(flat) else param.default
            for place, param in enumerate(self.params, self.tensors)
        }

    def flat_outputs(self, outputs: Mapping[str, Any]) -> list[Any]:
        """The operator's results in a row."""
        return [part for slot in self.outs for part in slot.parts_of(outputs[slot.name])]

    def shapes(self, flat: Sequence[Any]) -> dict[str, Sequence[Any]]:
        """The shape of each input, as its spec has it."""
        found: dict[str, Sequence[Any]] = {}
        for slot, first, _ in self._spans:
            x = flat[first]
            found[slot.name] = x.shape if slot.format is None else shape_of_codes(x, slot.format)
        return found


def _distinct(names: Sequence[str]) -> list[str]:
    """Names that are each their own and no words of Python, by underscores at their ends."""
    out: list[str] = []
    for name in names:
        chosen = f"{name}_" if keyword.iskeyword(name) or name in ("self", "out") else name
        while chosen in out or (chosen != name and chosen in names):
            chosen += "_"
        out.append(chosen)
    return out
