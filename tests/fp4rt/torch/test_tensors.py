"""torch in, torch out: quantized tensors of torch tensors, with numpy's as the oracle."""

from __future__ import annotations

import copy
import io as files
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fp4num
import fp4rt
import fp4rt.torch
from fp4num import FORMATS, DataError, Quantized
from fp4rt import Artifact, io
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.devices.reference import ReferenceDevice

pytestmark = pytest.mark.torch

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests" / "gpu" / "data" / "scale_shift.json"
NAMES = sorted(FORMATS)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def assert_same(found: Quantized, wanted: Quantized) -> None:
    """Tensors with the bits of arrays."""
    for name in ("codes", "scales", "tensor_scale", "offsets"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            assert isinstance(ours, torch.Tensor) and tuple(ours.shape) == np.shape(theirs), name
            np.testing.assert_array_equal(ours.numpy(), theirs)
    assert found.format == wanted.format and found.shape == wanted.shape


@pytest.mark.parametrize("name", NAMES)
def test_quantize_and_dequantize_give_tensors_for_tensors(name: str) -> None:
    x = numbers(2, 40, 256)
    q, n = fp4rt.quantize(x, name), fp4rt.quantize(x.numpy(), name)
    assert_same(q, n)
    values = fp4rt.dequantize(q)
    assert isinstance(values, torch.Tensor) and values.dtype is torch.float32
    np.testing.assert_array_equal(values.numpy(), fp4rt.dequantize(n))
    exact = fp4num.operand_values(q)
    assert exact.dtype is torch.float64
    np.testing.assert_array_equal(exact.numpy(), fp4num.operand_values(n))
    assert_same(q[1, 8:40] if n.format.block[0] in (1, "all") and n.format.stored[0] == 1 else q, *[
        n[1, 8:40] if n.format.block[0] in (1, "all") and n.format.stored[0] == 1 else n
    ])  # fmt: skip
    for there in (n.to("cpu"), q.to("cpu"), q.to(torch.device("cpu")).numpy().to("cpu")):
        assert_same(there, n)
    back = q.numpy()
    assert isinstance(back.codes, np.ndarray) and np.shares_memory(back.codes, q.codes.numpy())


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_every_type_of_numbers_gives_tensors(dtype: torch.dtype) -> None:
    x = numbers(16, 64).to(dtype)
    assert_same(fp4rt.quantize(x, "mxfp4"), fp4rt.quantize(x.float().numpy(), "mxfp4"))


def test_stochastic_rounding_by_tensors_of_a_seed() -> None:
    x = numbers(16, 64)
    wanted = fp4rt.quantize(x.numpy(), "nvfp4", rounding="stochastic", rng=(7, 3))
    assert_same(fp4rt.quantize(x, "nvfp4", rounding="stochastic", rng=torch.tensor([7, 3])), wanted)


def test_a_tensor_without_elements_is_refused() -> None:
    with pytest.raises(DataError, match="on the device meta has no elements"):
        fp4rt.quantize(torch.empty(2, 32, device="meta"), "mxfp4")


def test_from_parts_puts_small_parts_where_the_codes_are() -> None:
    n = fp4rt.quantize(numbers(32, 64).numpy(), "nvfp4", offsets=[0, 20, 32])
    codes, scales = torch.from_numpy(n.codes), torch.from_numpy(n.scales)
    for given in (float(n.tensor_scale), n.tensor_scale, n.tensor_scale[()], torch.from_numpy(n.tensor_scale)):
        assert_same(Quantized.from_parts(codes, scales, given, "nvfp4", n.shape, offsets=[0, 20, 32]), n)
    none = Quantized.from_parts(codes, None, None, plain_format(), n.shape)
    assert isinstance(none.scales, torch.Tensor) and none.scales.numel() == 0
    with pytest.raises(DataError, match="codes are a torch tensor, but scales a numpy array"):
        Quantized.from_parts(codes, n.scales, 1.0, "nvfp4", n.shape)
    with pytest.raises(DataError, match="codes are a numpy array, but scales a torch tensor"):
        Quantized.from_parts(n.codes, scales, 1.0, "nvfp4", n.shape)


def plain_format() -> fp4num.BlockFormat:
    nvfp4 = FORMATS["nvfp4"].to_json()
    return fp4num.BlockFormat.from_json({**nvfp4, "name": "plain", "scale": None, "tensor_scale": None})


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4", "mxfp8", "mxfp8_e5m2", "mxfp6", "ds_act"])
def test_torchs_own_types_share_the_memory(name: str) -> None:
    q = fp4rt.quantize(numbers(16, 256), name)
    codes, scales = fp4rt.torch.typed(q)
    types = {"e2m1": torch.float4_e2m1fn_x2, "e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
    assert codes.dtype is types.get(q.format.element, torch.uint8)
    assert (
        scales.dtype
        is {"e4m3": torch.float8_e4m3fn, "e8m0": torch.float8_e8m0fnu, "f32": torch.float32}[q.format.scale]
    )
    assert codes.data_ptr() == q.codes.data_ptr() and scales.data_ptr() == q.scales.data_ptr()
    back = Quantized.from_parts(codes, scales, q.tensor_scale, name, q.shape)
    assert back.codes.data_ptr() == q.codes.data_ptr() and back.codes.dtype is torch.uint8
    assert_same(back, q.numpy())


class Foreign:
    """An array of a library that has nothing but DLPack."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def test_arrays_of_other_libraries_are_taken_by_dlpack() -> None:
    q = fp4rt.quantize(numbers(16, 64), "nvfp4")
    back = Quantized.from_parts(Foreign(q.codes), Foreign(q.scales), Foreign(q.tensor_scale), "nvfp4", q.shape)
    assert back.codes.data_ptr() == q.codes.data_ptr()
    assert_same(back, q.numpy())
    there = np.from_dlpack(q.codes)
    assert np.shares_memory(there, q.codes.numpy())
    assert_same(fp4rt.quantize(Foreign(numbers(16, 64)), "nvfp4"), q.numpy())


def test_tensors_whose_memory_is_not_their_values() -> None:
    x = numbers(16, 64)
    assert_same(fp4rt.quantize(torch._neg_view(x), "nvfp4"), fp4rt.quantize(-x, "nvfp4").numpy())
    for odd, what in ((x.to_sparse(), "layout torch.sparse_coo"), (x.to("meta"), "on the device meta")):
        with pytest.raises(fp4num.NumericsError, match=what):
            fp4rt.quantize(odd, "nvfp4")
    with pytest.raises(fp4num.NumericsError, match="inside a transform of torch.func"):
        torch.vmap(lambda x: fp4rt.quantize(x, "nvfp4").codes)(x[None])
    with pytest.raises(fp4num.NumericsError, match="not Tensor"):
        fp4rt.quantize(x, "nvfp4")[torch.ones(16, dtype=torch.bool)]


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_without_running_foreign_code(name: str) -> None:
    q = fp4rt.quantize(numbers(32, 256), name)
    file = files.BytesIO()
    torch.save({"weight": q}, file)
    file.seek(0)
    back = torch.load(file, weights_only=True)["weight"]
    assert_same(back, q.numpy())
    assert back.format is q.format
    for twin in (pickle.loads(pickle.dumps(q)), copy.deepcopy(q)):  # noqa: S301
        assert_same(twin, q.numpy())


class Model(torch.nn.Module):
    def __init__(self, weight: Quantized) -> None:
        super().__init__()
        self.weight = fp4rt.torch.QuantizedBuffer(weight)


def test_a_model_holds_saves_and_loads_quantized_tensors() -> None:
    q = fp4rt.quantize(numbers(32, 64), "nvfp4")
    model = Model(q)
    assert_same(model.weight(), q.numpy())
    state = model.state_dict()
    assert {"weight.codes", "weight.scales", "weight.tensor_scale", "weight._extra_state"} == set(state)
    file = files.BytesIO()
    torch.save(state, file)
    file.seek(0)
    other = Model(fp4rt.quantize(numbers(32, 64, seed=1), "nvfp4"))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same(other.weight.value, q.numpy())
    for fmt, shape, text in (("mxfp4", (32, 64), "scale e8m0 is not e4m3"), ("nvfp4", (64, 32), "the shape is")):
        fresh = fp4rt.quantize(numbers(*shape), fmt)
        with pytest.raises(DataError, match=text):
            Model(fresh).load_state_dict(state)
        assert_same(fresh, fp4rt.quantize(numbers(*shape).numpy(), fmt))  # nothing was copied
    linear = FORMATS["nvfp4"].to_json() | {"layout": FORMATS["ds_act"].layout.to_json(), "name": "rows"}
    same_sizes = Model(fp4rt.quantize(numbers(128, 64), fp4num.BlockFormat.from_json(linear)))
    with pytest.raises(DataError, match="layout linear is not blocked_128x4"):
        same_sizes.load_state_dict(Model(fp4rt.quantize(numbers(128, 64), "nvfp4")).state_dict())


def test_converting_a_model_leaves_its_scales() -> None:
    for name in ("nvfp4", "ds_act"):
        q = fp4rt.quantize(numbers(32, 256), name)
        for convert in ("half", "bfloat16", "double"):
            assert_same(getattr(Model(q), convert)().weight.value, q.numpy())
    assert Model(q).to("meta").weight.codes.device.type == "meta"


def layers() -> list[tuple[Callable[..., Any], dict[str, Any]]]:
    """A reader of each convention with its tensors, as numpy arrays of ml_dtypes' types."""
    q = fp4rt.quantize(numbers(32, 64).numpy(), "nvfp4")
    layer = io.Linear(q, np.float32(0.5), np.ones(64, np.float32), np.ones(32, np.float32))
    mx = fp4rt.quantize(numbers(32, 64).numpy(), "mxfp4")
    m8 = fp4rt.quantize(numbers(32, 64).numpy(), "mxfp8")
    scaled = io.Linear(q, np.float32(0.5), bias=np.ones(32, np.float32))
    schemes = {"nvfp4-pack-quantized": scaled, "mxfp4-pack-quantized": io.Linear(mx), "mxfp8-quantized": io.Linear(m8)}
    found: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (lambda t, **o: io.from_modelopt(t, "w", **o), io.to_modelopt(layer, "w")),
        (lambda t, **o: io.from_gpt_oss(t, "w", **o), io.to_gpt_oss(mx, "w")),
    ]
    for s, scheme in enumerate(schemes):
        tensors = io.to_compressed_tensors(schemes[scheme], "w", list(schemes)[s])  # type: ignore[arg-type]
        found.append((lambda t, scheme=scheme, **o: io.from_compressed_tensors(t, "w", scheme, **o), tensors))
    for value in (q, mx):
        parts = io.to_torchao(value, "w_", swizzled=False)
        found.append((lambda t, f=value.format, **o: io.from_torchao(t, "w_", swizzled=False, fmt=f, **o), parts))
    return found


@pytest.mark.parametrize("at", range(7))
def test_checkpoints_give_tensors_for_tensors_and_where_asked(at: int, tmp_path: Path) -> None:
    read, parts = layers()[at]
    types = {"F8_E4M3": torch.float8_e4m3fn, "F8_E8M0": torch.float8_e8m0fnu}
    tensors = {}
    for name, tensor in parts.items():
        held = torch.from_numpy(np.array(tensor.data))
        tensors[name] = held.view(types[tensor.dtype]) if tensor.dtype in types else held
    io.save_checkpoint(tmp_path / "m.safetensors", parts)
    plain = read(parts)
    opened = io.open_checkpoint(tmp_path / "m.safetensors")
    for found in (read(tensors), read(parts, family="torch"), read(opened, family="torch")):
        compare(found, plain)
    for found in (read(opened), read(tensors, family="numpy")):
        assert isinstance(getattr(found, "weight", found).codes, np.ndarray)
    with pytest.raises(fp4rt.ArgumentError, match="family is 'numpy', 'torch' or None, not 'jax'"):
        read(tensors, family="jax")


def compare(found: Any, wanted: Any) -> None:
    if isinstance(wanted, Quantized):
        assert_same(found, wanted)
        return
    assert_same(found.weight, wanted.weight)
    for name in ("input_scale", "pre_quant_scale", "bias"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert (ours is None) == (theirs is None), name
        if theirs is not None:
            assert isinstance(ours, torch.Tensor) and ours.dtype is torch.float32
            np.testing.assert_array_equal(ours.numpy(), theirs)


def test_tensors_on_the_cpu_run_on_the_reference_where_the_kernel_is_on_a_gpu() -> None:
    """A device with memory of its own stands for the GPU: the call is the same, and nothing of it is touched."""

    class Elsewhere(ReferenceDevice):
        name = "cuda:0"

        def load(self, artifact: Artifact) -> Any:
            return SimpleNamespace(memory=0, allocating=None, bind=None)

    artifact = Artifact.load(DATA)
    kernel = artifact.load_kernel(Elsewhere())
    x, shift = numbers(20, 36), torch.tensor(0.5)
    assert torch.equal(kernel(x=x, shift=shift, gain=3.0)["y"], x * 3 + 0.5)
    y = torch.empty_like(x)
    assert kernel(x=x, shift=shift, out={"y": y})["y"] is y and torch.equal(y, x * 2 + 0.5)
    operator = kernel.as_torch_op("tensors::elsewhere")
    assert torch.equal(operator(x=x, shift=shift)["y"], y)
    with pytest.raises(fp4rt.ArgumentError, match=r"FP6105|FP6104"):
        kernel(x=x.double(), shift=shift)
    named = artifact.load_kernel(EmulatorDevice()).as_torch_op("tensors::emulated")
    assert "on emulator" in repr(named)
    assert torch.equal(named(x=x, shift=shift)["y"], y)


def test_the_runtime_imports_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, fp4rt\n"
        "q = fp4rt.quantize(np.ones((2, 32), np.float32), 'nvfp4')\n"
        "assert fp4rt.dequantize(q).sum() == 64\n"
        "for use in (lambda: q.to('cpu'), lambda: __import__('fp4rt.torch')):\n"
        "    try: use()\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert first == "DataError torch is not installed, and tensors were asked for: pip install torch"
    assert second == "TorchError FP6115: fp4rt.torch needs torch, which is not installed"
