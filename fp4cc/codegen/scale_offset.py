"""Where a layout has a scale, as the text of a function: for kernels that write scales, and those that read them."""

from __future__ import annotations

from fp4num import ScaleLayout


def offset_function(name: str, layout: ScaleLayout, batched: bool) -> str:
    """The function `NAME_scale_offset([batch,] row, k, rows, blocks)`: elements before the scale of block k of a row.

    Coordinates count stored scales; `rows` and `blocks` are how many there are along two of them. A layout with further
    batches nearer than rows or blocks takes `batches` as well (`needs_batches`).
    """
    coordinates = [c for c in ("batch", "row", "k") if batched or c != "batch"]
    counts = {"row": "rows", "k": "blocks", "batch": "batches"}
    strides = [str(layout.atom_size)] if layout.atom_size > 1 else []
    body: list[str] = []
    parts: list[str] = []
    for coordinate in layout.order:
        if coordinate not in coordinates:
            continue
        extent = layout.extent(coordinate)
        stride = strides[0] if len(strides) == 1 else f"({' * '.join(strides)})"
        parts.append(f"Int64({divided(coordinate, extent)}){f' * {stride}' if strides else ''}")
        strides.append(f"atoms_{coordinate}")
        body.append(f"atoms_{coordinate} = {rounded_up(counts[coordinate], extent)}")
    atom = f"atom = {' + '.join(parts)}"
    inside = [term for c in coordinates for term in _inside(layout, c)]
    used = [line for line in body if line.split(" = ")[0] in atom]
    arguments = [*coordinates, "rows", "blocks", *(["batches"] if batched and needs_batches(layout) else [])]
    return "\n".join(
        [
            f"def {name}_scale_offset({', '.join(arguments)}):",
            f'    """Where layout {layout.name} has the scale of block k of a row."""',
            *(f"    {line}" for line in [*used, atom]),
            f"    return {' + '.join(['atom', *inside])}",
        ]
    )


def needs_batches(layout: ScaleLayout) -> bool:
    """Whether the place of a scale depends on the number of batches: they are not what lies farthest apart."""
    return layout.order[-1] != "batch"


def _inside(layout: ScaleLayout, coordinate: str) -> list[str]:
    """The offset inside the atom along a coordinate, a term a mode."""
    terms: list[str] = []
    below = 1
    for extent, stride in layout.modes(coordinate):
        if extent > 1 and stride:
            index = f"({remainder(divided(coordinate, below), extent)})"
            terms.append(f"{index} * {stride}" if stride != 1 else index)
        below *= extent
    return terms


def divided(text: str, divisor: int) -> str:
    """A number that is not negative, divided, as text: a shift where the divisor is a power of two."""
    if divisor == 1:
        return text
    return f"{text} >> {divisor.bit_length() - 1}" if divisor & (divisor - 1) == 0 else f"{text} // {divisor}"


def rounded_up(count: str, divisor: int) -> str:
    """A count divided and rounded up, as text."""
    return count if divisor == 1 else divided(f"({count} + {divisor - 1})", divisor)


def remainder(text: str, divisor: int) -> str:
    """Its remainder, as text."""
    return f"{text} & {divisor - 1}" if divisor & (divisor - 1) == 0 else f"({text}) % {divisor}"
