"""The emulator device with PTX written by hand: parameters, tensor maps, fills, workspace, faults."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import fp4rt
from fp4rt import Artifact, ArtifactError, KernelFault
from fp4rt.compare import compare_outputs
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.manifest import Init, Launch, Manifest, Param, PersistentGrid, Plan, TensorMap, Variant, place
from fp4rt.strict import Expr
from fp4rt.typed import Arg, Axis, Constraint, Dim, Store, TypedKernel, Value

HEADER = ".version 8.7\n.target sm_100a\n.address_size 64\n"

#: y[i] = a[i] + b[i] * gain for i < n, a grid-stride loop; thread 0 of each block writes its block's number to work.
SAXPY = (
    HEADER
    + """
.visible .entry saxpy(
    .param .u64 a, .param .u64 b, .param .u64 y, .param .u64 work, .param .u32 n, .param .f32 gain)
{
    .reg .pred %p<4>;
    .reg .b32 %r<12>;
    .reg .f32 %f<6>;
    .reg .b64 %rd<16>;
    ld.param.u64 %rd1, [a];
    ld.param.u64 %rd2, [b];
    ld.param.u64 %rd3, [y];
    ld.param.u64 %rd4, [work];
    ld.param.u32 %r1, [n];
    ld.param.f32 %f1, [gain];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mov.u32 %r5, %nctaid.x;
    mad.lo.s32 %r6, %r2, %r3, %r4;
    mul.lo.s32 %r7, %r3, %r5;
    setp.ne.s32 %p2, %r4, 0;
    @%p2 bra LOOP;
    mul.wide.s32 %rd10, %r2, 4;
    add.s64 %rd11, %rd4, %rd10;
    st.global.u32 [%rd11], %r2;
LOOP:
    setp.ge.s32 %p1, %r6, %r1;
    @%p1 bra DONE;
    mul.wide.s32 %rd5, %r6, 4;
    add.s64 %rd6, %rd1, %rd5;
    add.s64 %rd7, %rd2, %rd5;
    add.s64 %rd8, %rd3, %rd5;
    ld.global.f32 %f2, [%rd6];
    ld.global.f32 %f3, [%rd7];
    mul.rn.f32 %f4, %f3, %f1;
    add.rn.f32 %f5, %f2, %f4;
    st.global.f32 [%rd8], %f5;
    add.s32 %r6, %r6, %r7;
    bra LOOP;
DONE:
    ret;
}
"""
)


def saxpy_kernel() -> TypedKernel:
    n = (Axis("N", "N"),)
    args = (
        Arg("a", "in", "f32", n),
        Arg("b", "in", "f32", n),
        Arg("gain", "param", "f32", (), 1.0),
        Arg("y", "out", "f32", n),
    )
    values = (
        Value("arg", (), "f32", ("N",), {"name": "a"}),
        Value("arg", (), "f32", ("N",), {"name": "b"}),
        Value("arg", (), "f32", (), {"name": "gain"}),
        Value("mul", (1, 2), "f32", ("N",)),
        Value("add", (0, 3), "f32", ("N",)),
    )
    return TypedKernel("saxpy", (Dim("N"),), args, values, (Store("y", 4),))


def saxpy_plan(covered: Expr = "N", sms_grid: bool = True) -> Plan:
    sources = ("a", "b", "y", ".workspace")
    params = place((*(Param("pointer", s, align=4) for s in sources), Param("i32", covered), Param("f32", "gain")))
    blocks = ("ceildiv", "N", 64)
    grid = PersistentGrid(blocks, 1) if sms_grid else (blocks, 1, 1)
    launch = Launch("saxpy", grid, (64, 1, 1), (1, 1, 1), 0, params)
    return Plan((launch,), workspace=("mul", blocks, 4), init=(Init(".workspace", ("mul", blocks, 4)),))


def artifact_of(kernel: TypedKernel, plan: Plan, ptx: str, **extra: object) -> Artifact:
    manifest = Manifest(kernel.name, "sm_100a", kernel, plan, **extra)  # type: ignore[arg-type]
    return Artifact.build(manifest, {f"{kernel.name}.ptx": ptx.encode()})


def vectors(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    return {name: rng.standard_normal(n).astype(np.float32) for name in "ab"}


@pytest.mark.parametrize("n", [0, 1, 64, 1000])
@pytest.mark.parametrize(
    "device", [EmulatorDevice(), EmulatorDevice(sms=2), EmulatorDevice(mode="delayed", seed=5, sms=3)]
)
def test_pointers_and_numbers(n: int, device: EmulatorDevice) -> None:
    artifact = artifact_of(saxpy_kernel(), saxpy_plan(), SAXPY)
    args = vectors(n)
    found = artifact.load_kernel(device)(**args, gain=1.5)
    expected = artifact.load_kernel("reference")(**args, gain=1.5)
    assert all(c.equal for c in compare_outputs(artifact.manifest, found, expected))


def test_a_byte_that_was_not_written_is_named() -> None:
    artifact = artifact_of(saxpy_kernel(), saxpy_plan(covered=("sub", "N", 1)), SAXPY)
    with pytest.raises(KernelFault, match=r"FP6306: the kernel did not write all of 'y' \(40 bytes\)"):
        artifact.load_kernel("emulator")(**vectors(10))


def test_a_fault_names_the_line() -> None:
    artifact = artifact_of(saxpy_kernel(), saxpy_plan(covered=("add", "N", 64)), SAXPY)
    with pytest.raises(KernelFault, match=r"FP6306: PTX line \d+.*saxpy(.|\n)*ld\.global\.f32"):
        artifact.load_kernel("emulator")(**vectors(10))


def test_the_workspace_size_and_checks() -> None:
    kernel = artifact_of(saxpy_kernel(), saxpy_plan(), SAXPY).load_kernel("emulator")
    assert kernel.workspace_size(N=65) == 8
    with pytest.raises(fp4rt.ArgumentError, match="FP6111: workspace has 4 bytes; 8 are needed for N = 65"):
        kernel(**vectors(65), workspace=np.empty(4, np.uint8))
    kernel(**vectors(65), workspace=np.empty(8, np.uint8))
    args = vectors(65)
    with pytest.raises(fp4rt.ArgumentError, match="FP6107: output 'workspace' overlaps 'a'"):
        kernel(**args, workspace=args["a"])


def test_ptx_that_cannot_be_loaded() -> None:
    with pytest.raises(ArtifactError, match=r"FP6006: the emulator does not load saxpy\.ptx: PTX line 4"):
        artifact_of(saxpy_kernel(), saxpy_plan(), HEADER + "what\n").load_kernel("emulator")


def test_an_artifact_of_another_target() -> None:
    manifest = Manifest("saxpy", "sm_80", saxpy_kernel(), saxpy_plan())
    with pytest.raises(ArtifactError, match="FP6007: the emulator has no sm_80"):
        Artifact.build(manifest, {"saxpy.ptx": SAXPY.encode()}).load_kernel("emulator")


def test_the_first_variant_that_fits_is_used() -> None:
    """Variants choose by size; each has its own constraints."""
    even = Constraint(("eq", ("mod", "N", 2), 0), "N % 2 == 0", "x.fp4:1:1")
    small = Variant("small", ("le", "N", 100), saxpy_plan(sms_grid=False), (even,))
    never = Plan(tuple(saxpy_plan(covered=0).launches), workspace=("mul", "N", 4))
    kernel = artifact_of(saxpy_kernel(), never, SAXPY, variants=(small,)).load_kernel("emulator")
    args = vectors(100)
    np.testing.assert_array_equal(kernel(**args)["y"], args["a"] + args["b"])
    assert kernel.resolve({"N": 100}).variant == "small"
    assert kernel.resolve({"N": 101}).variant == ""
    with pytest.raises(fp4rt.ConstraintError, match="N % 2 == 0"):
        kernel(**vectors(99))


#: One CTA copies a 16 x 16 box of f32 from x to y through shared memory, by TMA both ways; box `tile` of a row of them.
TMA_COPY = (
    HEADER
    + """
