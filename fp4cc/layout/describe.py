"""Formats and layouts in words."""

from __future__ import annotations

from fp4cc.layout.padding import Padding
from fp4num import BlockFormat, LayoutError, ScaleLayout, cute

Row = tuple[str, str]


def describe_format(fmt: BlockFormat) -> list[Row]:
    """What a block format means, as (property, text)."""
    bits = fmt.bits
    packing = {
        4: "two in a byte, the even element in the low nibble",
        6: "four in three bytes, little-endian bit order",
        8: "one in a byte",
    }[bits]
    rows = [("element", f"{fmt.element}, {bits} bits, {packing}")]
    if fmt.scale is None:
        rows.append(("scale", "none"))
    else:
        block = " x ".join(map(str, fmt.block))
        stored = "" if fmt.stored == fmt.block else f", stored once for each {' x '.join(map(str, fmt.stored))}"
        rows.append(("scale", f"{fmt.scale} per {block}{stored}"))
    value = "element" if fmt.scale is None else "element * scale"
    if fmt.tensor_scale == "multiplies":
        value += " * tensor_scale"
    elif fmt.tensor_scale == "divides":
        value += " / tensor_scale"
    if fmt.each_batch:
        value += ", one tensor scale for each batch"
    rows.append(("value", value))
    rows.append(("quantizer", fmt.quantizer))
    return rows


def describe_layout(layout: ScaleLayout) -> list[Row]:
    """Where scales lie, as (property, text); the last rows are the proof, or what refutes it."""
    coords = ", ".join(f"{name} : {extent}" for name, extent in layout.coords)
    rows = [
        ("coords", f"{coords}   (stored scale blocks in one atom)"),
        ("atom", f"{cute.text(layout.atom_shape)} : {cute.text(layout.atom_stride)}   ({layout.atom_size} scales)"),
        ("order", f"{', '.join(layout.order)}   (where the next atom lies, nearest first)"),
        ("pad", str(layout.pad)),
        ("offset", offset_formula(layout)),
    ]
    try:
        lines = layout.prove().lines()
    except LayoutError as error:
        lines = [f"refuted: {error}"]
    rows.extend(("proof" if i == 0 else "", line) for i, line in enumerate(lines))
    return rows


def offset_formula(layout: ScaleLayout) -> str:
    """The offset of the scale of block (batch, row, k) as an expression; nX is the number of atoms along X."""
    counts = {"batch": "nB", "row": "nR", "k": "nK"}
    terms: list[str] = []
    step: list[str] = []
    for name in layout.order:
        extent = layout.extent(name)
        index = name if extent == 1 else f"{name}/{extent}"
        factor = [*step, *([str(layout.atom_size)] if layout.atom_size > 1 else [])]
        terms.append("*".join([index if not factor or extent == 1 else f"({index})", *factor]))
        step.append(counts[name])
    terms.reverse()
    for name, extent in layout.coords:
        terms.extend(_mode_terms(name, extent, layout.modes(name)))
    return " + ".join(terms)


def _mode_terms(name: str, extent: int, modes: tuple[tuple[int, int], ...]) -> list[str]:
    terms: list[str] = []
    below = 1
    for size, stride in modes:
        if size > 1:
            digit = name if below == 1 else f"{name}/{below}"
            if below * size < extent or below == 1:
                digit = f"{digit}%{size}"
            else:
                digit = f"({name}%{extent})/{below}"
            terms.append(f"({digit})" + (f"*{stride}" if stride != 1 else ""))
        below *= size
    return terms


def describe_tensor(fmt: BlockFormat, shape: tuple[int, ...]) -> list[Row]:
    """The buffers of a tensor of that format and shape. Raises fp4num.DataError for a shape the format cannot have."""
    codes = fmt.codes_shape(shape)
    count = 1
    for n in codes:
        count *= n
    rows = [("codes", f"uint8 {list(codes)}, {count} bytes")]
    if fmt.scale is not None:
        grid = fmt.scale_grid(shape)
        atoms = fmt.layout.atoms(*grid)
        size = fmt.layout.size(*grid)
        kind, width = ("float32", 4) if fmt.scale == "f32" else ("uint8", 1)
        rows.append(("scales", f"{kind} [{size}], {size * width} bytes"))
        rows.append(("scale grid", f"{grid.batches} x {grid.rows} x {grid.columns} (batch, row, k)"))
        rows.append(("atoms", f"nB = {atoms['batch']}, nR = {atoms['row']}, nK = {atoms['k']}"))
        padding = Padding.of(fmt, shape)
        rows.append(("padding", f"{padding.padding} scales"))
        rows.append(("", f"{padding.share:.0%} of the buffer" + (f": {padding.remark}" if padding.remark else "")))
    if fmt.tensor_scale is not None:
        lead = fmt.tensor_scale_shape(shape)
        rows.append(("tensor_scale", f"float32 {list(lead)} on the device" if lead else "float32 scalar on the device"))
    return rows
