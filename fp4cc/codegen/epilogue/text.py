"""The text of an epilogue: what a kernel template puts at each of its hooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fp4cc.codegen.epilogue.elements import Argument, element_call
from fp4cc.codegen.epilogue.fake import fake_call, fake_factors, fake_functions, fake_given, fake_name, fakes
from fp4cc.codegen.epilogue.hadamard import hadamard_call, hadamard_setup, spread, spread_read, transforms
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.epilogue.loads import Loads, staged_address
from fp4cc.codegen.epilogue.measure import measure_setup
from fp4cc.codegen.epilogue.quantize import known_lines, quantize_functions, quantize_setup
from fp4cc.codegen.epilogue.reduce import reductions
from fp4cc.codegen.epilogue.slices import needed
from fp4cc.codegen.epilogue.stores import stores
from fp4cc.codegen.epilogue.values import ValuePrinter
from fp4cc.codegen.epilogue.walks import panel_end, walks
from fp4cc.codegen.fragments import Fragment, Function, fragment
from fp4cc.codegen.names import Names
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.lowered_epilogue import EpilogueProgram, Scope
from fp4cc.source import Span


def emit_epilogue(lowered: LoweredKernel, names: Names) -> EpilogueText:
    """The epilogue's text, with marks of `names`."""
    return _Emitter(lowered, names).emit()


