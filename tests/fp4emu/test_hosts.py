"""Launches of Triton's and the CuTe DSL's programs: with stand-ins for what those packages do around a launch."""

from __future__ import annotations

import struct
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fp4emu.cute
import fp4emu.triton
from fp4emu import Fault
from fp4emu.host import HostMemory
from fp4emu.tensormap import DataType

PTX = Path(__file__).parent / "foreign" / "softmax.ptx"
COPY = """.version 8.8
.target sm_90a
.address_size 64
.visible .entry copy(.param .align 64 .b8 map[128], .param .u64 y)
{ .shared .align 128 .b8 buffer[512]; .shared .align 8 .b64 bar; .reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %d<4>;
mov.u32 %r1, %tid.x; mov.b32 %r2, buffer; mov.b32 %r3, bar; setp.ne.u32 %p1, %r1, 0; @%p1 bra READY;
mbarrier.init.shared.b64 [%r3], 1; fence.mbarrier_init.release.cluster;
mbarrier.arrive.expect_tx.shared.b64 _, [%r3], 512; mov.b64 %d1, map; cvta.param.u64 %d1, %d1;
cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%r2], [%d1, {0, 4}], [%r3];
READY: bar.sync 0;
WAIT: mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0; @!%p2 bra WAIT;
mad.lo.u32 %r2, %r1, 4, %r2; ld.shared.b32 %r4, [%r2]; ld.param.u64 %d2, [y]; mad.wide.u32 %d2, %r1, 4, %d2;
st.global.b32 [%d2], %r4; ret; }
"""


