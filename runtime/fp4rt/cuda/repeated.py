"""Calls like one that went through before.

What the checks of a call depend on is of two kinds: names, types, shapes, formats and which arguments there are; and
where the buffers lie. `Repeated` makes a key of the first kind. Where a call with this key went through all checks,
another is queued after those of the second kind alone: the device, contiguity, alignment, overlaps. Whatever is
unusual is left to the checks, by returning None: so they decide what is refused, and with which words.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from fp4num import BlockFormat, Quantized
from fp4rt.arrays import Output
from fp4rt.checks import Slot
from fp4rt.cuda.blocks import Template
from fp4rt.cuda.calls import CallPacker
from fp4rt.plan import WORKSPACE
from fp4rt.resolve import Resolved
from fp4rt.signature import Call, Signature

#: Kinds of calls that are remembered; past it all are dropped, since sizes then hardly repeat.
_MAX = 512
#: Beyond this, whether a number is one of f32 is left to the checks.
LARGEST = 3.4e38
#: What a look at unusual arguments may raise; the checks find the words for it.
_UNUSUAL = (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError, OverflowError)


class _Value:
    """How a quantized argument is taken apart: which of its pieces the kernel has, as `Slot` reads them."""

    __slots__ = ("fmt", "offsets", "own_scale", "scales")

    def __init__(self, slot: Slot, fmt: BlockFormat, own_scale: bool) -> None:
        self.fmt = fmt
        self.scales = fmt.scale is not None
        self.own_scale = own_scale
        self.offsets = slot.offsets

    def names(self, name: str) -> list[str]:
        """The buffers in the order in which `add` adds them."""
        pieces = ["codes", *["scales"] * self.scales, *["tensor_scale"] * self.own_scale]
        return [f"{name}.{piece}" for piece in pieces]

    def add(self, value: Any, args: Mapping[str, Any], key: list[Any], tensors: list[Any]) -> bool:
        """Add what decides whether a value is right to the key, and its pieces to the tensors; False if unusual."""
        if type(value) is not Quantized or type(value.format) is not BlockFormat:
            return False
        if value.offsets is not (None if self.offsets is None else args[self.offsets]):
            return False
        shape = value.shape
        for n in shape:
            if type(n) is not int:  # 128.0 and True are equal to integers, and no sizes
                return False
        key += (id(value.format), tuple(shape))
        tensors.append(value.codes)
        if self.scales:
            tensors.append(value.scales)
        if self.own_scale:
            tensors.append(value.tensor_scale)
        return True


#: A call as far as its key goes: the key; tensors in the order of `Repeated._plan`, their addresses, these or'ed, and
#: the values of the params.
_Look: TypeAlias = "tuple[tuple[Any, ...], list[Any], list[int], int, list[float]]"


@dataclass(slots=True)
class _New:
    """An output that is allocated: the places of its tensors, and what else a quantized one has."""

    name: str
    first: int
    count: int
    value: _Value | None = None
    shape: tuple[int, ...] = ()


@dataclass(slots=True)
class _Plan:
    """What a call shows of those like it: see `Repeated._plan`."""

    template: Template
    models: list[Any]
    tail: tuple[int, ...]
    written: list[tuple[int, int, int, int]]
    new: list[_New]
    given: list[str]
    held: list[Any]
    simple: bool


class Repeated:
    """The quick way of a kernel on one GPU. Built once; safe to use from several threads."""

    def __init__(self, signature: Signature, packer: CallPacker) -> None:
        self._packer = packer
        self._device = -1 if signature.device is None else signature.device
        self._ins = [(s.name, self._value(s, True)) for s in signature.ins]
        self._outs = [(s.name, self._value(s, s.name not in signature.aliases)) for s in signature.outs]
        self._slots = {s.name: s for s in signature.outs}
        self._formats = {s.name: s.format for s in signature.outs if s.format is not None}
        self._aliases = signature.aliases
        self._params = [(a.name, None if a.default is None else float(a.default)) for a in signature.params]
        self._param_names = tuple(a.name for a in signature.params)
        self._plans: dict[tuple[Any, ...], _Plan] = {}
        self._seen: set[tuple[Any, ...]] = set()
        self._types: frozenset[type] = frozenset()
        self._empty_like: Any = None

    @staticmethod
    def _value(slot: Slot, own_scale: bool) -> _Value | None:
        fmt = slot.format
        return None if fmt is None else _Value(slot, fmt, own_scale and fmt.tensor_scale is not None)

    def __call__(
        self, args: Mapping[str, Any], out: Mapping[str, Any] | None, workspace: Any, stream: object | None
    ) -> dict[str, Output] | None:
        """Queue the call and return its outputs; None where the checks have to look at it, and nothing was done."""
        try:
            look = self._look(args, out, workspace)
            if look is None:
                return None
            key, tensors, addresses, together, scalars = look
            plan = self._plans.get(key)
            if plan is None or (stream is not None and plan.models):
                return None
            if plan.models:
                kind, empty_like = self._tensor, self._empty_like
                for model in plan.models:
                    tensor = empty_like(model)
                    if type(tensor) is not kind:
                        return None
                    tensors.append(tensor)
                    address = tensor.data_ptr()
                    addresses.append(address)
                    together |= address
            addresses += plan.tail
            for at, other, size, room in plan.written:
                if -room < addresses[other] - addresses[at] < size:
                    return None
            if not plan.template.aligned(addresses, together):
                return None
        except _UNUSUAL:
            return None
        self._packer.queue(plan.template, addresses, scalars, stream)
        if plan.simple and out is not None:
            return {name: out[name] for name in plan.given}
        return self._outputs(plan, args, out, tensors)

    def learn(
        self, args: Mapping[str, Any], out: Mapping[str, Any] | None, workspace: Any, call: Call, plan: Resolved
    ) -> None:
        """Remember a call that went through the checks, if it is not the first of its kind: many sizes come once."""
        try:
            look = self._look(args, out, workspace)
        except _UNUSUAL:
            return
        if look is None or look[0] in self._plans:
            return
        if look[0] not in self._seen:
            if len(self._seen) >= _MAX:
                self._seen.clear()
            self._seen.add(look[0])
            return
        made = self._plan(args, out or {}, workspace is not None, look[1], call, plan)
        if made is not None:
            if len(self._plans) >= _MAX:
                self._plans.clear()
            self._plans[look[0]] = made

    def _look(self, args: Mapping[str, Any], out: Any, workspace: Any) -> _Look | None:
        key: list[Any] = []
        tensors: list[Any] = []
        for name, value in self._ins:
            if value is None:
                tensors.append(args[name])
            elif not value.add(args[name], args, key, tensors):
                return None
        scalars: list[float] = []
        if len(args) != len(self._ins) or self._params:
            found = self._numbers(args, scalars)
            if len(args) != len(self._ins) + found:
                return None
        if out is None:
            key.append(None)
        else:
            if type(out) is not dict:
                return None
            left = len(out)
            for name, value in self._outs:
                given = out.get(name)
                if given is None:
                    key.append(None)
                    continue
                left -= 1
                key.append(name)
                if value is None:
                    tensors.append(given)
                elif not value.add(given, args, key, tensors):
                    return None
            if left:
                return None
        if workspace is not None:
            key.append(WORKSPACE)
            tensors.append(workspace)
        addresses: list[int] = []
        types, device, together = self._types, self._device, 0
        for x in tensors:
            if type(x) not in types or x.get_device() != device or not x.is_contiguous():
                return None if types else self._first(args, out, workspace)
            key.append(x.dtype)
            key.append(x.shape)
            address = x.data_ptr()
            addresses.append(address)
            together |= address
        return tuple(key), tensors, addresses, together, scalars

    def _first(self, args: Mapping[str, Any], out: Any, workspace: Any) -> _Look | None:
        """The look at the first call with torch: a kernel may be loaded before it is imported."""
        torch = sys.modules.get("torch")
        if torch is None:
            return None
        self._tensor = torch.Tensor
        self._empty_like = torch.empty_like
        self._types = frozenset((torch.Tensor, torch.nn.Parameter))
        return self._look(args, out, workspace)

    def _numbers(self, args: Mapping[str, Any], scalars: list[float]) -> int:
        """Add the values of the params; how many of them were given, or -1 for one that the checks have to see."""
        found = 0
        for name, default in self._params:
            value = args.get(name, default)
            found += name in args
            if type(value) is int:
                value = float(value)
            if type(value) is not float or not -LARGEST < value < LARGEST:
                return -1
            scalars.append(value)
        return found

    def _plan(
        self,
        args: Mapping[str, Any],
        out: Mapping[str, Any],
        workspace: bool,
        tensors: list[Any],
        call: Call,
        plan: Resolved,
    ) -> _Plan | None:
        """A plan for calls of this key. Its buffers: those that are looked at, then those that are allocated."""
        names = [n for name, value in self._ins for n in ([name] if value is None else value.names(name))]
        new: list[_New] = []
        later: list[str] = []
        for name, value in self._outs:
            pieces = [name] if value is None else value.names(name)
            if out.get(name) is not None:
                names += pieces
                continue
            if value is not None and not value.scales:
                return None
            shape = () if value is None else self._slots[name].shape(call.dims)
            new.append(_New(name, len(later), len(pieces), value, shape))
            later += pieces
        names += [WORKSPACE] * workspace
        if len(names) != len(tensors) or any(
            call.parts[name].array is not x for name, x in zip(names, tensors, strict=True)
        ):
            return None  # an unusual call, such as one whose output stands for another's piece
        for entry in new:
            entry.first += len(names)
        room = {name: v.nbytes for name, v in call.parts.items()}
        parts = [*names, *later]
        models = [model(call.parts[name].array) for name in later]
        tail: tuple[int, ...] = ()
        if not workspace:
            parts.append(WORKSPACE)
            if plan.workspace:
                models.append(self._workspace(plan.workspace))
            else:
                tail = (0,)
        written = overlaps(names, room, set(call.written))
        template = self._packer.template(plan, tuple(parts), self._param_names)
        held = [args[name].format for name, value in self._ins if value is not None]
        held += [out[name].format for name, value in self._outs if value is not None and out.get(name) is not None]
        given = list(call.outputs)
        simple = not new and not self._aliases and all(name in out for name in given)
        return _Plan(template, models, tail, written, new, given, held, simple)

    def _workspace(self, size: int) -> Any:
        torch: Any = sys.modules["torch"]
        device = "cpu" if self._device < 0 else f"cuda:{self._device}"
        return torch.empty((), dtype=torch.uint8, device=device).expand(size)

    def _outputs(
        self, plan: _Plan, args: Mapping[str, Any], out: Mapping[str, Any] | None, tensors: list[Any]
    ) -> dict[str, Output]:
        """What a call returns, by name in the order of the spec."""
        made: dict[str, Any] = {}
        for entry in plan.new:
            if entry.value is None:
                made[entry.name] = tensors[entry.first]
                continue
            value = entry.value
            pieces = tensors[entry.first : entry.first + entry.count]
            offsets = None if value.offsets is None else args[value.offsets]
            alias = self._aliases.get(entry.name)
            scale = pieces.pop() if value.own_scale else None if alias is None else args[alias]
            made[entry.name] = Quantized(pieces[0], pieces[1], scale, value.fmt, entry.shape, offsets)
        outputs: dict[str, Any] = {}
        for name in plan.given:
            if name in made:
                outputs[name] = made[name]
            elif out is None or name not in out:
                outputs[name] = args[name]
            else:
                outputs[name] = self._given(name, out[name], args)
        return outputs

    def _given(self, name: str, value: Any, args: Mapping[str, Any]) -> Any:
        """An output of the caller's; one whose tensor scale is an input has that."""
        alias = self._aliases.get(name)
        if alias is None or type(value) is not Quantized:
            return value
        fmt = self._formats[name]
        return Quantized(value.codes, value.scales, args[alias], fmt, tuple(value.shape), value.offsets)


def model(array: Any) -> Any:
    """A tensor of one element that looks like an output: torch makes another like it in less time than from words."""
    return array.new_empty(()).expand(array.shape)


def overlaps(names: Sequence[str], room: Mapping[str, int], written: set[str]) -> list[tuple[int, int, int, int]]:
    """(one, another, bytes of one, bytes of the other) of buffers that may not share memory: the kernel writes one.

    They do where the other's address less that of the one is above minus its own bytes and below those of the one.
    """
    return [
        (i, j, room[name], room[other])
        for i, name in enumerate(names)
        if name in written and room[name]
        for j, other in enumerate(names)
        if j != i and room[other] and not (other in written and j < i)
    ]
