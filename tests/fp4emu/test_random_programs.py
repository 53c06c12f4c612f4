"""Random structured programs, run in every lockstep mode and thread by thread in plain Python.

They mix values that are uniform, per warp and per lane with nested branches, loops, predication and early exits: what
the specialised blocks, the
splitting and merging of groups and the blending of divergent paths must get right.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

REGISTERS = 6
WORD = 0xFFFF_FFFF
THREADS, BLOCKS = 96, 3


@dataclass
class Program:
    """PTX lines and the same program as nested Python tuples."""

    random: random.Random
    lines: list[str] = field(default_factory=list)
    labels: int = 0
    predicates: int = 0

    def operand(self) -> tuple[str, Any]:
        kind = self.random.randrange(6)
        if kind == 0:
            value = self.random.choice([0, 1, 2, 3, 5, 31, 64, 0x7FFF_FFFF, WORD])
            return str(value), value
        name = self.random.choice(["T", "L", "W", "C", *[f"v{i}" for i in range(REGISTERS)] * 2])
        return f"%{name}", name

    def condition(self) -> tuple[str, tuple[Any, ...]]:
        """Declares a predicate; some conditions are uniform in the grid, a CTA or a warp."""
        self.predicates += 1
        predicate = f"%q{self.predicates}"
        op = self.random.choice(["eq", "ne", "lt", "ge"])
        name = self.random.choice(["T", "L", "W", "C", f"v{self.random.randrange(REGISTERS)}"])
        mask = self.random.choice([1, 3, 7, WORD])
        bound = self.random.randrange(6)
        self.lines.append(f"and.b32 %x, %{name}, {mask}; setp.{op}.u32 {predicate}, %x, {bound};")
        return predicate, ("test", op, name, mask, bound)

    def statement(self, depth: int) -> tuple[Any, ...]:
        kind = self.random.randrange(10 if depth else 6)
        if kind < 4:
            op = self.random.choice(["add", "sub", "mul.lo", "min", "max", "and", "or", "xor"])
            target = self.random.randrange(REGISTERS)
            (a, x), (b, y) = self.operand(), self.operand()
            suffix = "b32" if op in ("and", "or", "xor") else "u32"
            guard = ""
            test: Any = None
            if self.random.random() < 0.25:
                predicate, test = self.condition()
                negated = self.random.random() < 0.5
                guard = f"@{'!' if negated else ''}{predicate} "
                test = (test, negated)
            self.lines.append(f"{guard}{op}.{suffix} %v{target}, {a}, {b};")
            return ("op", op, target, x, y, test)
        if kind == 4:
            predicate, test = self.condition()
            target = self.random.randrange(REGISTERS)
            (a, x), (b, y) = self.operand(), self.operand()
            self.lines.append(f"selp.b32 %v{target}, {a}, {b}, {predicate};")
            return ("select", target, x, y, test)
        if kind == 5:
            target, source = self.random.randrange(REGISTERS), self.random.randrange(REGISTERS)
            self.lines.append(f"mov.b32 %v{target}, %v{source};")
            return ("move", target, source)
        if kind < 9:
            predicate, test = self.condition()
            self.labels += 1
            otherwise, end = f"ELSE{self.labels}", f"END{self.labels}"
            two_armed = self.random.random() < 0.6
            self.lines.append(f"@!{predicate} bra {otherwise if two_armed else end};")
            first = self.block(depth - 1)
            second: list[Any] = []
            if two_armed:
                self.lines.append(f"bra {end};\n{otherwise}:")
                second = self.block(depth - 1)
            self.lines.append(f"{end}:")
            return ("if", test, first, second)
        name = self.random.choice(["T", "W", "C", "L"])
        self.labels += 1
        top = f"TOP{self.labels}"
        counter = f"%n{self.labels}"
        self.lines.append(f"and.b32 {counter}, %{name}, 3;\n{top}:")
        body = self.block(depth - 1)
        self.predicates += 1
        self.lines.append(
            f"add.u32 {counter}, {counter}, -1; setp.lt.s32 %q{self.predicates}, {counter}, 0; "
            f"@!%q{self.predicates} bra {top};"
        )
        return ("loop", name, body)

    def block(self, depth: int) -> list[Any]:
        return [self.statement(depth) for _ in range(self.random.randrange(1, 5))]


def run(body: list[Any], env: dict[str, int]) -> None:
    """The program for one thread."""

    def value(x: Any) -> int:
        return env[x] if isinstance(x, str) else x

    def test(t: Any) -> bool:
        _, op, name, mask, bound = t
        x = env[name] & mask
        return {"eq": x == bound, "ne": x != bound, "lt": x < bound, "ge": x >= bound}[op]

    for s in body:
        if s[0] == "op":
            _, op, target, x, y, guard = s
            if guard is not None and test(guard[0]) == guard[1]:
                continue
            a, b = value(x), value(y)
            env[f"v{target}"] = {
                "add": a + b,
                "sub": a - b,
                "mul.lo": a * b,
                "min": min(a, b),
                "max": max(a, b),
                "and": a & b,
                "or": a | b,
                "xor": a ^ b,
            }[op] & WORD
        elif s[0] == "select":
            env[f"v{s[1]}"] = value(s[2]) if test(s[4]) else value(s[3])
        elif s[0] == "move":
            env[f"v{s[1]}"] = env[f"v{s[2]}"]
        elif s[0] == "if":
            run(s[2] if test(s[1]) else s[3], env)
        else:
            for _ in range((env[s[1]] & 3) + 1):
                run(s[2], env)


@pytest.mark.parametrize("seed", range(40))
def test_random_program(seed: int, kernel: Any) -> None:
    program = Program(random.Random(seed))
    start = [program.random.choice(["%T", "%L", "%W", "%C", str(i * 7)]) for i in range(REGISTERS)]
    head = "".join(f"mov.b32 %v{i}, {source};\n" for i, source in enumerate(start))
    body = program.block(3) + program.block(3)
    text = head + "\n".join(program.lines) + "\n"
    text += f"mul.wide.u32 %rd0, %T, {4 * REGISTERS}; mad.wide.u32 %rd0, %C, {4 * REGISTERS * THREADS}, %rd0;\n"
    text += "add.u64 %rd0, %rd0, %out;\n"
    text += "\n".join(f"st.global.b32 [%rd0+{4 * i}], %v{i};" for i in range(REGISTERS))
    regs = f".reg .b32 %v<{REGISTERS}>, %x, %n<{program.labels + 1}>; .reg .pred %q<{program.predicates + 1}>;"
    want = np.zeros((BLOCKS, THREADS, REGISTERS), np.uint32)
    for block in range(BLOCKS):
        for thread in range(THREADS):
            env = {"T": thread, "L": thread % 32, "W": thread // 32, "C": block}
            for i, source in enumerate(start):
                env[f"v{i}"] = env[source[1:]] if source[0] == "%" else int(source)
            run(body, env)
            want[block, thread] = [env[f"v{i}"] for i in range(REGISTERS)]
    for lockstep in ("grid", "cta", "warp"):
        data = kernel(text, out=want.nbytes, grid=(BLOCKS,), block=THREADS, regs=regs, lockstep=lockstep)
        np.testing.assert_array_equal(np.frombuffer(data, np.uint32).reshape(want.shape), want, err_msg=lockstep)
