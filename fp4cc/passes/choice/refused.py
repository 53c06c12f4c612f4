"""What a schedule block asks for and an engine for Hopper does not have, with the reason."""

from __future__ import annotations

from collections.abc import Collection

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Attr, Schedule

Values = tuple[Attr, ...]

#: The fields that the engines of sm_90a leave to the compiler: what may be written all the same, and why no more.
_HOPPER: dict[str, tuple[tuple[Values, ...], str]] = {
    "cta_group": (
        ((1,),),
        "a pair of CTAs makes one MMA with tcgen05, on sm_100a; wgmma is made by the warps of one CTA",
    ),
    "accumulators": (
        (("auto",), (1,)),
        "sums stay in the registers of the threads that make them, where there is room for those of one tile",
    ),
    "swap_ab": (
        ((False,), ("auto",)),
        "which operand is the instruction's A follows from the operands: weights that are converted in registers are A "
        "already, and with at most 16 rows the weights are read as A",
    ),
    "reduce": (
        (("ordered",),),
        "with weights in registers and with few rows, parts of K meet in their order; atomics add them where both "
        "operands cross shared memory",
    ),
    "store": (
        (("auto",),),
        "how it stores an output follows from what its threads have in registers, and from the output's type, layout "
        "and alignment (`explain` says how); where both operands cross shared memory there is a choice",
    ),
}


#: Why a product over rows in groups has no cluster.
ALONE = "a CTA puts zeros in the place of a neighbor's rows in its own stages, which it shares with no other"


def alone(schedule: Schedule) -> list[Diagnostic]:
    """The refusals of a cluster and of a pair of CTAs, where a product contracts rows in groups."""
    found: list[Diagnostic] = []
    for field, code, fine in (("cluster", "FP5011", (1, 1)), ("cta_group", "FP5013", (1,))):
        if schedule.fields.get(field, fine) != fine:
            found.append(
                error(code, "a product over rows in groups is made by single CTAs", schedule.field_spans[field],
                      "asked for here", notes=[ALONE], help=f"write `{field} {' x '.join(map(str, fine))}`"),
            )  # fmt: skip
    return found


def is_harmless(field: str, values: Values) -> bool:
    """Whether a field asks an engine of sm_90a for what it does anyway."""
    return field in _HOPPER and values in _HOPPER[field][0]


def left_to_hopper(schedule: Schedule, own: Collection[str]) -> list[Diagnostic]:
    """The refusals (FP5013) of fields that are not an engine's `own`, but for those that change nothing."""
    found: list[Diagnostic] = []
    for field, values in schedule.fields.items():
        if field in own or is_harmless(field, values):
            continue
        fine, why = _HOPPER.get(field, ((), "no engine that multiplies on sm_90a has anything to choose there"))
        words = " or ".join(["leave it out", *(f"write `{field} {_word(value[0])}`" for value in fine)])
        found.append(
            error("FP5013", f"`{field}` cannot be chosen on sm_90a yet", schedule.field_spans[field],
                  "asked for here", notes=[why], help=words),
        )  # fmt: skip
    return found


def _word(value: Attr) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
