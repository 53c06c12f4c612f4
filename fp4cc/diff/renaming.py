"""Which arguments and dims of two kernels are the same ones under other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fp4cc.ir.kernel import Arg, Expr, Kernel
from fp4cc.ir.polynomial import Polynomial, polynomial
from fp4rt.sizes import substitute


@dataclass(frozen=True, slots=True)
class Renaming:
    """Names of the first kernel -> names of the second. A name that the second has no partner for stays as it is."""

    args: Mapping[str, str]
    dims: Mapping[str, str]

    def size(self, expr: Expr) -> Polynomial:
        """A size of the first kernel in normal form, in the names of the second."""
        return polynomial(substitute(expr, self.dims))  # type: ignore[arg-type]  # substitute keeps tuples

    def axis(self, name: str) -> str:
        """An axis of the first kernel in the names of the second."""
        return self.dims.get(name, name)

    def arg(self, name: str) -> str:
        """An argument of the first kernel in the names of the second."""
        return self.args.get(name, name)


#: The second kernel's own names.
IDENTITY = Renaming({}, {})


def renaming(before: Kernel, after: Kernel) -> Renaming:
    """Same names belong together. Of the rest, arguments pair up in order where direction, type and number of axes are
    the same, and dims where they stand at the same place of paired arguments."""
    args = _pairs_by_name([a.name for a in before.args], [a.name for a in after.args])
    ours = [a for a in before.args if a.name not in args]
    theirs = [a for a in after.args if a.name not in args.values()]
    for arg in ours:
        partner = next((t for t in theirs if _alike(arg, t)), None)
        if partner is not None:
            theirs.remove(partner)
            args[arg.name] = partner.name
    return Renaming(args, _dims(before, after, args))


def _dims(before: Kernel, after: Kernel, args: Mapping[str, str]) -> dict[str, str]:
    dims = _pairs_by_name([d.name for d in before.dims], [d.name for d in after.dims])
    free = {d.name for d in after.dims} - set(dims.values())
    for name, other in args.items():
        for a, b in zip(before.arg(name).axes, after.arg(other).axes, strict=False):
            if isinstance(a.extent, str) and a.extent not in dims and isinstance(b.extent, str) and b.extent in free:
                dims[a.extent] = b.extent
                free.remove(b.extent)
    return dims


def _pairs_by_name(before: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    return {name: name for name in before if name in after}


def _alike(a: Arg, b: Arg) -> bool:
    return (a.direction, a.dtype, len(a.axes)) == (b.direction, b.dtype, len(b.axes))
