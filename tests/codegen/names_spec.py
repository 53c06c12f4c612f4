"""A spec in which every kind of name can be chosen, and what emitted files call their own things."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import plans
from fp4cc.codegen.scopes import scopes
from fp4cc.diagnostics import DiagnosticError
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

EXAMPLES = Path(__file__).parents[2] / "examples"
TARGETS = ("sm_100a", "sm_90a")
#: A GEMM with a name of each kind, and a kernel of two launches without a product.
SPECS = {
    "gemm": """
layout {layout} {{ coords row : 128, k : 4; atom ((32, 4), 4) : ((16, 4), 1); order k, row, batch; pad 0 }}
format {format} extends nvfp4 {{ layout {layout} }}
fn {function}({formal}) = tanh({formal}) * 2
kernel {kernel}({dim}, N, K) {{
    in {left} : {format}[{dim}, K]; in {right} : nvfp4[N, K]; in {row} : f32[{dim}]; in {column} : bf16[N]
    in {tile} : f16[{dim}, N]; in {scalar} : f32[]; param {param} : f32 = 1.5
    inout {output} : bf16[{dim}, N]; out {codes} : mxfp4[{dim}, N]; out {top} : f32[{dim}]
    {value} = {function}(({left} @ {right}.T) * {row} + {column}) * {tile} + {dim}
    {output} = {value} * {scalar} + {param} * {output}
    {codes} = quantize({value})
    {top} = max(abs({value}), over = N)
}}
""",
    "elements": """
kernel {kernel}({dim}, N) {{
    in {left} : bf16[{dim}, N]; in {row} : f32[{dim}]; param {param} : f32 = 1.5
    out {codes} : fp8_token[{dim}, N]; out {output} : f32[N]
    {value} = {left} * {row} + {param}
    {codes} = quantize({value})
    {output} = sum({value}, over = {dim})
}}
""",
}
SLOTS = {name: tuple(dict.fromkeys(re.findall(r"\{(\w+)\}", text))) for name, text in SPECS.items()}
_KEYWORDS = {"in", "out", "inout", "param", "and", "or", "not"}
#: Names of which emitted files have none, but their languages and tools do.
HIDDEN = (
    "_", "__name__", "__builtins__", "_x", "self", "cls", "lambda", "None", "print", "match", "type", "loop_body_0",
    "acc", "ab", "sfa", "start_0", "then_block_1", "WARP_SZ", "add", "ld", "entry", "cutlass", "cute", "Path", "k_0",
    "x_1",
)  # fmt: skip


def spec(name: str, **chosen: str) -> str:
    """The text of a spec; a slot without a name gets a neutral one."""
    return SPECS[name].format(**{**{slot: _neutral(name, slot) for slot in SLOTS[name]}, **chosen})


def neutral(name: str, **chosen: str) -> str:
    """The same spec with neutral names as long as the chosen ones: the files are laid out alike."""
    return spec(name, **{slot: _neutral(name, slot, len(word)) for slot, word in chosen.items()})


def _neutral(name: str, slot: str, length: int = 10) -> str:
    """A name that nothing else has: of one letter, where it must be, a capital."""
    letter = "ABCDEFGHIJLOPQRSTUVWXYZ"[SLOTS[name].index(slot)]
    return f"{letter}zzzzzzzzz"[:length].ljust(length, "z")


@cache
def modules(text: str, target: str) -> dict[str, str] | None:
    """The emitted files of a text's kernel, by what follows its name in theirs; None if the text is refused.

    Raises DiagnosticError where the fault is ours (FP9...).
    """
    try:
        (kernel,) = analyze(Source("spec.fp4", text), None).raise_errors().kernels
        found = plans(lower(kernel, target))
    except DiagnosticError as refused:
        if any(found.code.startswith("FP9") for found in refused.diagnostics):
            raise
        return None
    return {stem.removeprefix(kernel.name): emit(plan) for stem, plan in found.items()}


@cache
def words(examples: tuple[str, ...] = ("*",)) -> tuple[str, ...]:
    """Every identifier of the files that examples are emitted as, and those of the specs above."""
    paths = [path for example in examples for path in sorted(EXAMPLES.glob(f"{example}.fp4"))]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    found: set[str] = set(HIDDEN)
    for text in [*texts, *(spec(name) for name in SPECS)]:
        for kernel in analyze(Source("spec.fp4", text), EXAMPLES).kernels:
            for target in TARGETS:
                try:
                    files = plans(lower(kernel, target)).values()
                except DiagnosticError:
                    continue
                for plan in files:
                    found |= scopes(emit(plan)).keys()
    return tuple(sorted(found - _KEYWORDS))


def identifiers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each identifier in the order of the tree, with the number of the function of the module that it stands in."""
    for number, statement in enumerate(tree.body, 1):
        function = isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for node in ast.walk(statement):
            for field in ("id", "arg", "name", "asname"):
                name = getattr(node, field, None)
                if isinstance(name, str):
                    yield 0 if node is statement or not function else number, name


def shape(tree: ast.Module) -> str:
    """The tree without its identifiers, comments and strings."""
    for node in ast.walk(tree):
        for field in ("id", "arg", "name", "asname"):
            if isinstance(getattr(node, field, None), str):
                setattr(node, field, "x")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)
