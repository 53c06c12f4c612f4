"""Programs with an instruction under every shape of guard and operand, for every instruction of the registry."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from fp4emu.registry import Form, Rule

GUARDS = ("", "cta", "warp", "lane", "elect", "never", "nowhere")
WHOLE_WARP = ("", "cta", "warp", "never")
SHAPES = ("immediate", "uniform", "cta", "warp", "lane")
BLOCKS, SLOT, MANY = 3, 16, 24

# Operands as "destinations = sources". T: the type that the instruction names; D: twice as wide with .wide; all: a
# membermask of all lanes; a number is itself.
OPERANDS = {
    "abs neg not cnot brev rcp sqrt rsqrt ex2 lg2 sin cos tanh cvta cvta.to mov": "T=T",
    "add sub min max and or xor div rem copysign mul24": "T=T,T",
    "mul": "D=T,T",
    "add.cc addc sub.cc subc": "T=T,T",
    "madc": "T=T,T,T",
    "fma mad": "D=T,T,D",
    "sad": "T=T,T,T",
    "clz popc bfind": "b32=T",
    "bfe": "T=T,b32,b32",
    "bfi": "T=T,T,b32,b32",
    "bmsk": "b32=b32,b32",
    "szext shl shr mapa": "T=T,b32",
    "fns": "b32=b32,b32,3",
    "dp2a dp4a prmt shf": "b32=b32,b32,b32",
    "lop3": "b32=b32,b32,b32,0x6A",
    "selp": "T=T,T,pred",
    "slct": "T=T,T,b32",
    "setp": "pred|pred=T,T",
    "set": "b32=T,T",
    "testp": "pred=T",
    "cvt": "",
    "cvt.pack": "b32=b32,b32",
    "getctarank": "b32=T",
    "isspacep": "pred=b64",
    "createpolicy": "b64=0f3F800000",
    "activemask": "b32=",
    "elect.sync": "b32|pred=all",
    "shfl.sync": "b32|pred=b32,b32,31,all",
    "vote.sync": "T=pred,all",
    "match": "b32=T,all",
    "redux.sync": "b32=b32,all",
    "bar.warp.sync": "=all",
    "mbarrier.pending_count": "b32=b64",
    "nanosleep": "=b32",
    "membar fence fence.proxy brkpt griddepcontrol cp.async.commit_group cp.async.bulk.commit_group": "=",
    "cp.async.wait_all": "=",
    "cp.async.wait_group cp.async.bulk.wait_group": "=0",
    "pmevent": "=3",
}
# What touches memory, as PTX: {m} an address in the space that the instruction names, {s} and {g} in shared and in
# global memory, {r} one in shared memory to read from, {b} the CTA's mbarrier, {c} mbarriers with a count that no one
# reaches, {d} the destinations, {v} sources (as a vector where the instruction takes one), {0} and {1} single sources.
MEMORY = {
    "ld": "{d}, [{m}]",
    "st": "[{m}], {v}",
    "red": "[{m}], {0}",
    "atom": "{d}, [{m}], {0}",
    "cp.async": "[{s}], [{g}], {n}",
    "st.async": "[{s}], {v}, [{b}]",
    "red.async": "[{s}], {0}, [{b}]",
    "st.bulk": "[{s}], 16, 0",
    "cp.async.bulk": "[{s}], [{g}], 16, [{b}]",
    "cp.reduce.async.bulk": "[{s}], [{r}], 16, [{b}]",
    "cp.async.bulk.prefetch": "[{g}], 16",
    "prefetch prefetchu": "[{g}]",
    "discard applypriority": "[{g}], 128",
    "mbarrier.arrive mbarrier.arrive_drop": "{d}, [{c}]",
    "mbarrier.expect_tx mbarrier.complete_tx": "[{c}], 0",
}
# Not made here, and why or where they are tried instead.
EXCLUDED = {
    "bra brx.idx exit ret trap call": "test_random_programs.py, test_control.py",
    "call vprintf": "test_library.py",
    "call __assertfail": "test_library.py",
    "bar barrier barrier.cluster": "every thread of the CTA must come: test_barriers.py",
    "mbarrier.init mbarrier.inval mbarrier.test_wait mbarrier.try_wait cp.async.mbarrier.arrive": "test_barriers.py",
    "cp.async.bulk.tensor cp.reduce.async.bulk.tensor cp.async.bulk.prefetch.tensor": "need tensor maps",
    "tensormap.replace tensormap.cp_fenceproxy": "need tensor maps",
    "clusterlaunchcontrol.try_cancel": "takes clusters away from the launch",
    "clusterlaunchcontrol.query_cancel.is_canceled": "128-bit responses",
    "clusterlaunchcontrol.query_cancel.get_first_ctaid clusterlaunchcontrol.query_cancel.get_first_ctaid::x "
    "clusterlaunchcontrol.query_cancel.get_first_ctaid::y clusterlaunchcontrol.query_cancel.get_first_ctaid::z": "",
    "wmma.load.a wmma.load.b wmma.load.c wmma.store.d wmma.mma": "whole warps: tensor/test_wmma.py",
    "ldmatrix stmatrix mma wgmma.mma_async wgmma.fence wgmma.commit_group wgmma.wait_group setmaxnreg": "whole warps",
    "tcgen05.alloc tcgen05.dealloc tcgen05.relinquish_alloc_permit tcgen05.ld tcgen05.st tcgen05.cp tcgen05.mma "
    "tcgen05.mma.ws tcgen05.commit tcgen05.wait::ld tcgen05.wait::st tcgen05.fence::after_thread_sync "
    "tcgen05.fence::before_thread_sync": "tensor memory",
}

# One, as 8 bytes of each floating type. Where threads add to one place, memory starts at one and grows by whole numbers
# of which all sums are exact (below 256 for bf16), so that no order of the threads can be told from another.
ONES = {
    "f64": 0x3FF0 << 48,
    "f32": 0x3F80 << 48 | 0x3F80 << 16,
    "f16": 0x3C00 * 0x0001_0001_0001_0001,
    "bf16": 0x3F80 * 0x0001_0001_0001_0001,
}


def _each(table: dict[str, str]) -> dict[str, str]:
    return {opcode: text for names, text in table.items() for opcode in re.split(r"(?<!call) +", names)}


OPERANDS, MEMORY, EXCLUDED = _each(OPERANDS), _each(MEMORY), _each(EXCLUDED)


def width(kind: str) -> int:
    """Bits of the register that holds a type."""
    special = {"pred": 1, "f16x2": 32, "bf16x2": 32, "f32x2": 64, "bf16": 16, "tf32": 32, "f16": 16}
    if kind in special:
        return special[kind]
    if kind.endswith("x4"):
        return 16 if kind.startswith("e2m1") else 32
    if kind.endswith("x2"):
        return 8 if kind.startswith("e2m1") else 16
    return max(int(kind.lstrip("busf")), 16)


@dataclass
class Writer:
    """One program: registers of every shape, instances of instructions, and the output of each."""

    random: random.Random
    branches: bool
    block: int
    lines: list[str] = field(default_factory=list[str])
    last: list[str] = field(default_factory=list[str])
    registers: dict[str, int] = field(default_factory=dict[str, int])
    outputs: int = 0
    instances: int = 0
    ones: dict[int, int] = field(default_factory=dict[int, int])
    """The areas, by number, that start with floating numbers, and the 8 bytes that their slots repeat."""

    def register(self, bits: int) -> str:
        name = f"%q{len(self.registers)}"
        self.registers[name] = bits
        return name

    def value(self, shape: str, kind: str, exact: bool = False) -> str:
        """A register that varies as `shape` says, or an immediate.

        `exact`: whole numbers, also as floats, so small that sums are exact.
        """
        bits, salt = width(kind), self.random.getrandbits(32)
        if shape == "immediate":
            if bits == 1 or bits == 128 or kind[-2:] in ("x2", "x4") or kind in ("f16", "bf16"):
                shape = "uniform"
            elif kind in ("f32", "f64"):
                number = self.random.choice([0x3FC00000, 0xC0000000, 0]) if kind == "f32" else 0x4004000000000000
                return f"0{'f' if kind == 'f32' else 'd'}{number:0{bits // 4}X}"
            else:
                return str(self.random.choice([0, 1, 5, 31, -1, -6, (1 << (bits - 1)) - 1]))
        word = self.register(32)
        base = {"uniform": "3", "cta": "%C", "warp": "%W", "lane": "%T"}[shape]
        self.lines.append(f"mad.lo.u32 {word}, {base}, {0 if shape == 'uniform' else 0x9E3779B1}, {salt};")
        if exact:
            if (element := kind.removesuffix("x2")) in ("f16", "bf16"):
                return self._units(word, ONES[element] & 0xFFFF, bits)
            self.lines.append(f"and.b32 {word}, {word}, 63;")
            if kind in ("f32", "f64"):
                number = self.register(bits)
                self.lines.append(f"cvt.rn.{kind}.u32 {number}, {word};")
                return number
        if bits == 32:
            return word
        return self._resized(word, bits)

    def _units(self, word: str, one: int, bits: int) -> str:
        """A register of 16-bit floats that are 0 or 1 with a sign."""
        sign = self.register(32)
        self.lines.append(f"and.b32 {sign}, {word}, 0x80008000; and.b32 {word}, {word}, 0x00010001;")
        self.lines.append(f"mad.lo.u32 {word}, {word}, {one}, {sign};")
        return word if bits == 32 else self._resized(word, bits)

    def _resized(self, word: str, bits: int) -> str:
        name = self.register(bits)
        if bits == 1:
            test = self.register(32)
            self.lines.append(f"and.b32 {test}, {word}, 64; setp.ne.u32 {name}, {test}, 0;")
        elif bits == 64:
            self.lines.append(f"mul.wide.u32 {name}, {word}, 0x85EBCA77;")
        elif bits == 128:
            low = self._resized(word, 64)
            self.lines.append(f"mov.b128 {name}, {{{low}, {low}}};")
        else:
            self.lines.append(f"cvt.u{bits}.u32 {name}, {word};")
        return name

    def show(self, name: str) -> None:
        """Puts a register of each thread into the output."""
        bits = self.registers[name]
        if bits == 1:
            word = self.register(32)
            self.last.append(f"selp.b32 {word}, 1, 0, {name};")
            name, bits = word, 32
        self.last.append(f"st.global.b{bits} [%to+{self.outputs * SLOT}], {name};")
        self.outputs += 1

    def guarded(self, guard: str, *instructions: str) -> None:
        self.instances += 1
        if self.random.random() < 0.5:
            self.lines.append(f"AT{self.instances}:")
        if not guard:
            self.lines += [f"{text};" for text in instructions]
            return
        negated = guard in ("cta", "warp", "lane") and self.random.random() < 0.3
        if self.branches:
            self.lines.append(f"@{'' if negated else '!'}%g_{guard} bra OVER{self.instances};")
            self.lines += [*(f"{text};" for text in instructions), f"OVER{self.instances}:"]
        else:
            self.lines += [f"@{'!' if negated else ''}%g_{guard} {text};" for text in instructions]

    # --- memory ---

    def place(self, shape: str, space: str, area: int) -> tuple[str, str]:
        """(address of a place that threads share as `shape` says, own address of each thread) in an area."""
        start = {"uniform": "0", "cta": "0", "warp": "%W", "lane": "%T"}[shape]
        step = SLOT * (32 if shape == "warp" else 1)
        bits = 64 if space in ("global", "") else 32
        address, own = self.register(bits), self.register(bits)
        if bits == 32:
            self.lines.append(f"mad.lo.u32 {address}, {start}, {step}, {area}; mov.b32 {own}, %mine;")
            self.lines.append(f"add.u32 {address}, {address}, %area; add.u32 {own}, {own}, {area};")
            return address, own
        origin = "%field" if shape == "uniform" else "%place"
        self.lines.append(f"add.u64 {address}, {origin}, {area}; mad.wide.u32 {address}, {start}, {step}, {address};")
        self.lines.append(f"add.u64 {own}, %own, {area};")
        return address, own

    def cleared(self, area: int) -> str:
        """What a thread's slot of an area of shared memory starts with, as four words."""
        if area in self.ones:
            low, high = self.ones[area] & 0xFFFFFFFF, self.ones[area] >> 32
            return f"{low}, {high}, {low}, {high}"
        return "%T, 1, 2, %T"

    def initial(self, blocks: int) -> bytes:
        """Global memory at the start: an area for each area of shared memory, in each CTA, and the outputs.

        The areas are compared after the launch: no CTA can tell when the others have written.
        """
        step = SLOT * self.block
        cta = bytearray(bytes(range(1, 65)) * ((2 * self.instances + 2) * step // 64 + 1))[: self.areas * step]
        for area, ones in self.ones.items():
            cta[area * step : (area + 1) * step] = ones.to_bytes(8, "little") * (step // 8)
        return bytes(cta) * blocks + bytes(max(self.outputs, 1) * step * blocks)

    @property
    def areas(self) -> int:
        return self.instances * 2 + 2

    def text(self) -> str:
        """The body, after a prologue that clears memory and makes the guards, with the output at the end."""
        used = self.areas * SLOT * self.block
        declared = "".join(
            f".reg .{'pred' if bits == 1 else f'b{bits}'} {name}; " for name, bits in self.registers.items()
        )
        clear = "\n".join(
            f"st.shared.v4.b32 [%mine+{area * SLOT * self.block}], {{{self.cleared(area)}}};"
            for area in range(self.areas)
        )
        return f"""
.reg .pred %g_cta, %g_warp, %g_lane, %g_elect, %g_never, %g_nowhere, %first, %done; .reg .b32 %mine, %area, %x, %bar;
.reg .b64 %to, %field, %place, %own, %w; {declared}
.shared .align 16 .b8 area[{used}]; .shared .align 8 .b8 bar[8];
mov.u32 %area, area; mad.lo.u32 %mine, %T, {SLOT}, %area; mov.u32 %bar, bar;
mad.lo.u32 %x, %C, {self.block}, %T; mad.wide.u32 %to, %x, {SLOT * max(self.outputs, 1)}, %out;
add.u64 %to, %to, {used * BLOCKS};
mul.lo.u32 %x, %C, {used}; mov.u64 %field, %out; cvt.u64.u32 %place, %x; add.u64 %place, %place, %field;
mad.wide.u32 %own, %T, {SLOT}, %place;
setp.ne.u32 %g_cta, %C, 1; setp.eq.u32 %g_warp, %W, 1; and.b32 %x, %T, 5; setp.eq.u32 %g_lane, %x, 4;
setp.gt.u32 %g_never, %C, 9; setp.gt.u32 %g_nowhere, %L, 99; elect.sync _|%g_elect, -1; setp.eq.u32 %first, %T, 0;
@%first mbarrier.init.shared.b64 [%bar], 1;
{clear}
fence.proxy.async; bar.sync 0;
{chr(10).join(self.lines)}
cp.async.wait_all; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0; bar.sync 0;
@%first mbarrier.arrive.shared.b64 _, [%bar];
WAIT: mbarrier.try_wait.parity.shared.b64 %done, [%bar], 0; @!%done bra WAIT;
bar.sync 0;
{chr(10).join(self.last)}
"""


def alternatives(form: Form, rng: random.Random) -> dict[str, str]:
    """One way to write a form: slot -> modifier."""
    return {s.name: rng.choice(s.alternatives) for s in form.slots if not s.optional or rng.random() < 0.5}


def typed(token: str, slots: dict[str, str], rule: Rule) -> str:
    """The type behind a token of `OPERANDS`."""
    if token not in ("T", "D"):
        return slots.get(token, token)
    named = slots.get("type") or next(t for t in ("pred", "b32", "b64", "f32x2", "f32") if t in slots)
    if token == "D" and slots.get("part") == "wide":
        return f"{named[0]}{2 * width(named)}"
    return named


def conversion(slots: dict[str, str]) -> tuple[list[str], list[str]]:
    """Destination and sources of cvt."""
    to, source = slots["to"], slots.get("from", "f32")
    if "rs" in slots:
        return [to], ["{f32*4}", "b32"] if to.endswith("x4") else ["f32", "f32", "b32"]
    packs = to.endswith("x2") and source == "f32"
    return [to], [source, source] if packs else [source]


def lanewise(w: Writer, rule: Rule, slots: dict[str, str], name: str, guard: str, shapes: Callable[[], str]) -> None:
    """An instruction without memory."""
    outs, _, ins = OPERANDS[rule.opcode].partition("=")
    targets = [typed(t, slots, rule) for t in outs.split("|") if t]
    sources = [typed(t, slots, rule) for t in ins.split(",") if t]
    if rule.opcode == "cvt":
        targets, sources = conversion(slots)
    if rule.family == "mixed":
        sources = [*(slots["narrow"] for _ in sources[1:]), "f32"]
    if rule.opcode == "setp" and "combine" in slots:
        sources.append("pred")
    if rule.opcode == "cvt.pack" and "b32" in slots:
        sources.append("b32")
    texts: list[str] = []
    for kind in sources:
        if kind == "all":
            texts.append("-1")
        elif kind == "{f32*4}":
            texts.append("{" + ", ".join(w.value(shapes(), "f32") for _ in range(4)) + "}")
        elif kind[0].isdigit():
            texts.append(kind)
        else:
            texts.append(w.value(shapes(), kind))
    names = [w.value(w.random.choice(SHAPES[1:]), kind) for kind in targets]
    w.guarded(guard, f"{name} {', '.join([*(['|'.join(names)] if names else []), *texts])}")
    for register in names:
        w.show(register)


def legal(rule: Rule, slots: dict[str, str]) -> bool:
    """Whether a choice of modifiers names a space that exists here, and fits into a slot of memory."""
    if slots.get("space") in ("const", "local", "param", "param::entry", "param::func") or "multicast" in slots:
        return False
    if {"hint", "cp_mask"} & set(slots) or slots.get("prefetch") and rule.opcode.startswith("cp."):
        return False
    if rule.opcode in ("ld", "st", "st.async"):
        return bits_of(slots["type"]) * int(slots.get("vec", "v1")[1:]) <= 8 * SLOT
    if rule.opcode.startswith("cp.reduce"):
        return slots["type"] in ("u32", "s32", "u64") and slots["op"] in ("add", "min", "max") and "noftz" not in slots
    return True


def bits_of(kind: str) -> int:
    return int(kind.lstrip("busf"))


def memory(w: Writer, rule: Rule, slots: dict[str, str], name: str, guard: str, shapes: Callable[[], str]) -> None:
    """An instruction with addresses. Threads that write to one place write the same there, or commute."""
    op, kind = rule.opcode, slots.get("type", "b32")
    space = slots.get("space", "shared" if op not in ("ld", "st", "red", "atom") else "")
    share = w.random.choice(["uniform", "cta", "warp", "lane"])
    swaps = slots.get("op") in ("exch", "cas", "inc", "dec")
    share = "lane" if swaps else share
    commutes = op in ("red", "atom", "red.async") and not swaps
    rank = ("uniform", "cta", "warp", "lane").index(
        "cta" if share == "uniform" and space.startswith("shared") else share
    )
    chosen = [s for s in SHAPES if commutes or max(SHAPES.index(s) - 1, 0) <= rank]
    area = (2 * w.instances + 1) * SLOT * w.block
    generic = space == "" and w.random.random() < 0.5
    where = "shared" if generic else space
    address, own = w.place(share, where, area)
    field, given = w.place(share, "shared", area)
    globally, _ = w.place(share, "global", area)
    source, _ = w.place(share, "shared", area + SLOT * w.block)
    if generic:
        wide = w.register(64)
        w.lines.append(f"cvt.u64.u32 {wide}, {address}; cvta.shared.u64 {wide}, {wide};")
        address = wide
    exact = op in ("red", "atom", "red.async")
    if exact and kind.removesuffix("x2") in ONES:
        w.ones[2 * w.instances + 1] = ONES[kind.removesuffix("x2")]
    count = int(slots.get("vec", "v1")[1:]) if op in ("ld", "st", "st.async") else 1
    values = [w.value(w.random.choice(chosen), kind, exact) for _ in range(max(count, 2))]
    holders = [w.value("lane", "b64" if "arrive" in op else kind) for _ in range(count)] if rule.outputs else []
    vector = "{{{}}}" if count > 1 else "{}"
    size = 16 if slots.get("cache") == "cg" else w.random.choice([4, 8, 16])
    text = MEMORY[op].format(
        *values, m=address, s=field, g=globally, r=source, b="%bar", c=field, n=size,
        d=vector.format(", ".join(holders)), v=vector.format(", ".join(values[:count])),
    )  # fmt: skip
    if slots.get("op") == "cas":
        text += f", {values[1]}"
    if op.startswith("mbarrier.arrive") and ("expect" in slots or "noComplete" in slots):
        text += ", 0" if "expect" in slots else ", 1"
    if op in ("cp.async.bulk", "cp.reduce.async.bulk") and "bulk_group" in slots:
        text = f"[{globally}], [{source}], 16"
    elif op == "cp.async.bulk" and "src" in slots:
        text = f"[{field}], [{source}], 16, [%bar]"
    announced: list[str] = []
    if "[%bar]" in text:
        moved = bits_of(kind) * count // 8 if "async" in op and "bulk" not in op else 16
        announced = [f"mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%bar], {moved}"]
    if "{c}" in MEMORY[op]:
        w.lines.append(f"mbarrier.init.shared.b64 [{given}], 60000; bar.sync 0;")
    w.guarded(guard, *announced, f"{name} {text}")
    if share == "lane" or op == "ld":
        for register in holders:
            w.show(register)
    seen = [w.register(64), w.register(64)]
    if "{c}" in MEMORY[op]:
        w.last.append(f"mbarrier.arrive.noComplete.shared.b64 {seen[0]}, [{given}], 1;")
        w.show(seen[0])
    elif where.startswith("shared") and "bulk_group" not in slots:
        w.last.append(f"ld.shared.v2.b64 {{{seen[0]}, {seen[1]}}}, [{own if where == space or generic else given}];")
        w.show(seen[0])
        w.show(seen[1])


def write(rule: Rule, form: Form, seed: int, count: int, branches: bool) -> tuple[Writer, str]:
    """A program with `count` instances of one form of an instruction, and what it is about."""
    rng = random.Random(seed)
    whole = "sync" in rule.opcode or "sync" in {s.name for s in form.slots}
    w = Writer(rng, branches, 64 if whole else 72)
    names: list[str] = []
    while len(names) < count:
        slots = alternatives(form, rng)
        if not legal(rule, slots):
            continue
        name = ".".join([rule.opcode, *(slots[s.name] for s in form.slots if s.name in slots)])
        guard = rng.choice(WHOLE_WARP if whole else GUARDS)
        make = memory if rule.opcode in MEMORY else lanewise
        make(w, rule, slots, name, guard, lambda: rng.choice(SHAPES))
        names.append(f"{guard or 'no'} guard: {name}")
    return w, "\n".join(names)
