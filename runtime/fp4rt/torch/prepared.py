"""The quick way through an operator's call: what shapes, types and devices decide is checked once for each set of them.

A call of a kernel checks its arguments one by one. Here a look-up by what torch says of the tensors stands for most of
that; what depends on memory and on its content (overlaps, scales, offsets) is checked in each call.
"""

from __future__ import annotations

from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4rt.arrays import View
from fp4rt.checks import check_overlaps
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

    __slots__ = ("content", "device", "dims", "inout", "inputs", "outputs", "plan", "written")

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
