"""Random scale layouts for tests: any atom that is a bijection, any order of atoms, any padding."""

from __future__ import annotations

from random import Random

from fp4num import ScaleLayout
from fp4num.layouts import COORDINATES


def random_layout(rng: Random, name: str = "random") -> ScaleLayout:
    """Modes of each coordinate in a random order of strides, each as long as all faster ones together."""
    shapes: dict[str, list[int]] = {}
    for coordinate, choices in zip(COORDINATES, ([1, 1, 2], [1, 1, 2, 3, 4, 8], [1, 1, 2, 3, 4, 8, 16]), strict=True):
        modes = [rng.choice(choices) for _ in range(rng.choice([1, 1, 2]))]
        shapes[coordinate] = modes
    places = [(coordinate, i) for coordinate in COORDINATES for i in range(len(shapes[coordinate]))]
    rng.shuffle(places)
    strides = {coordinate: [0] * len(shapes[coordinate]) for coordinate in COORDINATES}
    reach = 1
    for coordinate, i in places:
        strides[coordinate][i] = reach
        reach *= shapes[coordinate][i]
    extents = {coordinate: _product(shapes[coordinate]) for coordinate in COORDINATES}
    order = list(COORDINATES)
    rng.shuffle(order)
    layout = ScaleLayout(
        name,
        tuple(extents.items()),
        tuple(tuple(shapes[coordinate]) for coordinate in COORDINATES),
        tuple(tuple(strides[coordinate]) for coordinate in COORDINATES),
        tuple(order),
        rng.choice([0, 1, 127, 255]),
    )
    layout.prove()
    return layout


def declared(layout: ScaleLayout) -> str:
    """A layout as an item of a spec."""
    coords = ", ".join(f"{name} : {extent}" for name, extent in layout.coords)
    atom = f"{_tree(layout.atom_shape)} : {_tree(layout.atom_stride)}"
    order = ", ".join(layout.order)
    return f"layout {layout.name} {{ coords {coords}; atom {atom}; order {order}; pad {layout.pad} }}\n"


def _tree(tree: object) -> str:
    return f"({', '.join(map(_tree, tree))})" if isinstance(tree, tuple) else str(tree)


def _product(numbers: list[int]) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product
