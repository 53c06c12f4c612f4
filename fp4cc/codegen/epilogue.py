"""The text of an epilogue: what a kernel template puts at each of its hooks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fp4cc.codegen.epilogue_loads import Loads
from fp4cc.codegen.epilogue_quantize import quantize_functions, quantize_setup
from fp4cc.codegen.epilogue_reduce import reductions
from fp4cc.codegen.epilogue_stores import stores
from fp4cc.codegen.epilogue_values import ValuePrinter, title
from fp4cc.codegen.hooks import EpilogueText
from fp4cc.codegen.library import library
from fp4cc.codegen.names import Names
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import EpilogueProgram, LoweredKernel, Scope
from fp4cc.source import Span

IMPORTS = (
    "from cutlass import Boolean, Float32, Int32, Int64",
    "from cutlass._mlir.dialects import llvm",
)


def emit_epilogue(
    lowered: LoweredKernel, taken: Iterable[str] = (), helpers: Iterable[str] = ()
) -> EpilogueText:
    """The epilogue's text. `taken`: names that the kernel template uses at the hooks; `helpers`: functions it calls."""
    return _Emitter(lowered, taken, set(helpers)).emit()


@dataclass
class _Emitter:
    lowered: LoweredKernel
    taken: Iterable[str]
    helpers: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        parameters = [param.name for param in self.lowered.launch.params]
        buffers = [buffer.name for buffer in self.lowered.smem.buffers]
        self.names = Names([*self.taken, *parameters, *buffers, *RESERVED, *library(self.lowered.target).names()])
        self.printer = ValuePrinter(self.kernel, helpers=self.helpers)
        self.program = self.lowered.epilogue
        self.scopes: dict[int, Scope] = {s.value: s.scope for s in self.program.statements}
        self.named = {s.value: s.name for s in self.program.statements}

    @property
    def kernel(self) -> Kernel:
        """The typed kernel as the epilogue sees it."""
        return self.lowered.epilogue.kernel

    def emit(self) -> EpilogueText:
        loads = Loads(self.lowered, self.names, self.printer)
        kernel = loads.scalars()
        kernel += self._scope("kernel")
        kernel += loads.guards()
        kernel += self._quantizers()
        tile = loads.batch()
        tile += self._scope("tile")
        tile += loads.rows()
        tile += self._scope("row")
        tile += self._columns(loads)
        subtile = loads.subtile()
        element, call = self._element(loads)
        subtile += call
        reduced = reductions(self.lowered, self.results, self.helpers)
        out = stores(self.lowered, self.results, self.helpers)
        quantizers = quantize_functions(self.lowered, self.helpers)
        functions = "\n\n\n".join([library(self.lowered.target).text(self.helpers), element, *quantizers])
        return EpilogueText(
            functions=functions,
            kernel="\n".join([*kernel, *reduced.kernel, *out.kernel]),
            tile="\n".join([*tile, *reduced.tile]),
            subtile="\n".join([*subtile, *reduced.subtile, *out.subtile]),
            tile_end="\n".join(reduced.tile_end),
            finish="\n".join(out.finish),
            imports=IMPORTS,
        )

    def _statements(self, scope: Scope) -> list[int]:
        return [s.value for s in self.program.statements if s.scope == scope]

    def _scope(self, scope: Scope) -> list[str]:
        """Assignments of a scope's values; all that an inner scope uses have names afterwards."""
        values = self._statements(scope)
        inside = set(values)
        others = [s.value for s in self.program.statements if s.value not in inside]
        outer = {o for other in others for o in self.kernel.values[other].operands}
        outer |= {output.value for output in self.program.outputs}
        outer |= {output.quantize.given for output in self.program.outputs if output.quantize and output.quantize.given}
        outer |= {guard for leaf in self.program.inputs for guard in leaf.guards}
        return self.printer.lines(values, self.named, outer & inside, self.names)

    def _quantizers(self) -> list[str]:
        """What quantized outputs need once a kernel."""
        lines: list[str] = []
        given = {
            output.arg: self.printer.text(output.quantize.given, lines, self.names)
            for output in self.program.outputs
            if output.quantize is not None and output.quantize.given is not None
        }
        return [*lines, *quantize_setup(self.lowered, given, self.helpers)]

    def _columns(self, loads: Loads) -> list[str]:
        """Stage the column values that elements use, as f32 in shared memory."""
        if not self.program.staged:
            return []
        inner = self.printer.child()
        lines = loads.column_values(inner)
        lines += inner.lines(self._statements("column"), self.named, self.program.staged, self.names)
        return loads.staging(inner, lines)

    def _element(self, loads: Loads) -> tuple[str, list[str]]:
        """The spec for one element as a function, and its call for the 32 columns of a sub-tile."""
        statements = self._statements("element")
        inside = set(statements)
        used = {o for v in statements for o in self.kernel.values[v].operands} | {o.value for o in self.program.outputs}
        inner = ValuePrinter(self.kernel, helpers=self.helpers)
        names = Names(library(self.lowered.target).names())
        arguments: dict[str, str] = {}
        outside = [v for v in used - inside if self.kernel.values[v].op != "const"]
        for value in sorted(outside, key=self._argument_order):
            name = names.new(self._argument_name(value))
            inner.known[value] = name
            arguments[name] = loads.element_text(value)
        stored = list(dict.fromkeys(inner.resolve(output.value) for output in self.program.outputs))
        lines = inner.lines(statements, self.named, (), names)
        returned = [inner.text(value, lines, names) for value in stored]
        body = [f'"""{_quoted(self.program, self.kernel)}"""', *lines, f"return {', '.join(returned)}"]
        text = f"def element({', '.join(arguments)}):\n" + _indent("\n".join(body))
        self.results = {value: self._result_name(value, inner) for value in stored}
        self.results |= {o.value: self.results[inner.resolve(o.value)] for o in self.program.outputs}
        call = f"element({', '.join(arguments.values())}) for j in range({self.program.subtile})"
        if len(stored) == 1:
            return text, [f"{self.results[stored[0]]} = [{call}]"]
        unzip = ", ".join(self.results[value] for value in stored)
        return text, [f"{unzip} = zip(*[{call}])"]

    def _argument_order(self, value: int) -> tuple[int, int]:
        """The product first, then what changes least."""
        axes = self.kernel.values[value].axes
        return (-1 if value in self.program.accumulators else len(axes), value)

    def _argument_name(self, value: int) -> str:
        if value in self.program.accumulators:
            name = str(self.kernel.values[value].attrs.get("name", "product"))
            number = self.program.accumulators.index(value) + 1
            return name if self.program.group is None else f"{name}{number}"
        value = self.printer.resolve(value)
        for leaf in self.program.inputs:
            if leaf.value == value:
                return leaf.name
        return title(self.kernel, value)

    def _result_name(self, value: int, inner: ValuePrinter) -> str:
        names = [output.arg for output in self.program.outputs if inner.resolve(output.value) == value]
        return self.names.new(f"{names[0]}_values")


