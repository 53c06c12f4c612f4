"""The epilogue's plan: what it reads, what is computed how often, and how each output reaches memory.

A value's axes say how often it is computed: a value without axes once a kernel, one with the batch axes only once a
tile, one with M once a row, one with N once a column, everything else for each element of the product. Column values
that elements use are staged in shared memory once a tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fp4cc.diagnostics import Diagnostic, DiagnosticError
from fp4cc.ir.kernel import Value
from fp4cc.ir.lowered import KernelParam, SmemBuffer
from fp4cc.ir.lowered_epilogue import EpilogueInput, EpilogueOutput, EpilogueProgram, EpilogueStatement, Scope
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.epilogue import quantize as quantized
from fp4cc.passes.epilogue import reduce as reduced
from fp4cc.passes.epilogue.blocks import panel
from fp4cc.passes.epilogue.checks import operation_refusals, output_refusals
from fp4cc.passes.epilogue.inputs import Inputs, is_leaf, loaded_ahead
from fp4cc.passes.epilogue.memory import (
    ELEMENT_BYTES,
    LEVELS,
    STAGING_LIMIT,
    SUBTILE,
    element_strides,
    in_order,
    plan_store,
    staging,
    tensor_maps,
)
from fp4cc.passes.epilogue.params import epilogue_params
from fp4cc.passes.epilogue.spread import plan_spread, spread_buffers
from fp4cc.passes.problem.divides import holds_if_divides
from fp4cc.passes.problem.unzip import Frame
from fp4rt.manifest import TensorMap


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

    def plan(self) -> EpiloguePlan:
        errors: list[Diagnostic] = []
        for index in self.live:
            errors.extend(operation_refusals(index, self.kernel, self.problem))
        reduced_below = self._uses_reduction()
        for store in self.kernel.stores:
            if store.value not in reduced_below:
                errors.extend(output_refusals(self.kernel.arg(store.arg), self.kernel.values[store.value], self.frame))
        _raise(errors)
        inputs = Inputs(self.frame, self.sizes)
        values = self.kernel.values
        leaves = [inputs.read(i) for i in self.live if is_leaf(values[i]) and values[i].op != "const"]
        _raise(inputs.errors)
        leaves = [inputs.guarded(leaf, self.live) for leaf in leaves]
        for self.level in LEVELS[:-1]:
            plan = self._plan(leaves)
            used = sum(buffer.total for buffer in plan.staging)
            if used <= self.limit:
                if plan.program.panel:  # what is loaded ahead is there for one walk over a tile only
                    return plan
                whole_tile = None if self.frame.accumulators else self.tile_n // SUBTILE
                return self._plan(loaded_ahead(leaves, self.kernel, self.problem, used, self.limit, whole_tile))
        self.level = LEVELS[-1]
        return self._plan(leaves)

    def _uses_reduction(self) -> set[int]:
        """Values that are computed from a reduction: that is refused where it is used, and nothing more said."""
        found: set[int] = set()
        for index in self.live:
            operands = self.kernel.values[index].operands
            if any(o in found or self.kernel.values[o].op == "reduce" for o in operands):
                found.add(index)
        return found

    def _plan(self, inputs: Sequence[EpilogueInput]) -> EpiloguePlan:
        """The plan at the present level of staging."""
        scopes = self._scopes()
        names = {store.value: store.arg for store in self.kernel.stores}
        statements = tuple(
            EpilogueStatement(i, scopes[i], self._name(i, names))
            for i in self.live
            if not is_leaf(self.kernel.values[i])
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
        params = (*epilogue_params(program, self.sizes), *workspace.params)
        maps = tensor_maps(program.inputs, program.outputs, self.problem)
        buffers = (
            *staging(program.inputs, program.outputs, len(program.staged), self.tile_n, program.panel),
            *spread_buffers(program.spread),
        )
        return EpiloguePlan(program, params, maps, buffers)

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
        strides = element_strides(arg, self.problem, self.sizes)
        row_legal = holds_if_divides(16 // ELEMENT_BYTES[dtype], strides.row, self.kernel.constraints, self.sizes)
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
        if not is_leaf(kernel.values[index]):
            pending.extend(kernel.values[index].operands)
    return tuple(sorted(seen))


def _raise(errors: Sequence[Diagnostic]) -> None:
    if errors:
        raise DiagnosticError(list(dict.fromkeys(errors)))  # both halves of an input have the same
