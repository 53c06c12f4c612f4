"""Layouts: from a block of fields to a `ScaleLayout` that is proved to be a bijection."""

from __future__ import annotations

from fp4cc.diagnostics import Collector, did_you_mean, error
from fp4cc.frontend import ast
from fp4cc.sema.fields import given_once
from fp4num import LayoutError, ScaleLayout

_COORDINATES = ("row", "k", "batch")
_LARGEST_ATOM = 1 << 20
_FIELDS = {ast.CoordsField: "coords", ast.AtomField: "atom", ast.OrderField: "order", ast.PadField: "pad"}


def check_layout(node: ast.Layout, collector: Collector) -> ScaleLayout | None:
    """The layout, proved; None after reporting why there is none."""
    fields = _fields(node, collector)
    if fields is None:
        return None
    before = len(collector)
    coords = fields.get("coords")
    atom = fields.get("atom")
    order = fields.get("order")
    pad = fields.get("pad")
    if not isinstance(coords, ast.CoordsField) or not isinstance(atom, ast.AtomField):
        return None
    extents = _coords(coords, collector)
    names = _order(order, collector) if isinstance(order, ast.OrderField) else ("k", "row", "batch")
    fill = _pad(pad, collector) if isinstance(pad, ast.PadField) else 0
    _atom(atom, collector)
    if len(collector) > before:
        return None
    try:
        layout = ScaleLayout(node.name.text, extents, atom.shape.tree, atom.stride.tree, names, fill)
    except LayoutError as problem:
        text = str(problem).removeprefix(f"layout {node.name.text}: ")
        collector.report(
            error(
                "FP3005",
                f"the atom of `{node.name.text}` does not fit its coordinates",
                atom.span,
                text,
                also=[(coords.span, "the coordinates")],
                notes=["mode i of the atom belongs to coordinate i, and its sizes multiply to that extent"],
            )
        )
        return None
    return layout if _proved(layout, atom, collector) else None


def _proved(layout: ScaleLayout, atom: ast.AtomField, collector: Collector) -> bool:
    try:
        layout.prove()
    except LayoutError as problem:
        text = str(problem).removeprefix(f"layout {layout.name}: ")
        if problem.second is not None:
            title = f"`{layout.name}` puts two scales in one place"
        elif problem.first is not None:
            title = f"`{layout.name}` puts a scale outside its atom"
        else:
            title = f"`{layout.name}` cannot be proved"
        collector.report(
            error(
                "FP3004",
                title,
                atom.span,
                text,
                notes=[
                    "a layout is a bijection: sorted by stride, the first stride is 1 and each next one is the "
                    "extent times the stride before it"
                ],
                help="the strides of the modes, sorted, must be " + _right_strides(layout),
            )
        )
        return False
    return True


def _right_strides(layout: ScaleLayout) -> str:
    """Strides that would do, keeping the modes in the order of the strides that were written."""
    leaves = [m for name, _ in layout.coords for m in layout.modes(name) if m[0] > 1]
    reach = 1
    parts: list[str] = []
    for extent, _ in sorted(leaves, key=lambda m: m[1]):
        parts.append(f"{extent}:{reach}")
        reach *= extent
    return ", ".join(parts) + " (extent:stride)" if parts else "0"


def _fields(node: ast.Layout, collector: Collector) -> dict[str, ast.LayoutField] | None:
    found = given_once(node.fields, _FIELDS, collector)
    if any(isinstance(field, ast.Broken) for field in node.fields):
        return None
    for name, shape in (("coords", "coords row : 128, k : 4"), ("atom", "atom ((32, 4), 4) : ((16, 4), 1)")):
        if name not in found:
            collector.report(
                error(
                    "FP3001",
                    f"the layout `{node.name.text}` has no `{name}`",
                    node.name.span,
                    f"no `{name}`",
                    help=f"add a field such as `{shape}`",
                )
            )
    return found


def _coords(field: ast.CoordsField, collector: Collector) -> tuple[tuple[str, int], ...]:
    out: dict[str, int] = {}
    for coord in field.coords:
        name, extent = coord.name.text, coord.extent.value
        if name not in _COORDINATES:
            collector.report(
                error(
                    "FP3006",
                    f"no coordinate is called `{name}`",
                    coord.name.span,
                    "unknown coordinate",
                    help=(did_you_mean(name, _COORDINATES), "coordinates are `row`, `k` and `batch`"),
                )
            )
        elif name in out:
            collector.report(error("FP3006", f"the coordinate `{name}` occurs twice", coord.name.span, "again"))
        if not isinstance(extent, int) or not 1 <= extent <= _LARGEST_ATOM:
            collector.report(
                error(
                    "FP3007",
                    f"the extent of `{name}` is a whole number from 1 to {_LARGEST_ATOM}",
                    coord.extent.span,
                    "out of range",
                )
            )
        else:
            out[name] = extent
    return tuple(out.items())


def _order(field: ast.OrderField, collector: Collector) -> tuple[str, ...]:
    names = tuple(n.text for n in field.names)
    if sorted(names) != sorted(_COORDINATES):
        collector.report(
            error(
                "FP3006",
                "`order` names `row`, `k` and `batch` once each",
                field.span,
                "nearest atom first",
                help="write `order k, row, batch`",
            )
        )
    return names


def _pad(field: ast.PadField, collector: Collector) -> int:
    value = field.value.value
    if not isinstance(value, int) or not 0 <= value <= 255:
        collector.report(error("FP3007", "`pad` is a byte", field.value.span, "not from 0 to 255"))
        return 0
    return value


def _atom(field: ast.AtomField, collector: Collector) -> None:
    size = _product(field.shape.tree)
    if not 1 <= size <= _LARGEST_ATOM:
        collector.report(
            error(
                "FP3007",
                "the atom's size is out of range",
                field.shape.span,
                "a shape is made of numbers from 1 on" if size < 1 else "too many elements",
                help=f"an atom has 1 to {_LARGEST_ATOM} elements",
            )
        )


def _product(tree: ast.Tree) -> int:
    if isinstance(tree, int):
        return tree
    size = 1
    for part in tree:
        size *= _product(part)
    return size
