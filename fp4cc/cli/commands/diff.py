"""`fp4cc diff`: what an edit of a spec changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fp4cc.cli.failures import Status
from fp4cc.cli.options import json_option, print_json

if TYPE_CHECKING:
    from fp4cc.diff import Change, KernelChanges
    from fp4cc.ir.kernel import Kernel
    from fp4cc.source import Span

_EPILOG = """\b
Examples:
  fp4cc diff old.fp4 new.fp4
  git show HEAD:gemm.fp4 | fp4cc diff - gemm.fp4
  fp4cc diff old.fp4 new.fp4 --exit-code --ignore schedule

\b
  interface  what a caller passes and gets: arguments, types, axes, dims, conditions, defaults
  numerics   the numbers that come out for the same numbers that go in
  layout     where the bytes of quantized tensors lie
  schedule   how the kernel runs, and nothing of what it computes

\b
Exit status: 0, whatever differs; with --exit-code 1 if something does that is not ignored;
1 if a spec is wrong.
"""


@click.command(epilog=_EPILOG)
@click.argument("before", type=click.Path(exists=True, dir_okay=False, allow_dash=True, readable=True), metavar="A")
@click.argument("after", type=click.Path(exists=True, dir_okay=False, allow_dash=True, readable=True), metavar="B")
@click.option("--kernel", metavar="NAME", help="Compare this kernel only.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if something differs, as git diff does.")
@click.option(
    "--ignore",
    type=click.Choice(["interface", "numerics", "layout", "schedule"]),
    multiple=True,
    help="Do not show or count this. May be repeated.",
)
@json_option
def command(
    before: str, after: str, kernel: str | None, exit_code: bool, ignore: tuple[str, ...], as_json: bool
) -> int:
    """Say what changes from spec A to spec B: numerics, layout, interface, or only the schedule.

    Kernels are compared as the compiler understands them. Comments, names of locals, the order of statements, of
    arguments and of the operands of a sum are nothing of it, and a function may be written out.
    """
    from fp4cc.diff import ASPECTS, KernelChanges, compare

    if before == after == "-":
        raise click.UsageError("only one of the two can be standard input")
    found = [
        KernelChanges(k.before, k.after, tuple(c for c in k.changes if c.aspect not in ignore))
        for k in compare(_kernels(before, kernel), _kernels(after, kernel))
    ]
    changed = {aspect for k in found for aspect in k.aspects}
    aspects = [aspect for aspect in ASPECTS if aspect in changed]
    if as_json:
        print_json({"ok": True, "same": not aspects, "changes": aspects, "kernels": [_json(k) for k in found]})
    else:
        for one in found:
            _print(one)
    return int(Status.WRONG) if exit_code and aspects else int(Status.FINE)


def _kernels(spec: str, name: str | None) -> tuple[Kernel, ...]:
    from fp4cc.driver.request import Request
    from fp4cc.driver.spec import spec_at
    from fp4cc.driver.stages import typed_kernels

    return typed_kernels(Request(spec_at(spec), kernel=name))[0]


def _print(found: KernelChanges) -> None:
    from fp4cc.diff import ASPECTS

    match found.aspects:
        case ():
            verdict = "the same kernel"
        case ("schedule",):
            verdict = "only the schedule differs"
        case (only,):
            verdict = f"{only} differs"
        case several:
            verdict = f"{', '.join(several[:-1])} and {several[-1]} differ"
    click.echo(f"{found.name}: {verdict}")
    for aspect in ASPECTS:
        for change in found.changes:
            if change.aspect == aspect:
                click.echo(f"  {aspect}: {change.what}{_elsewhere(change)}")
                for sign, span in (("-", change.before), ("+", change.after)):
                    if span is not None:
                        click.echo(f"    {sign} {_quoted(span)}")


def _elsewhere(change: Change) -> str:
    """A remark where the quoted lines are the same."""
    if change.before is None or change.after is None or _line(change.before) != _line(change.after):
        return ""
    return " (by something that this line uses)"


def _line(span: Span) -> str:
    return span.source.line_text(span.source.line_column(span.start)[0]).strip()


def _quoted(span: Span) -> str:
    line, _ = span.source.line_column(span.start)
    return f"{span.source.name}:{line}: {_line(span)}"


def _json(found: KernelChanges) -> dict[str, object]:
    return {
        "before": found.before,
        "after": found.after,
        "changes": list(found.aspects),
        "details": [_change_json(c) for c in found.changes],
    }


def _change_json(change: Change) -> dict[str, object]:
    places = {"before": change.before, "after": change.after}
    return {"aspect": change.aspect, "what": change.what, **{k: _place(span) for k, span in places.items()}}


def _place(span: Span | None) -> dict[str, object] | None:
    if span is None:
        return None
    line, column = span.source.line_column(span.start)
    return {"file": span.source.name, "line": line, "column": column, "text": _line(span)}
