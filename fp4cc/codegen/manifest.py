"""The manifest of a lowered kernel: what the runtime needs to check, fill and launch it."""

from __future__ import annotations

from collections.abc import Mapping

from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.serialize import to_constraint, to_typed
from fp4rt.manifest import Launch, Manifest, PersistentGrid, Plan, Variant, place


def plans(lowered: LoweredKernel) -> dict[str, LoweredKernel]:
    """Each plan by the stem of its files: NAME for the one that always applies, NAME_v1, NAME_v2, ... for variants."""
    named = {lowered.name: lowered}
    named.update((f"{lowered.name}_v{i}", variant) for i, variant in enumerate(lowered.variants, 1))
    return named


def manifest(lowered: LoweredKernel, files: Mapping[str, str], toolchain: Mapping[str, str]) -> Manifest:
    """Build the manifest.

    Args:
        lowered: the kernel with its variants.
        files: sha256 of each file by base name: the .cubin and .ptx of every plan.
        toolchain: versions of what compiled it.
    """
    named = plans(lowered)
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
        kernel=to_typed(lowered.kernel),
        plan=_plan(lowered, lowered.name),
        constraints=tuple(to_constraint(c) for c in lowered.kernel.constraints),
        plan_constraints=tuple(to_constraint(c) for c in lowered.constraints),
        variants=variants,
        files=dict(files),
        toolchain=dict(toolchain),
    )


def _plan(lowered: LoweredKernel, module: str) -> Plan:
    launch = Launch(
        entry=lowered.launch.entry,
        grid=PersistentGrid(lowered.raster.tiles, lowered.cluster.size),
        block=(lowered.launch.threads, 1, 1),
        cluster=(lowered.cluster.size, 1, 1),
        smem=lowered.smem.total,
        params=place(p.param for p in lowered.launch.params),
        module=module,
    )
    return Plan(
        launches=(launch,),
        tensor_maps=lowered.tensor_maps,
        workspace=lowered.epilogue.workspace,
        init=lowered.epilogue.init,
    )
