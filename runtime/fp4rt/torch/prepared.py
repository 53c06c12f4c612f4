"""The quick way through an operator's call: what shapes, types and devices decide is checked once for each set of them.

A call of a kernel checks its arguments one by one. Here a look-up by what torch says of the tensors stands for most of
that; what depends on memory and on its content (overlaps, scales, offsets) is checked in each call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4rt.among import check_overlaps
from fp4rt.arrays import View
from fp4rt.cuda.calls import CallPacker
from fp4rt.cuda.ready import LARGEST, UNUSUAL, Known, Placed, placed, tensor_guard
from fp4rt.kernel import Kernel
from fp4rt.signature import Call
from fp4rt.torch.schema import Schema

#: Sets of shapes that are kept; past it all are dropped, since sizes then hardly repeat.
_MAX = 512


class Prepared:
    """A kernel's calls with tensors in a row."""

    def __init__(self, kernel: Kernel, schema: Schema) -> None:
        self._kernel = kernel
        self._schema = schema
        self._plans: dict[Any, _Plan] = {}
        self._tensors = schema.tensors
        #: On a GPU, only an argument that is written in place can overlap another, and no content is looked at.
        self._last: _Ready | None = None
        self._known = Known()
        self._looks = kernel.executable.memory is None

    def __call__(self, flat: tuple[Any, ...]) -> list[Any]:
        """Run; the outputs' tensors in a row."""
        given = flat[: self._tensors]
        last = self._last
        try:
            same = last is not None and last.guard is not None and last.guard(*given)
        except UNUSUAL:
            same = False  # no tensors: the checks say so
        if same and last is not None:
            return self._queue(last, flat)
        try:
            key = tuple([(x.shape, x.dtype, x.get_device(), x.is_contiguous()) for x in given])
        except AttributeError:
            key = None  # no tensors: the checks say so
        plan = self._plans.get(key)
        if plan is None:
            return self._first(key, flat)
        if plan.ready is not None:
            plan.ready.guard = tensor_guard(given) or plan.ready.guard
            self._last = plan.ready
            return self._queue(plan.ready, flat)
        kernel = self._kernel
        parts = {
            name: View(flat[at], "torch", flat[at].data_ptr(), nbytes, item, shape, dtype, True, device, True)
            for at, name, nbytes, item, shape, dtype, device in plan.inputs
        }
        scalars = kernel.signature.scalars(self._schema.scalars(flat)) if self._schema.params else {}
        call = Call(plan.dims, scalars, parts, "torch", {}, list(plan.written), plan.kept)
        if self._looks and plan.content:
            kernel.signature.check_data(self._schema.arguments(flat), parts, plan.dims)
        results: list[Any] = []
        for name, shape, dtype, nbytes, item, said, device in plan.outputs:
            tensor = torch.empty(shape, dtype=dtype, device=plan.device)
            results.append(tensor)
            parts[name] = View(tensor, "torch", tensor.data_ptr(), nbytes, item, shape, said, True, device, True)
        if plan.kept:
            check_overlaps(parts, call.written)
        kernel.executable.bind(call, plan.plan, None)(None)
        return results

    def _queue(self, ready: _Ready, flat: tuple[Any, ...]) -> list[Any]:
        """Run on a GPU: no content is looked at, and new outputs overlap nothing."""
        scalars: list[float] = []
        for place, default in ready.params:
            number = flat[place] if place < len(flat) else default
            if type(number) is not float or not -LARGEST < number < LARGEST:
                return self._first(None, flat)
            scalars.append(number)
        tensors = [flat[at] for at in ready.places]
        found = ready.place(tensors, scalars)
        if found is None:
            return self._first(None, flat)
        ready.template.queue(found[0], scalars, None, found[1])
        return tensors[len(ready.places) : ready.end]

    def _first(self, key: Any, flat: tuple[Any, ...]) -> list[Any]:
        """The call with all of its checks, remembered for the next of this kind."""
        call, launch = self._kernel.checked(self._schema.arguments(flat))
        launch(None)
        results = self._schema.flat_outputs(call.outputs)
        if key is not None:
            if len(self._plans) >= _MAX:
                self._plans.clear()
            self._plans[key] = _Plan(self._kernel, self._schema, call, self._known)
        return results


@dataclass(slots=True, kw_only=True)
class _Ready(Placed):
    """Calls on a GPU: where their tensors and params are in the row, and where the outputs end among the buffers."""

    places: list[int]
    params: list[tuple[int, float | None]]
    end: int


class _Plan:
    """What a call that went through shows of those like it."""

    __slots__ = (
        "content",
        "device",
        "dims",
        "inputs",
        "kept",
        "outputs",
        "plan",
        "ready",
        "written",
    )

    def __init__(self, kernel: Kernel, schema: Schema, call: Call, known: Known) -> None:
        self.dims = call.dims
        self.plan = kernel.resolve(call.dims)
        self.written = tuple(call.written)
        self.kept = call.kept
        self.content = schema.content
        self.inputs = [
            (at, name, v.nbytes, v.item_size, v.shape, v.dtype, v.device)
            for at, name in schema.input_parts
            for v in (call.parts[name],)
        ]
        index = kernel.executable.memory
        self.device = torch.device("cpu" if index is None else f"cuda:{index}")
        self.outputs = [
            (name, tuple(v.shape), v.array.dtype, v.nbytes, v.item_size, v.dtype, v.device)
            for name in schema.output_parts
            for v in (call.parts[name],)
        ]
        self.ready: _Ready | None = None
        packer: CallPacker | None = getattr(kernel.executable, "packer", None)
        if packer is not None and all(a.dtype == "f32" for a in kernel.signature.params):
            self.ready = self._on_gpu(packer, kernel, schema, call, known)

    def _on_gpu(self, packer: CallPacker, kernel: Kernel, schema: Schema, call: Call, known: Known) -> _Ready:
        """What `Prepared._queue` takes."""
        names = [name for _, name in schema.input_parts]
        outputs = [name for name, *_ in self.outputs]
        params = [a.name for a in kernel.signature.params]
        at = {p.name: (schema.tensors + i, p.default) for i, p in enumerate(schema.params)}
        return _Ready(
            **placed(packer, self.plan, call, names, outputs, params, known),
            guard=None,  # until such a call comes again
            places=[place for place, _ in schema.input_parts],
            params=[at[name] for name in params],
            end=len(names) + len(outputs),
        )
