"""Declarations to arguments: element types, axes, ragged and masked axes, defaults."""

from __future__ import annotations

from collections.abc import Mapping

from fp4cc.diagnostics import Collector, did_you_mean, error, listed
from fp4cc.diagnostics.foreign import type_help
from fp4cc.frontend import ast
from fp4cc.ir.kernel import Arg, Axis, Constraint, Dim, Direction, Scalar
from fp4cc.sema.scope import BUILT_IN_TYPES, Scope
from fp4cc.sema.sizes import SizeReader
from fp4cc.source import Span
from fp4num import BlockFormat
from fp4rt.sizes import shifted
from fp4rt.sizes import text as size_text

_OUTPUTS = ("f32", "bf16", "f16", "e4m3", "e5m2")
_PARAMS = ("f32", "i32")


class Declarations:
    """Reads the declarations of one kernel. An argument that was declared wrongly is known, and None."""

    def __init__(self, scope: Scope, dims: Mapping[str, bool], collector: Collector) -> None:
        self.scope = scope
        self.dims = dims
        self.collector = collector
        self.args: dict[str, Arg | None] = {}
        self._unknown: set[str] = set()
        self._nodes: dict[str, ast.Declaration] = {}
        self._spans: dict[str, Span] = {}

    def read(self, statements: tuple[ast.Statement, ...]) -> dict[str, Arg | None]:
        """The arguments by name, in order."""
        for statement in statements:
            if isinstance(statement, ast.Declaration):
                self._declare(statement)
        for name, arg in list(self.args.items()):
            if arg is not None and not self._grouped(arg, self._nodes[name]):
                self.args[name] = None
        self._same_everywhere()
        return self.args

    def _error(self, code: str, title: str, span: Span, text: str, *help: str) -> None:
        self.collector.report(error(code, title, span, text, help=help))

    def _declare(self, node: ast.Declaration) -> None:
        name = node.name.text
        if name in self.dims:
            self._error(
                "FP2002",
                f"`{name}` is a dimension of this kernel",
                node.name.span,
                "taken",
                "take another name; a case difference is enough",
            )
            return
        if name in self._spans:
            self.collector.report(
                error(
                    "FP2002",
                    f"`{name}` is declared twice",
                    node.name.span,
                    "declared again",
                    also=[(self._spans[name], "first declared here")],
                    help="rename one of them",
                )
            )
            return
        self._spans[name] = node.name.span
        self._nodes[name] = node
        self.args[name] = self._arg(node)

    def _arg(self, node: ast.Declaration) -> Arg | None:
        direction: Direction = node.direction.text  # type: ignore[assignment]  # the grammar allows no other word
        dtype = self._dtype(node.type.name)
        axes = self._axes(node)
        default = self._default(node)
        if dtype is None or axes is None or not self._makes_sense(node, dtype, axes):
            return None
        return Arg(node.name.text, direction, dtype, axes, node.span, default)

    def _dtype(self, name: ast.Ident) -> Scalar | BlockFormat | None:
        if name.text in self.scope.formats:
            return self.scope.formats[name.text]
        if name.text in BUILT_IN_TYPES:
            return name.text  # type: ignore[return-value]  # the tuple holds exactly these names
        if self.scope.partial:
            return None
        known = (*self.scope.formats, *BUILT_IN_TYPES)
        self._error(
            "FP2019",
            f"no type is called `{name.text}`",
            name.span,
            "unknown type",
            type_help(name.text)
            or did_you_mean(name.text, known)
            or "types are f32, bf16, f16, e4m3, e5m2, i32, u32, u64 and the formats",
        )
        return None

    def _makes_sense(self, node: ast.Declaration, dtype: Scalar | BlockFormat, axes: tuple[Axis, ...]) -> bool:
        direction, name, type_ = node.direction.text, node.name.text, node.type
        if dtype == "bool":
            self._error(
                "FP2020",
                "tensors of bool are not stored",
                type_.name.span,
                "not a type of tensors",
                "store f32 or i32, and compare: `m != 0`",
            )
        elif direction == "param" and (type_.axes or dtype not in _PARAMS):
            self._error(
                "FP2020",
                f"the param `{name}` is a number passed by value",
                type_.span,
                f"not {listed(_PARAMS)}" if not type_.axes else "it has axes",
                f"write `param {name} : f32`, or `in {name} : ...` for a tensor",
            )
        elif direction != "param" and type_.axes is None:
            self._error(
                "FP2020",
                f"`{name}` has no axes",
                type_.span,
                "a tensor has `[...]`",
                f"write `{type_.name.text}[]` for a device scalar, or `param {name} : f32` for a number by value",
            )
        elif direction in ("out", "inout") and not isinstance(dtype, BlockFormat) and dtype not in _OUTPUTS:
            self._error(
                "FP2020",
                f"an output cannot be {dtype}",
                type_.name.span,
                "not an output type",
                f"outputs are {listed(_OUTPUTS)}, or a format",
            )
        elif direction == "inout" and isinstance(dtype, BlockFormat):
            self._error(
                "FP2020",
                f"`{name}` is inout and quantized",
                type_.name.span,
                "its old value has other scales",
                "read the old tensor as an `in` argument and write an `out` one",
            )
        elif isinstance(dtype, BlockFormat) and not axes:
            self._error(
                "FP2020",
                f"`{name}` is quantized and has no axes",
                type_.span,
                "nothing for blocks to lie on",
                f"write `{dtype.name}[M, K]`",
            )
        else:
            return True
        return False

    def _default(self, node: ast.Declaration) -> float | None:
        if node.default is None:
            return None
        value, sign = node.default, 1
        if isinstance(value, ast.Unary) and value.op == "-":
            value, sign = value.operand, -1
        if node.direction.text != "param":
            self._error(
                "FP2020",
                f"`{node.name.text}` is a tensor: it has no default",
                node.default.span,
                "not here",
                "only a `param` has one",
            )
        elif not isinstance(value, ast.Number):
            self._error("FP2020", "the default of a param is a number", node.default.span, "not a number")
        else:
            return float(sign * value.value)
        return None

    # Axes.

    def _axes(self, node: ast.Declaration) -> tuple[Axis, ...] | None:
        axes: list[Axis] = []
        spans: dict[str, Span] = {}
        sound = True
        reader = SizeReader(self.dims, self.collector, "an axis", self._unknown)
        for item in node.type.axes or ():
            extent = reader.size(item.extent)
            if extent is None:
                sound = False
                continue
            name = extent if isinstance(extent, str) else None
            if name is not None and name in spans:
                self.collector.report(
                    error(
                        "FP2014",
                        f"the axis `{name}` occurs twice in one type",
                        item.span,
                        "again",
                        also=[(spans[name], "first here")],
                        notes=["tensors meet by the names of their axes, so a name stands for one axis of a tensor"],
                        help=f"for a square matrix add a dim: `kernel k({name}, J = {name})` and `[{name}, J]`",
                    )
                )
                sound = False
                continue
            if name is not None:
                spans[name] = item.span
            elif isinstance(extent, int) and extent < 1:
                self._error("FP2016", f"an axis of size {extent}", item.span, "a size is at least 1")
                sound = False
            tensor = item.tensor.text if item.tensor is not None else None
            axes.append(
                Axis(name, extent, tensor if item.kind == "by" else None, tensor if item.kind == "upto" else None)
            )
        return tuple(axes) if sound else None

    def _grouped(self, arg: Arg, node: ast.Declaration) -> bool:
        """Whether the offsets and counts that the axes of an argument name are what they must be."""
        items = node.type.axes or ()
        return all(self._group(arg, axis, item) for axis, item in zip(arg.axes, items, strict=True) if item.tensor)

    def _group(self, arg: Arg, axis: Axis, item: ast.AxisItem) -> bool:
        if item.tensor is None:
            return True
        name = item.tensor.text
        if name not in self.args:
            help = did_you_mean(name, self.args) or f"declare it: `in {name} : i32[E{' + 1' if axis.by else ''}]`"
            self._error("FP2025", f"no argument is called `{name}`", item.tensor.span, "unknown", help)
            return False
        tensor = self.args[name]
        if tensor is None:
            return False
        extent = tensor.axes[0].extent if len(tensor.axes) == 1 else None
        groups = None
        if axis.by is not None:
            if isinstance(extent, tuple) and extent[0] == "add" and isinstance(extent[1], str) and extent[2] == 1:
                groups = extent[1]
            fits = groups is not None
            shape = "i32[E + 1]"
            what = "offsets: the first row of each group, and the number of rows at the end"
        else:
            fits = isinstance(extent, str) and extent in [a.name for a in arg.axes[: arg.axes.index(axis)]]
            shape = "i32[E]"
            what = "counts: the valid rows of each group, an axis that the tensor has before this one"
        if groups is not None and groups in [a.name for a in arg.axes]:
            self._error(
                "FP3080",
                f"`{arg.name}` has the rows `{axis.name} by {name}` and the axis `{groups}` of their groups",
                item.span,
                "each row is in one group",
                f"leave out `{groups}`: the offsets say which rows are whose",
            )
            return False
        if tensor.direction != "in" or tensor.dtype != "i32" or not fits:
            self.collector.report(
                error(
                    "FP2025",
                    f"`{name}` cannot say which rows of `{arg.name}` are used",
                    item.tensor.span,
                    f"it must be `in {name} : {shape}`",
                    also=[(tensor.span, "declared here")],
                    notes=[f"they are {what}"],
                )
            )
            return False
        return True

    def _same_everywhere(self) -> None:
        """An axis is ragged, masked or plain in all arguments alike."""
        first: dict[str, tuple[Axis, Arg]] = {}
        for arg in self.args.values():
            for axis in arg.axes if arg is not None else ():
                if axis.name is None or arg is None:
                    continue
                seen, where = first.setdefault(axis.name, (axis, arg))
                if (axis.by, axis.upto) != (seen.by, seen.upto):
                    self.collector.report(
                        error(
                            "FP2025",
                            f"the axis `{axis.name}` is `{_axis_text(axis)}` in `{arg.name}` and "
                            f"`{_axis_text(seen)}` in `{where.name}`",
                            arg.span,
                            "declared here",
                            also=[(where.span, "and here")],
                            help="write it the same way in both",
                        )
                    )


