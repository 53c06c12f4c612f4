"""Element formats: the bit layout and range of every number type that a tensor or a scale may have.

Sources: OCP Microscaling Formats (MX) v1.0, section 5.3; OCP 8-bit floating point (OFP8) v1.0; PTX ISA 5.2.3,
"Alternate floating-point data formats".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fp4num.errors import FormatError


@dataclass(frozen=True, slots=True)
class ElementFormat:
    """A binary number format: sign (if `signed`), `exponent_bits`, `mantissa_bits`, exponent bias `bias`.

    `max` is the largest finite value. Without NaN every code is a number (`e2m1`, `e2m3`, `e3m2`). `e8m0` is a power
    of two, 2^(code - 127), with no zero and 0xFF as NaN.
    """

    name: str
    bits: int
    exponent_bits: int
    mantissa_bits: int
    bias: int
    max: float
    has_nan: bool
    has_inf: bool
    signed: bool

    @property
    def max_code(self) -> int:
        """The code of `max`."""
        if self.name == "e8m0":
            return 0xFE
        top = (1 << (self.exponent_bits + self.mantissa_bits)) - 1
        if self.has_inf:
            return top - (1 << self.mantissa_bits)
        return top - 1 if self.has_nan else top

    @property
    def nan_code(self) -> int:
        """The code that a NaN becomes: PTX's canonical NaN, or the positive maximum where there is no NaN."""
        if self.name == "e8m0":
            return 0xFF
        return (1 << (self.exponent_bits + self.mantissa_bits)) - 1

    @property
    def emax(self) -> int:
        """floor(log2(max)): what MX scale rules subtract."""
        exponent = 0
        while 2.0 ** (exponent + 1) <= self.max:
            exponent += 1
        return exponent


_ALL = (
    ElementFormat("e2m1", 4, 2, 1, 1, 6.0, False, False, True),
    ElementFormat("e3m2", 6, 3, 2, 3, 28.0, False, False, True),
    ElementFormat("e2m3", 6, 2, 3, 1, 7.5, False, False, True),
    ElementFormat("e4m3", 8, 4, 3, 7, 448.0, True, False, True),
    ElementFormat("e5m2", 8, 5, 2, 15, 57344.0, True, True, True),
    ElementFormat("ue4m3", 8, 4, 3, 7, 448.0, True, False, False),
    ElementFormat("e8m0", 8, 8, 0, 127, 2.0**127, True, False, False),
    ElementFormat("f16", 16, 5, 10, 15, 65504.0, True, True, True),
    ElementFormat("bf16", 16, 8, 7, 127, 3.3895313892515355e38, True, True, True),
    ElementFormat("f32", 32, 8, 23, 127, 3.4028234663852886e38, True, True, True),
)

#: Every element format by name. `ue4m3` is `e4m3` without its sign: what block scales hold.
ELEMENTS: Mapping[str, ElementFormat] = MappingProxyType({e.name: e for e in _ALL})


def element(name: str | ElementFormat) -> ElementFormat:
    """The element format of that name; `FormatError` lists the names there are."""
    if isinstance(name, ElementFormat):
        return name
    found = ELEMENTS.get(name) if isinstance(name, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if found is None:
        raise FormatError(f"no element format is called {name!r}; there are {', '.join(ELEMENTS)}")
    return found
