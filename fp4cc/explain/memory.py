"""The bytes of a call's tensors, beside those of as many numbers in bf16 and in FP8."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.explain.rows import Row
from fp4rt.work import Memory

_HEAD = ["tensor", "what", "numbers", "scales", "in all", "of bf16", "of FP8"]


def memory_table(found: Sequence[Memory]) -> tuple[list[list[str]], list[str]]:
    """Rows and header; the last row is all of it. "of bf16": the part of what bf16 numbers would take."""
    rows = [
        [one.name, one.kind, str(one.numbers), str(one.scales), str(one.total), *_ratios(one.total, one.bf16, one.fp8)]
        for one in found
    ]
    if len(found) > 1:
        numbers, scales = sum(one.numbers for one in found), sum(one.scales for one in found)
        ratios = _ratios(numbers + scales, sum(one.bf16 for one in found), sum(one.fp8 for one in found))
        rows.append(["all", "", str(numbers), str(scales), str(numbers + scales), *ratios])
    return rows, _HEAD


def memory_rows(found: Sequence[Memory]) -> list[Row]:
    """The same as lines of text."""
    rows, _ = memory_table(found)
    lines: list[Row] = []
    for name, kind, numbers, scales, total, bf16, fp8 in rows:
        bytes_ = f"{total} ({numbers} and {scales} of scales)" if scales != "0" else total
        lines.append((name, f"{f'{kind}, ' if kind else ''}{bytes_}: {bf16} of bf16, {fp8} of FP8"))
    return lines


def memory_json(found: Sequence[Memory]) -> list[dict[str, object]]:
    """The same for machines."""
    return [
        {
            "name": one.name,
            "kind": one.kind,
            "numbers": one.numbers,
            "scales": one.scales,
            "bytes": one.total,
            "bytes_in_bf16": one.bf16,
            "bytes_in_fp8": one.fp8,
        }
        for one in found
    ]


def _ratios(total: int, bf16: int, fp8: int) -> tuple[str, str]:
    return _ratio(total, bf16), _ratio(total, fp8)


def _ratio(total: int, other: int) -> str:
    return f"{100 * total / other:.1f} %" if other else "-"
