"""Formats: from a block of fields, perhaps on top of another format, to a `BlockFormat`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from fp4cc.diagnostics import Collector, did_you_mean, error, listed
from fp4cc.frontend import ast
from fp4cc.sema.fields import given_once
from fp4cc.source import Span
from fp4num import RULES, BlockFormat, FormatError, ScaleLayout
from fp4num.formats import BLOCK_ELEMENTS, SCALES, Block

_FIELDS = {
    ast.ElementField: "element",
    ast.ScaleField: "scale",
    ast.LayoutNameField: "layout",
    ast.TensorScaleField: "tensor_scale",
    ast.QuantizerField: "quantizer",
}
_NEEDED = {
    "element": "element e2m1 pack low_first",
    "scale": "scale e4m3 per 1 x 16",
    "layout": "layout blocked_128x4",
    "quantizer": "quantizer nvfp4_amax",
}
_PACKED = ("e2m1", "e3m2", "e2m3")


@dataclass(frozen=True, slots=True)
class FormatNames:
    """What a format's fields may name. A name that maps to None was defined wrongly: it is known, and not judged.

    `partial`: a used file could not be read, so an unknown name is not judged either.
    """

    layouts: Mapping[str, ScaleLayout | None]
    formats: Mapping[str, BlockFormat | None]
    partial: bool = False


def check_format(node: ast.Format, names: FormatNames, collector: Collector) -> BlockFormat | None:
    """The format; None after reporting why there is none. An extension that changes nothing is its base itself."""
    base: BlockFormat | None = None
    sound = not any(isinstance(f, ast.Broken) for f in node.fields)
    if node.base is not None:
        base = names.formats.get(node.base.text)
        sound = sound and base is not None
        if node.base.text not in names.formats and not names.partial:
            collector.report(
                error(
                    "FP2001",
                    f"no format is called `{node.base.text}`",
                    node.base.span,
                    "unknown format",
                    help=did_you_mean(node.base.text, names.formats),
                )
            )
    fields = given_once(node.fields, _FIELDS, collector)
    if base is not None and not fields and sound:
        return base
    if node.base is None:
        for name, shape in _NEEDED.items():
            if name not in fields and sound:
                collector.report(
                    error(
                        "FP3001",
                        f"the format `{node.name.text}` has no `{name}`",
                        node.name.span,
                        f"no `{name}`",
                        help=f"add a field such as `{shape}`",
                    )
                )
    made = _Fields(node, names, collector)
    for field in fields.values():
        made.read(field)
    if not sound or made.failed or (base is None and not _NEEDED.keys() <= fields.keys()):
        return None
    return made.build(base, fields)


class _Fields:
    """The properties that the fields of one format set."""

    def __init__(self, node: ast.Format, names: FormatNames, collector: Collector) -> None:
        self.node = node
        self.names = names
        self.collector = collector
        self.failed = False
        self.properties: dict[str, object] = {}

    def read(self, field: ast.FormatField) -> None:
        match field:
            case ast.ElementField():
                self._element(field)
            case ast.ScaleField():
                self._scale(field)
            case ast.LayoutNameField():
                if self.names.partial and field.layout.text not in self.names.layouts:
                    self.failed = True
                elif self._known(field.layout, self.names.layouts, "layout"):
                    self.properties["layout"] = self.names.layouts[field.layout.text]
                    self.failed |= self.properties["layout"] is None
            case ast.TensorScaleField():
                if self._known(field.element, ("f32",), "tensor scale type"):
                    self.properties["tensor_scale"] = field.sense.text
                    self.properties["each_batch"] = field.per is not None
                if field.per is not None:
                    self._known(field.per, ("batch",), "owner of tensor scales")
            case ast.QuantizerField():
                if self._known(field.quantizer, RULES, "quantizer"):
                    self.properties["quantizer"] = field.quantizer.text
            case ast.Broken():
                self.failed = True

    def build(self, base: BlockFormat | None, fields: Mapping[str, ast.FormatField]) -> BlockFormat | None:
        kept = {} if base is None else {name: getattr(base, name) for name in BlockFormat.__slots__}
        made = {"tensor_scale": None, "each_batch": False, **kept, **self.properties, "name": self.node.name.text}
        whole = self.node.name.span
        try:
            fmt = BlockFormat(**made)  # type: ignore[arg-type]  # each property was checked by its field
        except FormatError as problem:
            place = fields["scale"].span if "scale" in fields else whole
            self._problem("FP3009", problem, place, "these blocks do not make sense")
            return None
        try:
            RULES[fmt.quantizer].check(fmt)
        except FormatError as problem:
            place = fields["quantizer"].span if "quantizer" in fields else whole
            self._problem("FP3010", problem, place, f"`{fmt.quantizer}` cannot make this format")
            return None
        return fmt

    def _problem(self, code: str, problem: FormatError, place: Span, text: str) -> None:
        name = self.node.name.text
        self.collector.report(
            error(
                code,
                f"the format `{name}` contradicts itself",
                place,
                text,
                notes=[str(problem).removeprefix(f"format {name}: ")],
            )
        )

    def _known(self, name: ast.Ident, known: Mapping[str, object] | tuple[str, ...], what: str) -> bool:
        if name.text in known:
            return True
        self.failed = True
        self.collector.report(
            error(
                "FP3003",
                f"no {what} is called `{name.text}`",
                name.span,
                f"unknown {what}",
                help=(did_you_mean(name.text, known) if what in ("layout", "quantizer") else "")
                or f"there {'are' if len(known) > 1 else 'is'} {listed(known, 'and')}",
            )
        )
        return False

    def _element(self, field: ast.ElementField) -> None:
        if not self._known(field.element, BLOCK_ELEMENTS, "element"):
            return
        element = field.element.text
        packed = element in _PACKED
        if packed != (field.pack is not None) or (field.pack is not None and field.pack.text != "low_first"):
            self.failed = True
            place = field.span if field.pack is None else field.pack.span
            text = (
                "several of them share a byte: say which comes first" if packed else "it fills a byte: nothing to pack"
            )
            if packed and field.pack is not None:
                text = "the first element is in the low bits, in every producer we know"
            right = f"element {element} pack low_first" if packed else f"element {element}"
            self.collector.report(error("FP3010", f"wrong packing of {element}", place, text, help=f"write `{right}`"))
            return
        self.properties["element"] = element
        self.properties["pack"] = "low_first" if packed else None

    def _scale(self, field: ast.ScaleField) -> None:
        known = self._known(field.element, SCALES, "scale type")
        block = self._block(field.per)
        stored = block if field.stored is None else self._block(field.stored)
        if known and block is not None and stored is not None:
            self.properties.update(scale=field.element.text, block=block, stored=stored)

    def _block(self, extents: ast.Extents) -> Block | None:
        values = extents.values
        if len(values) != 2 or any(v is not None and not 1 <= v <= 1 << 20 for v in values):
            self.failed = True
            self.collector.report(
                error(
                    "FP3009",
                    "a block has rows and columns",
                    extents.span,
                    "two extents from 1 on, or `all`",
                    help="write `1 x 16`, `128 x 128` or `1 x all`",
                )
            )
            return None
        return cast("Block", tuple("all" if v is None else v for v in values))


def differences(a: BlockFormat, b: BlockFormat) -> tuple[str, ...]:
    """Where two formats differ, one line a property."""
    lines: list[str] = []
    for name in BlockFormat.__slots__:
        ours, theirs = getattr(a, name), getattr(b, name)
        if ours != theirs and name != "name":
            lines.append(f"{name}: {_shown(ours)} against {_shown(theirs)}")
    return tuple(lines)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " x ".join(str(v) for v in cast("tuple[object, ...]", value))
    return value.name if isinstance(value, ScaleLayout) else "none" if value is None else str(value)
