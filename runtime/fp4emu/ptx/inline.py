"""Calls are expanded into their callers (PTX ISA 9.7.12.5): the emulated warps have no stack.

A `.param` variable of a call sequence becomes a register for each place in it that is stored to or loaded from.
Recursion and calls through a register are refused by line. Of the functions that a module calls and does not define,
those of CUDA's runtime that are emulated (`fp4emu.isa.library`) become instructions; a call of any other is kept, and
is a fault if it is executed.
"""

from __future__ import annotations

from dataclasses import replace

from fp4emu.errors import Place, PtxError
from fp4emu.instruction import Address, Guard, Instruction, Negated, Operand, Pair, Register, Sink, Symbol, Vector
from fp4emu.ptx.tree import Function, Module, Variable
from fp4emu.registry import find_rule

MAX_DEPTH = 16


def inline(module: Module, function: Function) -> Function:
    """The function without calls; itself if it has none. `PtxError` if it, or what it calls, has an instruction that is
    not emulated."""
    _check(function)
    if not any(ins.rule.opcode == "call" for ins in function.body):
        return function
    return _Inliner(module, function).run()


def _check(function: Function) -> None:
    if function.refusals:
        refused = function.refusals[0]
        raise PtxError(refused.message, hint=refused.hint, place=refused.place)


