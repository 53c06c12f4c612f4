"""The manifest of a lowered kernel: what the runtime needs to check, fill and launch it."""

from __future__ import annotations

from collections.abc import Mapping

from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.serialize import to_constraint, to_typed
from fp4rt.manifest import Grid, Launch, Manifest, PersistentGrid, Plan, Variant, place


def plans(lowered: LoweredKernel) -> dict[str, LoweredKernel]:
    """Each kernel by the stem of its files.

    NAME is the one that always applies, NAME_v1, NAME_v2, ... are variants, NAME_2 is launched after any of them.
    """
    named = _plans(lowered)
    named.update((later.name, later) for plan in (lowered, *lowered.variants) for later in plan.after)
    return named


def _plans(lowered: LoweredKernel) -> dict[str, LoweredKernel]:
    """The plan that always applies and its variants, by the stem of their files."""
    return {lowered.name: lowered, **{f"{lowered.name}_v{i}": v for i, v in enumerate(lowered.variants, 1)}}


def manifest(lowered: LoweredKernel, files: Mapping[str, str], toolchain: Mapping[str, str]) -> Manifest:
    """Build the manifest.

    Args:
        lowered: the kernel with its variants.
        files: sha256 of each file by base name: the .cubin and .ptx of every plan.
        toolchain: versions of what compiled it.
    """
    named = _plans(lowered)
    variants = tuple(
        Variant(
            name=name,
            when=plan.when if plan.when is not None else 1,
            plan=_plan(plan, name),
            constraints=tuple(to_constraint(c) for c in plan.constraints),
        )
        for name, plan in named.items()
        if plan is not lowered
    )
    return Manifest(
        name=lowered.name,
        target=lowered.target,
        kernel=to_typed(lowered.whole or lowered.kernel),
        plan=_plan(lowered, lowered.name),
        constraints=tuple(to_constraint(c) for c in lowered.kernel.constraints),
        plan_constraints=tuple(to_constraint(c) for c in lowered.constraints),
        variants=variants,
        files=dict(files),
        toolchain=dict(toolchain),
    )


def _plan(lowered: LoweredKernel, module: str) -> Plan:
    maps = [m for kernel in (lowered, *lowered.after) for m in kernel.tensor_maps]
    return Plan(
        launches=(_launch(lowered, module), *(_launch(later, later.name) for later in lowered.after)),
        tensor_maps=tuple(maps),
        workspace=lowered.epilogue.workspace,
        init=lowered.epilogue.init,
    )


def _grid(lowered: LoweredKernel) -> Grid:
    """Without a product a CTA has little to set up: one for each tile, so that none waits for the last wave. Where CTAs
    meet in the workspace all have to be resident."""
    if lowered.engine is None and lowered.epilogue.workspace == 0:
        return (lowered.walk.tiles, 1, 1)
    return PersistentGrid(lowered.walk.tiles, lowered.cluster.size)


def _launch(lowered: LoweredKernel, module: str) -> Launch:
    return Launch(
        entry=lowered.launch.entry,
        grid=_grid(lowered),
        block=(lowered.launch.threads, 1, 1),
        cluster=(lowered.cluster.size, 1, 1),
        smem=lowered.smem.asked,
        params=place(p.param for p in lowered.launch.params),
        module=module,
    )
