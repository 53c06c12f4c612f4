"""`python -m fp4emu`: other people's PTX from the command line, as docs/emulator.md shows it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fp4emu.command import main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")
TOP = ".version 8.0\n.target sm_90a\n.address_size 64\n"
SAXPY = (
    TOP
    + """.visible .entry saxpy(.param .f32 a, .param .u64 x, .param .u64 y, .param .u32 n)
{
  .reg .pred %p; .reg .b32 %r<8>; .reg .f32 %f<4>; .reg .b64 %d<4>;
  mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x; mad.lo.u32 %r4, %r1, %r2, %r3;
  ld.param.u32 %r5, [n]; setp.ge.u32 %p, %r4, %r5; @%p bra END;
  ld.param.f32 %f1, [a]; ld.param.u64 %d1, [x]; ld.param.u64 %d2, [y];
  mad.wide.u32 %d1, %r4, 4, %d1; mad.wide.u32 %d2, %r4, 4, %d2;
  ld.global.f32 %f2, [%d1]; ld.global.f32 %f3, [%d2]; fma.rn.f32 %f3, %f1, %f2, %f3; st.global.f32 [%d2], %f3;
END: ret;
}
"""
)
STUCK = (
    TOP
    + """.visible .entry stuck() {
  .shared .align 8 .b64 ready; .reg .b32 %r1; .reg .pred %p;
  mov.b32 %r1, ready;
  mbarrier.init.shared.b64 [%r1], 1;
W: mbarrier.try_wait.parity.shared.b64 %p, [%r1], 0; @!%p bra W;
  ret; }
"""
)
REFUSED = (
    TOP
    + ".visible .entry bad() {\n.reg .b32 %r;\nfrob.b32 %r;\nfrob.b32 %r;\nret; }\n.visible .entry good() { ret; }\n"
)
COPY = (
    TOP
    + """.visible .entry copy(.param .align 64 .b8 source[128], .param .u64 y) {
  .shared .align 128 .b8 box[256]; .shared .align 8 .b64 ready; .reg .pred %p; .reg .b32 %r<8>; .reg .b64 %d<4>;
  mov.b32 %r1, box; mov.b32 %r2, ready; mov.u32 %r3, %tid.x; mov.b64 %d1, source;
  setp.ne.u32 %p, %r3, 0; @%p bra W0;
  mbarrier.init.shared.b64 [%r2], 1; fence.mbarrier_init.release.cluster; fence.proxy.async;
  mbarrier.arrive.expect_tx.shared.b64 _, [%r2], 256;
  cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%d1, {8, 1}], [%r2];
W0: bar.sync 0;
W: mbarrier.try_wait.parity.shared.b64 %p, [%r2], 0; @!%p bra W;
  mad.lo.u32 %r4, %r3, 4, %r1; ld.shared.b32 %r5, [%r4];
  ld.param.u64 %d2, [y]; mad.wide.u32 %d2, %r3, 4, %d2; st.global.b32 [%d2], %r5;
  ret; }
"""
)


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


class Folder:
    """Runs command lines in a folder that has the files of the tests."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self.capsys = path, capsys

    def __call__(self, line: str) -> Ran:
        status = main(line.split())
        captured = self.capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Ran(status, captured.out, captured.err)


@pytest.fixture
def fp4emu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Folder:
    monkeypatch.chdir(tmp_path)
    for name, text in {"saxpy": SAXPY, "stuck": STUCK, "refused": REFUSED, "copy": COPY}.items():
        Path(f"{name}.ptx").write_text(text)
    np.save("x.npy", np.arange(200, dtype=np.float32))
    np.save("y.npy", np.ones((10, 20), np.float32))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    np.savez("arrays.npz", a=np.zeros(3))
    Path("archive.npy").write_bytes(Path("arrays.npz").read_bytes())
    Path("broken.npy").write_bytes(b"\x93NUMPY")
    Path("syntax.ptx").write_text(TOP + ".visible .entry k() { mov.u32 %nowhere, 1; ret; }")
    Path("cubin.ptx").write_bytes(b"\x7fELF\xff\xfe")
    return Folder(tmp_path, capsys)


SAXPY_LINE = "run saxpy.ptx saxpy --grid 4 --block 64 --arg f32:2 --arg x.npy --arg y.npy --arg u32:200"