.visible .entry copy(.param .align 64 .b8 from[128], .param .align 64 .b8 to[128])
{
    .reg .pred %p<3>;
    .reg .b32 %r<10>;
    .reg .b64 %rd<6>;
    .shared .align 128 .b8 tile[1024];
    .shared .align 8 .b64 bar;
    mov.u32 %r1, %tid.x;
    setp.ne.s32 %p1, %r1, 0;
    @%p1 bra DONE;
    mov.u32 %r2, bar;
    mov.u32 %r3, tile;
    mov.u32 %r4, %ctaid.x;
    shl.b32 %r4, %r4, 4;
    mov.u32 %r5, %ctaid.y;
    shl.b32 %r5, %r5, 4;
    mbarrier.init.shared.b64 [%r2], 1;
    fence.mbarrier_init.release.cluster;
    mov.b64 %rd1, from;
    cvta.param.u64 %rd2, %rd1;
    mov.b64 %rd3, to;
    cvta.param.u64 %rd4, %rd3;
    mbarrier.arrive.expect_tx.shared.b64 %rd5, [%r2], 1024;
    cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r3], [%rd2, {%r4, %r5}], [%r2];
WAIT:
    mbarrier.try_wait.parity.shared.b64 %p2, [%r2], 0;
    @!%p2 bra WAIT;
    cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%rd4, {%r4, %r5}], [%r3];
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;
DONE:
    ret;
}
"""
)


def copy_artifact(swizzles: tuple[str, str] = ("64B", "64B"), x_rows: Expr = "M") -> Artifact:
    axes = (Axis("M", "M"), Axis("N", "N"))
    kernel = TypedKernel(
        "copy",
        (Dim("M"), Dim("N")),
        (Arg("x", "in", "f32", axes), Arg("y", "out", "f32", axes)),
        (Value("arg", (), "f32", ("M", "N"), {"name": "x"}),),
        (Store("y", 0),),
    )
    pitch: Expr = ("mul", "N", 4)
    maps = (
        TensorMap("from", "x", "F32", ("N", x_rows), (pitch,), (16, 16), (1, 1), swizzles[0]),
        TensorMap("to", "y", "F32", ("N", "M"), (pitch,), (16, 16), (1, 1), swizzles[1]),
    )
    params = place((Param("tensor_map", "from"), Param("tensor_map", "to")))
    grid: tuple[Expr, Expr, Expr] = (("ceildiv", "N", 16), ("ceildiv", "M", 16), 1)
    return artifact_of(kernel, Plan((Launch("copy", grid, (32, 1, 1), (1, 1, 1), 0, params),), maps), TMA_COPY)


@pytest.mark.parametrize("shape", [(16, 16), (40, 36), (1, 4), (0, 16), (16, 0)])
@pytest.mark.parametrize("swizzle", ["none", "64B"])
def test_tensor_maps(shape: tuple[int, int], swizzle: str) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    kernel = copy_artifact((swizzle, swizzle)).load_kernel("emulator")
    np.testing.assert_array_equal(kernel(x=x)["y"], x)


def test_a_wrong_swizzle_shows() -> None:
    artifact = copy_artifact(("64B", "none"))
    x = np.arange(256, dtype=np.float32).reshape(16, 16)
    y = artifact.load_kernel("emulator")(x=x)
    differences = compare_outputs(artifact.manifest, y, {"y": x})
    assert not differences[0].equal


def test_a_tensor_map_may_not_leave_its_buffer() -> None:
    kernel = copy_artifact(x_rows=("add", "M", 1)).load_kernel("emulator")
    with pytest.raises(ArtifactError, match="tensor map from: it spans bytes 0 to 1088 of a buffer of 1024"):
        kernel(x=np.zeros((16, 16), np.float32))


def test_a_pitch_that_tma_cannot_take() -> None:
    kernel = copy_artifact().load_kernel("emulator")
    with pytest.raises(
        fp4rt.DimensionError, match="FP6202: tensor map from: stride 0 is 20 bytes; TMA takes multiples"
    ):
        kernel(x=np.zeros((16, 5), np.float32))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan((), init=(Init("y", ("add", "N", 1), width=4),)), "init: 44 bytes at 0 leave y, which has 40"),
        (Plan((), workspace=("div", "N", 3)), "FP6202: workspace: N / 3: 10 / 3 leaves a remainder"),
    ],
)
def test_sizes_are_checked(plan: Plan, message: str, reference: Callable[[TypedKernel], fp4rt.Kernel]) -> None:
    artifact = Artifact.build(Manifest("saxpy", "sm_100a", saxpy_kernel(), plan), {})
    with pytest.raises((ArtifactError, fp4rt.DimensionError), match=message):
        artifact.load_kernel("reference")(**vectors(10))


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_integers_must_fit(value: int) -> None:
    kernel = artifact_of(saxpy_kernel(), saxpy_plan(covered=("add", "N", value)), SAXPY).load_kernel("emulator")
    with pytest.raises(fp4rt.DimensionError, match="FP6202: .* does not fit the kernel's 32-bit parameter"):
        kernel(**vectors(0))
