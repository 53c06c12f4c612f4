"""Specs for fuzzing: everything in the repository, mutated at four levels, and handmade extremes.

`mutated(seed)` is the same text for the same seed and corpus. Mutations of tokens and lines mostly make errors; those
of subtrees, names and numbers mostly make other specs that check, and so reach the passes and the printers.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path

from fp4cc.diagnostics import Collector
from fp4cc.frontend import ast, parse
from fp4cc.source import Source, Span

from ..damage import FUNCTIONS, TYPES, damaged

ROOT = Path(__file__).parents[2]

_NAME = re.compile(r"[A-Za-z_]\w*")
_BLOCK = re.compile(r"```fp4[^\n]*\n(.*?)```", re.DOTALL)

NUMBERS = (
    "0", "1", "2", "3", "7", "16", "17", "31", "32", "48", "64", "96", "100", "128", "129", "256", "1000", "4096",
    "65536", "2147483647", "2147483648", "4294967296", "4611686018427387904", "9223372036854775807",
    "9223372036854775808", "1e38", "1e39", "1e-46", "1e308", "1e400", "0.1", "0x10", "99999999999999999999999",
)  # fmt: skip
#: Names that mean something to what is emitted, to Python or to the tools below.
NAMES = (
    "lambda", "None", "self", "cutlass", "cute", "j", "acc", "row", "warp", "element", "M_", "x_scale", "a_scale",
    "c_ptr", "tile", "m_size", "MMA_WARP", "_", "__", "sizeof", "main", "print", "all", "per", "x" * 300,
)  # fmt: skip


@cache
def corpus() -> tuple[str, ...]:
    """The specs of the repository: examples, test cases and the blocks of the docs."""
    files = sorted([*(ROOT / "examples").glob("*.fp4"), *(ROOT / "tests").rglob("*.fp4")])
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    for page in sorted((ROOT / "docs").glob("*.md")):
        texts += _BLOCK.findall(page.read_text(encoding="utf-8"))
    return tuple(dict.fromkeys(text for text in texts if "kernel" in text and len(text) < 8000))


@cache
def sound() -> tuple[str, ...]:
    """Specs that become kernels, most of them: their mutants go further."""
    files = sorted([*(ROOT / "examples").rglob("*.fp4"), *(ROOT / "tests" / "sema").rglob("*.fp4")])
    texts = [path.read_text(encoding="utf-8") for path in files]
    texts += _BLOCK.findall((ROOT / "docs" / "language.md").read_text(encoding="utf-8"))
    return tuple(text for text in dict.fromkeys(texts) if "kernel" in text)


@cache
def _expressions(text: str) -> tuple[tuple[int, int], ...]:
    """Where the expressions of a spec stand."""
    module = parse(Source("corpus.fp4", text), Collector())
    found: list[tuple[int, int]] = []
    waiting: list[object] = list(module.items)
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            waiting.extend(node)  # type: ignore[arg-type]  # of nodes
        elif is_dataclass(node) and not isinstance(node, Span | Source):
            if isinstance(node, ast.Name | ast.Number | ast.Binary | ast.Unary | ast.Call | ast.Attribute | ast.Tuple):
                found.append((node.span.start, node.span.end))
            waiting.extend(getattr(node, f.name) for f in fields(node) if f.name != "span")
    return tuple(sorted(found))


def _lines(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    at = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[rng.randrange(len(lines))])
        case 2:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            others = rng.choice(corpus()).splitlines(keepends=True)
            lines.insert(at, rng.choice(others or [""]))
    return "".join(lines)


def _subtrees(text: str, rng: random.Random) -> str:
    places = _expressions(text)
    if not places:
        return text
    start, end = rng.choice(places)
    other = text if rng.random() < 0.7 else rng.choice(corpus())
    theirs = _expressions(other)
    new = other[slice(*rng.choice(theirs))] if theirs else "1"
    match rng.randrange(5):
        case 0:
            new = f"{rng.choice(FUNCTIONS)}({text[start:end]})"
        case 1:
            new = f"({text[start:end]} {rng.choice(('+', '-', '*', '/', '@', '<', '%', '//'))} {new})"
        case 2:
            new = f"{text[start:end]}.T"
        case _:
            pass
    return text[:start] + new + text[end:]


def _names(text: str, rng: random.Random) -> str:
    """One name everywhere as another; or one type as another."""
    names = sorted(set(_NAME.findall(text)))
    types = [name for name in names if name in TYPES]
    if types and rng.random() < 0.5:
        old, new = rng.choice(types), rng.choice(TYPES)
    else:
        old, new = rng.choice(names), rng.choice((*names, *NAMES))
    return re.sub(rf"\b{old}\b", new, text)


def _numbers(text: str, rng: random.Random) -> str:
    numbers = list(re.finditer(r"\b\d[\w.]*", text))
    if not numbers or rng.random() < 0.3:  # a dim gets a value or a definition
        dims = re.search(r"kernel \w+\(([^)]*)\)", text)
        if dims is None or not dims.group(1):
            return text
        names = [part.split("=")[0].strip() for part in dims.group(1).split(",")]
        at = rng.randrange(len(names))
        size = rng.choice((*NUMBERS, f"{names[0]} * 2", f"{names[-1]} / 2", f"ceildiv({names[0]}, 3)", f"{names[0]}"))
        names[at] = f"{names[at]} = {size}"
        return text[: dims.start(1)] + ", ".join(names) + text[dims.end(1) :]
    found = rng.choice(numbers)
    return text[: found.start()] + rng.choice(NUMBERS) + text[found.end() :]


_KINDS: tuple[Callable[[str, random.Random], str], ...] = (damaged, _lines, _subtrees, _names, _numbers)
#: Half of the mutants are made to be wrong, half to be other right specs.
_WRONG, _RIGHT = (3, 2, 2, 2, 2), (0, 1, 8, 5, 4)


def mutated(seed: int) -> str:
    """A spec of the repository with one to three mutations, or five."""
    rng = random.Random(f"spec {seed}")
    weights = rng.choice((_WRONG, _RIGHT))
    text = rng.choice(sound() if weights is _RIGHT else corpus())
    for _ in range(rng.choice((1, 1, 2) if weights is _RIGHT else (1, 1, 1, 2, 2, 3, 5))):
        (kind,) = rng.choices(_KINDS, weights)
        text = kind(text, rng) or "x"
    return text


# Handmade.


def kernel(body: str, head: str = "kernel k(M, N) {", before: str = "") -> str:
    """A kernel over x[M, N] whose other statements are `body`."""
    return f"{before}{head}\n in x : f32[M, N]\n{body}\n}}\n"


def _nested(function: str, depth: int, leaf: str = "x") -> str:
    out = "out y : f32[M, N]\n y = "
    return kernel(out + ("" if leaf == "x" else "x * ") + "f(" * depth + leaf + ")" * depth, before=function + "\n")


def _each(count: int, line: str, joint: str = "\n") -> str:
    return joint.join(line.format(i=i, j=i + 1, h=max(i - 1, 0)) for i in range(count))


_Y = "\n out y : f32[M, N]\n y = "


def handmade() -> dict[str, str]:
    """Specs that are large or deep in one way each, by name."""
    made: dict[str, str] = {}
    for depth in (18, 40, 64):
        made[f"square {depth}"] = _nested("fn f(v) = v * v", depth)
        made[f"two values {depth}"] = _nested("fn f(v) = min(v, 1) * max(v, 2)", depth)
        made[f"where {depth}"] = _nested("fn f(v) = where(v > 0, v, -v)", depth)
        made[f"a literal {depth}"] = _nested("fn f(v) = v * v", depth, "3")
        made[f"a size {depth}"] = _nested("fn f(v) = v * v", depth, "M")
        made[f"a sum of sizes {depth}"] = _nested("fn f(v) = v + v", depth, "M")
        made[f"random {depth}"] = kernel(
            f" in r : u64[2]{_Y}x + {'f(' * depth}uniform(r){')' * depth}", before="fn f(v) = v * v\n"
        )
        made[f"a row {depth}"] = kernel(f" in r : f32[M]{_Y}x * {'f(' * depth}r{')' * depth}", before="fn f(v) = v*v\n")
        made[f"named {depth}"] = kernel(" v0 = x\n" + _each(depth, " v{j} = v{i} * v{i}") + _Y + f"v{depth}")
    for count in (100, 300, 3000):
        made[f"outputs {count}"] = kernel(_each(count, " out y{i} : f32[M, N]\n y{i} = x + {i}"))
        made[f"inputs {count}"] = kernel(_each(count, " in u{i} : f32[M, N]") + _Y + "x + " + _each(50, "u{i}", " + "))
        made[f"dims {count}"] = f"kernel k({_each(count, 'D{i}', ', ')}) {{ in x : f32[D0]; out y : f32[D0]; y = x }}"
        head = f"kernel k(D0, {_each(count, 'D{j} = D{i} + D{i}', ', ')})"
        made[f"derived {count}"] = f"{head} {{ in x : f32[D0]; out y : f32[D0]; y = x }}"
        head = f"kernel k(D0, {_each(count, 'D{j} = D{i} + 1', ', ')})"
        made[f"counted {count}"] = f"{head} {{ in x : f32[D0, D{count}]; out y : f32[D0, D{count}]; y = x }}"
        made[f"axes {count}"] = made[f"dims {count}"].replace("f32[D0]", f"f32[{_each(count, 'D{i}', ', ')}]")
        circle = ", ".join(f"D{i} = D{(i + 1) % count} + D{(i + 2) % count}" for i in range(count))
        made[f"a circle of dims {count}"] = f"kernel k({circle}) {{ in x : f32[D0]; out y : f32[D0]; y = x }}"
        made[f"schedules {count}"] = "kernel k(M) { in x : f32[M]; out y : f32[M]; y = x }\n" + _each(
            count, "schedule k on sm_100a when M <= {j} {{ }}"
        )
        made[f"conditions {count}"] = (
            f"kernel k(M) where {_each(count, 'M != {i}', ' and ')} {{ in x : f32[M]; out y : f32[M]; y = x }}"
        )
        made[f"a chain of where {count}"] = kernel(
            " v0 = x\n" + _each(count, " v{j} = where(v{i} > v{h}, v{i}, -v{i})") + _Y + f"v{count}"
        )
        made[f"draws {count}"] = kernel(
            " in r : u64[2]\n v0 = x\n" + _each(count, " v{j} = v{i} + uniform(r, stream = {i})") + _Y + f"v{count}"
        )
        made[f"functions {count}"] = "fn g0(x) = x\n" + _each(count, "fn g{j}(x) = g{i}(x)") + "\n" + kernel(_Y + "x")
        made[f"formats {count}"] = _each(count, "format a{i} extends a{j} {{}}") + "\n" + kernel(_Y + "x")
        made[f"unknown names {count}"] = kernel(_each(count, " a{i} = zzz{i}") + _Y + "x")
        made[f"unknown functions {count}"] = kernel(_each(count, " a{i} = zzz{i}(x)") + _Y + "x")
        made[f"unknown types {count}"] = kernel(_each(count, " in a{i} : zzz{i}[M]") + _Y + "x")
        made[f"products {count}"] = (
            f"kernel k(M, N, K) {{\n in x : nvfp4[M, K]\n{_each(count, ' in w{i} : nvfp4[N, K]')}\n"
            f" out y : f32[M, N]\n y = {_each(min(count, 60), 'x @ w{i}.T', ' + ')}\n}}\n"
        )
    for count in (5, 12, 20, 40):
        dims = f"kernel k(M, D0, {_each(count, 'D{j} = D{i} / 2', ', ')}) {{\n in x : f32[M, D0]\n v0 = x\n"
        steps = _each(count, " a{i}, b{i} = unzip(v{i}, D{i} -> D{j})\n v{j} = a{i} * b{i}")
        made[f"unzip {count}"] = f"{dims}{steps}\n out y : f32[M, D{count}]\n y = v{count}\n}}\n"
        factor = "*".join(["(A + B + C + D)"] * count)
        made[f"polynomial {count}"] = (
            f"kernel k(A, B, C, D, E = {factor}) {{\n in x : f32[A, B, C, D]\n in z : f32[E]\n"
            " out y : f32[A, B, C, D]\n y = x\n}\n"
        )
    for size in (1000, 60_000):
        made[f"statements {size}"] = kernel(" v = x\n" + _each(size // 3, "a{i}=v") + _Y + "v")
        made[f"a name of {size}"] = kernel(_Y + "q" * size)
        made[f"an argument of {size}"] = kernel(_Y + "x").replace("x", "q" * (size // 3))
        made[f"a comment of {size}"] = f"#{'x' * size}\n" + kernel(_Y + "x")
        made[f"a sum of {size}"] = kernel(_Y + "+".join(["x"] * size))
        made[f"arguments {size}"] = kernel(_Y + f"f({','.join(['x'] * size)})", before="fn f(v) = v\n")
        made[f"digits {size}"] = kernel(_Y + f"x * {'9' * size}")
        made[f"a fraction of {size}"] = kernel(_Y + f"x * 0.{'1' * size}")
        for opening, closing in ("()", "[]", "{}", ("-", ""), ("not ", ""), ("f(", ")"), ("(x, ", ")"), ("x.T @ ", "")):
            made[f"deep {opening}{size}"] = kernel(_Y + opening * size + "x" + closing * size, before="fn f(v) = v\n")
            made[f"open {opening}{size}"] = kernel(_Y + opening * size)
    for size in NUMBERS:
        made[f"a dim of {size}"] = kernel(_Y + "x", head=f"kernel k(M, N = {size}) {{")
        made[f"two dims of {size}"] = kernel(_Y + "x + sum(x, over = N)", head=f"kernel k(M = {size}, N = {size}) {{")
        made[f"a sum over {size}"] = kernel(
            "out y : f32[M]\n y = sum(x, over = N)", f"kernel k(M = {size}, N = {size}) {{"
        )
        made[f"a block of {size}"] = f"format f extends nvfp4 {{ scale e4m3 per 1 x {size} }}\n" + kernel(_Y + "x")
        made[f"an atom of {size}"] = f"layout v {{ coords row : {size}, k : 4; atom ({size}, 4) : ({size}, 1) }}\n"
        made[f"stages {size}"] = kernel(_Y + "x") + f"schedule k on sm_100a {{ stages {size} }}\n"
        made[f"a tile of {size}"] = (
            "kernel k(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T }\n"
            f"schedule k on sm_100a {{ tile {size} x {size} x 256; cluster {size} x 1 }}\n"
        )
    return made