def _axis_text(axis: Axis) -> str:
    if axis.by is not None:
        return f"{axis.name} by {axis.by}"
    return f"{axis.name} upto {axis.upto}" if axis.upto is not None else str(axis.name)


def check_determined(
    dims: tuple[Dim, ...], args: Mapping[str, Arg | None], sound: Mapping[str, bool], collector: Collector
) -> None:
    """Every dynamic dim is an axis of some input, by itself or with a number, so that a call's arguments say it."""
    if any(arg is None for arg in args.values()):
        return
    axes = [a for arg in args.values() if arg is not None and arg.direction in ("in", "inout") for a in arg.axes]
    found = {a.name for a in axes} | {of[0] for of in (shifted(a.extent) for a in axes) if of is not None}
    for dim in dims:
        if dim.value is None and dim.expr is None and sound[dim.name] and dim.name not in found:
            collector.report(
                error(
                    "FP2015",
                    f"the dimension `{dim.name}` cannot be found from the inputs",
                    dim.span,
                    "no `in` or `inout` argument has it as an axis",
                    help=f"give it a value (`{dim.name} = 4096`), define it by others, or make it an axis of an input",
                )
            )


def block_constraints(args: Mapping[str, Arg | None], spans: Mapping[str, Span]) -> list[Constraint]:
    """Whole blocks along the last axis of every quantized argument, and whole bytes a row."""
    found: dict[object, Constraint] = {}
    for name, arg in args.items():
        if arg is None or arg.format is None:
            continue
        fmt = arg.format
        columns, unit = fmt.block[1], fmt.row_unit
        if unit == columns:
            reason = (
                f"{fmt.name} has one scale for {fmt.block[0]} x {columns}: the last axis of `{name}` is whole blocks"
            )
        else:
            whole = "whole bytes" if columns == "all" else "whole blocks and bytes"
            reason = f"{fmt.name} has {fmt.bits}-bit elements: a row of `{name}` is {whole}"
        expr = ("eq", ("mod", arg.axes[-1].extent, unit), 0)
        if unit > 1 and expr not in found:
            found[expr] = Constraint(expr, size_text(expr), spans.get(name, arg.span), reason)
    return list(found.values())