class _Inliner:
    def __init__(self, module: Module, function: Function) -> None:
        self.module = module
        self.result = replace(function, body=[], labels={}, variables=dict(function.variables), branch_tables={})
        self.function = function
        self.serial = 0
        self.target = module.gpu

    def run(self) -> Function:
        self._copy(self.function, "", {}, None, ())
        return self.result

    def _copy(
        self, function: Function, suffix: str, params: dict[str, str], end: str | None, stack: tuple[str, ...]
    ) -> None:
        """Appends a body with its names made unique; `params` maps its formal parameters to the variables of the
        caller."""
        _check(function)
        at = {}
        for label, index in function.labels.items():
            at.setdefault(index, []).append(label)
        names = {**params}
        for variable in function.variables.values():
            if suffix and variable.space in ("param", "local"):
                names[variable.name] = variable.name + suffix
                self.result.variables[names[variable.name]] = replace(variable, name=names[variable.name])
            elif variable.name not in self.result.variables:
                self.result.variables[variable.name] = variable
        labels = {label: label + suffix for label in function.labels}
        for table, targets in function.branch_tables.items():
            self.result.branch_tables[table + suffix] = [labels[t] for t in targets]
            labels[table] = table + suffix
        for index, ins in enumerate(function.body):
            for label in at.get(index, ()):
                self.result.labels[label + suffix] = len(self.result.body)
            renamed = self._rename(ins, suffix, names, labels)
            opcode = ins.rule.opcode
            if opcode == "call":
                self._call(renamed, stack, suffix)
            elif opcode == "ret" and end is not None:
                rule, mods = find_rule("bra", self.target)
                self.result.body.append(replace(renamed, name="bra", rule=rule, mods=mods, operands=(Symbol(end),)))
            else:
                self.result.body.append(self._through_params(renamed))
        for label in at.get(len(function.body), ()):
            self.result.labels[label + suffix] = len(self.result.body)

    def _call(self, ins: Instruction, stack: tuple[str, ...], suffix: str) -> None:
        """`call (results), name, (arguments)`, each list optional."""
        place = Place(line=ins.line, text=ins.text)
        operands = list(ins.operands)
        results = operands.pop(0).items if isinstance(operands[0], Vector) else ()  # type: ignore[union-attr]
        callee = operands.pop(0)
        arguments = operands.pop(0).items if operands and isinstance(operands[0], Vector) else ()  # type: ignore[union-attr]
        target = self.module.functions.get(callee.name) if isinstance(callee, Symbol) else None
        if not isinstance(callee, Symbol):
            raise PtxError("a call through a register is not emulated", place=place)
        if target is None or not target.defined:
            self.result.body.append(self._runtime_call(ins, callee.name, results, arguments))
            return
        if ins.guard is not None:
            raise PtxError("a guarded call is not emulated", place=place)
        if target.name in stack or len(stack) >= MAX_DEPTH:
            raise PtxError(f"a recursive call of {target.name} is not emulated", place=place)
        params: dict[str, str] = {}
        for formal, actual in zip((*target.returns, *target.params), (*results, *arguments), strict=True):
            if formal.space != "param" or not isinstance(actual, Symbol):
                raise PtxError("only .param arguments are emulated", place=place)
            params[formal.name] = actual.name
        self.serial += 1
        end = f"$call_end_{self.serial}"
        self._copy(target, f"{suffix}#{self.serial}", params, end, (*stack, target.name))
        self.result.labels[end] = len(self.result.body)

    def _runtime_call(
        self, ins: Instruction, name: str, results: tuple[Operand, ...], arguments: tuple[Operand, ...]
    ) -> Instruction:
        """A call of a function of the runtime as an instruction of its own; of any other, a fault if it runs."""
        try:
            rule, mods = find_rule(f"call {name}", self.target)
        except LookupError:
            return replace(ins, operands=(Symbol(name),))
        homes = tuple(self._home(operand) for operand in (*results[: rule.outputs], *arguments))
        missing = (Sink(),) * (rule.outputs - len(results[: rule.outputs]))
        return replace(ins, name=f"call {name}", rule=rule, mods=mods, operands=(*missing, *homes))

    def _home(self, operand: Operand) -> Operand:
        """The register that stands for a whole parameter of a call."""
        if not isinstance(operand, Symbol):
            return operand
        size = self.result.variables[operand.name].size if operand.name in self.result.variables else 8
        return Register(f"{operand.name}+0", f"b{8 * size}")

    def _rename(self, ins: Instruction, suffix: str, names: dict[str, str], labels: dict[str, str]) -> Instruction:
        if not suffix and not names:
            return ins

        def operand(o: Operand) -> Operand:
            if isinstance(o, Register):
                return Register(o.name + suffix, o.type)
            if isinstance(o, Symbol):
                return Symbol(names.get(o.name, labels.get(o.name, o.name)))
            if isinstance(o, Vector):
                return Vector(tuple(operand(i) for i in o.items))
            if isinstance(o, Address):
                return Address(operand(o.base), o.offset, tuple(operand(i) for i in o.extra))
            if isinstance(o, Pair):
                return Pair(operand(o.first), operand(o.second))
            return Negated(operand(o.operand)) if isinstance(o, Negated) else o

        guard = Guard(Register(ins.guard.register.name + suffix, "pred"), ins.guard.negated) if ins.guard else None
        return replace(ins, operands=tuple(operand(o) for o in ins.operands), guard=guard)

    def _through_params(self, ins: Instruction) -> Instruction:
        """ld.param and st.param of a call sequence as moves from and to the registers that stand for the parameter."""
        opcode = ins.rule.opcode
        if opcode not in ("ld", "st") or not ins.mod("space").startswith("param"):
            return ins
        address = ins.operands[1 if opcode == "ld" else 0]
        if not isinstance(address, Address) or not isinstance(address.base, Symbol):
            return ins
        variable: Variable | None = self.result.variables.get(address.base.name)
        if variable is None:
            return ins
        other = ins.operands[0 if opcode == "ld" else 1]
        items = other.items if isinstance(other, Vector) else (other,)
        kind = ins.mod("type")
        width = int(kind.lstrip("busf")) // 8
        homes: list[Operand] = []
        for index, item in enumerate(items):
            register_type = item.type if isinstance(item, Register) else f"b{8 * width}"
            homes.append(
                Sink()
                if isinstance(item, Sink)
                else Register(f"{variable.name}+{address.offset + index * width}", register_type)
            )
        bits = {8: "b16", 16: "b16", 32: "b32", 64: "b64"}[8 * width]
        if any(isinstance(item, Register) and int(item.type.lstrip("busf")) != int(bits[1:]) for item in items):
            raise PtxError(
                "a call parameter in a register of another width is not emulated",
                place=Place(line=ins.line, text=ins.text),
            )
        moves = [(item, home) if opcode == "ld" else (home, item) for item, home in zip(items, homes, strict=True)]
        rule, mods = find_rule(f"mov.{bits}", self.target)
        for target, source in moves[:-1]:
            self.result.body.append(replace(ins, name=f"mov.{bits}", rule=rule, mods=mods, operands=(target, source)))
        return replace(ins, name=f"mov.{bits}", rule=rule, mods=mods, operands=moves[-1])
