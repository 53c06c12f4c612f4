"""Schedules: which kernel, which target, when, and fields with values of the right kind.

Whether a target can do what a schedule asks is judged later, by the passes of that target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fp4cc.diagnostics import Collector, did_you_mean, error, listed
from fp4cc.frontend import ast
from fp4cc.ir.kernel import Attr, Expr, Schedule
from fp4cc.sema.sizes import SizeReader, read_dims
from fp4cc.source import Span

#: Targets a schedule can be for. Which of them can be compiled for is the business of `fp4cc.targets`.
TARGETS = ("sm_100a", "sm_103a", "sm_120a", "sm_90a")


@dataclass(frozen=True, slots=True)
class Field:
    """What a field takes: `extents` numbers with `x` between (0: none), a number, or one of some words."""

    shape: str
    extents: int = 0
    number: bool = False
    words: tuple[str, ...] = ()


_BOOLS = {"yes": True, "no": False}
_YES_NO = tuple(_BOOLS)

#: The fields of a schedule, and how each is written.
FIELDS: Mapping[str, Field] = {
    "tile": Field("tile 128 x 256 x 256", extents=3),
    "cluster": Field("cluster 2 x 1", extents=2),
    "cta_group": Field("cta_group 2", number=True),
    "stages": Field("stages auto", number=True, words=("auto",)),
    "accumulators": Field("accumulators auto", number=True, words=("auto",)),
    "split_k": Field("split_k 4", number=True, words=("auto",)),
    "convert": Field("convert once", words=("once", "tile")),
    "swap_ab": Field("swap_ab yes", words=(*_YES_NO, "auto")),
    "raster": Field("raster along_n", number=True, words=("auto", "along_m", "along_n")),
    "reduce": Field("reduce ordered", words=("ordered", "atomic")),
    "store": Field("store tma", words=("auto", "tma", "direct")),
    "overlap": Field("overlap late", words=("no", "early", "late")),
}


def check_schedule(
    node: ast.Schedule,
    kernels: Mapping[str, ast.Kernel],
    known: frozenset[str],
    collector: Collector,
    uses: Sequence[tuple[ast.Use, Mapping[str, ast.Kernel]]] = (),
) -> Schedule | None:
    """The schedule, its values typed; None after reporting why there is none.

    `known` are names of kernels whose head did not parse: a schedule for one of them is not judged. `uses` are the
    places where its file is used, with the kernels there.
    """
    before = len(collector)
    if node.target.text not in TARGETS:
        collector.report(
            error(
                "FP5002",
                f"no target is called `{node.target.text}`",
                node.target.span,
                "unknown target",
                help=did_you_mean(node.target.text, TARGETS) or f"targets are {listed(TARGETS, 'and')}",
            )
        )
    kernel = kernels.get(node.kernel.text)
    if kernel is None and node.kernel.text not in known:
        collector.report(
            error(
                "FP5001",
                f"no kernel is called `{node.kernel.text}`",
                node.kernel.span,
                "unknown kernel",
                also=[(use.path.span, "its file is used here, where no kernel is called so either") for use, _ in uses],
                help=(
                    did_you_mean(node.kernel.text, [*kernels, *(name for _, others in uses for name in others)]),
                    "a schedule stands in the file of its kernel, or in one that this file uses",
                ),
            )
        )
    when = None
    if kernel is not None and node.when is not None:
        dims = read_dims(kernel, Collector())[1]
        when = SizeReader(dims, collector, "a condition").condition(node.when)
    fields: dict[str, tuple[Attr, ...]] = {}
    spans: dict[str, Span] = {}
    for field in node.fields:
        if isinstance(field, ast.ScheduleField):
            _read_field(field, fields, spans, collector)
    broken = any(isinstance(f, ast.Broken) for f in node.fields)
    if kernel is None or broken or len(collector) > before:
        return None
    return Schedule(node.target.text, when, fields, node.span, spans)


def _read_field(
    field: ast.ScheduleField, fields: dict[str, tuple[Attr, ...]], spans: dict[str, Span], collector: Collector
) -> None:
    name = field.name.text
    spec = FIELDS.get(name)
    if spec is None:
        collector.report(
            error(
                "FP5003",
                f"a schedule has no field `{name}`",
                field.name.span,
                "unknown field",
                help=did_you_mean(name, FIELDS) or f"its fields are {listed(FIELDS, 'and')}",
            )
        )
        return
    if name in spans:
        collector.report(
            error(
                "FP5005",
                f"`{name}` is given twice",
                field.span,
                "given again",
                also=[(spans[name], "first given here")],
                help="keep one of them",
            )
        )
        return
    spans[name] = field.span
    value = _value(field, spec)
    if value is None:
        place = field.values[0].span.to(field.values[-1].span) if field.values else field.span
        kinds: list[str] = []
        if spec.extents:
            kinds.append(f"{spec.extents} extents from 1 on")
        if spec.number:
            kinds.append("a whole number from 1 on")
        kinds.extend(f"`{w}`" for w in spec.words)
        collector.report(
            error(
                "FP5004",
                f"`{name}` has the wrong value",
                place,
                f"not {' or '.join(kinds)}",
                help=f"write it like `{spec.shape}`",
            )
        )
        return
    fields[name] = value


def _value(field: ast.ScheduleField, spec: Field) -> tuple[Attr, ...] | None:
    if len(field.values) != 1:
        return None
    value = field.values[0]
    if isinstance(value, ast.Extents):
        values = tuple(v for v in value.values if v is not None and v >= 1)
        return values if len(values) == len(value.values) == spec.extents else None
    if isinstance(value, ast.Number):
        whole = isinstance(value.value, int) and value.value >= 1
        return (value.value,) if spec.number and whole else None
    if value.text not in spec.words:
        return None
    return (_BOOLS.get(value.text, value.text),)


def refuse_unreachable(schedules: Sequence[Schedule], collector: Collector) -> None:
    """The first schedule that matches wins: one after another with no condition, or the same one, is never chosen.

    Of the blocks of a used file that all come after one of the spec the first is reported.
    """
    before: dict[tuple[str, Expr | None], Schedule] = {}
    reported: set[tuple[str, str]] = set()
    for schedule in schedules:
        always = before.get((schedule.target, None))
        earlier = always or before.get((schedule.target, schedule.when))
        if earlier is None:
            before[schedule.target, schedule.when] = schedule
            continue
        own, other = schedule.span.source.name, earlier.span.source.name
        if own != other:
            if (schedule.target, own) in reported:
                continue
            reported.add((schedule.target, own))
        collector.report(
            error(
                "FP5006",
                "this schedule can never be chosen",
                schedule.span,
                "an earlier one always matches" if earlier is always else "an earlier one has the same condition",
                also=[(earlier.span, "it has no `when`" if earlier is always else "the earlier one")],
                notes=[] if own == other else ["blocks of the spec itself come before those of the files it uses"],
                help="put the one without `when` last" if earlier is always and own == other else "remove one of them",
            )
        )