def _softmax(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture
def x() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((4, 100)).astype(np.float32)


class _Hooks(list[Any]):
    def add(self, hook: Any) -> None:
        self.append(hook)


@pytest.fixture
def active(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a stand-in for Triton was given: its active driver, and the hooks for kernels that are loaded."""
    given: dict[str, Any] = {"hooks": _Hooks()}
    modules = {
        "triton": SimpleNamespace(
            runtime=SimpleNamespace(driver=SimpleNamespace(set_active=lambda driver: given.update(driver=driver)))
        ),
        "triton.knobs": SimpleNamespace(runtime=SimpleNamespace(kernel_load_start_hook=given["hooks"])),
        "triton.backends.compiler": SimpleNamespace(GPUTarget=namedtuple("GPUTarget", "backend arch warp_size")),
    }
    monkeypatch.setattr(fp4emu.triton, "import_module", lambda name: modules[name])
    return given


def _launch(given: dict[str, Any], file: Path, signature: dict[str, Any], values: tuple[Any, ...], **more: Any) -> None:
    """Does what Triton does with a compiled kernel, as far as a driver sees it."""
    driver = given["driver"]
    for hook in given["hooks"]:
        hook(None, None, file.stem, {f"{file.stem}.json": "", f"{file.stem}.ptx": str(file)}, "")
    metadata = SimpleNamespace(**{"num_warps": 4, "num_ctas": 1, "shared": 16, "tensordesc_meta": None, **more})
    launcher = driver.launcher_cls(SimpleNamespace(signature=signature), metadata)
    _, function, _, _, threads = driver.utils.load_binary(file.stem, b"", 16, 0)
    assert threads >= 128
    launcher(4, 1, 1, 0, function, None, None, None, None, *values)


@pytest.mark.parametrize("order", ["default", "strict"])
def test_triton_launches_on_the_emulator(order: Any, x: Any, active: dict[str, Any]) -> None:
    driver = fp4emu.triton.install("sm_90a", order=order)
    assert active["driver"] is driver
    assert driver.get_current_target() == ("cuda", 90, 32)
    assert not driver.is_active()
    y = np.zeros_like(x)
    signature = {"x": "*fp32", "y": "*fp32", "n": "i32", "BLOCK": "constexpr"}
    _launch(active, PTX, signature, (fp4emu.triton.Array(x), fp4emu.triton.Array(y), 100, 128))
    np.testing.assert_allclose(y, _softmax(x), atol=2e-8)
    assert driver.warnings == ()


def test_a_launch_of_triton_that_leaves_its_array(x: Any, active: dict[str, Any]) -> None:
    fp4emu.triton.install("sm_90a")
    signature = {"x": "*fp32", "y": "*fp32", "n": "i32", "BLOCK": "constexpr"}
    small = fp4emu.triton.Array(np.zeros((3, 100), np.float32))
    with pytest.raises(Fault, match="softmax"):
        _launch(active, PTX, signature, (fp4emu.triton.Array(x), small, 100, 128))


def test_arguments_of_triton_become_parameters() -> None:
    packed = fp4emu.triton._packed  # pyright: ignore[reportPrivateUsage]
    none: Any = iter(())
    assert packed("i32", -2, none) == [b"\xfe\xff\xff\xff"]
    assert packed("u8", 255, none) == [b"\xff"]
    assert packed("i1", True, none) == [b"\x01"]
    assert packed("fp16", 1.5, none) == [struct.pack("<e", 1.5)]
    assert packed("bf16", 1.5, none) == [b"\xc0\x3f"]
    assert packed("*fp32", None, none) == [bytes(8)]
    with pytest.raises(Fault, match="type strange"):
        packed("strange", 1, none)
    array = fp4emu.triton.Array(np.zeros((4, 8), np.float32))
    descriptor = SimpleNamespace(base=array, shape=[4, 8], strides=[8, 1], padding="nan", round_f32_to_tf32=False)
    meta = {"swizzle": 1, "elem_size": 4, "elem_type": 7, "block_size": [2, 8], "fp4_padded": False}
    described, *sizes = packed("tensordesc<fp32[2, 8]>", descriptor, iter([meta]))
    assert sizes == [struct.pack("<i", 4), struct.pack("<i", 8), struct.pack("<q", 8), struct.pack("<q", 1)]
    made = described.map(4096)
    assert (made.dtype, made.dims, made.strides, made.box, int(made.oob_fill)) == (
        DataType.F32, (8, 4), (32,), (8, 2), 1,
    )  # fmt: skip
    flat = packed("tensordesc<fp32[2, 8]>", descriptor, none)
    assert flat[0] is array and len(flat) == 1 + 4 + 2 + 4


def test_a_cute_function_launches(x: Any) -> None:
    y = np.zeros_like(x)
    compiled = SimpleNamespace(__ptx__=PTX.read_text())
    verdict = fp4emu.cute.launch(compiled, x, y, 100, 0, 0, grid=(4,), block=(128,), shared=16, order="strict")
    np.testing.assert_allclose(y, _softmax(x), atol=2e-8)
    assert verdict == fp4emu.cute.Verdict((), "")


NUMBERS = """.version 8.8
.target sm_90a
.address_size 64
.visible .entry numbers(.param .u64 y, .param .f32 a, .param .f64 b, .param .s32 c)
{ .reg .f32 %f<3>; .reg .f64 %e<3>; .reg .b32 %r<3>; .reg .b64 %d<3>;
ld.param.u64 %d1, [y]; ld.param.f32 %f1, [a]; ld.param.f64 %e1, [b]; ld.param.s32 %r1, [c];
cvt.rn.f32.f64 %f2, %e1; add.f32 %f1, %f1, %f2; cvt.rn.f32.s32 %f2, %r1; add.f32 %f1, %f1, %f2;
st.global.f32 [%d1], %f1; ret; }
"""


@pytest.mark.parametrize("of", [float, np.float32, np.float64])
def test_numbers_become_parameters_of_their_size(of: Any) -> None:
    y = np.zeros(1, np.float32)
    fp4emu.cute.launch(NUMBERS, y, of(0.5), of(2.25), np.int32(-8), grid=(1,), block=(1,))
    assert y.tolist() == [-5.25]
    with pytest.raises(Fault, match="a parameter of 1 bytes is given the number 0.5"):
        fp4emu.cute.launch(NUMBERS.replace(".s32 c", ".u8 c").replace("ld.param.s32", "ld.param.u8"), y, 1.0, 1.0, 0.5,
                           grid=(1,), block=(1,))  # fmt: skip


def test_a_cute_function_with_a_descriptor() -> None:
    x, y = np.arange(256, dtype=np.float32).reshape(8, 32), np.zeros(128, np.float32)
    shape = {"dtype": DataType.F32, "dims": (32, 8), "strides": (128,), "box": (32, 4)}
    described = fp4emu.cute.Described(x, shape)
    fp4emu.cute.launch(COPY, described, y, grid=(1,), block=(128,), order="strict")
    np.testing.assert_array_equal(y, x[4:].reshape(-1))


def test_what_cannot_be_launched(x: Any) -> None:
    text = PTX.read_text()
    with pytest.raises(Fault, match="takes 5 parameters, 2 were given"):
        fp4emu.cute.launch(text, x, x, grid=(1,), block=(128,))
    with pytest.raises(Fault, match="keep-ptx"):
        fp4emu.cute.launch(SimpleNamespace(__ptx__=None), grid=(1,), block=(1,))
    with pytest.raises(Fault, match="has 2 entries"):
        fp4emu.cute.launch(COPY + ".visible .entry other() { ret; }", grid=(1,), block=(1,))
    with pytest.raises(Fault, match="for sm_130a"):
        fp4emu.cute.launch(COPY.replace("sm_90a", "sm_130a"), grid=(1,), block=(1,))
    with pytest.raises(Fault, match="contiguous"):
        fp4emu.triton.Array(x.T)
    gpu = fp4emu.Gpu("sm_90a")
    with pytest.raises(Fault, match="on .*type='cuda'"):
        HostMemory(gpu).address(SimpleNamespace(device=SimpleNamespace(type="cuda")))
    with pytest.raises(Fault, match="an argument is 'text'"):
        HostMemory(gpu).address("text")


def test_views_of_one_storage_stay_views() -> None:
    """Tensors that share a storage share their copy, as torch's views do."""
    base = np.arange(16, dtype=np.float32)
    storage = SimpleNamespace(data_ptr=lambda: base.ctypes.data, nbytes=lambda: base.nbytes)
    tensors = [
        SimpleNamespace(untyped_storage=lambda: storage, data_ptr=lambda at=at: base.ctypes.data + at) for at in (0, 16)
    ]
    gpu = fp4emu.Gpu("sm_90a")
    memory = HostMemory(gpu)
    first, second = (memory.address(tensor) for tensor in tensors)
    assert second == first + 16
    gpu.write(second, np.float32(7).tobytes())
    memory.back()
    assert base[4] == 7
