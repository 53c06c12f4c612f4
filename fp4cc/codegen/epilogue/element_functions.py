"""The spec for one element as functions, and their calls for the columns of a sub-tile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fp4cc.codegen.epilogue.construct import Construct, Epilogue, Transform
from fp4cc.codegen.epilogue.elements import Argument, element_call
from fp4cc.codegen.epilogue.values import ValuePrinter
from fp4cc.codegen.fragments import Function, fragment
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4cc.source import Span


class Elements(Construct):
    """One function, `element`, and one more before each transform of something computed."""

    name = "elements"

    def __init__(self, epilogue: Epilogue) -> None:
        super().__init__(epilogue)
        self._functions: list[Function] = []

    @property
    def _transforms(self) -> list[Transform]:
        return [construct for construct in self.epilogue.constructs if isinstance(construct, Transform)]

    def _in_order(self) -> list[tuple[int, Transform]]:
        found = [(value, transform) for transform in self._transforms for value in transform.values()]
        return sorted(found, key=lambda each: each[0])

    def functions(self) -> Sequence[Function]:
        return self._functions

    def lists(self) -> None:
        vectors, results = self.epilogue.vectors, self.epilogue.results
        for value, transform in self._in_order():
            x = self.printer.resolve(transform.operand(value))
            if x not in vectors:
                name, taken = self.names.new("to_transform"), self.names.new("untransformed")
                self._functions.append(self._function(name, {x: taken}, f"What {transform.takes}."))
                vectors[x] = taken
            result = self.names.new(self._transformed(value, transform))
            self._functions += transform.functions_of(value)
            self.epilogue.steps.append(fragment(f"{result} = {transform.call(value, vectors[x])}"))
            vectors[value] = result
        stored = dict.fromkeys(self.printer.resolve(output.value) for output in self.program.outputs)
        doc = _quoted(self.program, self.kernel)
        self._functions.append(self._function("element", {value: results[value] for value in stored}, doc))

    def _function(self, function: str, results: Mapping[int, str], doc: str) -> Function:
        """A function for one element of `results`, each with its list's name. Appends its call to the steps."""
        statements = self._needed(results)
        inside = set(statements)
        used = {o for v in statements for o in self.kernel.values[v].operands} | set(results)
        inner = ValuePrinter(self.kernel, origins=self.printer.origins)
        names = self.names
        arguments: dict[str, Argument] = {}
        outside = [v for v in used - inside if self.kernel.values[v].op != "const"]
        for value in sorted(outside, key=self._argument_order):
            name = names.new(self._argument_name(value))
            inner.known[value] = name
            arguments[name] = self.epilogue.argument(value)
        lines = inner.lines(statements, self.epilogue.named, (), names)
        returned = [inner.text(value, lines, names) for value in results]
        lists, columns = list(results.values()), self.program.subtile
        call = element_call(function, list(arguments.values()), lists, columns, self.lowered.target)
        self.epilogue.steps.append(fragment(call))
        return Function(function, tuple(arguments), doc, fragment(*lines, f"return {', '.join(returned)}"))

    def _needed(self, results: Iterable[int]) -> list[int]:
        """The element statements that results are computed from, but for lists that are there already."""
        wanted: set[int] = set()
        pending = list(results)
        elements = set(self.epilogue.statements("element"))
        while pending:
            value = pending.pop()
            if value in elements and value not in wanted and value not in self.epilogue.vectors:
                wanted.add(value)
                pending.extend(self.kernel.values[value].operands)
        return [value for value in self.epilogue.statements("element") if value in wanted]

    def _transform(self, value: int) -> Transform | None:
        """The construct that makes a value outside the functions of one element."""
        return next((each for each in self._transforms if value in each.values()), None)

    def _transformed(self, value: int, transform: Transform) -> str:
        return str(self.kernel.values[value].attrs.get("name", transform.made))

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
        transform = self._transform(value)
        return self.epilogue.title(value) if transform is None else self._transformed(value, transform)


def result_names(epilogue: Epilogue) -> dict[int, str]:
    """The names of the lists of stored values, of outputs that store the same one the first's."""
    printer, outputs = epilogue.printer, epilogue.program.outputs
    found: dict[int, str] = {}
    for output in outputs:
        value = printer.resolve(output.value)
        if value not in found:
            found[value] = epilogue.names.new(f"{output.arg}_values")
    return found | {output.value: found[printer.resolve(output.value)] for output in outputs}


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
