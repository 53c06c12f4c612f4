"""Calls like one that went through before.

What the checks of a call depend on is of two kinds: names, types, shapes, formats and which arguments there are; and
where the buffers lie. `Repeated` makes a key of the first kind. Where a call with this key went through all checks,
another is queued after those of the second kind alone (`Ready`). Calls of the kind that came last, or last with the
same shapes, need no key. Whatever is unusual is left to the checks, by returning None: so they decide what is refused,
and with which words.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeAlias

from fp4num import BlockFormat, Quantized
from fp4rt.arrays import Output
from fp4rt.checks import Slot
from fp4rt.cuda.calls import CallPacker
from fp4rt.cuda.ready import (
    UNUSUAL,
    Known,
    New,
    Pieces,
    Ready,
    Taken,
    getter,
    numbers,
    placed,
    tensor_guard,
)
from fp4rt.plan import WORKSPACE, prepared_buffer
from fp4rt.prepared import kind_of
from fp4rt.resolve import Resolved
from fp4rt.signature import Call, Signature

#: Kinds of calls that are remembered; past it all are dropped, since sizes then hardly repeat.
_MAX = 512

#: A call as far as its key goes: the key, tensors in the order of `Ready`, and the values of the params.
_Look: TypeAlias = "tuple[tuple[Any, ...], list[Any], list[float]]"


class Repeated:
    """The quick way of a kernel on one GPU. Built once; safe to use from several threads.

    `gradients`: whether calls with tensors that require a gradient are for it. Where they are not, no kind of calls has
    a guard that lets one through, since guards look at that too.
    """

    def __init__(self, signature: Signature, packer: CallPacker, *, gradients: bool = True) -> None:
        self._packer = packer
        self._gradients = gradients
        self._device = -1 if signature.device is None else signature.device
        self._plain_ins = [s.name for s in signature.ins if s.format is None]
        self._value_ins = [Pieces(s, s.format, True) for s in signature.ins if s.format is not None]
        self._outs = {s.name: self._pieces(s, s.name not in signature.aliases) for s in signature.outs}
        self._slots = {s.name: s for s in signature.outs}
        self._aliases = signature.aliases
        self._params = [(a.name, None if a.default is None else float(a.default)) for a in signature.params]
        self._param_names = tuple(a.name for a in signature.params)
        self._telling = _telling(signature)
        self._plans: dict[tuple[Any, ...], Ready] = {}
        self._seen: set[tuple[Any, ...]] = set()
        self._known = Known()
        self._last: Ready | None = None
        self._recent: dict[Any, Ready] = {}
        self._types: frozenset[type] = frozenset()

    @staticmethod
    def _pieces(slot: Slot, own_scale: bool) -> Pieces | None:
        return None if slot.format is None else Pieces(slot, slot.format, own_scale)

    def __call__(
        self, args: Mapping[str, Any], out: Mapping[str, Any] | None, workspace: Any, stream: object | None
    ) -> dict[str, Output] | None:
        """Queue the call and return its outputs; None where the checks have to look at it, and nothing was done."""
        plan = self._last
        if plan is None:
            return None
        tensors = plan.run(args, out, workspace, stream)
        if tensors is None:
            found = self._other(args, out, workspace, stream)
            if found is None:
                return None
            plan, tensors = found
        if plan.fresh >= 0:
            return dict(zip(plan.given, tensors[plan.fresh :], strict=False))  # a workspace may come last
        if plan.simple and out is not None:
            return {name: out[name] for name in plan.given}
        return self._outputs(plan, args, out, tensors)

    def _other(
        self, args: Mapping[str, Any], out: Mapping[str, Any] | None, workspace: Any, stream: object | None
    ) -> tuple[Ready, list[Any]] | None:
        """Queue a call of another kind than the last one's."""
        try:
            told = self._told(args, out)
            plan = self._recent.get(told)
        except UNUSUAL:
            return None
        if plan is None:
            return None  # no kind of calls has these shapes
        tensors = None if plan is self._last else plan.run(args, out, workspace, stream)
        if tensors is not None:
            self._last = plan
            return plan, tensors
        try:
            look = self._look(args, out, workspace)
            plan = None if look is None else self._plans.get(look[0])
            if look is None or plan is None or (stream is not None and plan.models):
                return None
            _, tensors, scalars = look
            if not self._gradients and _require_gradients(tensors):
                return None
            guard = tensor_guard(tensors)
            placed = plan.place(tensors, scalars)
        except UNUSUAL:
            return None
        if placed is None:
            return None
        plan.guard = guard or plan.guard  # tensors may be of this kind and differ in what torch alone cares for
        self._last = self._recent[told] = plan
        plan.template.queue(placed[0], scalars, stream, placed[1])
        return plan, tensors

    def learn(
        self, args: Mapping[str, Any], out: Mapping[str, Any] | None, workspace: Any, call: Call, plan: Resolved
    ) -> None:
        """Remember a call that went through the checks, if it is not the first of its kind: many sizes come once."""
        try:
            told = self._told(args, out)
            if told not in self._seen:
                if len(self._seen) >= _MAX:
                    self._seen.clear()
                self._seen.add(told)
                return
            look = self._look(args, out, workspace)
        except UNUSUAL:
            return
        if look is None or look[0] in self._plans or (not self._gradients and _require_gradients(look[1])):
            return
        made = self._plan(args, out or {}, workspace is not None, look[1], call, plan)
        if made is not None:
            if len(self._plans) >= _MAX:
                self._plans.clear()
                self._recent.clear()
            self._plans[look[0]] = self._recent[told] = self._last = made

    def _told(self, args: Mapping[str, Any], out: Any) -> Any:
        """What tells most kinds of calls apart: whether outputs are given, and the shapes that have all open dims."""
        return (out is None, *[tuple(args[name].shape) for name in self._telling])

    def _look(self, args: Mapping[str, Any], out: Any, workspace: Any) -> _Look | None:
        key: list[Any] = []
        tensors = [args[name] for name in self._plain_ins]
        for value in self._value_ins:
            if not _add(value, args[value.name], args, key, tensors):
                return None
        scalars: list[float] = []
        found = numbers(args, self._params, scalars)
        if len(args) != len(self._plain_ins) + len(self._value_ins) + found:
            return None
        if out is None:
            key.append(None)
        elif type(out) is not dict or not self._look_at_outputs(out, args, key, tensors):
            return None
        if workspace is not None:
            key.append(WORKSPACE)
            tensors.append(workspace)
        types, device = self._types or self._known_types(), self._device
        for x in tensors:
            if type(x) not in types or x.get_device() != device or not x.is_contiguous() or x.is_neg():
                return None
            key.append(x.dtype)
            key.append(x.shape)
        return tuple(key), tensors, scalars

    def _look_at_outputs(self, out: Mapping[str, Any], args: Any, key: list[Any], tensors: list[Any]) -> bool:
        """Add the outputs that are given: plain ones, then quantized ones; False if there is more, or one is None."""
        given = [(name, value) for name, value in self._outs.items() if out.get(name) is not None]
        key.append(tuple([name for name, _ in given]))
        tensors += [out[name] for name, value in given if value is None]
        taken = all(_add(value, out[name], args, key, tensors) for name, value in given if value is not None)
        return taken and len(given) == len(out)

    def _known_types(self) -> frozenset[type]:
        """A kernel may be loaded before torch is imported."""
        torch = sys.modules.get("torch")
        if torch is not None:
            self._types = frozenset((torch.Tensor, torch.nn.Parameter))
        return self._types

    def _plan(
        self,
        args: Mapping[str, Any],
        out: Mapping[str, Any],
        workspace: bool,
        tensors: list[Any],
        call: Call,
        plan: Resolved,
    ) -> Ready | None:
        """What calls of this kind have in common; None for an unusual call."""
        inputs = self._taken(self._plain_ins, self._value_ins, args)
        plain = [name for name, value in self._outs.items() if value is None and out.get(name) is not None]
        values = [value for name, value in self._outs.items() if value is not None and out.get(name) is not None]
        outputs = self._taken(plain, values, out) if out else None
        names = [*self._plain_ins, *_buffers(self._value_ins, args), *plain, *_buffers(values, out)]
        names += [WORKSPACE] * workspace
        if len(names) != len(tensors) or any(
            name not in call.parts or call.parts[name].array is not x for name, x in zip(names, tensors, strict=True)
        ):
            return None  # such as one whose output stands for another's piece
        new, later = self._new(out, call, len(names))
        if any(entry.value is not None and not entry.value.scales for entry in new):
            return None
        given = list(call.outputs)
        return Ready(
            **placed(self._packer, plan, call, names, later, self._param_names, self._known),
            guard=tensor_guard(tensors),
            inputs=inputs,
            outputs=outputs,
            workspace=workspace,
            params=self._params,
            new=new,
            given=given,
            simple=not new and not self._aliases and all(name in out for name in given),
            fresh=len(names) if given == [entry.name for entry in new if entry.value is None] else -1,
        )

    @staticmethod
    def _taken(plain: list[str], values: list[Pieces], source: Mapping[str, Any]) -> Taken:
        given = [(value, source[value.name]) for value in values]
        known = [(value, found.format, tuple(found.shape), kind_of(found)) for value, found in given]
        return Taken(len(plain) + len(values), getter(plain), known)

    def _new(self, out: Mapping[str, Any], call: Call, first: int) -> tuple[list[New], list[str]]:
        """The outputs that are allocated, whose buffers come after `first` others, and the names of these."""
        new: list[New] = []
        later: list[str] = []
        for name, value in self._outs.items():
            if out.get(name) is None:
                pieces = [name] if value is None else value.names
                shape = () if value is None else self._slots[name].shape(call.dims)
                new.append(New(name, first + len(later), len(pieces), value, shape))
                later += pieces
        return new, later

    def _outputs(
        self, plan: Ready, args: Mapping[str, Any], out: Mapping[str, Any] | None, tensors: list[Any]
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
        pieces = self._outs[name]
        fmt = value.format if pieces is None else pieces.fmt
        return Quantized(value.codes, value.scales, args[alias], fmt, tuple(value.shape), value.offsets)


def _require_gradients(tensors: list[Any]) -> bool:
    """Whether a gradient of one of them is wanted now."""
    return sys.modules["torch"].is_grad_enabled() and any(x.requires_grad for x in tensors)


def _add(value: Pieces, given: Any, args: Mapping[str, Any], key: list[Any], tensors: list[Any]) -> bool:
    """Add what decides whether a quantized value is right to the key, and its pieces to the tensors; False if unusual.

    The format is held by the kind of calls that is remembered by its number.
    """
    if type(given) is not Quantized or type(given.format) is not BlockFormat:
        return False
    if given.offsets is not (None if value.offsets is None else args[value.offsets]):
        return False
    shape = given.shape
    for n in shape:
        if type(n) is not int:  # 128.0 and True are equal to integers, and no sizes
            return False
    key += (id(given.format), tuple(shape))
    tensors += value.take(given)
    if given.prepared is not None:
        prepared = kind_of(given)
        key.append(prepared)
        if prepared is not None and prepared[1]:
            tensors.append(given.prepared.buffer)
    return True


def _buffers(values: list[Pieces], source: Mapping[str, Any]) -> list[str]:
    """The names of the buffers of quantized values, as `_add` adds them."""
    found: list[str] = []
    for value in values:
        found += value.names
        prepared = source[value.name].prepared
        found += [prepared_buffer(value.name)] if prepared is not None and prepared.buffer is not None else []
    return found


def _telling(signature: Signature) -> list[str]:
    """Inputs whose shapes have every dim that an input's axis is, or an axis and a number."""
    open_dims = {d.name for d in signature.kernel.dims if d.value is None}
    found: list[str] = []
    for slot in signature.ins:
        own = {name for _, name in slot.bare} & open_dims
        if own:
            found.append(slot.name)
            open_dims -= own
    for slot in signature.ins:
        own = {name for _, name, _ in slot.shifted} & open_dims
        if own and slot.name not in found:
            found.append(slot.name)
        open_dims -= own
    return found
