"""The epilogue's plan: what it reads, what is computed how often, and how each output reaches memory.

A value's axes say how often it is computed: a value without axes once a kernel, one with the batch axes only once a
tile, one with M once a row, one with N once a column, everything else for each element of the product. All else is the
constructs' (`fp4cc.passes.epilogue.construct`), which are asked one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Expr, Kernel, Schedule, Value
from fp4cc.ir.lowered import KernelParam, NamedBarrier, SmemBuffer
from fp4cc.ir.lowered_epilogue import EpilogueInput, EpilogueOutput, EpilogueProgram, EpilogueStatement, Scope, Space
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.epilogue.adding import adding, adds_atomically
from fp4cc.passes.epilogue.asked import asked_store, not_by_tma
from fp4cc.passes.epilogue.blocks import panel
from fp4cc.passes.epilogue.by_lanes import by_lanes
from fp4cc.passes.epilogue.construct import GlobalMemory, Planning
from fp4cc.passes.epilogue.inputs import Inputs, is_leaf
from fp4cc.passes.epilogue.memory import DIRECT, LEVELS, STAGING_LIMIT, SUBTILE, Level
from fp4cc.passes.epilogue.registry import CONSTRUCTS
from fp4cc.passes.problem.unzip import Frame
from fp4rt.manifest import TensorMap
from fp4rt.ops import OPS

#: The number of the first barrier that is a construct's own; the next ones count down, as engines' count up.
_LAST_BARRIER = 15


@dataclass(frozen=True, slots=True)
class EpiloguePlan:
    """The program, and what it adds: parameters, tensor maps, barriers, and shared memory (offsets not yet set)."""

    program: EpilogueProgram
    params: tuple[KernelParam, ...]
    tensor_maps: tuple[TensorMap, ...]
    staging: tuple[SmemBuffer, ...]
    barriers: tuple[NamedBarrier, ...]


def plan_epilogue(
    frame: Frame, sizes: Sizes, tile_n: int, limit: int = STAGING_LIMIT, schedule: Schedule | None = None
) -> EpiloguePlan:
    """Plan the epilogue of a kernel. Raises DiagnosticError with all that cannot be built yet.

    `limit`: bytes of shared memory that it may stage its tensors in, where there is a way without. `schedule`: the
    block that decides, which may ask how results are stored.
    """
    way = asked_store(schedule)
    frame = adding(frame) if adds_atomically(schedule) else frame
    found = _planned(frame, sizes, tile_n, limit, (DIRECT, DIRECT) if way == "direct" else LEVELS)
    if schedule is not None and way == "tma":
        _raise(not_by_tma(found.program, schedule))
    return found


def _planned(frame: Frame, sizes: Sizes, tile_n: int, limit: int, levels: Sequence[Level]) -> EpiloguePlan:
    """The plan at the first of the levels at which it fits."""
    live = _live(frame)
    _raise(_refusals(frame, live))
    inputs = Inputs(frame, sizes, live)
    values = frame.kernel.values
    leaves = [CONSTRUCTS.read(i, inputs) for i in live if is_leaf(values[i]) and values[i].op != "const"]
    _raise(inputs.errors)
    columns = tile_n if frame.group is None else tile_n // 2
    planning = Planning(frame, sizes, columns, panel(frame), live, _scopes(frame, live), levels[0])
    for level in levels[:-1]:
        planning = replace(planning, level=level)
        plan = _plan(planning, leaves)
        program = by_lanes(plan.program)
        if program is not None:
            return _taking(program, planning, plan.barriers, ())
        used = sum(buffer.total for buffer in plan.staging)
        if used <= limit:
            if plan.program.panel:  # what is loaded ahead is there for one walk over a tile only
                return plan
            for construct in CONSTRUCTS.known:
                leaves = [*construct.ahead(leaves, frame, limit - used)]
            return _plan(planning, leaves)
    return _plan(replace(planning, level=levels[-1]), leaves)


def _plan(planning: Planning, inputs: Sequence[EpilogueInput]) -> EpiloguePlan:
    """The plan at one level of staging."""
    program = EpilogueProgram(
        kernel=planning.kernel,
        problem=planning.space,
        tile_n=planning.tile_n,
        inputs=tuple(inputs),
        accumulators=planning.frame.accumulators,
        statements=_statements(planning),
        outputs=_outputs(planning),
        subtile=SUBTILE,
        panel=planning.panel,
        group=planning.frame.group,
        constructs=_claimed(planning, inputs),
    )
    for construct in CONSTRUCTS.known:
        program = construct.add(program, planning)
    barriers = _barriers(program)
    memory = _memory(program)
    program = replace(
        program, init=memory.init, workspace=memory.end, barriers=tuple(barrier.name for barrier in barriers)
    )
    return _taking(program, planning, barriers, memory.params)


def _taking(
    program: EpilogueProgram,
    planning: Planning,
    barriers: tuple[NamedBarrier, ...],
    memory: tuple[KernelParam, ...],
) -> EpiloguePlan:
    """A program with what it takes. `memory`: the parameters for global memory beside inputs and outputs."""
    return EpiloguePlan(
        program,
        (*_params(program, planning), *memory),
        _tensor_maps(program, planning.space, planning.kernel),
        _buffers(program),
        barriers,
    )


def _statements(planning: Planning) -> tuple[EpilogueStatement, ...]:
    kernel = planning.kernel
    stored = {store.value: store.arg for store in kernel.stores}

    def name(index: int) -> str | None:
        found = kernel.values[index].attrs.get("name") or stored.get(index)
        return str(found) if found is not None else None

    computed = (i for i in planning.live if not is_leaf(kernel.values[i]))
    return tuple(EpilogueStatement(i, planning.scopes[i], name(i)) for i in computed)


def _outputs(planning: Planning) -> tuple[EpilogueOutput, ...]:
    kernel, found = planning.kernel, list[EpilogueOutput]()
    for store in kernel.stores:
        arg = kernel.arg(store.arg)
        writer = CONSTRUCTS.writer(arg, kernel.values[store.value], planning.frame)
        found.append(writer.output(arg, store.value, planning))
    return tuple(found)


def _claimed(planning: Planning, inputs: Sequence[EpilogueInput]) -> tuple[str, ...]:
    """The constructs that have claimed something, in the order of the registry."""
    kernel = planning.kernel
    makers = (CONSTRUCTS.maker(index, planning.frame) for index in planning.live)
    found = {maker.name for maker in makers if maker is not None}
    found |= {CONSTRUCTS.of_input(leaf).name for leaf in inputs}
    stored = ((kernel.arg(store.arg), kernel.values[store.value]) for store in kernel.stores)
    found |= {CONSTRUCTS.writer(arg, value, planning.frame).name for arg, value in stored}
    return tuple(construct.name for construct in CONSTRUCTS.known if construct.name in found)


# What the plan takes.


def _params(program: EpilogueProgram, planning: Planning) -> list[KernelParam]:
    """The parameters of inputs and outputs, each once."""
    read = [(leaf, CONSTRUCTS.of_input(leaf)) for leaf in program.inputs]
    params = [param for leaf, construct in read for param in construct.input_params(leaf, planning)]
    params += [param for leaf, construct in read for param in construct.input_flags(leaf)]
    for output in program.outputs:
        params += CONSTRUCTS.of_output(output).output_params(output)
    return [*{param.name: param for param in params}.values()]


def _tensor_maps(program: EpilogueProgram, space: Space, kernel: Kernel) -> tuple[TensorMap, ...]:
    maps: list[TensorMap] = []
    parts = {arg.name: arg.source for arg in kernel.args}  # of the kernel's own arguments, where they are no whole ones
    for leaf in program.inputs:
        source = parts.get(leaf.source)
        found = CONSTRUCTS.of_input(leaf).input_maps(leaf, space)
        maps += found if source is None else (replace(each, source=source) for each in found)
    for output in program.outputs:
        maps += CONSTRUCTS.of_output(output).output_maps(output, space)
    return tuple({each.name: each for each in maps}.values())


def _buffers(program: EpilogueProgram) -> tuple[SmemBuffer, ...]:
    buffers: list[SmemBuffer] = []
    for leaf in program.inputs:
        buffers += CONSTRUCTS.of_input(leaf).input_buffers(leaf)
    for output in program.outputs:
        buffers += CONSTRUCTS.of_output(output).output_buffers(output)
    for construct in CONSTRUCTS.known:
        buffers += construct.buffers(program)
    return tuple(dict.fromkeys(buffers))


def _barriers(program: EpilogueProgram) -> tuple[NamedBarrier, ...]:
    """The barriers at which constructs meet, those that are one's own with numbers from the last one down."""
    wanted = dict.fromkeys(barrier for construct in CONSTRUCTS.known for barrier in construct.barriers(program))
    own = [barrier for barrier in wanted if not barrier.number]
    numbered = [replace(barrier, number=_LAST_BARRIER - place) for place, barrier in enumerate(own)]
    return (*(barrier for barrier in wanted if barrier.number), *numbered)


