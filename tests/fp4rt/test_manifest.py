"""The manifest: round trip, and what strict parsing refuses."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fp4rt import ArtifactError
from fp4rt.manifest import Manifest, Param, dump, dumps, loads, parse, place
from fp4rt.typed import TypedKernel

DATA = Path(__file__).parent.parent / "gpu" / "data" / "scale_shift.json"


@pytest.fixture(scope="module")
def text() -> str:
    return DATA.read_text()


def test_round_trip(text: str) -> None:
    assert dumps(loads(text)) == text
    assert loads(dumps(loads(text))) == loads(text)


def test_a_typed_kernel_with_formats_survives(gemm: TypedKernel) -> None:
    from fp4rt.manifest import Plan

    manifest = Manifest("gemm", "sm_100a", gemm, Plan(()))
    assert loads(dumps(manifest)) == manifest


def _set(path: str, value: object) -> Callable[[Any], None]:
    """An edit: assign at a path like "launches.0.block", or delete there if the value is `...`."""

    def edit(data: Any) -> None:
        *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
        for p in parents:
            data = data[p]
        if value is ...:
            del data[last]
        else:
            data[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_set("schema", 99), "FP6003.*schema 99"),
        (_set("schema", ...), "FP6003.*schema None"),
        (_set("name", 3), "name: expected a string, found 3"),
        (_set("extra", 1), "top level: unknown key extra"),
        (_set("kernel", ...), "top level: missing kernel"),
        (_set("launches.0.block", [32, 1]), r"launches\[0\]\.block: expected 3 integers, found 2"),
        (_set("launches.0.block", [32, 32, 2]), "at most 1024 threads"),
        (_set("launches.0.block", [32.0, 1, 1]), r"block\[0\]: expected an integer, found 32.0"),
        (_set("launches.0.cluster", [32, 1, 1]), r"cluster\[0\]: 32 is outside"),
        (_set("launches.0.grid.cluster_size", 1), "cluster_size is 1, but the cluster has 2 CTAs"),
        (_set("launches.0.grid", [1, 1]), "a grid has three sizes"),
        (_set("launches.0.grid.tiles", ["pow", 2, 3]), "starts with its operator"),
        (_set("launches.0.grid.tiles", True), "expected a size expression"),
        (_set("launches.0.params.0.kind", "blob"), "expected one of tensor_map"),
        (_set("launches.0.params.0.size", 64), "a tensor_map takes 128 bytes"),
        (_set("launches.0.params.0.offset", 8), "aligned to 64 bytes"),
        (_set("launches.0.params.0.source", "z_map"), "unknown source 'z_map'"),
        (_set("launches.0.params.2.source", "nothing"), "unknown source 'nothing'"),
        (_set("launches.0.params.6.source", "shift"), "unknown source 'shift'; known: gain"),
        (_set("launches.0.params.4.byte_offset", 4), "only a pointer has a byte_offset"),
        (_set("tensor_maps.0.swizzle", "256B"), r"tensor_maps\[0\]\.swizzle: expected one of none"),
        (_set("tensor_maps.0.box", [32, 512]), "512 is outside"),
        (_set("tensor_maps.0.strides", []), "expected 1 strides, found 0"),
        (_set("tensor_maps.0.dims", []), "1 to 5 dims"),
        (_set("tensor_maps.0.source", "w"), "unknown source 'w'"),
        (_set("init.0.width", 3), "width is 1, 2 or 4"),
        (_set("kernel.args.0.dtype", "f8"), "expected one of f32"),
        (_set("kernel.args.0.dtype", {"name": "x"}), "not a block format"),
        (_set("kernel.args.1.name", "x"), "two arguments have the same name"),
        (_set("kernel.values.2.operands", [0, 2]), "2 is outside"),
        (_set("kernel.stores.0.arg", "z"), "expected one of x, shift"),
        (_set("kernel.dims.0.expr", "N"), None),
        (_set("files", []), "expected an object"),
    ],
)
def test_refuses(text: str, edit: Callable[[Any], None], message: str | None) -> None:
    data = json.loads(text)
    edit(data)
    if message is None:  # a derived dim is legal
        parse(data)
        return
    with pytest.raises(ArtifactError, match=message):
        parse(data)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        ('{"schema": NaN}', "NaN is not JSON"),
        ('{"schema": 1, "schema": 1}', "key 'schema' occurs twice"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_refuses_text(raw: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        loads(raw)


def test_an_expression_may_not_nest_forever(text: str) -> None:
    data = json.loads(text)
    expr: Any = 1
    for _ in range(200):
        expr = ["add", expr, 1]
    data["launches"][0]["grid"]["tiles"] = expr
    with pytest.raises(ArtifactError, match="nested deeper"):
        parse(data)


def test_dump_does_not_share_with_the_manifest(text: str) -> None:
    manifest = loads(text)
    data = dump(manifest)
    before = copy.deepcopy(data)
    data["files"].clear()  # type: ignore[union-attr]
    assert dump(manifest) == before


def test_parameters_are_placed_as_ptx_places_them() -> None:
    kinds = ["f32", "tensor_map", "i32", "pointer", "i32", "i64"]
    placed = place(Param(k, "x" if k != "i32" else 1) for k in kinds)
    assert [(p.offset, p.size) for p in placed] == [(0, 4), (64, 128), (192, 4), (200, 8), (208, 4), (216, 8)]
