"""Values that do not depend on the column: computed once a kernel, a tile or a row, with the inputs that they take."""

from __future__ import annotations

from fp4cc.codegen.epilogue.construct import Construct
from fp4cc.codegen.epilogue.reading import load_text, offset_text
from fp4cc.codegen.fragments import Fragment, fragment
from fp4cc.ir.lowered_epilogue import EpilogueInput, Scope


class Hoisted(Construct):
    """Scalars, values of the batch, and values of this thread's row; afterwards the printer knows their names."""

    name = "hoisted"

    def setup(self) -> Fragment:
        return fragment(*self._scalars(), *self._scope("kernel"), *self._guards())

    def rows(self) -> Fragment:
        batch = [self._load(leaf, offset_text(self.program, leaf), "True") for leaf in self.epilogue.inputs("batch")]
        batch += self._scope("tile")
        rows = [self._load(leaf, offset_text(self.program, leaf), "row_valid") for leaf in self.epilogue.inputs("row")]
        return fragment(*batch, *rows, *self._scope("row"))

    def _scalars(self) -> list[str]:
        """Parameters by value get their name; device scalars are loaded."""
        lines: list[str] = []
        for leaf in self.epilogue.inputs("scalar_param"):
            self.printer.known[leaf.value] = leaf.param_name
        for leaf in self.epilogue.inputs("dim"):
            self.printer.known[leaf.value] = f"Float32({leaf.param_name})"
        for leaf in self.epilogue.inputs("device_scalar"):
            lines.append(self._load(leaf, "0", "True"))
        states = [leaf.param_name for leaf in self.epilogue.inputs("uniform")]
        states += [f"{o.quantize.rng}_ptr" for o in self.program.outputs if o.quantize and o.quantize.rng]
        for state in dict.fromkeys(states):
            lines.append(f"{state}_words = load_4_words(global_address({state}, 0, 8), True)  # seed and offset")
        return lines

    def _guards(self) -> list[str]:
        """The conditions under which old values are read."""
        lines: list[str] = []
        for leaf in self.program.inputs:
            if leaf.guards:
                tests = [f"ne({self.printer.text(guard, lines, self.names)}, 0.0)" for guard in leaf.guards]
                text = tests[0]
                for test in tests[1:]:
                    text = f"either({text}, {test})"
                self.epilogue.guarded[leaf.value] = self.names.new(f"reads_{leaf.name}")
                lines.append(f"{self.epilogue.guarded[leaf.value]} = {text}")
        return lines

    def _scope(self, scope: Scope) -> list[str]:
        """Assignments of a scope's values; all that an inner scope uses have names afterwards."""
        values = self.epilogue.statements(scope)
        inside = set(values)
        others = [s.value for s in self.program.statements if s.value not in inside]
        outer = {o for other in others for o in self.kernel.values[other].operands}
        outer |= self.program.taken
        outer |= {guard for leaf in self.program.inputs for guard in leaf.guards}
        return self.printer.lines(values, self.epilogue.named, outer & inside, self.names)

    def _load(self, leaf: EpilogueInput, where: str, valid: str) -> str:
        text = load_text(leaf, where, valid)
        self.printer.known[leaf.value] = self.names.new(leaf.name)
        return f"{self.printer.known[leaf.value]} = {text}"
