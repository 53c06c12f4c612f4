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

    The workspace has the carried tensors, then what the second kernel needs of its own, then what the first does: so
    that the second is the same kernel after every variant.
    """
    places, end = _places(parts.carried, Sizes.of(kernel.dims))
    then = _moved(second, places, end)
    then = replace(then, tensor_maps=tuple(_renamed(m, then.name) for m in then.tensor_maps),
                   launch=replace(then.launch, params=tuple(_renamed_param(p, then.name) for p in then.launch.params)),
                   whole=kernel, role=_role("second", parts.carried))  # fmt: skip
    end = _sum(end, _aligned(second.epilogue.workspace))

    def followed(plan: LoweredKernel) -> LoweredKernel:
        made = _moved(plan, places, end)
        workspace = _sum(end, plan.epilogue.workspace)
        return replace(
            made,
            epilogue=replace(made.epilogue, workspace=workspace, init=(*made.epilogue.init, *then.epilogue.init)),
            constraints=_joined(made.constraints, then.constraints),
            decisions=(*made.decisions, _decision(parts)),
            whole=kernel,
            role=_role("first", parts.carried),
            after=(then,),
        )

    return replace(followed(first), variants=tuple(followed(variant) for variant in first.variants))


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
    starts = {**places, WORKSPACE: base}

    def param(p: KernelParam) -> KernelParam:
        source = p.param.source
        if p.param.kind != "pointer" or not isinstance(source, str) or source not in starts:
            return p
        moved = replace(p.param, source=WORKSPACE, byte_offset=_sum(starts[source], p.param.byte_offset))
        return replace(p, param=moved)

    def tensor_map(m: TensorMap) -> TensorMap:
        return replace(m, source=WORKSPACE, byte_offset=starts[m.source]) if m.source in starts else m

    def init(i: Init) -> Init:
        if i.source not in starts:
            return i
        return replace(i, source=WORKSPACE, byte_offset=_sum(starts[i.source], i.byte_offset))

    return replace(
        plan,
        launch=replace(plan.launch, params=tuple(param(p) for p in plan.launch.params)),
        tensor_maps=tuple(tensor_map(m) for m in plan.tensor_maps),
        epilogue=replace(plan.epilogue, init=tuple(init(i) for i in plan.epilogue.init)),
    )


def _renamed(m: TensorMap, kernel: str) -> TensorMap:
    """The maps of a call have names of their own, so those of the second launch have its name before theirs."""
    return replace(m, name=f"{kernel}.{m.name}")


def _renamed_param(p: KernelParam, kernel: str) -> KernelParam:
    if p.param.kind != "tensor_map":
        return p
    return replace(p, param=Param("tensor_map", f"{kernel}.{p.param.source}"))


def _role(which: str, carried: tuple[Arg, ...]) -> str:
    names = ", ".join(arg.name for arg in carried)
    does = "leaves" if which == "first" else "reads"
    return f"The {which} of two launches: it {does} {names} in the workspace."


def _decision(parts: Split) -> Decision:
    values = [arg.name for arg in parts.carried if len(arg.axes) > 1]
    how = "the first leaves the values in the workspace" if values else "the second computes the values again"
    return Decision("launches", "2", f"{parts.why}; {how}", parts.instead)
