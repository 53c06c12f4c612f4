"""The limits of a plan's sizes, each met exactly and by one too much: fills, maps, grids, pointers, workspace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fp4rt import ArtifactError, DimensionError, RuntimeFault
from fp4rt.manifest import Init, Launch, Manifest, Param, PersistentGrid, Plan, TensorMap, place
from fp4rt.resolve import Resolved, resolve
from fp4rt.sizes import LONGEST_AXIS
from fp4rt.strict import Expr
from fp4rt.typed import Arg, Axis, Dim, Store, TypedKernel, Value

#: f32 x[8, 16] -> y: 512 bytes each.
AXES = (Axis("M", 8), Axis("N", 16))
KERNEL = TypedKernel(
    "k",
    (Dim("D"),),
    (Arg("x", "in", "f32", AXES), Arg("y", "out", "f32", AXES)),
    (Value("arg", (), "f32", ("M", "N"), {"name": "x"}),),
    (Store("y", 0),),
)
MAP = TensorMap("m", "x", "F32", (16, 8), (64,), (16, 8), (1, 1))
LAUNCH = Launch("k", (1, 1, 1), (32, 1, 1), (1, 1, 1), 0, ())


def resolved(d: int = 0, **plan: Any) -> Resolved:
    fields: dict[str, Any] = {"launches": (LAUNCH,), **plan}
    return resolve(Manifest("k", "sm_100a", KERNEL, Plan(**fields)), {"D": d})


def refused(kind: type[RuntimeFault], message: str, **plan: Any) -> None:
    with pytest.raises(kind, match=message):
        resolved(**plan)


# tensor maps


@pytest.mark.parametrize(
    "fits",
    [
        MAP,
        replace(MAP, dims=(12, 8), byte_offset=16),  # its last row ends with the buffer
        replace(MAP, dims=(4, 32), strides=(16,)),
        replace(MAP, dims=(128,), strides=(), box=(16,), element_strides=(1,)),
        replace(MAP, dims=(4, 2, 2), strides=(32, 464), box=(4, 2, 2), element_strides=(1, 1, 1)),
    ],
)
def test_a_map_may_end_with_its_buffer_and_not_a_byte_later(fits: TensorMap) -> None:
    assert resolved(tensor_maps=(fits,)).tensor_maps[0].active
    for more in (1, 15, 16):
        assert isinstance(fits.byte_offset, int)
        beyond = replace(fits, byte_offset=fits.byte_offset + more)
        refused(ArtifactError, "it spans bytes .* of a buffer of 512", tensor_maps=(beyond,))
    for axis in range(len(fits.dims)):
        longer = tuple(d + 4 if i == axis else d for i, d in enumerate(fits.dims) if isinstance(d, int))
        refused(ArtifactError, "it spans bytes", tensor_maps=(replace(fits, dims=longer),))
    refused(ArtifactError, "it spans bytes -16", tensor_maps=(replace(fits, byte_offset=-16),))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"strides": (8,)}, "stride 0 is 8 bytes"),
        ({"strides": (0,)}, "stride 0 is 0 bytes"),
        ({"strides": (2**40,)}, "stride 0 is 1099511627776"),
        ({"dims": (2**32 + 1, 1)}, "not within 1 and"),
        ({"dims": (-1, 8)}, "not within 1 and"),
        ({"dtype": "B6X16_P32", "dims": (16, 2), "strides": (16,)}, "multiples of 32"),
    ],
)
def test_strides_and_sizes_of_maps(edit: dict[str, Any], message: str) -> None:
    refused(DimensionError, message, tensor_maps=(replace(MAP, **edit),))


def test_a_map_that_is_not_used_is_not_checked() -> None:
    unused = replace(MAP, dims=("D", 8), byte_offset=10**6)
    assert not resolved(tensor_maps=(unused,)).tensor_maps[0].active
    assert not resolved(tensor_maps=(replace(unused, dims=(16, 8), when="D"),)).tensor_maps[0].active
    refused(ArtifactError, "it spans", d=1, tensor_maps=(unused,))


# fills


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_fill_starts_on_a_word_and_ends_with_its_buffer(width: int) -> None:
    def fill(start: int, words: int) -> tuple[Init]:
        return (Init("y", words, 0, width, start),)

    assert resolved(init=fill(0, 512 // width)).init[0].count == 512 // width
    assert resolved(init=fill(width, 512 // width - 1)).init[0].byte_offset == width
    refused(ArtifactError, "leave y", init=fill(0, 512 // width + 1))
    refused(ArtifactError, "leave y", init=fill(width, 512 // width))
    refused(ArtifactError, "leave y", init=fill(-width, 1))
    refused(ArtifactError, "leave y", init=fill(0, -1))
    for odd in range(1, width):
        refused(ArtifactError, rf"init: {width} bytes at {odd}", init=fill(odd, 1))


# grids


@pytest.mark.parametrize("axis", range(3))
def test_the_limits_of_a_grid(axis: int) -> None:
    """2^31-1 blocks along x, 65535 along y and z (PTX ISA 4.1 follows CUDA's limits, Programming Guide 16.2)."""
    most = (2**31 - 1, 65535, 65535)[axis]

    def launches(size: int) -> tuple[Launch]:
        grid: tuple[Expr, Expr, Expr] = tuple(size if i == axis else 1 for i in range(3))  # type: ignore[assignment]
        return (replace(LAUNCH, grid=grid),)

    assert resolved(launches=launches(most)).launches[0].grid[axis] == most
    assert resolved(launches=launches(0)).launches[0].empty
    refused(DimensionError, "over the limits", launches=launches(most + 1))
    refused(DimensionError, "over the limits", launches=launches(-1))
    clusters = tuple(2 if i == axis else 1 for i in range(3))
    (launch,) = launches(3)
    refused(ArtifactError, "no multiple of the cluster", launches=(replace(launch, cluster=clusters),))


def test_tiles_are_not_negative() -> None:
    assert resolved(launches=(replace(LAUNCH, grid=PersistentGrid(0, 1)),)).launches[0].empty
    refused(DimensionError, "is -1 tiles", launches=(replace(LAUNCH, grid=PersistentGrid(-1, 1)),))


def test_tiles_are_counted_in_32_bits() -> None:
    def launches(tiles: Expr) -> tuple[Launch]:
        return (replace(LAUNCH, grid=PersistentGrid(tiles, 1)),)

    assert resolved(launches=launches(LONGEST_AXIS)).launches[0].tiles == LONGEST_AXIS
    refused(DimensionError, "cut the tensors up", launches=launches(LONGEST_AXIS + 1))


@pytest.mark.parametrize("extent", ["D", ("mul", "D", 1), ("sub", "D", 0)])
def test_an_axis_ends_a_tile_before_32_bits_do(extent: Expr) -> None:
    """Rows past the last one are counted up to the end of the tile: near 2^31 they would be negative, and written."""
    axes = (Axis("M", extent),)
    kernel = TypedKernel(
        "k",
        (Dim("D"),),
        (Arg("x", "in", "bf16", axes), Arg("y", "out", "bf16", axes)),
        (Value("arg", (), "f32", ("M",), {"name": "x"}),),
        (Store("y", 0),),
    )
    manifest = Manifest("k", "sm_100a", kernel, Plan(launches=(LAUNCH,)))
    assert resolve(manifest, {"D": LONGEST_AXIS}).key == (LONGEST_AXIS,)
    for long in (LONGEST_AXIS + 1, 2**31 - 1, 2**31, 2**40):
        with pytest.raises(DimensionError, match=rf"x: the axis .* is {long} long.*cut the tensor"):
            resolve(manifest, {"D": long})


# parameters and workspace


@pytest.mark.parametrize(("kind", "bits"), [("i32", 32), ("i64", 64)])
def test_integers_fit_their_parameters(kind: str, bits: int) -> None:
    def launches(value: int) -> tuple[Launch]:
        return (replace(LAUNCH, params=place([Param(kind, value)])),)

    for value in (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1):
        assert resolved(launches=launches(value)).launches[0].params[0].value == value
    for value in (-(2 ** (bits - 1)) - 1, 2 ** (bits - 1)):
        refused(DimensionError, "64-bit range|does not fit", launches=launches(value))


def test_a_pointer_stays_in_its_buffer() -> None:
    def launches(offset: int) -> tuple[Launch]:
        return (replace(LAUNCH, params=place([Param("pointer", "x", offset)])),)

    assert resolved(launches=launches(512)).launches[0].params[0].byte_offset == 512
    for offset in (-1, 513):
        refused(ArtifactError, f"a pointer to byte {offset} leaves x, which has 512", launches=launches(offset))


def test_the_workspace_is_not_negative() -> None:
    assert resolved(workspace=0).workspace == 0
    refused(DimensionError, "workspace: -1 is -1 bytes", workspace=-1)
