"""Text to tree: the newline rule, soft keywords, numbers, spans, and going on after an error."""

from __future__ import annotations

import pytest

from fp4cc.diagnostics import Collector, DiagnosticError
from fp4cc.frontend import ast, parse
from fp4cc.source import Source


def module(text: str) -> ast.Module:
    return parse(Source("t.fp4", text))


def statements(body: str) -> tuple[ast.Statement, ...]:
    (kernel,) = module(f"kernel k(M, N) {{\n{body}\n}}\n").items
    assert isinstance(kernel, ast.Kernel)
    return kernel.statements


def value(text: str) -> ast.Expr:
    (statement,) = statements(f"y = {text}")
    assert isinstance(statement, ast.Assignment)
    return statement.value


def shape(node: ast.Expr) -> str:
    """An expression with all its parentheses."""
    match node:
        case ast.Binary():
            return f"({shape(node.left)} {node.op} {shape(node.right)})"
        case ast.Unary():
            return f"({node.op} {shape(node.operand)})"
        case ast.Attribute():
            return f"{shape(node.value)}.{node.name.text}"
        case ast.Call():
            return f"{shape(node.function)}(...{len(node.arguments)})"
        case ast.Name():
            return node.text
        case ast.Number():
            return repr(node.value)
        case _:
            return type(node).__name__


def codes(text: str) -> list[str]:
    collector = Collector()
    parse(Source("t.fp4", text), collector)
    return [d.code for d in collector.diagnostics]


@pytest.mark.parametrize("text, wanted", [
    ("a + b * c", "(a + (b * c))"),
    ("a - b - c", "((a - b) - c)"),
    ("a @ b.T * c", "((a @ b.T) * c)"),
    ("-a * b", "((- a) * b)"),
    ("-a.T", "(- a.T)"),
    ("a < b and not c > d or e", "(((a < b) and (not (c > d))) or e)"),
    ("(a + b) * c", "((a + b) * c)"),
    ("a // b % c / d", "(((a // b) % c) / d)"),
    ("f(a, b = 1)(c)", "f(...2)(...1)"),
    ("0x10 + 1e-3 + 2.5", "((16 + 0.001) + 2.5)"),
])  # fmt: skip
def test_precedence(text: str, wanted: str) -> None:
    assert shape(value(text)) == wanted


@pytest.mark.parametrize("body, count", [
    ("y = a\nz = b", 2),
    ("y = a; z = b", 2),
    ("y = a +\nb", 1),
    ("y = a\n  + b", 1),
    ("y = a   # why\n  # more\n  * b", 1),
    ("y = f(a,\n  b\n)", 1),
    ("y = a\n  and b", 1),
    ("y = not\n a", 1),
    ("y = a\nandy = b", 2),
    (";;\n\ny = a;\n;", 1),
    ("y = a\r\nz = b\r\n", 2),
])  # fmt: skip
def test_newlines(body: str, count: int) -> None:
    assert len(statements(body)) == count


def test_heads_may_span_lines() -> None:
    (kernel,) = module("kernel k(\n  M,\n  N = 4,\n)\n  where M > 1\n  and N > 2\n{\n}\n").items
    assert isinstance(kernel, ast.Kernel) and kernel.where is not None
    assert [d.name.text for d in kernel.dims] == ["M", "N"]


def test_keywords_are_names_elsewhere() -> None:
    body = "in tile : f32[M]\nin kernel : f32[M]\nstages = tile + layout\nuse = per * by + upto + where(all, x, format)"
    assert len(statements(body)) == 4


def test_extents() -> None:
    text = "format f extends g { scale e4m3 per 1x16; scale f32 per 1 x all stored 128  x  128 }"
    (fmt,) = module(text).items
    assert isinstance(fmt, ast.Format)
    first, second = fmt.fields
    assert isinstance(first, ast.ScaleField) and first.per.values == (1, 16)
    assert isinstance(second, ast.ScaleField) and second.per.values == (1, None)
    assert second.stored is not None and second.stored.values == (128, 128)


def test_spans_are_exact() -> None:
    node = value("gelu((a + b) * c.T)")
    assert isinstance(node, ast.Call)
    assert node.span.text == "gelu((a + b) * c.T)"
    (argument,) = node.arguments
    assert isinstance(argument, ast.Argument) and isinstance(argument.value, ast.Binary)
    assert argument.value.left.span.text == "(a + b)"
    assert argument.value.right.span.text == "c.T"
    assert str(argument.value.right.span) == "t.fp4:2:20"


def test_one_item_a_file_or_many() -> None:
    text = 'use "a.fp4"\nfn f(x) = x\nlayout v { coords k : 1; atom (1) : (0) }\nformat g extends h {}\nkernel k() {}\n'
    kinds = [type(i).__name__ for i in module(text).items]
    assert kinds == ["Use", "Function", "Layout", "Format", "Kernel"]


def test_all_errors_of_a_file() -> None:
    text = (
        "kernel k(M {\n in a : f32[M]\n}\n"  # an unclosed bracket in a head
        "kernel j(M) {\n in a f32[M]\n b = = 2\n y = a $ b\n}\n"  # three bad statements
        "fn (x) = x\nformat f { element }\nlayout v { order k row }\n"
    )
    assert codes(text) == ["FP1002", "FP1001", "FP1001", "FP1004", "FP1001", "FP1001", "FP1001"]


def test_what_parses_is_kept() -> None:
    collector = Collector()
    found = parse(
        Source("t.fp4", "kernel k(M) {\n in a f32[M]\n x, y = = 1\n z = a\n}\nfn f(x = x\nfn g(x) = x\n"), collector
    )
    kernel, function = found.items
    assert isinstance(kernel, ast.Kernel) and isinstance(function, ast.Function)
    first, second, third = kernel.statements
    assert isinstance(first, ast.Broken) and first.names == ("a",)
    assert isinstance(second, ast.Broken) and second.names == ("x", "y")
    assert isinstance(third, ast.Assignment)
    assert found.broken == {"f"}


def test_errors_never_name_tokens() -> None:
    for text in (
        "y = 1",
        "kernel k(M) { y = ",
        "kernel k(M) { in a : }",
        "format f { scale }",
        "schedule k on { }",
        "fn f",
        "use x",
    ):
        with pytest.raises(DiagnosticError) as caught:
            module(text)
        shown = "".join(str(vars_) for d in caught.value.diagnostics for vars_ in (d.title, d.labels[0].text, *d.help))
        for word in ("RPAR", "LPAR", "NAME_", "TERM", "$END", "Token", "Expected", "LSQB", "__"):
            assert word not in shown, shown


def test_threads_share_the_parser() -> None:
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"kernel k{i}(M) {{\n in a : f32[M]\n y = a * {i}\n}}\n" for i in range(24)]
    with ThreadPoolExecutor(4) as pool:
        names = [m.items[0].name.text for m in pool.map(module, texts) if isinstance(m.items[0], ast.Kernel)]
    assert names == [f"k{i}" for i in range(24)]