def _memory(program: EpilogueProgram) -> GlobalMemory:
    """Fills, parameters and the bytes of the workspace, each construct's after the one's before."""
    found: list[GlobalMemory] = []
    end: Expr = 0
    for construct in CONSTRUCTS.known:
        found.append(construct.memory(program, end))
        end = found[-1].end
    init = tuple(fill for each in found for fill in each.init)
    return GlobalMemory(init, tuple(param for each in found for param in each.params), end)


# Values.


def _live(frame: Frame) -> tuple[int, ...]:
    """The values that reach a store, without the product, what is before it, and what the store itself does."""
    seen: set[int] = set()
    pending: list[int] = []
    kernel = frame.kernel
    for store in kernel.stores:
        writer = CONSTRUCTS.writer(kernel.arg(store.arg), kernel.values[store.value], frame)
        pending.extend(writer.stored(store.value, kernel))
    while pending:
        index = pending.pop()
        if index in frame.accumulators or index in seen:
            continue
        seen.add(index)
        if not is_leaf(kernel.values[index]):
            pending.extend(kernel.values[index].operands)
    return tuple(sorted(seen))


def _refusals(frame: Frame, live: Sequence[int]) -> list[Diagnostic]:
    """Why values cannot be computed and outputs not be written."""
    kernel, found = frame.kernel, list[Diagnostic]()
    said: set[int] = set()  # values whose refusal, or that of what they are computed from, says all
    silent: set[int] = set()
    for index in live:
        value, construct = kernel.values[index], CONSTRUCTS.maker(index, frame)
        if construct is not None:
            refused = list(construct.refusals(index, frame))
        else:
            refused = [] if OPS[value.op].kind != "tensor" else [_unknown(value)]
        found += refused
        if refused and construct is not None and construct.says_all:
            said.add(index)
        if any(operand in said for operand in value.operands):
            said.add(index)
            silent.add(index)
    for store in kernel.stores:
        if store.value not in silent:
            arg, value = kernel.arg(store.arg), kernel.values[store.value]
            found += CONSTRUCTS.writer(arg, value, frame).output_refusals(arg, value, frame)
    return found


