"""What names mean: variables, parameters and special registers (PTX ISA chapter 10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fp4emu.builder import Builder, Value
from fp4emu.memory import SHARED_RESERVED
from fp4emu.ptx.tree import Function, Module, Variable

if TYPE_CHECKING:
    from fp4emu.group import Group

# Special registers by how they vary: over the lanes, over the CTAs, over the ranks of a cluster, or not at all.
_AXES = ("x", "y", "z")
PER_LANE = {"%laneid", *(f"%tid.{a}" for a in _AXES), *(f"%lanemask_{c}" for c in ("eq", "lt", "le", "gt", "ge"))}
PER_WARP = {"%warpid"}
PER_CTA = {"%smid", *(f"{name}.{a}" for name in ("%ctaid", "%clusterid") for a in _AXES)}
PER_RANK = {"%cluster_ctarank", *(f"%cluster_ctaid.{a}" for a in _AXES)}
UNIFORM = {
    *(f"{name}.{a}" for name in ("%ntid", "%nctaid", "%nclusterid", "%cluster_nctaid") for a in _AXES),
    "%cluster_nctarank",
    "%nwarpid",
    "%nsmid",
    "%gridid",
    "%clock",
    "%clock_hi",
    "%clock64",
    "%globaltimer",
    "%globaltimer_lo",
    "%globaltimer_hi",
    "%dynamic_smem_size",
    "%total_smem_size",
    "%aggr_smem_size",
    "%is_explicit_cluster",
}
VOLATILE = {"%clock", "%clock_hi", "%clock64", "%globaltimer", "%globaltimer_lo", "%globaltimer_hi"}
WIDE = {"%clock64", "%globaltimer", "%gridid"}
SPECIAL = PER_LANE | PER_WARP | PER_CTA | PER_RANK | UNIFORM


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

    def value(self, builder: Builder, name: str, bits: int) -> Value:
        """A name as a source operand: the address of a variable, or a special register."""
        if name.startswith("%"):
            return self._special(builder, name)
        if name in self.shared:
            kind = "U" if builder.context.single_rank else "W"
            return Value(kind, bits, {"u": self._sized(builder, f"(g.rank_base + {self.shared[name][0]})", kind, bits)})
        if name in self.params:
            return Value("U", bits, {"u": f"(g.launch.param_address + {self.params[name][0]})"})
        if name in self.addresses:
            return Value("U", bits, {"u": str(self.addresses[name])})
        if name in self.local:
            return Value("V", bits, {"u": f"(g.special('local') + {self.local[name]})"})
        raise builder.error(f"{name} is not declared")

    def _sized(self, builder: Builder, text: str, kind: str, bits: int) -> str:
        return text if kind == "U" or bits == 32 else f"{text}.astype(U8)"

    def _special(self, builder: Builder, name: str) -> Value:
        if name not in SPECIAL:
            builder.fail(f"the special register {name} is not emulated")
        context = builder.context
        kind = "U"
        if name in PER_LANE:
            kind = "V"
        elif name in PER_WARP:
            kind = "U" if context.single_row else "W"
        elif name in PER_CTA:
            kind = "U" if context.single_cta else "W"
        elif name in PER_RANK:
            kind = "U" if context.single_rank else "W"
        bits = 64 if name in WIDE else 32
        read = f"g.launch.timer({name!r})" if name in VOLATILE else f"g.special({name!r})"
        if name == "%is_explicit_cluster":
            return Value("U", 1, {"b": read})
        return Value(kind, bits, {"u": read})


def special(group: Group, name: str) -> Any:
    """The value of a special register for the rows of a group: an int, or an array [row, 1] or [row, lane]."""
    launch, warps = group.launch, group.warps
    if name == "local":
        slots = np.array([launch.warp_slot(warp) for warp in warps], np.uint64).reshape(-1, 1)
        threads = slots * np.uint64(32) + np.arange(32, dtype=np.uint64)
        return np.uint64(launch.local_address) + threads * np.uint64(launch.local_stride)
    base, _, axis = name.partition(".")
    index = _AXES.index(axis) if axis else 0
    if base == "%tid":
        linear = np.array([warp.index * 32 for warp in warps], np.uint32).reshape(-1, 1) + np.arange(
            32, dtype=np.uint32
        )
        x, y, _ = launch.block
        return (linear % x, linear // x % y, linear // (x * y))[index].astype(np.uint32)
    if base == "%laneid":
        return np.arange(32, dtype=np.uint32).reshape(1, 32)
    if base.startswith("%lanemask_"):
        lane = np.arange(32)
        masks = {
            "eq": 1 << lane,
            "lt": (1 << lane) - 1,
            "le": (2 << lane) - 1,
            "ge": ~((1 << lane) - 1),
            "gt": ~((2 << lane) - 1),
        }
        return (masks[base[-2:]] & 0xFFFF_FFFF).astype(np.uint32).reshape(1, 32)
    if base == "%warpid":
        return _rows([warp.index for warp in warps], group.single_row)
    if base == "%ctaid":
        return _rows([warp.cta.id[index] for warp in warps], group.single_cta)
    if base == "%clusterid":
        return _rows([warp.cta.cluster.id[index] for warp in warps], group.single_cta)
    if base == "%cluster_ctarank":
        return _rows([warp.cta.rank for warp in warps], group.single_rank)
    if base == "%cluster_ctaid":
        return _rows([warp.cta.id[index] % launch.cluster[index] for warp in warps], group.single_rank)
    if base == "%ntid":
        return launch.block[index]
    if base == "%nctaid":
        return launch.grid[index]
    if base == "%nclusterid":
        return launch.grid[index] // launch.cluster[index]
    if base == "%cluster_nctaid":
        return launch.cluster[index]
    if base == "%cluster_nctarank":
        return launch.cluster[0] * launch.cluster[1] * launch.cluster[2]
    if base == "%nwarpid":
        return launch.warps_per_cta
    if base == "%is_explicit_cluster":
        return launch.cluster != (1, 1, 1)
    if base == "%dynamic_smem_size":
        return launch.dynamic_shared
    if base in ("%total_smem_size", "%aggr_smem_size"):
        return launch.shared_size
    if base == "%smid":
        slots = [launch.warp_slot(warp) // launch.warps_per_cta for warp in warps]
        return _rows([slot % launch.sm_count for slot in slots], group.single_cta)
    return {"%nsmid": launch.sm_count, "%gridid": 1}[base]


def _rows(values: list[int], uniform: bool) -> Any:
    return values[0] if uniform else np.array(values, np.uint32).reshape(-1, 1)
