"""`--chain`: links between kernels, as the command line writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fp4cc.chain import Chain, End, Link
    from fp4cc.ir.kernel import Kernel

_END = r"(?:(?P<{0}file>.+):)?(?P<{0}kernel>[A-Za-z_]\w*)\.(?P<{0}arg>[A-Za-z_]\w*)"
_LINK = re.compile(rf"{_END.format('out_')}\s*=\s*{_END.format('in_')}", re.ASCII)
_SHAPE = "[FILE:]KERNEL.OUTPUT=[FILE:]KERNEL.INPUT"


@dataclass(frozen=True, slots=True)
class EndName:
    """One end of a link as written; without a file it is of the SPEC."""

    file: str | None
    kernel: str
    arg: str


class LinkType(click.ParamType):
    """`[FILE:]KERNEL.OUTPUT=[FILE:]KERNEL.INPUT`."""

    name = _SHAPE

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[EndName, EndName]:
        if isinstance(value, tuple):
            return value  # click converts a converted value again
        found = _LINK.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is not {_SHAPE}; write for example --chain quantize.q=gemm.x", param, ctx)
        first, second = (
            EndName(*(found.group(f"{side}_{part}") for part in ("file", "kernel", "arg"))) for side in ("out", "in")
        )
        return first, second


def check_links(written: Sequence[tuple[EndName, EndName]], spec: str | None, sizes: Mapping[str, int]) -> Chain:
    """The proved chain.

    `sizes` fixes dims of the SPEC's kernels. Raises RequestError for a name that is not there, and DiagnosticError for
    specs that are wrong and links whose types differ.
    """
    from fp4cc.chain import check_chain

    book = _Book(spec, sizes)
    for pair in written:
        for end in pair:
            book.read(book.file(end))
    return check_chain([book.link(*pair) for pair in written])


class _Book:
    """The kernels of a chain's files, each file checked once."""

    def __init__(self, spec: str | None, sizes: Mapping[str, int]) -> None:
        self.spec = spec
        self.sizes = sizes
        self.kernels: dict[str, dict[str, Kernel]] = {}

    def file(self, end: EndName) -> str:
        if end.file is not None:
            return end.file
        if self.spec is None:
            raise click.UsageError(f"{end.kernel}.{end.arg} names no file; write FILE:{end.kernel}.{end.arg}")
        return self.spec

    def link(self, producer: EndName, consumer: EndName) -> Link:
        from fp4cc.chain import Link

        return Link(self._end(producer, ("out", "inout")), self._end(consumer, ("in", "inout")))

    def _end(self, end: EndName, directions: tuple[str, ...]) -> End:
        from fp4cc.chain import End
        from fp4cc.driver.request import RequestError

        file = self.file(end)
        kernel = _named(self.kernels[file], end.kernel, f"{file} has no kernel", "kernels")
        args = {a.name: a for a in kernel.args}
        arg = _named(args, end.arg, f"the kernel {end.kernel} of {file} has no argument", "arguments")
        if arg.direction not in directions:
            wanted = "an output" if "out" in directions else "an input"
            raise RequestError(f"{end.kernel}.{end.arg} is declared `{arg.direction}`: this side of a link is {wanted}")
        alone = sum(end.kernel in known for known in self.kernels.values()) == 1
        return End(end.kernel if alone else f"{file}:{end.kernel}", kernel, arg)

    def read(self, file: str) -> None:
        """Check a file, if that was not done before."""
        from fp4cc.driver.request import Request
        from fp4cc.driver.spec import read_spec
        from fp4cc.driver.stages import typed_kernels

        if file not in self.kernels:
            sizes = dict(self.sizes) if file == self.spec else {}
            kernels, _ = typed_kernels(Request(read_spec(Path(file)), dims=sizes))
            self.kernels[file] = {k.name: k for k in kernels}


def _named(known: Mapping[str, Any], name: str, what: str, plural: str) -> Any:
    from fp4cc.diagnostics import did_you_mean
    from fp4cc.driver.request import RequestError

    if name not in known:
        hint = did_you_mean(name, known) or f"{plural}: {', '.join(known) or 'none'}"
        raise RequestError(f"{what} {name}; {hint}")
    return known[name]


def chain_json(chain: Chain) -> dict[str, object]:
    """A proved chain for machines."""
    from fp4rt.sizes import text

    return {
        "links": [
            {
                "producer": str(link.producer),
                "consumer": str(link.consumer),
                "type": link.producer.type_text,
                "axes": [{"producer": a, "consumer": b} for a, b in chain.renaming(link)],
                "remarks": list(chain.remarks(link)),
            }
            for link in chain.links
        ],
        "sizes": {name: text(expr) for name, expr in chain.sizes.items()},
    }


def chain_text(chain: Chain) -> str:
    """A proved chain for people: each link, and what the dims of one kernel are in terms of the others'."""
    from fp4rt.sizes import text

    lines: list[str] = []
    for link in chain.links:
        lines.append(f"{link.producer} : {link.producer.type_text}  =  {link.consumer} : {link.consumer.type_text}")
        lines.extend(f"    note: {remark}" for remark in chain.remarks(link))
    lines.extend(f"    {name} is {text(expr)}" for name, expr in chain.sizes.items())
    count = len(chain.links)
    lines.append(f"chain: {count} link{'' if count == 1 else 's'}, the types are equal")
    return "\n".join(lines)
