"""The epilogue's plan: what it reads, what is computed how often, and how each output reaches memory.

A value's axes say how often it is computed: a value without axes once a kernel, one with the batch axes only once a
tile, one with M once a row, one with N once a column, everything else for each element of the product. Column values
that elements use are staged in shared memory once a tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Expr, Scalar, Value
from fp4cc.ir.lowered import KernelParam, SmemBuffer
from fp4cc.ir.lowered_epilogue import EpilogueInput, EpilogueOutput, EpilogueProgram, EpilogueStatement, LoadPlan, Scope
from fp4cc.passes import epilogue_quantize as quantized
from fp4cc.passes import epilogue_reduce as reduced
from fp4cc.passes import halves
from fp4cc.passes.blocks import panel
from fp4cc.passes.divides import divides
from fp4cc.passes.epilogue_memory import (
    ELEMENT_BYTES,
    LEVELS,
    STAGING_LIMIT,
    SUBTILE,
    Strides,
    in_order,
    legal,
    load_bytes,
    plan_load,
    plan_store,
    staging,
    tensor_maps,
)
from fp4cc.passes.sizes import Sizes, mul
from fp4cc.passes.spread import plan_spread, spread_buffers
from fp4cc.passes.unzip import Frame
from fp4rt.manifest import Param, TensorMap
from fp4rt.ops import OPS

STORED = ("f32", "bf16", "f16", "e4m3", "e5m2")
#: Operations on tensors that are nothing special here: elements are read and written by axis name and logical index.
_TENSOR_OPS = ("transpose", "uniform", "hadamard")


@dataclass(frozen=True, slots=True)
class EpiloguePlan:
    """The program, and what it adds to the kernel: parameters, tensor maps, and shared memory (offsets not yet set)."""

    program: EpilogueProgram
    params: tuple[KernelParam, ...]
    tensor_maps: tuple[TensorMap, ...]
    staging: tuple[SmemBuffer, ...]


def plan_epilogue(frame: Frame, sizes: Sizes, tile_n: int, limit: int = STAGING_LIMIT) -> EpiloguePlan:
    """Plan the epilogue of a kernel with one product. Raises DiagnosticError with all that cannot be built yet.

    `limit`: bytes of shared memory that it may stage its tensors in, where there is a way without.
    """
    return _Planner(frame, sizes, tile_n if frame.group is None else tile_n // 2, limit).plan()


class _Planner:
    def __init__(self, frame: Frame, sizes: Sizes, tile_n: int, limit: int) -> None:
        self.frame = frame
        self.limit = limit
        self.kernel = frame.kernel
        self.problem = frame.problem
        self.sizes = sizes
        self.tile_n = tile_n
        self.panel = panel(frame)
        self.live = _live(frame)
        self.level = LEVELS[0]
        self.taken = {arg.name for arg in frame.kernel.args}  # names of inputs
        self.errors: list[Diagnostic] = []

    def plan(self) -> EpiloguePlan:
        for index in self.live:
            self._check_operation(self.kernel.values[index])
        for store in self.kernel.stores:
            self._check_output(self.kernel.arg(store.arg), self.kernel.values[store.value])
        self._raise_errors()
        leaves = [self._input(i) for i in self.live if _is_leaf(self.kernel.values[i])
                  and self.kernel.values[i].op != "const"]  # fmt: skip
        self._raise_errors()
        leaves = [self._guarded(leaf) for leaf in leaves]
        for self.level in LEVELS[:-1]:
            plan = self._plan(leaves)
            used = sum(buffer.total for buffer in plan.staging)
            if used <= self.limit:
                return plan if plan.program.panel else self._plan(self._loaded(leaves, used))
        self.level = LEVELS[-1]
        return self._plan(leaves)

    def _raise_errors(self) -> None:
        if self.errors:
            raise DiagnosticError(list(dict.fromkeys(self.errors)))  # both halves of an input have the same

    def _plan(self, inputs: Sequence[EpilogueInput]) -> EpiloguePlan:
        """The plan at the present level of staging."""
        scopes = self._scopes()
        names = {store.value: store.arg for store in self.kernel.stores}
        statements = tuple(
            EpilogueStatement(i, scopes[i], self._name(i, names))
            for i in self.live
            if not _is_leaf(self.kernel.values[i])
        )
        outputs = tuple(self._output(store.arg, store.value) for store in self.kernel.stores)
        workspace = reduced.workspace(outputs, self.problem, self.tile_n)
        program = EpilogueProgram(
            kernel=self.kernel,
            problem=self.problem,
            tile_n=self.tile_n,
            inputs=tuple(inputs),
            accumulators=self.frame.accumulators,
            statements=statements,
            outputs=outputs,
            staged=self._staged(scopes, outputs),
            subtile=SUBTILE,
            panel=self.panel,
            spread=plan_spread(self.kernel, self.live, self.panel),
            group=self.frame.group,
            init=(
                *(fill for o in outputs if o.quantize for fill in quantized.fills(o, self.problem)),
                *workspace.init,
            ),
            workspace=workspace.size,
        )
        params = (*self._params(program), *workspace.params)
        maps = tensor_maps(program.inputs, program.outputs, self.problem)
        buffers = (
            *staging(program.inputs, program.outputs, len(program.staged), self.tile_n, program.panel),
            *spread_buffers(program.spread),
        )
        return EpiloguePlan(program, params, maps, buffers)

    # What can be built.

    def _check_operation(self, value: Value) -> None:
        kind = OPS[value.op].kind
        product = (*self.problem.batch_axes, self.problem.m_axis, self.problem.n_axis)
        if value.op == "unzip":
            self.errors.extend(halves.refusals(value, self.kernel, self.problem))
        elif value.op == "uniform" and value.axes != product:
            self.errors.append(
                error("FP4020", "random numbers without all axes of the product cannot be compiled yet", value.span,
                      f"this has the axes [{', '.join(value.axes)}]", help=f"draw them for [{', '.join(product)}]"),
            )  # fmt: skip
        elif value.op == "hadamard":
            self._check_transform(value)
        elif value.op in ("quantize", "dequantize"):
            self._check_fake(value)
        elif kind == "tensor" and value.op not in _TENSOR_OPS:
            self.errors.append(
                error("FP4020", f"`{value.op}` cannot be compiled in an epilogue yet", value.span, "computed here",
                      help="it runs on the reference: `fp4cc run --device reference`"),
            )  # fmt: skip

    def _check_fake(self, value: Value) -> None:
        """A tensor that is quantized and dequantized in place; any other use of a quantized one is refused."""
        what = None
        if value.op == "quantize":
            what = quantized.why_not_in_place(value, self.problem)
        elif self.kernel.values[value.operands[0]].op != "quantize":
            what = "of an argument"
        if what is not None:
            self.errors.append(
                error("FP4020", f"this `{value.op}` cannot be compiled in an epilogue yet: {what}", value.span,
                      "computed here", help="it runs on the reference: `fp4cc run --device reference`"),
            )  # fmt: skip

    def _check_transform(self, value: Value) -> None:
        problem = self.problem
        axis = value.attrs["axis"]
        what = None
        if axis not in (problem.m_axis, problem.n_axis):
            what = f"along {axis}, a batch axis"
        elif not {problem.m_axis, problem.n_axis} <= set(value.axes):
            what = "of something that is not computed for each element"
        if what is not None:
            self.errors.append(
                error("FP4020", f"this Hadamard transform cannot be compiled yet: {what}", value.span,
                      "transformed here", help="it runs on the reference: `fp4cc run --device reference`"),
            )  # fmt: skip

    def _check_output(self, arg: Arg, value: Value) -> None:
        if arg.format is not None:
            self.errors.extend(quantized.refusals(arg, value, self.problem))
            return
        if value.op == "reduce":
            self.errors.extend(reduced.refusals(arg, value, self.frame))
            return
        axes = tuple(axis.name for axis in arg.axes)
        product = (*self.problem.batch_axes, self.problem.m_axis, self.problem.n_axis)
        if arg.dtype not in STORED:
            self.errors.append(
                error("FP4021", f"an epilogue cannot store {arg.dtype} yet", arg.span, "declared here",
                      help=f"types it stores: {', '.join(STORED)}"),
            )  # fmt: skip
        elif sorted(map(str, axes)) != sorted(product):
            self.errors.append(
                error("FP4022", f"`{arg.name}` does not have the axes of the product", arg.span,
                      f"its axes are [{', '.join(map(str, axes))}]",
                      help=f"an output of this kernel has the axes {', '.join(product)} (in any order)"),
            )  # fmt: skip

    # Leaves.

    def _input(self, index: int) -> EpilogueInput:
        value = self.kernel.values[index]
        if value.op == "unzip":
            return self._half(index)
        if value.op == "dim":
            size = self.sizes(_as_expr(value.attrs["expr"]))
            name = size if isinstance(size, str) else f"size{index}"
            return EpilogueInput(name, f"{name}_value", "dim", "i32", index)
        if value.op == "uniform":
            return self._uniform(index, value)
        if value.op == "tensor_scale":
            arg = str(value.attrs["name"])
            return EpilogueInput(f"{arg}_scale", f"{arg}_scale_ptr", "device_scalar", "f32", index)
        return self._argument(self.kernel.arg(str(value.attrs["name"])), index)

    def _argument(self, arg: Arg, index: int) -> EpilogueInput:
        dtype = arg.dtype
        if not isinstance(dtype, str) or dtype not in ELEMENT_BYTES:
            what = dtype if isinstance(dtype, str) else dtype.name
            self.errors.append(
                error("FP4023", f"an epilogue cannot read {what} yet", arg.span, "declared here",
                      help=f"types it reads: {', '.join(ELEMENT_BYTES)}"),
            )  # fmt: skip
            dtype = "f32"
        if arg.direction == "param":
            return EpilogueInput(arg.name, f"{arg.name}_value", "scalar_param", dtype, index)
        if not arg.axes:
            return EpilogueInput(arg.name, f"{arg.name}_ptr", "device_scalar", dtype, index)
        if arg.axes[0].name is None:
            return EpilogueInput(arg.name, f"{arg.name}_ptr", "points", dtype, index)
        return self._tensor_input(arg, dtype, index)

    def _half(self, index: int) -> EpilogueInput:
        """The half of an argument, read as one of twice as many columns, or of random numbers."""
        value = self.kernel.values[index]
        whole = self.kernel.values[value.operands[0]]
        half = halves.half(halves.Cut.of(value), self.sizes, value)
        if whole.op == "uniform":
            leaf = self._uniform(index, whole)
        else:
            leaf = self._argument(halves.twice(self.kernel.arg(str(whole.attrs["name"])), value), index)
        if leaf.kind == "tile" and leaf.column_stride == 1:  # each half of a row starts on 16 bytes then
            leaf = replace(leaf, vector=self._divisible(self.problem.n, 16 // ELEMENT_BYTES[leaf.dtype]))
        name = f"{leaf.name}_{'second' if half.part else 'first'}"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return replace(leaf, name=name, arg=leaf.source, half=half)

    def _uniform(self, index: int, value: Value) -> EpilogueInput:
        rng = str(self.kernel.values[value.operands[0]].attrs["name"])
        stream = value.attrs["stream"]
        name = str(value.attrs.get("name", "random"))
        aligned = True if self._divisible(self.problem.n, 4) is True else None
        number = stream if isinstance(stream, int) else 0
        return EpilogueInput(name, f"{rng}_ptr", "uniform", "f32", index, vector=aligned, stream=number, arg=rng)

    def _tensor_input(self, arg: Arg, dtype: Scalar, index: int) -> EpilogueInput:
        problem = self.problem
        axes = tuple(str(axis.name) for axis in arg.axes)
        batch = tuple(a for a in axes if a in problem.batch_axes)
        rest = [a for a in axes if a not in problem.batch_axes]
        odd = [a for a in rest if a not in (problem.m_axis, problem.n_axis)]
        product = ", ".join((*problem.batch_axes, problem.m_axis, problem.n_axis))
        if odd or (batch and batch != problem.batch_axes) or any(a.by or a.upto for a in arg.axes):
            self.errors.append(
                error("FP4024", f"`{arg.name}` has axes that the epilogue cannot read yet", arg.span,
                      f"its axes are [{', '.join(axes)}]",
                      notes=[f"the product has the axes [{product}]"],
                      help="an epilogue input has all batch axes, in the product's order, or none"),
            )  # fmt: skip
        m, n = problem.m_axis in axes, problem.n_axis in axes
        strides = self._strides(arg)
        leaf = EpilogueInput(
            name=arg.name,
            param_name=f"{arg.name}_ptr",
            kind="tile" if m and n else "row" if m else "column" if n else "batch",
            dtype=dtype,
            value=index,
            batch_stride=strides.batch,
            row_stride=strides.row,
            column_stride=strides.column,
        )
        if leaf.kind == "tile" and leaf.column_stride == 1:
            leaf = replace(leaf, vector=self._divisible(leaf.row_stride, 16 // ELEMENT_BYTES[dtype]))
        return leaf

    def _loaded(self, leaves: Sequence[EpilogueInput], used: int) -> list[EpilogueInput]:
        """The leaves, those that TMA loads ahead with the way it does, as far as there is shared memory left.

        What is loaded ahead is there for one walk over a tile only.
        """
        plans: dict[int, LoadPlan] = {}
        for leaf in leaves:
            if leaf.kind == "tile":
                load = plan_load(leaf, in_order(self.kernel.arg(leaf.source), leaf.column_stride, self.problem))
                if load is not None:
                    plans[leaf.value] = load
        chosen: dict[int, LoadPlan] = {}
        for value, load in sorted(plans.items(), key=lambda item: load_bytes(item[1])):
            used += load_bytes(load)
            if used <= self.limit:
                chosen[value] = load
        return [replace(leaf, load=chosen.get(leaf.value)) for leaf in leaves]

    def _strides(self, arg: Arg) -> Strides:
        """Element strides of the product's axes in a row-major argument; 0 where it has no such axis."""
        stride: Expr = 1
        found: dict[str, Expr] = {}
        for axis in reversed(arg.axes):
            found[str(axis.name)] = stride
            stride = mul(stride, self.sizes(axis.extent))
        last_batch = self.problem.batch_axes[-1] if self.problem.batch_axes else ""
        return Strides(found.get(last_batch, 0), found.get(self.problem.m_axis, 0), found.get(self.problem.n_axis, 0))

    def _divisible(self, expr: Expr, divisor: int) -> Expr | None:
        """The condition "divisor divides expr": True, None if it never does, else to be evaluated at the call."""
        if divides(divisor, expr, self.kernel.constraints, self.sizes):
            return True
        if isinstance(expr, int):
            return None
        return ("eq", ("mod", expr, divisor), 0)

    def _guarded(self, leaf: EpilogueInput) -> EpilogueInput:
        """An inout argument is not read where every factor it is multiplied by is zero."""
        if leaf.kind != "tile" or self.kernel.arg(leaf.source).direction != "inout":
            return leaf
        factors: list[int] = []
        casts = {leaf.value}
        for index in self.live:
            user = self.kernel.values[index]
            if not casts.intersection(user.operands):
                continue
            if user.op == "cast" and user.dtype == "f32":
                casts.add(index)
                continue
            other = [i for i in user.operands if i not in casts]
            if user.op != "mul" or len(other) != 1 or self.kernel.values[other[0]].axes:
                return leaf
            factors.append(other[0])
        if any(store.value in casts for store in self.kernel.stores):
            return leaf
        return replace(leaf, guards=tuple(dict.fromkeys(factors)))

    # Values.

    def _scopes(self) -> dict[int, Scope]:
        scopes: dict[int, Scope] = {}
        for index in self.live:
            scopes[index] = self._scope(self.kernel.values[index])
        scopes.update((accumulator, "element") for accumulator in self.frame.accumulators)
        # A condition on columns is not staged: elements that use it compute it themselves.
        for index in reversed(self.live):
            for operand in self.kernel.values[index].operands:
                if scopes[index] == "element" and self._is_column_condition(operand, scopes):
                    scopes[operand] = "element"
        return scopes

    def _is_column_condition(self, index: int, scopes: Mapping[int, Scope]) -> bool:
        return scopes.get(index) == "column" and self.kernel.values[index].dtype == "bool"

    def _scope(self, value: Value) -> Scope:
        axes = set(value.axes) - set(self.problem.batch_axes)
        if not value.axes:
            return "kernel"
        if not axes:
            return "tile"
        if axes == {self.problem.m_axis}:
            return "row"
        if axes == {self.problem.n_axis}:
            return "column"
        return "element"

    def _staged(self, scopes: Mapping[int, Scope], outputs: Sequence[EpilogueOutput]) -> tuple[int, ...]:
        """Column values that elements or outputs use, in order."""
        used = {o for i in self.live if scopes[i] == "element" for o in self.kernel.values[i].operands}
        used |= {output.value for output in outputs}
        used |= {o.quantize.known for o in outputs if o.quantize is not None and o.quantize.known is not None}
        return tuple(i for i in self.live if i in used and scopes[i] == "column")

    def _name(self, index: int, stored: Mapping[int, str]) -> str | None:
        name = self.kernel.values[index].attrs.get("name") or stored.get(index)
        return str(name) if name is not None else None

    # Outputs.

    def _output(self, name: str, value: int) -> EpilogueOutput:
        arg = self.kernel.arg(name)
        dtype = arg.dtype
        if self.kernel.values[value].op == "reduce":
            return reduced.plan_reduced(arg, self.kernel.values[value], self.problem)
        if not isinstance(dtype, str):
            node = self.kernel.values[value]
            return quantized.plan_quantized(
                self.kernel, arg, node, self.problem, self.sizes, self.tile_n, self.level.stages
            )
        strides = self._strides(arg)
        row_legal = self._divisible(strides.row, 16 // ELEMENT_BYTES[dtype])
        return EpilogueOutput(
            arg=name,
            param_name=f"{name}_ptr",
            kind="plain",
            dtype=dtype,
            value=value,
            batch_stride=strides.batch,
            row_stride=strides.row,
            column_stride=strides.column,
            store=plan_store(arg, dtype, row_legal, in_order(arg, strides.column, self.problem), self.level),
        )

    # What the kernel gains.

    def _params(self, program: EpilogueProgram) -> tuple[KernelParam, ...]:
        params: list[KernelParam] = []
        for leaf in program.inputs:
            value = self.kernel.values[leaf.value]
            if leaf.kind == "scalar_param":
                params.append(KernelParam(leaf.param_name, Param("f32", leaf.name), "by value"))
            elif leaf.kind == "dim":
                size = self.sizes(_as_expr(value.attrs["expr"]))
                params.append(KernelParam(leaf.param_name, Param("i32", size), "a size used as a number"))
            elif leaf.kind == "uniform":
                params.append(KernelParam(leaf.param_name, Param("pointer", leaf.source), "random state"))
            elif leaf.load is None or leaf.vector is not True:
                if value.op == "tensor_scale":
                    source = f"{value.attrs['name']}.tensor_scale"
                else:
                    source = self.kernel.arg(leaf.source).source or leaf.source
                params.append(KernelParam(leaf.param_name, Param("pointer", source), f"{leaf.dtype}, {leaf.kind}"))
        for leaf in program.inputs:
            if leaf.kind == "tile" and leaf.vector is not None and leaf.vector is not True:
                params.append(KernelParam(leaf.flag, Param("i32", leaf.vector), "rows start on 16 bytes"))
        for output in program.outputs:
            if output.quantize is not None:
                params.extend(quantized.params(output))
            elif output.reduce is None and output.store.via != "tma":
                params.append(KernelParam(output.param_name, Param("pointer", output.arg), f"{output.dtype}"))
            if output.store.flag is not None:
                params.append(KernelParam(output.store.flag, Param("i32", legal(output)), "rows start on 16 bytes"))
        return tuple({param.name: param for param in params}.values())


def _as_expr(attr: object) -> Expr:
    if isinstance(attr, int | str):
        return attr
    if isinstance(attr, Sequence):
        return tuple(_as_expr(part) for part in attr)
    raise TypeError(f"not a size: {attr!r}")


def _is_leaf(value: Value) -> bool:
    """Whether the epilogue reads or makes it, or a half of it, rather than computes it from other values."""
    return OPS[value.op].kind == "leaf" or value.op in ("uniform", "unzip")


def _live(frame: Frame) -> tuple[int, ...]:
    """The values that reach a store, without the product, what is before it, and what the store itself does."""
    seen: set[int] = set()
    pending: list[int] = []
    kernel = frame.kernel
    for store in kernel.stores:
        value = kernel.values[store.value]
        if value.op == "quantize":  # without the random state, which is no value
            pending.extend(value.operands[: 1 if value.attrs.get("mode", "none") == "none" else 2])
        else:
            pending.extend(value.operands if value.op == "reduce" else (store.value,))
    while pending:
        index = pending.pop()
        if index in frame.accumulators or index in seen:
            continue
        seen.add(index)
        if not _is_leaf(kernel.values[index]):
            pending.extend(kernel.values[index].operands)
    return tuple(sorted(seen))
