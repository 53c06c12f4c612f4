"""The quick way through an operator's call: what shapes, types and devices decide is checked once for each set of them.

A call of a kernel checks its arguments one by one. Here a look-up by what torch says of the tensors stands for most of
that; what depends on memory and on its content (overlaps, scales, offsets) is checked in each call.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4rt.among import check_overlaps
from fp4rt.arrays import View
from fp4rt.cuda.repeated import LARGEST, model, overlaps
from fp4rt.kernel import Kernel
from fp4rt.plan import WORKSPACE
from fp4rt.signature import Call
from fp4rt.torch.schema import Schema

#: Sets of shapes that are kept; past it all are dropped, since sizes then hardly repeat.
_MAX = 512
_empty_like: Any = torch.empty_like


class Prepared:
    """A kernel's calls with tensors in a row."""

    def __init__(self, kernel: Kernel, schema: Schema) -> None:
        self._kernel = kernel
        self._schema = schema
        self._plans: dict[Any, _Plan] = {}
        self._tensors = schema.tensors
        #: On a GPU, only an argument that is written in place can overlap another, and no content is looked at.
        self._looks = kernel.executable.memory is None

    def __call__(self, flat: tuple[Any, ...]) -> list[Any]:
        """Run; the outputs' tensors in a row."""
        given = flat[: self._tensors]
        try:
            key = tuple([(x.shape, x.dtype, x.get_device(), x.is_contiguous()) for x in given])
        except AttributeError:
            key = None  # no tensors: the checks say so
        plan = self._plans.get(key)
        if plan is None:
            return self._first(key, flat)
        if plan.template is not None:
            return self._queue(plan, plan.template, flat)
        kernel = self._kernel
        parts = {
            name: View(flat[at], "torch", flat[at].data_ptr(), nbytes, item, shape, dtype, True, device, True)
            for at, name, nbytes, item, shape, dtype, device in plan.inputs
        }
        scalars = kernel.signature.scalars(self._schema.scalars(flat)) if self._schema.params else {}
        call = Call(plan.dims, scalars, parts, "torch", {}, list(plan.written), plan.inout)
        if self._looks and plan.content:
            kernel.signature.check_data(self._schema.arguments(flat), parts, plan.dims)
        results: list[Any] = []
        for name, shape, dtype, nbytes, item, said, device in plan.outputs:
            tensor = torch.empty(shape, dtype=dtype, device=plan.device)
            results.append(tensor)
            parts[name] = View(tensor, "torch", tensor.data_ptr(), nbytes, item, shape, said, True, device, True)
        if plan.inout:
            check_overlaps(parts, call.written)
        kernel.executable.bind(call, plan.plan, None)(None)
        return results

    def _queue(self, plan: _Plan, template: Any, flat: tuple[Any, ...]) -> list[Any]:
        """Run on a GPU: no content is looked at, and new outputs overlap nothing."""
        results = [_empty_like(model) for model in plan.models]
        addresses = [flat[at].data_ptr() for at in plan.places]
        addresses += [tensor.data_ptr() for tensor in results]
        workspace = None if plan.workspace is None else _empty_like(plan.workspace)  # held until the call is queued
        addresses.append(0 if workspace is None else workspace.data_ptr())
        scalars: list[float] = []
        for place, default in plan.params:
            number = flat[place] if place < len(flat) else default
            if type(number) is not float or not -LARGEST < number < LARGEST:
                return self._first(None, flat)
            scalars.append(number)
        for at, other, size, room in plan.overlaps:
            if -room < addresses[other] - addresses[at] < size:
                return self._first(None, flat)
        if not template.aligned(addresses, reduce(or_, addresses, 0)):
            return self._first(None, flat)
        plan.packer.queue(template, addresses, scalars, None)
        return results

    def _first(self, key: Any, flat: tuple[Any, ...]) -> list[Any]:
        """The call with all of its checks, remembered for the next of this kind."""
        call, launch = self._kernel.prepare(self._schema.arguments(flat))
        launch(None)
        results = self._schema.flat_outputs(call.outputs)
        if key is not None:
            if len(self._plans) >= _MAX:
                self._plans.clear()
            self._plans[key] = _Plan(self._kernel, self._schema, call)
        return results


class _Plan:
    """What a call that went through shows of those like it."""

    __slots__ = (
        "content",
        "device",
        "dims",
        "inout",
        "inputs",
        "models",
        "outputs",
        "overlaps",
        "packer",
        "params",
        "places",
        "plan",
        "template",
        "workspace",
        "written",
    )

    def __init__(self, kernel: Kernel, schema: Schema, call: Call) -> None:
        self.dims = call.dims
        self.plan = kernel.resolve(call.dims)
        self.written = tuple(call.written)
        self.inout = call.inout
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
        self.template: Any = None
        self.packer: Any = getattr(kernel.executable, "packer", None)
        signature = kernel.signature
        if self.packer is not None and all(a.dtype == "f32" for a in signature.params):
            self._prepare_gpu(schema, call, tuple(a.name for a in signature.params))

    def _prepare_gpu(self, schema: Schema, call: Call, params: tuple[str, ...]) -> None:
        """What `Prepared._queue` takes; as for calls of the kernel, see `fp4rt.cuda.repeated`."""
        names = [name for _, name in schema.input_parts]
        self.places = [at for at, _ in schema.input_parts]
        at = {p.name: (schema.tensors + i, p.default) for i, p in enumerate(schema.params)}
        self.params = [at[name] for name in params]
        self.overlaps = overlaps(names, {name: v.nbytes for name, v in call.parts.items()}, set(call.written))
        outputs = [name for name, *_ in self.outputs]
        self.models = [model(call.parts[name].array) for name in outputs]
        self.workspace = None
        if self.plan.workspace:
            self.workspace = torch.empty((), dtype=torch.uint8, device=self.device).expand(self.plan.workspace)
        self.template = self.packer.template(self.plan, (*names, *outputs, WORKSPACE), params)
