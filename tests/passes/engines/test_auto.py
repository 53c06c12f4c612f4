"""What a block leaves to the compiler is never chosen so that the rest of the block refuses it."""

from __future__ import annotations

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

OUTPUTS = {"along": "out c : bf16[M, N]; c = a @ b.T", "across": "out c : bf16[N, M]; c = (a @ b.T).T"}
BESIDE = ("store tma", "store direct", "stages 9", "stages 4", "accumulators 2", "split_k 4", "tile 128 x 32 x 256")


def lowered(output: str, m: int, fields: str) -> LoweredKernel:
    text = f"kernel k(M = {m}, N = 4096, K = 4096) {{ in a : nvfp4[M, K]; in b : nvfp4[N, K]; {OUTPUTS[output]} }}\n"
    (kernel,) = analyze(Source("k.fp4", f"{text}schedule k on sm_100a {{ {fields} }}\n")).raise_errors().kernels
    return lower(kernel, "sm_100a")


def is_built(output: str, m: int, fields: str) -> bool:
    try:
        lowered(output, m, fields)
    except DiagnosticError:
        return False
    return True


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("m", [32, *(pytest.param(m, marks=pytest.mark.slow) for m in (8, 256))])
def test_auto_is_built_where_one_of_both_is(output: str, m: int) -> None:
    for fields in BESIDE:
        one = any(is_built(output, m, f"swap_ab {swap}; {fields}") for swap in ("yes", "no"))
        assert is_built(output, m, f"swap_ab auto; {fields}") == one, fields


def test_an_output_across_is_stored_by_tma_where_operands_are_swapped() -> None:
    with pytest.raises(DiagnosticError, match="FP4206|TMA does not store"):
        lowered("across", 32, "swap_ab no; store tma")
    (output,) = lowered("across", 32, "swap_ab auto; store tma").epilogue.outputs
    assert output.store.via == "tma"
