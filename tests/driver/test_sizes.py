"""Sizes for a call: what is given, what is tried, what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from fp4cc.driver import Request, read_spec
from fp4cc.driver.shapes import interesting_shapes
from fp4cc.driver.sizes import call_sizes, split_sizes
from fp4cc.driver.stages import lower_kernels, manifest_text
from fp4rt.errors import ConstraintError
from fp4rt.manifest import Manifest, loads

SPEC = """\
kernel gemm(L, M, N = 96, K, F = K * 2) where M % 8 == 0 {
    in  a : nvfp4[L, M, K]
    in  b : nvfp4[N, K]
    out c : f32[L, M, N]
    c = a @ b.T
}
"""


def _manifest(text: str) -> Manifest:
    (kernel,), _ = lower_kernels(Request(read_spec(text)))
    return loads(manifest_text(kernel, {}))


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return _manifest(SPEC)


def test_dims_nobody_gave_get_small_sizes_in_the_kernels_order(manifest: Manifest) -> None:
    assert call_sizes(manifest, {}) == {"L": 2, "M": 256, "N": 96, "K": 256, "F": 512}
    assert call_sizes(manifest, {"M": 40, "L": 3}) == {"L": 3, "M": 40, "N": 96, "K": 256, "F": 512}


def test_given_sizes_that_break_a_constraint_name_it(manifest: Manifest) -> None:
    with pytest.raises(ConstraintError, match="M % 8"):
        call_sizes(manifest, {"M": 12})


def test_the_shapes_to_verify_keep_to_the_constraints_and_have_residues(manifest: Manifest) -> None:
    shapes = interesting_shapes(manifest, {"L": 2})
    assert all(s["L"] == 2 and s["N"] == 96 and s["M"] % 8 == 0 and s["F"] == 2 * s["K"] for s in shapes)
    assert any(s["M"] % 128 for s in shapes)
    assert any(s["K"] % 256 for s in shapes)
    assert any(s["M"] == 0 for s in shapes)
    assert len({tuple(s.items()) for s in shapes}) == len(shapes)


def test_sizes_of_static_dims_become_constants_and_others_belong_to_the_call(tmp_path: Path) -> None:
    path = tmp_path / "gemm.fp4"
    path.write_text(SPEC)
    request, call = split_sizes(Request(read_spec(path)), {"N": 128, "M": 16})
    assert request.dims == {"N": 128}
    assert call == {"M": 16}
