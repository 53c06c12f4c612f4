"""A kernel as an operator of torch: `torch.compile`, `torch.export` and fake tensors see one node, with a schema.

The operator takes and returns tensors only. `Operator` is the call by name around it, which takes a `Quantized` apart
and puts one together. Registered with torch's low-level API: in an eager call, the dispatcher calls `_Implementation`
straight away, without the Python layers that `torch.library.custom_op` puts around a function.
"""

from __future__ import annotations

import re
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4num import Quantized
from fp4rt.errors import TorchError
from fp4rt.kernel import Kernel
from fp4rt.torch import symbolic
from fp4rt.torch.direct import Direct
from fp4rt.torch.prepared import Prepared
from fp4rt.torch.schema import Schema
from fp4rt.torch.tensors import shape_of_codes

_NAME = re.compile(r"[A-Za-z_]\w*::[A-Za-z_]\w*", re.ASCII)

#: Every operator there is: torch forgets those whose library is collected.
_registered: dict[str, Operator] = {}


def as_op(kernel: Kernel, name: str) -> Operator:
    """Register a kernel as the operator `name` ("ns::name") of torch, for the rest of the process.

    A kernel on a GPU serves CUDA tensors on the GPU they are on, where it is loaded when first needed, and CPU tensors
    on the reference. One on the emulator or the reference runs there, and takes CPU tensors only. The same kernel under
    the same name is the same operator. Raises TorchError FP6116 for a name that is none or taken, and for a kernel
    without tensors to read.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TorchError(f"{name!r} is no operator's name: it is a namespace and a name, 'mine::{kernel.name}'")
    known = _registered.get(name)
    if known is not None and known.serves(kernel):
        return known
    space, _, short = name.partition("::")
    if known is not None or hasattr(getattr(torch.ops, space), short):
        raise TorchError(
            f"the operator {name} is registered already",
            help="give this kernel another name; operators stay for the rest of the process",
        )
    return _registered.setdefault(name, Operator(kernel, name))


class Operator:
    """A kernel that torch knows. Called like the kernel: arguments by name, outputs by name; no `out` and no `stream`.

    `schema` is what torch was told, `overload` torch's own operator on tensors (`torch.ops.ns.name.default`) and
    `tensors(**args)` its arguments. `inout` arguments are written in place.
    """

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.name = name
        self.kernel = kernel
        self._schema = Schema(kernel.manifest.kernel)
        space, _, short = name.partition("::")
        self._library = torch.library.Library(space, "FRAGMENT")
        implementation = _Implementation(kernel, self._schema, name)
        try:
            self._library.define(short + self._schema.text, tags=_tags())
        except (RuntimeError, ValueError) as error:
            raise TorchError(f"torch does not take the operator {name}: {error}") from error
        self._library.impl(short, implementation.on_host, "CPU")
        self._library.impl(short, implementation.on_cuda, "CUDA")
        self._library.impl(short, _refuse_vmap(name, kernel.name), "FuncTorchBatched")
        torch.library.register_fake(name, _Fake(kernel, self._schema, name).__call__, lib=self._library)
        self.overload: Any = getattr(getattr(torch.ops, space), short).default
        self._direct = Direct.of(kernel, self._schema)

    @property
    def schema(self) -> str:
        """The schema, `mine::gemm(Tensor a_codes, ...) -> Tensor`."""
        return self.name + self._schema.text

    def serves(self, kernel: Kernel) -> bool:
        """Whether this is the operator of the same artifact on the device of the same name."""
        named = kernel.selector is not None and kernel.selector == self.kernel.selector
        return kernel is self.kernel or (named and kernel.manifest == self.kernel.manifest)

    def __repr__(self) -> str:
        return f"<torch operator {self.name} of {self.kernel!r}>"

    def __reduce__(self) -> tuple[object, ...]:
        return as_op, (self.kernel, self.name)

    def __copy__(self) -> Operator:
        return self

    def __deepcopy__(self, memo: object) -> Operator:
        return self

    @property
    def compiling(self) -> bool:
        """Whether torch.compile or torch.export is tracing this call."""
        return torch.compiler.is_compiling()

    def traced(self, args: Any, out: Any, workspace: Any, stream: Any) -> dict[str, Any]:
        """A call of the kernel in a function that is compiled: the operator, which has outputs of its own."""
        if out is not None or workspace is not None or stream is not None:
            raise TypeError(f"FP6119: {self.name} takes no out, workspace or stream where torch.compile traces it")
        return self(**args)

    def tensors(self, /, **args: Any) -> tuple[Any, ...]:
        """The arguments of `overload` for these of the kernel. Raises ArgumentError as a call does."""
        names = self._schema.names
        # One by one: Dynamo does not trace comparisons of a frozenset with a dict's keys.
        if any(name not in args for name in self._schema.required) or any(name not in names for name in args):
            if torch.compiler.is_compiling():
                raise TypeError(f"FP6101: {self.name} takes {sorted(names)}, not {sorted(args)}")
            raise self.kernel.wrong_names(args)
        flat: list[Any] = []
        for slot in self._schema.inputs:
            value = args[slot.name]
            if slot.format is None:
                flat.append(value)
                continue
            slot.check(value)
            flat += slot.parts_of(value)
        flat += [args.get(p.name, p.default) for p in self._schema.params]
        return tuple(flat)

    def __call__(self, /, **args: Any) -> dict[str, Any]:
        if torch.compiler.is_compiling():
            return self._outputs(args, self.overload(*self.tensors(**args)))
        direct = self._direct
        if direct is not None and (outputs := direct(args)) is not None:
            return outputs
        flat = self.tensors(**args)
        _refuse_transforms(self.name)
        outputs = self._outputs(args, self.overload(*flat))
        if direct is not None and direct.serves(flat):
            direct.learn(args)
        return outputs

    def _outputs(self, args: dict[str, Any], found: Any) -> dict[str, Any]:
        """Outputs by name of what the operator on tensors gave."""
        results = [found] if self._schema.results == 1 else list(found or ())
        outputs: dict[str, Any] = {}
        for slot in self._schema.written:
            if slot.arg.direction == "inout":
                outputs[slot.name] = args[slot.name]
            elif slot.format is None:
                outputs[slot.name] = results.pop(0)
            else:
                codes = results.pop(0)
                scales = results.pop(0) if slot.has_scales else codes.new_empty(0)
                tensor_scale = results.pop(0) if slot.own_scale else None
                if slot.alias is not None:
                    tensor_scale = args[slot.alias]
                offsets = None if slot.offsets is None else args[slot.offsets]
                shape = shape_of_codes(codes, slot.format)
                outputs[slot.name] = Quantized(codes, scales, tensor_scale, slot.format, shape, offsets)
        return outputs


class _Implementation:
    """What the dispatcher calls with tensors that have memory."""

    def __init__(self, kernel: Kernel, schema: Schema, name: str) -> None:
        self._schema = schema
        self._name = name
        self._kernel = kernel
        self._host = Prepared(kernel.on_host(), schema)
        self._on: dict[int, Prepared] = {}
        #: Places of the tensors that could carry a gradient.
        self._floats = schema.float_places

    def on_host(self, *flat: Any) -> Any:
        return self._run(self._host, flat)

    def on_cuda(self, *flat: Any) -> Any:
        first = flat[0]
        index = -1 if first is None else first.get_device()
        if index < 0:  # a tensor of the host among those of a GPU, whose checks say so
            index = next((x.get_device() for x in flat if isinstance(x, torch.Tensor) and x.is_cuda), 0)
        prepared = self._on.get(index)
        if prepared is None:
            prepared = self._on[index] = Prepared(self._kernel.on_cuda(index), self._schema)
        return self._run(prepared, flat)

    def _run(self, prepared: Prepared, flat: tuple[Any, ...]) -> Any:
        for place in self._floats:
            x = flat[place]  # torch takes None for a tensor; the checks say that it is none
            if x is not None and x.requires_grad and torch.is_grad_enabled():
                raise _no_gradient(self._name, self._schema.flat_names[place])
        results = prepared(flat)
        for place in self._schema.mutated:
            torch.autograd.graph.increment_version(flat[place])
        if len(results) == 1:
            return results[0]
        return tuple(results) if results else None


class _Fake:
    """Outputs without memory, of sizes that may be symbols."""

    def __init__(self, kernel: Kernel, schema: Schema, name: str) -> None:
        self._typed = kernel.manifest.kernel
        self._schema = schema
        self._name = name

    def __call__(self, *flat: Any, **named: Any) -> Any:
        schema = self._schema
        flat = schema.positional(flat, named)
        for place in schema.float_places:
            if flat[place].requires_grad and torch.is_grad_enabled():
                raise _no_gradient(self._name, schema.flat_names[place])
        shapes = schema.shapes(flat)
        dims = symbolic.dims_of(self._typed, shapes)
        results: list[Any] = []
        for slot in schema.outs:
            shape = symbolic.output_shape(slot.arg, dims)
            if slot.format is None:
                results.append(flat[0].new_empty(shape, dtype=slot.dtype))
                continue
            f = slot.format
            results.append(flat[0].new_empty([*shape[:-1], shape[-1] * f.bits // 8], dtype=torch.uint8))
            if slot.has_scales:
                groups = None if slot.offsets is None else shapes[slot.offsets][0] - 1
                count = symbolic.scale_count(f, shape, groups)
                results.append(flat[0].new_empty([count], dtype=slot.scale_dtype))
            if slot.own_scale:
                results.append(flat[0].new_empty([], dtype=torch.float32))
        return results[0] if schema.results == 1 else tuple(results) if schema.results else None


def _tags() -> tuple[Any, ...]:
    """Compiled code may not lay arguments out anew: kernels take row-major tensors, as the eager call does."""
    strides = getattr(torch.Tag, "needs_exact_strides", None) or torch.Tag.needs_fixed_stride_order
    return torch.Tag.pt2_compliant_tag, strides


def _no_gradient(operator: str, argument: str) -> TorchError:
    return TorchError(
        f"{operator} has no gradient, and {argument!r} requires one",
        code="FP6118",
        help="call it under torch.no_grad(), or pass x.detach()",
    )


def _refuse_transforms(operator: str) -> None:
    """TorchError inside `torch.func.grad` and `jvp`, where torch would take the operator's derivative to be zero."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    inside = functorch.peek_interpreter_stack()
    if inside is not None and inside.key() in (functorch.TransformType.Grad, functorch.TransformType.Jvp):
        raise TorchError(
            f"{operator} has no gradient, and is called inside a transform of torch.func that takes one",
            code="FP6118",
            help="keep it out of the function that is differentiated, or give that one a torch.autograd.Function",
        )


def _refuse_vmap(operator: str, kernel: str) -> Any:
    def refuse(*_: object) -> Any:
        raise TorchError(
            f"{operator} cannot be mapped by torch.vmap: the kernel {kernel} has the axes of its spec",
            code="FP6117",
            help="give the spec a batch axis, or call the operator in a loop",
        )

    return refuse
