"""What a `help:` says to write is written: the error is gone, and no other has come."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fp4cc.diagnostics import Diagnostic, DiagnosticError, render
from fp4cc.diagnostics.foreign import FUNCTIONS, TYPES, VALUES, function_help, type_help
from fp4cc.diagnostics.suggest import nearest
from fp4cc.frontend.program import decode
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.sema.scope import BUILT_INS
from fp4cc.source import Source
from fp4cc.targets import target_help

CASES = Path(__file__).parent / "cases"
GEMM = "kernel k(M, N, K) {\n in a : nvfp4[M, K]; in b : nvfp4[N, K]; in bias : bf16[N]\n out c : bf16[M, N]\n"


def errors(text: str) -> tuple[Diagnostic, ...]:
    return analyze(Source("spec.fp4", text)).diagnostics


def the_error(text: str) -> Diagnostic:
    found = errors(text)
    assert len(found) == 1, render(found)
    return found[0]


def lowered_errors(text: str, target: str = "sm_100a") -> list[Diagnostic]:
    found: list[Diagnostic] = []
    for kernel in analyze(Source("spec.fp4", text)).raise_errors().kernels:
        try:
            lower(kernel, target)
        except DiagnosticError as refused:
            found.extend(refused.diagnostics)
    return found


# Mechanical ones: what stands in backquotes replaces what is underlined.

_REPLACES = re.compile(r"^(?:did you mean|write) `([^`]+)`\??(?:: it swaps the last two axes)?$")
_UNDERLINED = ("FP2001", "FP2003", "FP2010", "FP2013", "FP2019", "FP3003", "FP5002", "FP5003", "FP1010")


def _replacements() -> list[tuple[str, str, Diagnostic, str]]:
    found: list[tuple[str, str, Diagnostic, str]] = []
    for path in sorted(CASES.glob("*.fp4")):
        try:
            text = decode(path.read_bytes(), "spec.fp4").text
        except DiagnosticError:
            continue
        for d in errors(text):
            hint = next((m.group(1) for h in d.help if (m := _REPLACES.match(h))), None)
            called = hint is not None and d.code == "FP2003" and "(" in hint  # replaces the whole call
            if hint is not None and not called and d.code in _UNDERLINED and d.span is not None:
                found.append((path.stem, text, d, hint))
    return found


REPLACEMENTS = _replacements()


def test_there_are_mechanical_ones() -> None:
    assert {d.code for _, _, d, _ in REPLACEMENTS} >= {"FP2001", "FP2003", "FP2010", "FP2013", "FP2019"}


@pytest.mark.parametrize("case, text, d, hint", REPLACEMENTS, ids=[f"{c}-{h}" for c, _, _, h in REPLACEMENTS])
def test_following_it_mends_the_error(case: str, text: str, d: Diagnostic, hint: str) -> None:
    assert d.span is not None
    mended = text[: d.span.start] + hint + text[d.span.end :]
    before, after = errors(text), errors(mended)
    assert d.title not in {e.title for e in after}
    assert {e.code for e in after} <= {e.code for e in before}


# Functions, types and values of other languages.


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_what_stands_for_a_function_is_accepted(name: str) -> None:
    """The first text in backquotes is an expression that the language takes."""
    head = (
        "kernel k(M, N, F = N / 2) {\n in x : f32[M, N]; in a : nvfp4[M, N]; in b : nvfp4[M, N]; in rng : u64[2]\n"
        " in q : nvfp4[M, N]\n"
    )
    assert name not in BUILT_INS
    help = function_help(name)
    expression = re.search(r"`([^`]+)`", help)
    assert expression is not None and FUNCTIONS[name] == help
    text = expression.group(1)
    match text:
        case "g, u = unzip(x, N -> F, group = F)":
            body = f" out y : f32[M, F]\n {text}\n y = g * u\n"
        case "y = x":
            body = f" out y : f32[M, N]\n {text}\n"
        case "fp4cc run":
            return
        case "quantize(x)":
            body = f" out y : mxfp4[M, N]\n y = {text}\n"
        case "a @ b.T":
            body = " out y : f32[M, J]\n y = a @ w.T\n in w : nvfp4[J, N]\n"
            head = head.replace("F = N / 2", "J")
        case _:
            over = "over = N)" in text and text.count("over") == 1 and text.endswith("N)") or "sqrt(" in text
            kept = "M" if over and "x - m" not in text.partition("(")[0] else "M, N"
            body = f" out y : f32[{kept}]\n y = {text}\n" if ".T" not in text else f" out y : f32[N, M]\n y = {text}\n"
            if "rsqrt" in text:
                body = f" out y : f32[M, N]\n y = {text}\n"
    assert errors(f"{head}{body}}}\n") == (), render(errors(f"{head}{body}}}\n"))


@pytest.mark.parametrize("name", ["expf", "__expf", "__logf", "tanhf", "sqrtf", "fabsf", "fmaf", "SoftMax", "Swish"])
def test_cuda_and_capitals_are_known(name: str) -> None:
    assert function_help(name)


@pytest.mark.parametrize("name", sorted(TYPES))
def test_what_stands_for_a_type_is_one(name: str) -> None:
    d = the_error(f"kernel k(M, K) {{ in x : {name}[M, K]; out y : f32[M, K]; y = x }}")
    assert d.code == "FP2019" and d.help == (f"did you mean `{TYPES[name]}`?",)
    if TYPES[name] != "u64":  # a state of random numbers, and nothing to compute with
        assert errors(f"kernel k(M, K) {{ in x : {TYPES[name]}[M, K]; out y : f32[M, K]; y = x }}") == ()


def test_small_integers_have_none() -> None:
    assert "integers are i32" in type_help("int8") and type_help("bf16") == ""


@pytest.mark.parametrize("name", ["True", "None", "inf", "pi"])
def test_constants(name: str) -> None:
    assert the_error(f"{GEMM} c = where(a @ b.T > 0, {name}, 0)\n}}\n").help == (VALUES[name.casefold()],)


def test_other_words_are_no_slips() -> None:
    assert nearest("softmax", BUILT_INS) is None
    assert nearest("gelu_tan", BUILT_INS) == "gelu_tanh"
    assert nearest("quantise", BUILT_INS) == "quantize"
    for wrong in ("e3m0", "e4m2", "e8m0"):
        text = f"format f extends mxfp4 {{ element {wrong} pack low_first }}"
        assert the_error(text).help == ("there are `e2m1`, `e3m2`, `e2m3`, `e4m3` and `e5m2`",)


def test_targets() -> None:
    for name in ("sm_100", "sm100", "compute_100a", "blackwell", "B200"):
        assert target_help(name).startswith("did you mean sm_100a?")
    assert target_help("hopper").startswith("did you mean sm_90a?")
    for name, gpu in (("sm_120a", "GeForce RTX 50"), ("sm_103", "B300"), ("SM_110f", "Jetson Thor"), ("sm_80", "A100")):
        assert target_help(name).startswith(gpu)
        assert target_help(name).endswith("cannot run kernels of other architectures; targets: sm_100a, sm_90a")
    assert target_help("sm_42") == "targets: sm_100a, sm_90a"


# Statements of other languages: one error, which says what to write.


@pytest.mark.parametrize(
    "body, said",
    [
        (" c = a @ b.T\n return c", "nothing is returned"),
        (" let h = a @ b.T\n c = h", "given by assigning"),
        (" float h = a @ b.T\n c = h", "no declared type"),
        (" h : f32 = a @ b.T\n c = h", "write `h = ...`"),
        (" c = a @ b.T\n c += bias", "no `+=`"),
        (" c == a @ b.T", "assign with `=`"),
        (" c := a @ b.T", "assign with `=`"),
        (" h = a @ b.T\n c = h if h > 0 else 0", "where("),
        (" h = a @ b.T\n c = h > 0 ? h : 0", "where("),
        (" h = a @ b.T\n c = h ** 2", "multiply"),
        (" h = a @ b.T\n c = where(h > 0 && h < 1, h, 0)", "`and`"),
        (" h = a @ b.T\n c = where(!(h > 0), h, 0)", "`not`"),
        (" for i in range(4):\n c = a @ b.T", "no loops"),
        (" for (int i = 0; i < 4; i++) {\n   x[i] = 0;\n }\n c = a @ b.T", "no loops"),
        (" if (M > 3) { c = 1 }\n c = a @ b.T", "where("),
        (" c = a * b.T", "a @ b.T"),
        (" c = a @ transpose(b)", "`x.T`"),
        (" c = a @ b.T()", "`.T`"),
        (" c = (a @ b.T).relu()", "`relu(...)`"),
        (" c = tl.exp(a @ b.T)", "`exp(...)`"),
        (" c = relu6(a @ b.T)", "`clamp(x, 0, 6)`"),
        (" c = swish(a @ b.T)", "`silu(x)`"),
        (" c = topk(a @ b.T, 2)", "sorted"),
        (" c = pow(a @ b.T, 2)", "`x * x`"),
        (" c = softmax(a @ b.T)", "exp(x - max(x, over = N))"),
        (" c[i, j] = a @ b.T", "`c = ...`"),
        (" c = a @ b.T // the product", "comments start with `#`"),
        (" c = a @ b.T /* the\n product */", "comments start with `#`"),
        (" // don't\n c = a @ b.T", "comments start with `#`"),
        (" c = (a @ b.T) * 2.", "`2.0`"),
        (" c = (a @ b.T) * .5", "`0.5`"),
        (" c = (a @ b.T) * 1.0f", "no suffix"),
        (" c = max(a @ b.T, axis = 1)", "over = N"),
        (" c = mxfp4(a @ b.T)", "`q = quantize(x)`"),
        (" c = a @ b.T\n f = lambda x: x", "`fn f(x) = x * x`"),
        (" c = a @ b.T\n in d nvfp4[M, K]", "`in d : nvfp4[M, K]`"),
        (" c = a @ b.T\n in nvfp4 d[M, K]", "`in d : nvfp4[M, K]`"),
        (" c = a @ b.T\n d : bf16[N]", "`in d : ...`"),
        (" c = a @ b.T\n in d : nvfp4[M][K]", "one pair of brackets"),
        (" c = a \u00d7 b.T", "`@` for products"),
        (" c = \u201ca\u201d", "straight double quotes"),
        (" c = a @\u00a0b.T", "blank"),
    ],
)
def test_statements_of_other_languages(body: str, said: str) -> None:
    d = the_error(f"{GEMM}{body}\n}}\n")
    assert said in " ".join(d.help), render([d])


@pytest.mark.parametrize(
    "text, said",
    [
        ("def f(x):\n    return x * x\n\n", "`fn f(x) = x * x`"),
        ("__global__ void f(float* x) {\n  x[0] = 1;\n}\n\n", "`kernel NAME(M, N, K)"),
        ("import torch\n\n", "`use "),
        ("fn f(x) -> f32 = x * x\n", "not declared"),
        ("fn f(x) { return x * x }\n", "`fn f(x) = x * x`"),
        ("// a header\n// of two lines, it's long\n", "comments start with `#`"),
    ],
)
def test_items_of_other_languages(text: str, said: str) -> None:
    d = the_error(f"{text}{GEMM} c = a @ b.T\n}}\n")
    assert said in " ".join(d.help), render([d])


def test_arguments_in_the_head() -> None:
    d = the_error("kernel k(a: nvfp4[M, K]) {\n out c : f32[M, N]\n c = a\n}\n")
    assert any("`in a : nvfp4[M, K]`" in h for h in d.help)


def test_sizes_are_still_divided() -> None:
    spec = (
        "kernel k(M, N, F = N\n // 2, G = N // min(M, 2)) where M // 8 == 4 and N // (M) > 1 {\n"
        " in x : f32[M, N]\n in v : f32[N // 2]\n out y : f32[M, N]\n y = x * (M // 2)\n}\n"
        "schedule k on sm_100a when M // 2 <= 8 { }\n"
    )
    assert errors(spec) == ()


@pytest.mark.parametrize(
    "text, what",
    [
        ('{\n "schema": 3,\n "kernel": {"name": "k"}\n}\n', "JSON"),
        ("//\n// Generated by NVIDIA NVVM Compiler\n//\n.version 8.8\n", "PTX"),
        (".version 8.8\n.target sm_100a\n", "PTX"),
        ('"""A kernel."""\n\nimport cutlass\n\ndef k():\n    pass\n', "Python"),
    ],
)
def test_other_files(text: str, what: str) -> None:
    d = the_error(text)
    assert d.code == "FP1016" and f"is {what}, not a spec" in d.title


def test_lone_carriage_returns_hide_nothing() -> None:
    text = f"{GEMM} c = a @ b.T # a comment\n}}\n".replace("\n", "\r")
    assert the_error(text).code == "FP1004"
    assert errors(text.replace("\r", "\r\n")) == ()


# Reductions: advice that holds on each target.


def test_products_that_do_not_fit() -> None:
    for left in ("a", "a.T", "(a.T).T"):
        for right in ("b", "b.T", "b.T.T"):
            found = errors(f"{GEMM} c = {left} @ {right}\n}}\n")
            if found:
                (d,) = found
                assert d.code == "FP2010" and d.help == ("write `a @ b.T`",) or "(a.T)" in left or right == "b.T.T"
                assert d.span is not None
                mended = (m.group(1) for h in d.help if (m := _REPLACES.match(h)))
                text = f"{GEMM} c = {next(mended)}\n}}\n"
                assert errors(text) == (), text


def test_a_bias_for_each_group() -> None:
    spec = (
        "kernel moe(E, M, N, K) {\n in offsets : i32[E + 1]\n in x : nvfp4[M by offsets, K]\n in w : nvfp4[E, N, K]\n"
        " in bias : bf16[E, N]\n out y : bf16[M by offsets, N]\n y = x @ w.T + bias\n}\n"
    )
    assert errors(spec) == ()
    assert errors(spec.replace("bf16[E, N]", "bf16[M by offsets, N]")) == ()
    d = the_error(spec.replace("bf16[E, N]", "bf16[F, N]").replace("(E, M", "(E, F, M"))
    assert "sum(..., over = F)" in " ".join(d.help)


@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_what_fp3013_says_compiles(target: str) -> None:
    head = "kernel k(M, N, K) {\n in a : mxfp8[M, K]; in b : mxfp8[N, K]\n"
    d = the_error(
        f"{head} out q : mxfp8[M, N]\n h = a @ b.T\n q = quantize(h * rsqrt(mean_square(h, over = N) + 0.01))\n}}\n"
    )
    assert d.code == "FP3013"
    advised = re.findall(r"`([^`]+)`", " ".join(d.help))
    assert advised == ["out r : f32[M]", "r = mean_square(...)", "out y : bf16[...]"]
    first = f"{head} out r : f32[M]; out y : bf16[M, N]\n h = a @ b.T\n y = h\n r = mean_square(h, over = N)\n}}\n"
    second = (
        "kernel k2(M, N) {\n in r : f32[M]; in y : bf16[M, N]\n out q : mxfp8[M, N]\n"
        " q = quantize(y * rsqrt(r + 0.01))\n}\n"
    )
    assert lowered_errors(first + second, target) == []


def test_a_used_reduction_is_one_error_at_its_use() -> None:
    """Equal reductions are one value: what stores it is right, what uses it is not."""
    spec = (
        "kernel k(M, N, K) {\n in a : nvfp4[M, K]; in b : nvfp4[N, K]\n out c : bf16[M, N]; out r : f32[M]\n"
        " out s : f32[M]\n h = a @ b.T\n r = max(h, over = N)\n c = h - max(h, over = N)\n"
        " s = 1 / max(h, over = N)\n}\n"
    )
    found = lowered_errors(spec)
    assert [d.code for d in found] == ["FP4020"]
    assert found[0].span is not None and found[0].span.text == "h - max(h, over = N)"
    assert "reduce`" not in found[0].title and "over the columns" in found[0].notes[0]


def test_a_reduction_that_cannot_be_stored_is_blamed_where_it_is() -> None:
    spec = (
        "kernel k(M, N, K) {\n in a : nvfp4[M, K]; in b : nvfp4[N, K]\n out r : f32[M]; out s : bf16[M]\n"
        " h = a @ b.T\n r = max(h, over = N)\n s = max(h, over = N)\n}\n"
    )
    (found,) = lowered_errors(spec)
    assert found.span is not None and found.span.text == "s = max(h, over = N)"
