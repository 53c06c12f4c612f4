"""Arguments under names that nothing else in an emitted kernel can have.

A kernel's parameters, buffers and variables are called after the argument that they serve: `a` has `a_scale_ptr`, and
so would an argument `a_scale`. While it is lowered such an argument is called `a_scale_arg`; the manifest has its own
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fp4cc.ir.kernel import Kernel, Value
from fp4cc.ir.lowered import KernelParam, LoweredKernel

#: What the templates call their own things after: `acc_full` is theirs.
_STEMS = frozenset({
    "ab", "acc", "block", "blocks", "column", "columns", "element", "exchange", "first", "global", "k", "load", "m",
    "n", "panel", "partial", "quantize", "reads", "row", "scale", "sfa", "sfb", "shared", "slot", "stage", "store",
    "subtile", "sum", "tile", "tiles", "tmem", "to", "transpose",
})  # fmt: skip
#: What they call after the two sides of a product, whatever these are called in the spec.
_SIDES = frozenset({"a", "b"})


def renamed(kernel: Kernel) -> Mapping[str, str]:
    """The arguments that take another name here, and which."""
    names = {arg.name for arg in kernel.args}
    stems = _STEMS | (_SIDES - _operands(kernel) if any(value.op == "matmul" for value in kernel.values) else set())
    found: dict[str, str] = {}
    for name in sorted(names):
        words = name.split("_")
        heads = {"_".join(words[:count]) for count in range(1, len(words))}
        if name in stems or heads & names:
            new = f"{name}_arg"
            while new in names or new in found.values():
                new += "_"
            found[name] = new
    return found


def with_names(kernel: Kernel, names: Mapping[str, str]) -> Kernel:
    """The kernel with its arguments called by new names."""

    def value(old: Value) -> Value:
        name = old.attrs.get("name")
        if old.op not in ("arg", "tensor_scale") or name not in names:
            return old
        return replace(old, attrs={**old.attrs, "name": names[str(name)]})

    return replace(
        kernel,
        args=tuple(replace(arg, name=names.get(arg.name, arg.name)) for arg in kernel.args),
        values=tuple(value(old) for old in kernel.values),
        stores=tuple(replace(store, arg=names.get(store.arg, store.arg)) for store in kernel.stores),
    )


def restored(lowered: LoweredKernel, kernel: Kernel, names: Mapping[str, str]) -> LoweredKernel:
    """The lowered kernel, which reads and writes the arguments of `kernel` by the names they have there."""
    own = {new: old for old, new in names.items()}

    def source(text: str) -> str:
        arg, dot, part = text.partition(".")
        return own.get(arg, arg) + dot + part

    def param(p: KernelParam) -> KernelParam:
        if p.param.kind not in ("pointer", "f32") or not isinstance(p.param.source, str):
            return p
        return replace(p, param=replace(p.param, source=source(p.param.source)))

    def plan(one: LoweredKernel) -> LoweredKernel:
        return replace(
            one,
            whole=kernel,
            launch=replace(one.launch, params=tuple(param(p) for p in one.launch.params)),
            tensor_maps=tuple(replace(m, source=source(m.source)) for m in one.tensor_maps),
            epilogue=replace(one.epilogue, init=tuple(replace(i, source=source(i.source)) for i in one.epilogue.init)),
            variants=tuple(plan(variant) for variant in one.variants),
            after=tuple(plan(later) for later in one.after),
        )

    return plan(lowered)


def _operands(kernel: Kernel) -> set[str]:
    """The arguments that products multiply."""
    found: set[str] = set()
    for value in kernel.values:
        for operand in value.operands if value.op == "matmul" else ():
            while kernel.values[operand].op == "transpose":
                (operand,) = kernel.values[operand].operands
            found.add(str(kernel.values[operand].attrs.get("name", "")))
    return found
