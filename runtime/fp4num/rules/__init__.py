"""Quantizer rules by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fp4num.errors import FormatError
from fp4num.rules.absmax import AbsMax
from fp4num.rules.base import Factors, Rule, Statistic, unit
from fp4num.rules.fouroversix import FourOverSix
from fp4num.rules.mx import MxCeil, MxEven, MxFloor, MxRceil
from fp4num.rules.nvfp4 import Nvfp4Amax, Nvfp4CompressedTensors, Nvfp4ModelOpt, Nvfp4TorchAo
from fp4num.rules.quartet import QuartetStochastic, QuestMxfp4

_ALL: tuple[Rule, ...] = (
    Nvfp4Amax(),
    Nvfp4ModelOpt(),
    Nvfp4CompressedTensors(),
    Nvfp4TorchAo(),
    MxFloor(),
    MxRceil(),
    MxCeil(),
    MxEven(),
    AbsMax(),
    FourOverSix("nvfp4_4over6_mae", "mae", 448.0),
    FourOverSix("nvfp4_4over6_mse", "mse", 448.0),
    FourOverSix("nvfp4_4over6_mae_256", "mae", 256.0),
    FourOverSix("nvfp4_4over6_mse_256", "mse", 256.0),
    QuestMxfp4(),
    QuartetStochastic(),
)

#: Every quantizer by the name that a format's `quantizer` field takes.
RULES: Mapping[str, Rule] = MappingProxyType({r.name: r for r in _ALL})


def rule(name: str) -> Rule:
    """The rule of that name; `FormatError` lists the names there are."""
    found = RULES.get(name)
    if found is None:
        raise FormatError(f"no quantizer is called {name!r}; there are {', '.join(RULES)}")
    return found


__all__ = ["RULES", "Factors", "FourOverSix", "Rule", "Statistic", "rule", "unit"]
