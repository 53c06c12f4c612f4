"""Compile scale_shift_kernel.py and write data/scale_shift.{json,cubin,ptx}: `python tests/gpu/make_artifact.py`.

Needs the compiler's dependencies; the tests that use the artifact do not.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from fp4rt import Artifact
from fp4rt.manifest import Init, Launch, Manifest, Param, PersistentGrid, Plan, TensorMap, place
from fp4rt.typed import Arg, Axis, Constraint, Dim, Store, TypedKernel, Value

HERE = Path(__file__).resolve().parent
#: The DSL's arrays lie in dynamic shared memory: two tiles and a barrier.
SHARED = 64 * 32 * 4 + 32 * 32 * 4 + 8
TILES = ("mul", ("ceildiv", "M", 64), ("ceildiv", "N", 32))


def typed_kernel() -> TypedKernel:
    """y = x * gain + shift; count = the number of 64 x 32 tiles."""
    m, n = Axis("M", "M"), Axis("N", "N")
    args = (
        Arg("x", "in", "f32", (m, n)),
        Arg("shift", "in", "f32", ()),
        Arg("gain", "param", "f32", (), 2.0),
        Arg("y", "out", "f32", (m, n)),
        Arg("count", "out", "i32", ()),
    )
    values = (
        Value("arg", (), "f32", ("M", "N"), {"name": "x"}),
        Value("arg", (), "f32", (), {"name": "gain"}),
        Value("mul", (0, 1), "f32", ("M", "N")),
        Value("arg", (), "f32", (), {"name": "shift"}),
        Value("add", (2, 3), "f32", ("M", "N")),
        Value("dim", (), "i32", (), {"expr": TILES}),
    )
    return TypedKernel("scale_shift", (Dim("M"), Dim("N")), args, values, (Store("y", 4), Store("count", 5)))


def manifest(entry: str) -> Manifest:
    """The manifest of the kernel in scale_shift_kernel.py."""

    def tile(name: str, source: str, rows: int, swizzle: str) -> TensorMap:
        return TensorMap(name, source, "F32", ("N", "M"), (("mul", "N", 4),), (32, rows), (1, 1), swizzle, "128B")

    launch = Launch(
        entry,
        PersistentGrid(TILES, 2),
        (128, 1, 1),
        (2, 1, 1),
        SHARED,
        place(
            (
                Param("tensor_map", "x_map"),
                Param("tensor_map", "y_map"),
                Param("pointer", "shift"),
                Param("pointer", "count"),
                Param("i32", TILES),
                Param("i32", ("ceildiv", "N", 32)),
                Param("f32", "gain"),
            )
        ),
    )
    plan = Plan(
        (launch,), (tile("x_map", "x", 64, "128B"), tile("y_map", "y", 32, "none")), init=(Init("count", 1, width=4),)
    )
    pitch = Constraint(("eq", ("mod", "N", 4), 0), "N % 4 == 0", "scale_shift.fp4:1:1", "TMA takes rows of 16 bytes")
    toolchain = {"nvidia-cutlass-dsl": version("nvidia-cutlass-dsl")}
    return Manifest("scale_shift", "sm_90a", typed_kernel(), plan, (pitch,), toolchain=toolchain)


def main() -> None:
    """Compile and write."""
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # before the import: the DSL drops files where it started
        import scale_shift_kernel

        compiled = scale_shift_kernel.compile()
    ptx = compiled.__ptx__ if isinstance(compiled.__ptx__, bytes) else compiled.__ptx__.encode()
    entry = next(x.split("(")[0].split()[-1] for x in ptx.decode().splitlines() if ".visible .entry" in x)
    files = {"scale_shift.ptx": ptx.rstrip(b"\0"), "scale_shift.cubin": compiled.__cubin__}
    print(Artifact.build(manifest(entry), files).save(HERE / "data"))


if __name__ == "__main__":
    main()
