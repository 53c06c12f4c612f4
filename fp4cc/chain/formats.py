"""Where the types of the two ends of a link differ, as one diagnostic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fp4cc.chain.links import Link
from fp4cc.diagnostics import Diagnostic, error
from fp4num import BlockFormat, ScaleLayout
from fp4num.layouts import COORDINATES


def type_differences(link: Link) -> Iterator[Diagnostic]:
    """Differences of the two element types or formats; those of axes and sizes are not looked at."""
    ours, theirs = link.producer.arg.format, link.consumer.arg.format
    if ours is None or theirs is None:
        a, b = link.producer.arg.dtype, link.consumer.arg.dtype
        if a != b:
            yield _difference(link, "FP3501", "the elements differ", _name(a), _name(b), help=_help(link))
        return
    differences = list(_format_differences(link, ours, theirs))
    if differences:  # one mistake, the wrong format, is one error
        first, *others = differences
        yield replace(first, notes=(*first.notes, *(_remark(link, other) for other in others)))


def _remark(link: Link, difference: Diagnostic) -> str:
    """A further difference as a note of the first."""
    title = difference.title.partition(": ")[2]
    theirs, ours = (label.text for label in difference.labels)
    notes = "".join(f"; {note}" for note in difference.notes)
    return f"{title} too: the producer {ours.replace(': ', ' ', 1)}, the consumer {theirs.replace(': ', ' ', 1)}{notes}"


def remarks(link: Link) -> tuple[str, ...]:
    """What is not the same and does not matter: the bytes mean the same."""
    ours, theirs = link.producer.arg.format, link.consumer.arg.format
    if ours is None or theirs is None or ours == theirs:
        return ()
    said: list[str] = []
    if ours.name != theirs.name:
        said.append(f"called {ours.name} by the producer and {theirs.name} by the consumer: the same bytes")
    if ours.quantizer != theirs.quantizer:
        said.append(
            f"quantized by {ours.quantizer}; the consumer's {theirs.quantizer} has no say in what the bytes mean"
        )
    return tuple(said)


def _format_differences(link: Link, ours: BlockFormat, theirs: BlockFormat) -> Iterator[Diagnostic]:
    help = _help(link)
    if (ours.element, ours.pack) != (theirs.element, theirs.pack):
        yield _difference(link, "FP3501", "the elements differ", _element(ours), _element(theirs), help=help)
    if ours.scale != theirs.scale:
        a, b = (f"scales are {f.scale}" if f.scale else "no scales" for f in (ours, theirs))
        yield _difference(link, "FP3502", "the scale types differ", a, b, help=help)
    if ours.block != theirs.block:
        a, b = (f"one scale for {_extents(f.block)}" for f in (ours, theirs))
        yield _difference(link, "FP3503", "the scale blocks differ", a, b, help=help)
    if ours.stored != theirs.stored and (_repeats(ours) or _repeats(theirs)):
        a, b = (f"a scale is stored for {_extents(f.stored)}" for f in (ours, theirs))
        note = "scales that are stored repeated fill other buffers than those stored once"
        yield _difference(link, "FP3504", "the stored blocks differ", a, b, notes=[note], help=help)
    if not same_places(ours.layout, theirs.layout):
        a, b = (f"scales lie in {f.layout.name}" for f in (ours, theirs))
        notes = _layout_notes(ours.layout, theirs.layout)
        yield _difference(link, "FP3505", "the scale layouts differ", a, b, notes=notes, help=help)
    if (ours.tensor_scale, ours.each_batch) != (theirs.tensor_scale, theirs.each_batch):
        a, b = (
            f"the tensor scale{' of each batch' * f.each_batch} {f.tensor_scale}"
            if f.tensor_scale
            else "no tensor scale"
            for f in (ours, theirs)
        )
        notes = []
        if ours.tensor_scale and theirs.tensor_scale and ours.tensor_scale != theirs.tensor_scale:
            notes = ["value = element * scale * tensor_scale where it multiplies, and / tensor_scale where it divides"]
        yield _difference(link, "FP3506", "the tensor scales differ", a, b, notes=notes, help=help)


def same_places(ours: ScaleLayout, theirs: ScaleLayout) -> bool:
    """Whether two layouts put every scale of every tensor in the same place, and fill the rest alike."""
    extents = [[layout.extent(c) for c in COORDINATES] for layout in (ours, theirs)]
    if extents[0] != extents[1] or ours.pad != theirs.pad or ours.order != theirs.order:
        return False
    return bool((ours.offsets(*extents[0]) == theirs.offsets(*extents[0])).all())


def _difference(
    link: Link, code: str, title: str, ours: str, theirs: str, *, notes: list[str] | None = None, help: str
) -> Diagnostic:
    return error(
        code,
        f"`{link.producer}` cannot be `{link.consumer}`: {title}",
        link.consumer.arg.span,
        f"reads: {theirs}",
        also=[(link.producer.arg.span, f"writes: {ours}")],
        notes=notes or [],
        help=help,
    )


def _help(link: Link) -> str:
    """The change on one side that makes the types equal."""
    producer, consumer = link.producer, link.consumer
    ours, theirs = producer.arg.dtype, consumer.arg.dtype
    if _name(ours) == _name(theirs):
        return (
            f"the two files define `{_name(ours)}` each in its own way: define it in one file, and `use` that in both"
        )
    read = consumer.type_text.replace(_name(theirs), _name(ours), 1)
    written = producer.type_text.replace(_name(ours), _name(theirs), 1)
    return (
        f"declare `{consumer.arg.name} : {read}` in `{consumer.label}`, "
        f"or `{producer.arg.name} : {written}` in `{producer.label}`"
    )


def _layout_notes(ours: ScaleLayout, theirs: ScaleLayout) -> list[str]:
    """The first scale of two batches of two atoms each way that the layouts put in different places."""
    batches, rows, columns = (2 * max(layout.extent(c) for layout in (ours, theirs)) for c in COORDINATES)
    a, b = (layout.offsets(batches, rows, columns) for layout in (ours, theirs))
    if (a == b).all():
        return ["their padding differs"]
    batch, row, k = (int(i) for i in np.argwhere(a != b)[0])
    place = f"row {row}, block {k}" + (f" of batch {batch}" if batch else "")
    return [
        f"of {rows} x {columns} scales the one of {place} is number {a[batch, row, k]} in {ours.name} "
        f"and number {b[batch, row, k]} in {theirs.name}"
    ]


def _repeats(fmt: BlockFormat) -> bool:
    return fmt.block != fmt.stored


def _extents(block: tuple[object, object]) -> str:
    return f"{block[0]} x {block[1]}"


def _element(fmt: BlockFormat) -> str:
    return fmt.element if fmt.pack is None else f"{fmt.element} pack {fmt.pack}"


def _name(dtype: str | BlockFormat) -> str:
    return dtype if isinstance(dtype, str) else dtype.name