#: Names in scope at the hooks (`fp4cc.ir.lowered`) and module names of a kernel file.
RESERVED = (
    "warp", "lane", "thread", "m_size", "n_size", "m0", "n0", "batch", "row", "row_valid", "column", "acc", "acc2",
    "subtile",
    "cutlass", "cute", "cuda", "prims", "llvm", "Boolean", "Float32", "Int32", "Int64", "element", "store_slot",
    "staged", "staged_column", "in_range", "j", "columns_smem",
)  # fmt: skip


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.split("\n"))


def _quoted(program: EpilogueProgram, kernel: Kernel) -> str:
    """The spec's lines that say what is computed, for a docstring."""
    spans: list[Span] = [store.span for store in kernel.stores]
    spans += [kernel.values[s.value].span for s in program.statements if s.name is not None]
    lines: dict[tuple[str, int], str] = {}
    for span in spans:
        first, _ = span.source.line_column(span.start)
        last, _ = span.source.line_column(max(span.start, span.end - 1))
        for line in range(first, last + 1):
            text = span.source.line_text(line).split("#")[0].strip()
            lines[span.source.name, line] = text.replace("\\", "\\\\").replace('"""', "'''")
    text = "\n".join(lines[key] for key in sorted(lines))
    return text if "\n" not in text else f"{text}\n"
