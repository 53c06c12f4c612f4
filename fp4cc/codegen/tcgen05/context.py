"""What the template of tcgen05 GEMMs substitutes: the plan as names, numbers and short pieces of Python text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fp4cc.codegen.clearing import leading_bytes
from fp4cc.codegen.context import SMEM, Frame, arrivals, cta_group, frame, waits
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.fragments import Fragment, Function
from fp4cc.codegen.gathered import numbers_text
from fp4cc.codegen.mainloops import numbered
from fp4cc.codegen.multicast import mask_text, union_text
from fp4cc.codegen.placing import PlacesText, of_group, places_text
from fp4cc.codegen.promoted_scales import FactorsText, factor_functions, factors_by_batch, factors_text
from fp4cc.codegen.splitting import SplitText, split_text
from fp4cc.codegen.tcgen05.constants import buffer_text, constants, count_of_bs
from fp4cc.codegen.tcgen05.converters import ConvertersText, converter_functions, converters_text
from fp4cc.codegen.tcgen05.loads import LoadLoop, load_loops
from fp4cc.codegen.tcgen05.mainloops import MmaLoop, ScaleColumn, half_atom_columns, mma_loops
from fp4cc.codegen.tcgen05.reading import (
    AccumulatorText,
    HalvesText,
    ReleaseText,
    SlotText,
    halves_text,
    release_text,
    walk_text,
)
from fp4cc.codegen.tcgen05.words import mma_work, plan, title
from fp4cc.codegen.walking import WalkText
from fp4cc.ir.lowered import Load, LoweredKernel, Mma, Tcgen05, Tmem


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcgen05Text:
    """What the template of tcgen05 GEMMs substitutes: places and barriers as text, loops along K as data."""

    mma: Mma
    tmem: Tmem
    arrivals: dict[str, int]
    waits: dict[str, str]
    sync: str
    load_loops: list[LoadLoop]
    row_numbers: Fragment
    loads: tuple[Load, ...]
    mma_loops: list[MmaLoop]
    scaled: bool
    contracted: bool
    a_leading: int
    b_leading: int
    b_descriptors: list[str]
    sfb_descriptors: list[str]
    read_by: Callable[[Fragment], list[AccumulatorText]]
    accumulators: list[SlotText]
    mma_work: str
    acc_width: str
    conversion: ConvertersText | None
    places: PlacesText
    m0: str
    n0: str
    walk: WalkText
    epilogue_n0: str
    group: int | None
    half_places: HalvesText | None
    overlapped: bool
    half_atom_columns: list[ScaleColumn]
    mma_n0: str | None
    commit_empty: list[str]
    commit_acc: list[str]
    maybe_no_k: bool
    zero_columns: int
    release: ReleaseText
    promoted: FactorsText | None
    split: SplitText | None


def template_context(lowered: LoweredKernel, epilogue: EpilogueText) -> tuple[Frame, Tcgen05Text]:
    """What the templates of templates/sm100 use."""
    engine = lowered.engine_as(Tcgen05)
    overlapped = engine.tmem.overlapped(lowered.tile.n)
    problem, tile, cluster = lowered.products, lowered.tile, lowered.cluster
    several = len(problem.products) > 1
    slots = len(problem.accumulators)
    width = "TILE_N" if lowered.epilogue.group is None else "(TILE_N // 2)"
    halves = any(product.b.half is not None for product in problem.products)
    n0 = "(tile_n * CLUSTER_N + cta_n) * TILE_N" if cluster.n > 1 else "tile_n * TILE_N"
    around = frame(
        lowered,
        epilogue,
        title=title(lowered),
        plan=plan(lowered),
        constants=constants(lowered),
        spaces=[SMEM, cta_group(engine.mma.cta_group)],
        buffers=[buffer_text(lowered, buffer) for buffer in lowered.smem.buffers],
        batched=bool(problem.batch_axes) and problem.groups is None,  # `place` finds a tile in its group
        band=lowered.walk.band,
    )
    return around, Tcgen05Text(
        walk=walk_text(lowered, epilogue, around.uses),
        mma=engine.mma,
        tmem=engine.tmem,
        arrivals=arrivals(lowered.rings),
        waits=waits(lowered.rings),
        sync=_sync(lowered),
        load_loops=load_loops(lowered),
        row_numbers=numbers_text(lowered),
        loads=lowered.loads,
        mma_loops=mma_loops(lowered),
        scaled=engine.scaled,
        contracted=problem.contracted is not None,
        a_leading=leading_bytes(problem.a, tile.k),
        b_leading=leading_bytes(problem.b, tile.k),
        b_descriptors=[f"b{numbered(i)}" for i in range(count_of_bs(lowered))],
        sfb_descriptors=[f"sfb{numbered(i)}" for i in range(count_of_bs(lowered, scaled=True))],
        read_by=lambda walk: [acc for acc in AccumulatorText.all(lowered) if acc.used(walk)],
        accumulators=SlotText.all(lowered),
        mma_work=mma_work(lowered),
        acc_width="ACC_COLUMNS" if slots > 1 else "TILE_N",
        conversion=converters_text(lowered),
        places=places_text(lowered, epilogue.uses, factors_by_batch(lowered)),
        m0=of_group(lowered, f"{'(tile_m * CLUSTER_M + cta_m)' if cluster.m > 1 else 'tile_m'} * {tile.cta_m}"),
        n0=n0,
        epilogue_n0=f"(tile_n * CLUSTER_N + cta_n) * {width}" if cluster.n > 1 else f"tile_n * {width}",
        group=lowered.epilogue.group,
        half_places=halves_text(lowered),
        overlapped=overlapped,
        half_atom_columns=list(dict.fromkeys(half_atom_columns(lowered, "n0" if halves else n0).values())),
        mma_n0=n0 if halves else None,
        commit_empty=_commit_empty(lowered),
        commit_acc=_commit_acc(lowered),
        maybe_no_k=lowered.promotion is None and not several and (not isinstance(problem.k, int) or problem.k == 0),
        zero_columns=engine.tmem.acc_stride + tile.n,
        release=release_text(lowered, epilogue),
        promoted=factors_text(lowered),
        split=split_text(lowered, "thread", "warp == 0", "rank"),
    )


def functions(lowered: LoweredKernel) -> list[Function]:
    """What converter warps call, and what finds the factors of partial sums."""
    return [*converter_functions(lowered), *factor_functions(lowered)]


def _sync(lowered: LoweredKernel) -> str:
    if lowered.cluster.size == 1:
        return "prims.barrier_cta_sync()"
    return "prims.barrier_cluster_arrive()\n    prims.barrier_cluster_wait()"


def _commit_empty(lowered: LoweredKernel) -> list[str]:
    """The mask of the CTAs whose loads a stage held: all that share rows or columns with this one (or this pair)."""
    if lowered.cluster.size == 1:
        return []
    mask = union_text(lowered.rings.empty_masks, lowered.cluster, lowered.engine_as(Tcgen05).mma.cta_group)
    return [f"multicast_mask={mask}"]


def _commit_acc(lowered: LoweredKernel) -> list[str]:
    """The mask of the CTAs that have rows of a tile: where a pair makes it, both."""
    if lowered.engine_as(Tcgen05).mma.cta_group == 1:
        return []
    return [f"multicast_mask={mask_text(lowered.rings.acc_full_masks, lowered.cluster, 'rank')}"]
