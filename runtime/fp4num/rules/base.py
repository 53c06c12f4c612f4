"""What a quantizer rule is: which statistic of a block it takes and how the scale and the element factor follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal

from fp4num.errors import FormatError
from fp4num.formats import BlockFormat, Sense
from fp4num.ops import Ops, V

#: What a block is measured by. `amax`: max of |x|, NaN ignored (PTX `max.f32`); `amax_nan`: a NaN makes it NaN
#: (`max.NaN.f32`); `std`: population standard deviation.
Statistic = Literal["amax", "amax_nan", "std"]

FLT_MAX = 3.4028234663852886e38


@dataclass(frozen=True, slots=True)
class Factors(Generic[V]):
    """The tensor scale both ways, as the rule computes them: neither need be the exact inverse of the other."""

    encode: V
    decode: V
    #: The tensor's largest magnitude, where the factors came from it.
    amax: V | None = None


class Rule(ABC):
    """A named quantizer. Elements become `encode(x * factor)` or `encode(x / factor)`, by `element_op`.

    A rule is a sequence of `Ops`; the order of operations is its meaning.
    """

    name: str
    statistic: ClassVar[Statistic] = "amax"
    element_op: ClassVar[Literal["mul", "div"]] = "mul"
    #: Scale types that the rule can make.
    scales: ClassVar[tuple[str, ...]]
    #: Whether the format may have a tensor scale.
    tensor_scales: ClassVar[bool] = False

    def check(self, fmt: BlockFormat) -> None:
        """`FormatError` if the rule cannot make this format."""
        if fmt.scale not in self.scales:
            raise FormatError(f"{self.name} makes {' or '.join(self.scales)} scales, not the {fmt.scale} of {fmt.name}")
        if fmt.tensor_scale is not None and not self.tensor_scales:
            raise FormatError(f"{self.name} knows no tensor scale, but {fmt.name} has one")

    def from_amax(self, o: Ops[V], amax: V, fmt: BlockFormat) -> Factors[V]:
        """Factors of a tensor whose largest magnitude is `amax`."""
        raise FormatError(f"{self.name} knows no tensor scale")

    def from_tensor_scale(self, o: Ops[V], tensor_scale: V, sense: Sense) -> Factors[V]:
        """Factors of a given tensor scale."""
        raise FormatError(f"{self.name} knows no tensor scale")

    @abstractmethod
    def scale(self, o: Ops[V], statistic: V, factors: Factors[V], fmt: BlockFormat) -> V:
        """What is stored for a block: the scale's code (int32), or the float32 scale itself."""

    @abstractmethod
    def factor(self, o: Ops[V], scale: V, factors: Factors[V], fmt: BlockFormat) -> V:
        """What every element of the block is multiplied (or divided) by before it is encoded."""


def unit(o: Ops[V]) -> Factors[V]:
    """The factors of a format without a tensor scale."""
    one = o.constant(1.0)
    return Factors(one, one)