def test_the_example_of_the_docs(fp4emu: Folder) -> None:
    section = PAGE[PAGE.index("## Other people's PTX") :]
    (source,) = re.findall(r"```ptx\n(.*?)```", section, re.DOTALL)
    (commands,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    found, right = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    array, entries, run = commands.splitlines()
    Path("reverse.ptx").write_text(source)
    subprocess.run([sys.executable, "-c", array.split('"')[1]], check=True)
    ran = fp4emu(entries.removeprefix("python -m fp4emu "))
    assert ran.status == 0
    assert "parameter 1: y, 8 bytes" in ran.out
    assert fp4emu(run.removeprefix("python -m fp4emu ")) == Ran(1, found, "")
    assert not Path("reversed.npy").exists()
    Path("reverse.ptx").write_text(source.replace("  ld.shared", "  bar.sync 0;\n  ld.shared"))
    assert fp4emu(run.removeprefix("python -m fp4emu ")) == Ran(0, right, "")
    np.testing.assert_array_equal(np.load("reversed.npy"), np.arange(256, dtype=np.float32)[::-1])


@pytest.mark.parametrize("more", ["", " --seed 3", " --order off", " --order strict --target sm_90a", " --seconds 60"])
def test_outputs_are_saved_with_type_and_shape(more: str, fp4emu: Folder) -> None:
    ran = fp4emu(f"{SAXPY_LINE} --save y=a.npy --save 2=b.npy{more}")
    assert (ran.status, ran.err) == (0, "")
    expected = (2 * np.arange(200, dtype=np.float32) + 1).reshape(10, 20)
    for name in ("a.npy", "b.npy"):
        saved = np.load(name)
        assert saved.dtype == np.float32
        np.testing.assert_array_equal(saved, expected)


@pytest.mark.parametrize("swizzle", ["none", "32B"])
def test_a_tensor_map(swizzle: str, fp4emu: Folder) -> None:
    """Box (8, 8) at column 8, row 1 of a 32 x 16 array; the swizzle of 32-byte rows exchanges their halves."""
    array = np.arange(512, dtype=np.float32).reshape(32, 16)
    np.save("m.npy", array)
    ran = fp4emu(
        f"run copy.ptx copy --grid 1 --block 64 --arg map:8x8:{swizzle}:m.npy --arg empty:f32:8x8 --save 1=o.npy"
    )
    assert ran.status == 0, ran
    box = array[1:9, 8:]
    chunks = box.reshape(8, 2, 4)
    if swizzle == "32B":
        chunks = np.array([row[::-1] if i // 4 % 2 else row for i, row in enumerate(chunks)])
    np.testing.assert_array_equal(np.load("o.npy"), chunks.reshape(8, 8))


def test_a_deadlock_says_who_waits_for_what(fp4emu: Folder) -> None:
    ran = fp4emu("run stuck.ptx stuck --grid 1 --block 1")
    assert ran.status == 1
    assert all(word in ran.out for word in ("stuck.ptx: ", "warp 0", "ready", "try_wait"))


def test_warnings_come_before_the_verdict(fp4emu: Folder) -> None:
    """Two lanes that only `.sync` joins: a warning at default, a fault at strict."""
    body = "mov.b32 %r1, s; mov.u32 %r2, %laneid; mad.lo.u32 %r3, %r2, 4, %r1; st.shared.b32 [%r3], %r2;\n"
    body += "xor.b32 %r3, %r2, 1; mad.lo.u32 %r3, %r3, 4, %r1; ld.shared.b32 %r4, [%r3]; ret;"
    Path("l.ptx").write_text(f"{TOP}.visible .entry k() {{ .shared .align 4 .b8 s[128]; .reg .b32 %r<8>;\n{body} }}\n")
    ran = fp4emu("run l.ptx k --grid 1 --block 32")
    assert ran.status == 0
    assert ran.out.startswith("warning: [lanes] ")
    assert fp4emu("run l.ptx k --grid 1 --block 32 --order strict").status == 1
    assert fp4emu("run l.ptx k --grid 1 --block 32 --check lanes=fault").status == 1
    assert fp4emu("run l.ptx k --grid 1 --block 32 --order strict --check lanes=warn").out.startswith(
        "warning: [lanes] "
    )
    assert "warning" not in fp4emu("run l.ptx k --grid 1 --block 32 --check lanes=off --check race=warn").out


def test_entries_say_what_is_not_emulated(fp4emu: Folder) -> None:
    ran = fp4emu("entries refused.ptx")
    assert ran.status == 1
    assert "not emulated: unknown instruction frob.b32 (line 6, 7)" in ran.out
    assert fp4emu("run refused.ptx good --grid 1 --block 32").status == 0
    ran = fp4emu("run refused.ptx bad --grid 1 --block 32")
    assert (ran.status, "refused.ptx: PTX line 6" in ran.out) == (1, True)


S = "run saxpy.ptx saxpy --grid 1 --block 32"
WRONG = [
    ("", 2, "arguments are required"),
    ("run nowhere.ptx k --grid 1 --block 1", 2, "nowhere.ptx: No such file"),
    ("run . k --grid 1 --block 1", 2, "directory"),
    ("run saxpy.ptx other --grid 1 --block 1", 2, "no entry other; it has: saxpy"),
    ("run saxpy.ptx saxpy --grid 0 --block 1", 2, "not one to three positive numbers"),
    ("run saxpy.ptx saxpy --grid 1,1,1,1 --block 1", 2, "not one to three positive numbers"),
    (f"{S} --smem -1", 2, "--smem"),
    (f"{S} --seconds 0", 2, "not a positive number"),
    (f"{S} --order loose", 2, "invalid choice"),
    (f"{S} --check lane=off", 2, "'lane=off' is not NAME=LEVEL"),
    (f"{S} --check lanes=loud", 2, "levels are fault, warn and off, checks race, "),
    (f"{S} --check lanes", 2, "is not NAME=LEVEL"),
    (S, 2, "takes 4 arguments, 0 were given: a (4 bytes)"),
    (f"{SAXPY_LINE.replace('f32:2', 'f64:2')}", 2, "the parameter a of saxpy has 4 bytes, --arg f64:2 has 8"),
    (f"{S} --arg i32:5.5", 2, "'5.5' is no i32"),
    (f"{S} --arg u8:256", 2, "'256' is no u8"),
    (f"{S} --arg u8:-1", 2, "'-1' is no u8"),
    (f"{S} --arg f16:70000", 2, "beyond the largest f16"),
    (f"{S} --arg float:1", 2, "'float' is no kind of argument"),
    (f"{S} --arg hello", 2, "is no argument"),
    (f"{S} --arg bytes:0", 2, "hexadecimal"),
    (f"{S} --arg zeros:f33:4", 2, "'f33' is no type"),
    (f"{S} --arg zeros:-4", 2, "is no size"),
    (f"{S} --arg zeros:999999999999x999999999999", 2, "does not fit into memory"),
    (f"{S} --arg none.npy", 2, "none.npy: No such file"),
    (f"{S} --arg objects.npy", 2, "objects.npy cannot be read"),
    (f"{S} --arg archive.npy", 2, "archive of arrays"),
    (f"{S} --arg broken.npy", 2, "broken.npy cannot be read"),
    (f"{S} --arg map:4x4:16B:x.npy", 2, "map:BOX:SWIZZLE:ARRAY"),
    (f"{S} --arg map:4x4:none:x.npy", 2, "the box has 2 extents, the array 1"),
    (f"{S} --arg map:4:none:bf16:x.npy", 2, "no bf16 of 16 bits"),
    (f"{S} --arg map:4:none:i32:5", 2, "one of an array"),
    ("run copy.ptx copy --grid 1 --block 1 --arg map:300:none:x.npy --arg zeros:4", 2, "illegal tensor map"),
    (f"{SAXPY_LINE} --save 9=a.npy", 2, "no parameter 9; it has a, x, y, n"),
    (f"{SAXPY_LINE} --save q=a.npy", 2, "no parameter q"),
    (f"{SAXPY_LINE} --save a=a.npy", 2, "--arg f32:2 is no array"),
    (f"{SAXPY_LINE} --save y=a.txt", 2, "ARG=FILE.npy"),
    (f"{SAXPY_LINE} --save y=nowhere/a.npy", 2, "no folder nowhere"),
    (f"{SAXPY_LINE} --target sm_100a", 1, "the module is for sm_90a"),
    ("run saxpy.ptx saxpy --grid 1 --block 2048 --arg f32:1 --arg x.npy --arg x.npy --arg u32:1", 1, "1 to 1024"),
    (SAXPY_LINE.replace("y.npy", "empty:f32:200"), 1, "never written"),
    (SAXPY_LINE.replace(":200", ":0").replace("y.npy", "empty:f32:9") + " --save y=a.npy", 1, "is saved to a.npy"),
    ("run syntax.ptx k --grid 1 --block 1", 1, "syntax.ptx: PTX line 4"),
    ("entries cubin.ptx", 1, "this is not text"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "status", "message"), WRONG, ids=[line[-40:] or "nothing" for line, _, _ in WRONG])
def test_what_is_wrong_is_named(line: str, status: int, message: str, fp4emu: Folder) -> None:
    ran = fp4emu(line)
    assert ran.status == status, ran
    assert message in (ran.err if status == 2 else ran.out), ran


def test_as_a_module(fp4emu: Folder) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "fp4emu", "entries", "saxpy.ptx"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "parameter 3: n, 4 bytes" in ran.stdout
