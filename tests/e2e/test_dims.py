"""Computed sizes and whole numbers, in every role: named errors, or kernels that do what the reference does."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import manifest, plans
from fp4cc.diagnostics import DiagnosticError
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt.errors import RuntimeFault
from fp4rt.manifest import dumps, loads
from fp4rt.resolve import resolve
from fp4rt.signature import complete_dims

from .dims_specs import ROLES, SIZES, TYPE_ROLES, TYPES, Case, size_case, type_case

Check = Callable[..., None]
TARGETS = ("sm_100a", "sm_90a")
SIZE_CASES = list(product(SIZES, ROLES, TARGETS))
TYPE_CASES = list(product(TYPES, TYPE_ROLES, TARGETS))


def refusal(case: Case, target: str) -> str | None:
    """The code under which a kernel is refused; None where it is emitted and a manifest of it can be read and resolved.

    A place in the file goes with every refusal.
    """
    try:
        (kernel,) = analyze(Source("spec.fp4", case.text), None).raise_errors().kernels
        plan = lower(kernel, target)
    except DiagnosticError as problem:
        assert all(d.span is not None for d in problem.diagnostics)
        return problem.diagnostics[0].code
    for name, one in plans(plan).items():
        compile(emit(one), name, "exec")
    read = loads(dumps(manifest(plan, {}, {})))
    try:
        resolve(read, complete_dims(read.kernel, case.dims))
    except RuntimeFault as fault:
        return fault.code
    return None


#: Why a kernel may not be made or called: its sizes break a rule, or the target cannot do it yet.
KNOWN = {"FP4011", "FP4020", "FP4022", "FP4024", "FP4025", "FP6110", "FP6201", "FP4006"}


def test_computed_sizes_in_some_roles() -> None:
    for size, role, target in random.Random(3).sample(SIZE_CASES, 40):
        assert refusal(size_case(size, role), target) in {None, *KNOWN}, (size, role, target)


@pytest.mark.slow
def test_computed_sizes_in_every_role() -> None:
    found = [refusal(size_case(size, role), target) for size, role, target in SIZE_CASES]
    assert set(found) <= {None, *KNOWN}
    assert found.count(None) > len(found) // 2


def test_whole_numbers_in_every_role() -> None:
    for dtype, role in product(TYPES, TYPE_ROLES):
        found = {refusal(type_case(dtype, role), target) for target in TARGETS}
        assert len(found) == 1
        (code,) = found
        if dtype == "u64":
            assert (code is None) == (role in ("random", "unused")), (role, code)
        elif role in ("output", "inout", "operand", "signs", "random", "offsets", "param") and code is not None:
            assert code in ("FP2018", "FP2020", "FP2025", "FP2026", "FP2028", "FP4006"), (dtype, role, code)
        else:
            assert code is None, (dtype, role, code)


def test_products_of_dims_run(check: Check) -> None:
    case = size_case("3 * H", "epilogue")
    check(case.text, **case.dims)


def test_whole_numbers_run(check: Check) -> None:
    case = type_case("i32", "tile")
    check(case.text, **case.dims)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "role", "target"), random.Random(5).sample(SIZE_CASES, 40))
def test_computed_sizes_run(check: Check, size: str, role: str, target: str) -> None:
    case = size_case(size, role)
    if refusal(case, target) is None:
        check(case.text, target, **case.dims)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("role", TYPE_ROLES)
@pytest.mark.parametrize("dtype", ["i32", "u32"])
def test_every_whole_number_runs(check: Check, dtype: str, role: str, target: str) -> None:
    case = type_case(dtype, role)
    if refusal(case, target) is None:
        check(case.text, target, **case.dims)


HUGE = 2**62
#: Sizes at the limits of 64 bits, and what is said of them.
LIMITS = {
    "M = {h}, N = {h}": "FP4026",
    "M, N = {h}": "FP4026",
    "M, N = {h} * 2": "FP2016",
    "M, N = 9223372036854775807": "FP4026",
    "M, N = 9223372036854775808": "FP1007",
    "M = 2147418113, N": "FP4026",
    "M = 2147418112, N": None,
    "M = 2147418112, N = 2147418112": "FP4026",
    "M = 2147418112, N = 100": None,
    "M = 2147418112, N = 4194304": "FP4026",
    "M, N, F = N / 0": "FP2016",
    "M, N, F = N % 0": "FP2016",
    "M, N, F = ceildiv(N, 0)": "FP2016",
    "M, N, Z = 2, F = N // (Z - 2)": "FP2017",
    "M, N = 8, F = N * {h}": "FP2017",
    "M, N = 7, F = N / 2": "FP2017",
}


@pytest.mark.parametrize("dims", LIMITS)
@pytest.mark.parametrize("body", ["out y : f32[]; y = sum(v, over = all)", "out y : f32[M, N]; y = v * 2"])
def test_sizes_at_the_limits(dims: str, body: str) -> None:
    declared = "in w : f32[F]; " if "F" in dims else ""
    case = Case(f"kernel k({dims.format(h=HUGE)}) {{ {declared}in v : bf16[M, N]; {body} }}", {"M": 2, "N": 2})
    for target in TARGETS:
        assert refusal(case, target) == LIMITS[dims]


def test_blocks_wider_than_the_problem(check: Check) -> None:
    for columns in (1, 32, 64):
        text = f"""kernel k(M, N = {columns}, K) {{
            in a : nvfp4[M, K]; in b : nvfp4[N, K]; out y : ds_weight[N, M]
            y = quantize((a @ b.T).T)
        }}"""
        assert refusal(Case(text, {"M": 128, "K": 64}), "sm_100a") is None
    check(text, M=128, K=64)


def test_a_derived_dim_may_come_before_what_it_is_made_of() -> None:
    text = "kernel k(M, X = 2 * Y, Y = 3 * H, H) { in h : f32[H]; in v : bf16[M, X]; out y : f32[M, X]; y = v * 2 }"
    for target in TARGETS:
        assert refusal(Case(text, {"M": 4, "H": 2}), target) is None