@dataclass
class _Emitter:
    lowered: LoweredKernel
    names: Names

    def __post_init__(self) -> None:
        self.printer = ValuePrinter(self.kernel)
        self.program = self.lowered.epilogue
        self.scopes: dict[int, Scope] = {s.value: s.scope for s in self.program.statements}
        self.named = {s.value: s.name for s in self.program.statements}

    @property
    def kernel(self) -> Kernel:
        """The typed kernel as the epilogue sees it."""
        return self.lowered.epilogue.kernel

    def emit(self) -> EpilogueText:
        loads = Loads(self.lowered, self.names, self.printer)
        kernel: list[str] = loads.scalars()
        kernel += self._scope("kernel")
        kernel += loads.guards()
        kernel += loads.setup()
        kernel += self._quantizers()
        kernel += hadamard_setup(self.program)
        kernel += measure_setup(self.lowered)
        tile: list[str] = loads.batch()
        tile += self._scope("tile")
        tile += loads.rows()
        tile += self._scope("row")
        begun = fragment(*tile, loads.ahead(), self._columns(loads))
        steps = loads.subtile()
        elements, calls = self._elements(loads)
        steps += calls
        begun = fragment(begun, self._known_of_rows())
        reduced = reductions(self.lowered, self.results)
        out = stores(self.lowered, self.results, self._known_of_lines())
        before = walks(self.lowered, steps, self.points, self.results)
        quantizers = quantize_functions(self.lowered)
        return EpilogueText(
            functions=(*elements, *quantizers),
            kernel=fragment(*kernel, *reduced.kernel, out.kernel),
            tile=fragment(begun, *reduced.tile),
            walks=before,
            subtile=fragment(needed(steps, self.results.values()), *reduced.subtile, out.subtile),
            panel_end=panel_end(self.lowered),
            tile_end=fragment(*reduced.tile_end),
            finish=out.finish,
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
        plans = [output.quantize for output in self.program.outputs if output.quantize is not None]
        outer |= {v for plan in plans for v in (plan.given, plan.known) if v is not None}
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
        for value in fakes(self.program):
            factor = fake_given(self.program, value)
            if factor is not None:
                name, text = fake_name(self.program, value), self.printer.text(factor, lines, self.names)
                lines.append(f"{', '.join(fake_factors(self.program, value))} = {name}_factors({text})")
        return [*lines, *quantize_setup(self.lowered, given)]

    def _known_of_rows(self) -> Fragment:
        """What is known of the rows' blocks: once a tile, each by the thread that has the row."""
        found: Fragment = ()
        for output in self.program.outputs:
            plan = output.quantize
            if plan is None or plan.known is None or plan.along != "columns":
                continue
            before: list[str] = []
            known = self.printer.text(plan.known, before, self.names)
            found = fragment(found, *before, known_lines(self.lowered, output, known))
        return found

    def _known_of_lines(self) -> dict[str, Fragment]:
        """The statements that find what is known of a line of a sub-tile, by output."""
        found: dict[str, Fragment] = {}
        for output in self.program.outputs:
            plan = output.quantize
            if plan is None or plan.known is None or plan.along != "rows":
                continue
            before: list[str] = []
            if plan.known in self.program.staged:
                known = f"{output.arg}_known"
                place = staged_address(self.program, plan.known, "column - n0 + lane")
                before.append(f"{known} = shared_load_f32({place})")
            else:
                known = self.printer.text(plan.known, before, self.names)
            found[output.arg] = fragment(*before, known_lines(self.lowered, output, known))
        return found

    def _columns(self, loads: Loads) -> Fragment:
        """Stage the column values that elements use, as f32 in shared memory."""
        if not self.program.staged:
            return ()
        inner = self.printer.child()
        lines = loads.column_values(inner)
        lines += inner.lines(self._statements("column"), self.named, self.program.staged, self.names)
        return loads.staging(inner, lines)

    def _elements(self, loads: Loads) -> tuple[list[Function], list[Fragment]]:
        """The spec for one element as functions, and their calls for the 32 columns of a sub-tile.

        One function, `element`, and one more before each Hadamard transform of something computed. Afterwards
        `points` has the list that each transform takes which goes through shared memory.
        """
        functions: list[Function] = []
        steps: list[Fragment] = []
        self.points: dict[int, str] = {}
        for value in sorted([*transforms(self.program), *fakes(self.program)]):
            fake = self.kernel.values[value].op == "dequantize"
            source = self.kernel.values[value].operands[0]
            x = self.printer.resolve(self.kernel.values[source].operands[0] if fake else source)
            if x not in loads.vectors:
                name, taken = self.names.new("to_transform"), self.names.new("untransformed")
                doc = f"What {'is quantized' if fake else 'the Hadamard transform takes'}."
                functions.append(self._function(loads, name, {x: taken}, doc, steps))
                loads.vectors[x] = taken
            result = self.names.new(self._transformed(value))
            plan = spread(self.program, value)
            if fake:
                functions += fake_functions(self.program, value)
                call = fake_call(self.program, value, loads.vectors[x])
            elif plan is not None:
                self.points[value] = loads.vectors[x]
                call = spread_read(self.program, plan)
            else:
                call = hadamard_call(self.program, value, loads.vectors[x])
            steps.append(fragment(f"{result} = {call}"))
            loads.vectors[value] = result
        stored = list(dict.fromkeys(self.printer.resolve(output.value) for output in self.program.outputs))
        self.results = {value: self._result_name(value) for value in stored}
        functions.append(self._function(loads, "element", self.results, _quoted(self.program, self.kernel), steps))
        self.results |= {o.value: self.results[self.printer.resolve(o.value)] for o in self.program.outputs}
        return functions, steps

    def _function(
        self, loads: Loads, function: str, results: Mapping[int, str], doc: str, steps: list[Fragment]
    ) -> Function:
        """A function for one element of `results`, each with its list's name. Appends its call to `steps`."""
        statements = self._needed(results, loads)
        inside = set(statements)
        used = {o for v in statements for o in self.kernel.values[v].operands} | set(results)
        inner = ValuePrinter(self.kernel, origins=self.printer.origins)
        names = self.names
        arguments: dict[str, Argument] = {}
        outside = [v for v in used - inside if self.kernel.values[v].op != "const"]
        for value in sorted(outside, key=self._argument_order):
            name = names.new(self._argument_name(value))
            inner.known[value] = name
            arguments[name] = loads.argument(value)
        lines = inner.lines(statements, self.named, (), names)
        returned = [inner.text(value, lines, names) for value in results]
        lists, columns = list(results.values()), self.program.subtile
        steps.append(fragment(element_call(function, list(arguments.values()), lists, columns, self.lowered.target)))
        return Function(function, tuple(arguments), doc, fragment(*lines, f"return {', '.join(returned)}"))

    def _needed(self, results: Iterable[int], loads: Loads) -> list[int]:
        """The element statements that results are computed from, but for lists that are there already."""
        wanted: set[int] = set()
        pending = list(results)
        elements = set(self._statements("element"))
        while pending:
            value = pending.pop()
            if value in elements and value not in wanted and value not in loads.vectors:
                wanted.add(value)
                pending.extend(self.kernel.values[value].operands)
        return [value for value in self._statements("element") if value in wanted]

    def _transformed(self, value: int) -> str:
        otherwise = "dequantized" if self.kernel.values[value].op == "dequantize" else "transformed"
        return str(self.kernel.values[value].attrs.get("name", otherwise))

    def _argument_order(self, value: int) -> tuple[int, int]:
        """The product first, then what changes least."""
        axes = self.kernel.values[value].axes
        return (-1 if value in self.program.accumulators else len(axes), value)

    def _argument_name(self, value: int) -> str:
        if value in self.program.accumulators:
            named = self.kernel.values[value].attrs.get("name")
            number = self.program.accumulators.index(value) + 1
            one = len(self.program.accumulators) == 1 or (named is not None and self.program.group is None)
            return str(named or "product") if one else f"{named or 'product'}{number}"
        value = self.printer.resolve(value)
        if self.kernel.values[value].op in ("hadamard", "dequantize"):
            return self._transformed(value)
        for leaf in self.program.inputs:
            if leaf.value == value:
                return leaf.name
        return self.printer.title(value)

    def _result_name(self, value: int) -> str:
        names = [output.arg for output in self.program.outputs if self.printer.resolve(output.value) == value]
        return self.names.new(f"{names[0]}_values")


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
