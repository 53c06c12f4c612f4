"""Two lowered kernels as the launches of one call: what one leaves for the other lies in the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fp4cc.ir.kernel import Arg, Constraint, Expr, Kernel
from fp4cc.ir.lowered import Decision, KernelParam, LoweredKernel
from fp4cc.ir.sizes import Sizes, ceildiv, fold, mul
from fp4cc.passes.rewrites.split import Split
from fp4rt.manifest import Init, Param, TensorMap
from fp4rt.plan import WORKSPACE

_WIDTHS = {"f32": 4, "bf16": 2, "f16": 2}
#: Where tensors start in the workspace: more than TMA asks for.
_ALIGNMENT = 256


def join(kernel: Kernel, parts: Split, first: LoweredKernel, second: LoweredKernel) -> LoweredKernel:
    """The first kernel and its variants, each followed by the second.

    The workspace has the carried tensors, then what the second kernel needs of its own, then what the first does, with
    what is launched before it: so that the second is the same kernel after every variant.
    """
    places, end = _places(parts.carried, Sizes.of(kernel.dims))
    counts = {len(plan.before) + 2 for plan in (first, *first.variants)}
    place = _place(max(counts), max(counts)) if len(counts) == 1 else "The last launch"
    role = _role(place, "reads", parts.carried)
    then = replace(_with_own_maps(_moved(second, places, end)), whole=kernel, role=role)
    end = _sum(end, _aligned(second.epilogue.workspace))

    def followed(plan: LoweredKernel) -> LoweredKernel:
        made, count = _moved(plan, places, end), len(plan.before) + 2
        before = (replace(_moved(each, places, end), role=each.role.replace("two", "three")) for each in plan.before)
        return replace(
            made,
            epilogue=replace(
                made.epilogue,
                workspace=_sum(end, plan.epilogue.workspace),
                init=(*made.epilogue.init, *then.epilogue.init),
            ),
            constraints=_joined(made.constraints, then.constraints),
            decisions=(*made.decisions, _decision(parts, count)),
            whole=kernel,
            role=_role(_place(count - 1, count), "leaves", parts.carried),
            before=tuple(replace(each, whole=kernel) for each in before),
            after=(then,),
        )

    return replace(followed(first), variants=tuple(followed(variant) for variant in first.variants))


def precede(kernel: Kernel, parts: Split, first: LoweredKernel, second: LoweredKernel) -> LoweredKernel:
    """A plan of the second kernel, with the first launched before it.

    The workspace has the carried tensors, then what the first kernel needs of its own, then what the second does.
    """
    places, end = _places(parts.carried, Sizes.of(kernel.dims))
    role = _role(_place(1, 2), "leaves", parts.carried)
    lead = replace(_with_own_maps(_moved(first, places, end)), whole=kernel, role=role)
    end = _sum(end, _aligned(first.epilogue.workspace))
    made = _moved(second, places, end)
    return replace(
        made,
        epilogue=replace(
            made.epilogue,
            workspace=_sum(end, second.epilogue.workspace),
            init=(*lead.epilogue.init, *made.epilogue.init),
        ),
        constraints=_joined((*lead.constraints, *_new(parts.first, kernel)), made.constraints),
        whole=kernel,
        role=_role(_place(2, 2), "reads", parts.carried),
        before=(lead,),
    )


def _new(kernel: Kernel, whole: Kernel) -> tuple[Constraint, ...]:
    """The conditions of a kernel that the whole one does not have."""
    sizes = Sizes.of(kernel.dims)
    return tuple(c for c in kernel.constraints if c not in whole.constraints and sizes(c.expr) is not True)


def _with_own_maps(plan: LoweredKernel) -> LoweredKernel:
    """The plan with its name before those of its tensor maps: the maps of a call have names of their own."""
    return replace(
        plan,
        tensor_maps=tuple(replace(m, name=f"{plan.name}.{m.name}") for m in plan.tensor_maps),
        launch=replace(plan.launch, params=tuple(_renamed_param(p, plan.name) for p in plan.launch.params)),
    )


def _joined(ours: tuple[Constraint, ...], theirs: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
    """Each condition once."""
    return tuple({str(c.expr): c for c in (*theirs, *ours)}.values())


def _places(carried: tuple[Arg, ...], sizes: Sizes) -> tuple[dict[str, Expr], Expr]:
    """Where each carried tensor starts in the workspace, and the end of them."""
    places: dict[str, Expr] = {}
    end: Expr = 0
    for arg in carried:
        places[arg.name] = end
        size = mul(*(sizes(axis.extent) for axis in arg.axes), _WIDTHS[str(arg.dtype)])
        end = _sum(end, _aligned(size))
    return places, end


def _aligned(size: Expr) -> Expr:
    return mul(ceildiv(size, _ALIGNMENT), _ALIGNMENT)


def _sum(a: Expr, b: Expr) -> Expr:
    return b if a == 0 else a if b == 0 else fold("add", a, b)


def _moved(plan: LoweredKernel, places: Mapping[str, Expr], base: Expr) -> LoweredKernel:
    """The plan with carried tensors in the workspace, and its own workspace from `base` on."""
    return moved(plan, {name: (WORKSPACE, start) for name, start in {**places, WORKSPACE: base}.items()})


def moved(plan: LoweredKernel, places: Mapping[str, tuple[str, Expr]]) -> LoweredKernel:
    """The plan with the buffers of these names as parts of others, each from a byte on."""

    def param(p: KernelParam) -> KernelParam:
        source = p.param.source
        if p.param.kind != "pointer" or not isinstance(source, str) or source not in places:
            return p
        buffer, start = places[source]
        return replace(p, param=replace(p.param, source=buffer, byte_offset=_sum(start, p.param.byte_offset)))

    def tensor_map(m: TensorMap) -> TensorMap:
        if m.source not in places:
            return m
        buffer, start = places[m.source]
        return replace(m, source=buffer, byte_offset=_sum(start, m.byte_offset))

    def init(i: Init) -> Init:
        if i.source not in places:
            return i
        buffer, start = places[i.source]
        return replace(i, source=buffer, byte_offset=_sum(start, i.byte_offset))

    return replace(
        plan,
        launch=replace(plan.launch, params=tuple(param(p) for p in plan.launch.params)),
        tensor_maps=tuple(tensor_map(m) for m in plan.tensor_maps),
        epilogue=replace(plan.epilogue, init=tuple(init(i) for i in plan.epilogue.init)),
    )


def _renamed_param(p: KernelParam, kernel: str) -> KernelParam:
    if p.param.kind != "tensor_map":
        return p
    return replace(p, param=Param("tensor_map", f"{kernel}.{p.param.source}"))


_ORDINALS, _COUNTS = ("first", "second", "third"), {2: "two", 3: "three"}


def _place(number: int, count: int) -> str:
    return f"The {_ORDINALS[number - 1]} of {_COUNTS[count]} launches"


def _role(place: str, does: str, carried: tuple[Arg, ...]) -> str:
    """What a launch of a call does with the carried tensors."""
    return f"{place}: it {does} {', '.join(arg.name for arg in carried)} in the workspace."


def _decision(parts: Split, count: int) -> Decision:
    values = [arg.name for arg in parts.carried if len(arg.axes) > 1]
    how = "the first leaves the values in the workspace" if values else "the second computes the values again"
    if count > 2 and values:
        how = "the one before leaves the values in the workspace"
    return Decision("launches", str(count), f"{parts.why}; {how}", parts.instead)
