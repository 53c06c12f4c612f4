"""The manifest of a lowered kernel: what the runtime needs to check, fill and launch it."""

from __future__ import annotations

from collections.abc import Mapping

from fp4cc.codegen.sharing import shared
from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import LoweredKernel, OneEach, Preparation
from fp4cc.ir.serialize import to_constraint, to_typed
from fp4cc.ir.sizes import ceildiv, fold
from fp4rt.manifest import Launch, Manifest, PersistentGrid, Plan, Prepared, Variant, place
from fp4rt.plan import ListForm


def plans(lowered: LoweredKernel) -> dict[str, LoweredKernel]:
    """Each kernel by the stem of its files.

    NAME is the one that always applies, NAME_v1, NAME_v2, ... are variants; NAME_2 is launched after any of them,
    NAME_bf16 before some. NAME_rows is launched once for an argument that is prepared, and NAME_p1 ... read what it
    leaves.
    """
    named = plans_by_stem(lowered)
    for plan in (lowered, *lowered.variants):
        named.update((other.name, other) for other in (*plan.before, *plan.after))
    for stem, plan in prepared_by_stem(lowered).items():
        if plan.preparation is not None:
            named[plan.preparation.launch.name] = plan.preparation.launch
        named[stem] = plan
    return named


def over_lists(lowered: LoweredKernel) -> dict[str, LoweredKernel]:
    """The kernels that are made for lists of problems too, by the stem of those files: what calls launch."""
    if not lowered.many:
        return {}
    once = {plan.preparation.launch.name for plan in lowered.prepared if plan.preparation is not None}
    return {_over_list(stem): plan for stem, plan in plans(lowered).items() if stem not in once}


def _over_list(stem: str) -> str:
    """The stem of the files of a kernel for lists."""
    return f"{stem}_many"


def prepared_by_stem(lowered: LoweredKernel) -> dict[str, LoweredKernel]:
    """The plans for an argument that is prepared, by the stem of their files."""
    return {f"{lowered.name}_p{i}": plan for i, plan in enumerate(lowered.prepared, 1)}


def plans_by_stem(lowered: LoweredKernel) -> dict[str, LoweredKernel]:
    """The plan that always applies and its variants, by the stem of their files."""
    return {lowered.name: lowered, **{f"{lowered.name}_v{i}": v for i, v in enumerate(lowered.variants, 1)}}


def manifest(
    lowered: LoweredKernel,
    files: Mapping[str, str],
    toolchain: Mapping[str, str],
    sources: Mapping[str, str] | None = None,
) -> Manifest:
    """Build the manifest.

    Args:
        lowered: the kernel with its variants.
        files: sha256 of each file by base name: the .cubin and .ptx of every plan.
        toolchain: versions of what compiled it.
        sources: sha256 of each file that the spec uses, by its path from the spec's folder.
    """
    named = plans_by_stem(lowered)
    many = lowered.many
    variants = tuple(_variant(name, plan, many) for name, plan in named.items() if plan is not lowered)
    made = Manifest(
        name=lowered.name,
        target=lowered.target,
        kernel=to_typed(lowered.whole or lowered.kernel),
        plan=_plan(lowered, lowered.name, many),
        constraints=tuple(to_constraint(c) for c in lowered.kernel.constraints),
        plan_constraints=tuple(to_constraint(c) for c in lowered.constraints),
        variants=variants,
        prepared=_prepared(lowered),
        files=dict(files),
        toolchain=dict(toolchain),
        sources=dict(sources or {}),
    )
    return shared(made)


def _variant(name: str, plan: LoweredKernel, many: bool) -> Variant:
    return Variant(
        name=name,
        when=plan.when if plan.when is not None else 1,
        plan=_plan(plan, name, many),
        constraints=tuple(to_constraint(c) for c in plan.constraints),
    )


def _prepared(lowered: LoweredKernel) -> tuple[Prepared, ...]:
    """What is made once, by argument, with the plans that read it."""
    found: dict[str, list[tuple[str, LoweredKernel, Preparation]]] = {}
    for name, plan in prepared_by_stem(lowered).items():
        if plan.preparation is not None:
            found.setdefault(plan.preparation.arg, []).append((name, plan, plan.preparation))
    return tuple(
        Prepared(
            arg=arg,
            bytes=plans[0][2].bytes,
            unfit=plans[0][2].unfit,
            plan=_plan(plans[0][2].launch, plans[0][2].launch.name, False),
            variants=tuple(_variant(name, plan, lowered.many) for name, plan, _ in plans),
        )
        for arg, plans in found.items()
    )


def _plan(lowered: LoweredKernel, module: str, many: bool) -> Plan:
    stems = [module if each is lowered else each.name for each in lowered.launches]
    return Plan(
        launches=tuple(_launch(*each, lowered, many) for each in zip(lowered.launches, stems, strict=True)),
        tensor_maps=tuple(m for each in lowered.launches for m in each.tensor_maps),
        workspace=lowered.epilogue.workspace,
        init=lowered.epilogue.init,
        unordered=tuple(o.arg for each in lowered.launches for o in each.epilogue.outputs if o.store.adds),
    )


def _launch(lowered: LoweredKernel, module: str, plan: LoweredKernel, many: bool) -> Launch:
    tiles = lowered.walk.tiles
    return Launch(
        entry=lowered.launch.entry,
        grid=(tiles, 1, 1) if isinstance(lowered.walk, OneEach) else PersistentGrid(tiles, lowered.cluster.size),
        block=(lowered.launch.threads, 1, 1),
        cluster=(lowered.cluster.size, 1, 1),
        smem=lowered.smem.asked,
        params=place(p.param for p in lowered.launch.params),
        module=module,
        dependent=plan.overlap != "no",
        many=ListForm(_over_list(module), _work(lowered)) if many else None,
    )


#: What a tile takes beside its steps along K, in such steps: the start of a CTA and the last tile's epilogue.
_STEPS_BESIDE = 4


def _work(lowered: LoweredKernel) -> Expr:
    """The time of a tile, or of its part of K, in steps along K."""
    if lowered.split is not None:
        return fold("add", lowered.split.steps, _STEPS_BESIDE)
    work: Expr = _STEPS_BESIDE
    for mainloop in lowered.mainloops:
        work = fold("add", ceildiv(mainloop.products[0].k, mainloop.tile_k), work)
    return work