def _unknown(value: Value) -> Diagnostic:
    return error("FP4020", f"`{value.op}` cannot be compiled in an epilogue yet", value.span, "computed here",
                 help="it runs on the reference: `fp4cc run --device reference`")  # fmt: skip


def _scopes(frame: Frame, live: Sequence[int]) -> dict[int, Scope]:
    """How often each value is computed."""
    values = frame.kernel.values
    scopes: dict[int, Scope] = {}
    for index in live:
        construct = CONSTRUCTS.maker(index, frame)
        asked = None if construct is None else construct.scope(values[index])
        below = (scopes.get(operand) for operand in values[index].operands)
        lists = not is_leaf(values[index]) and values[index].axes and "element" in below
        if values[index].op == "of_group":  # another name of what a tile has, whose rows are all of one group
            asked = scopes[values[index].operands[0]]
        scopes[index] = asked or ("element" if lists else _scope(values[index], frame.problem))
    scopes.update((accumulator, "element") for accumulator in frame.accumulators)
    # A condition on columns is not staged: elements that use it compute it themselves.
    for index in reversed(live):
        for operand in values[index].operands:
            if scopes[index] == "element" and _is_column_condition(values[operand], scopes.get(operand)):
                scopes[operand] = "element"
    return scopes


def _is_column_condition(value: Value, scope: Scope | None) -> bool:
    return scope == "column" and value.dtype == "bool"


def _scope(value: Value, space: Space) -> Scope:
    axes = set(value.axes) - set(space.tile_axes)
    if not value.axes:
        return "kernel"
    if not axes:
        return "tile"
    if axes == {space.m_axis}:
        return "row"
    if axes == {space.n_axis}:
        return "column"
    return "element"


def _raise(errors: Iterable[Diagnostic]) -> None:
    found = list(dict.fromkeys(errors))  # both halves of an input have the same
    if found:
        raise DiagnosticError(found)
