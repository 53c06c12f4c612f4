"""Where the variables and parameters of an entry lie."""

from __future__ import annotations

from dataclasses import dataclass, field

from fp4emu.memory import SHARED_RESERVED
from fp4emu.ptx.tree import Function, Module, Variable


@dataclass(slots=True)
class Symbols:
    """Addresses of a function's names. Shared addresses are offsets; global ones absolute; `local` ones offsets in a
    thread's local memory."""

    module: Module
    function: Function
    shared: dict[str, tuple[int, int]] = field(default_factory=dict[str, "tuple[int, int]"])
    static_shared: int = 0
    local: dict[str, int] = field(default_factory=dict[str, int])
    local_bytes: int = 0
    params: dict[str, tuple[int, int]] = field(default_factory=dict[str, "tuple[int, int]"])
    param_bytes: int = 0
    addresses: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def build(cls, module: Module, function: Function, addresses: dict[str, int]) -> Symbols:
        symbols = cls(module, function, addresses=addresses)
        offset = 0
        for param in function.params:
            offset = -(-offset // param.alignment) * param.alignment
            symbols.params[param.name] = (offset, param.size)
            offset += param.size
        symbols.param_bytes = offset
        place = SHARED_RESERVED
        dynamic: list[Variable] = []
        for variable in (*function.variables.values(), *module.variables.values()):
            if variable.space == "shared":
                if variable.extern and variable.size == 0:
                    dynamic.append(variable)
                    continue
                place = -(-place // variable.alignment) * variable.alignment
                symbols.shared[variable.name] = (place, variable.size)
                place += variable.size
            elif variable.space == "local":
                symbols.local_bytes = -(-symbols.local_bytes // variable.alignment) * variable.alignment
                symbols.local[variable.name] = symbols.local_bytes
                symbols.local_bytes += variable.size
        for variable in dynamic:
            place = -(-place // variable.alignment) * variable.alignment
        symbols.static_shared = place
        for variable in dynamic:
            symbols.shared[variable.name] = (place, 0)
        return symbols
