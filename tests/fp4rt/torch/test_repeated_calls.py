"""The quick way of calls that went through before: it does what the checks do, or leaves the call to them.

A driver's double takes what would be launched, so that two kernels can be compared: one that knows calls like this
one, and one that never remembers any.
"""

from __future__ import annotations

import collections
import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

import fp4rt
from fp4num import FORMATS, NumericsError, Quantized
from fp4rt import Artifact, Kernel
from fp4rt.checks import part_names
from fp4rt.cuda import driver
from fp4rt.errors import RuntimeFault
from fp4rt.manifest import Init, Launch, Manifest, Param, Plan, TensorMap, place
from fp4rt.plan import WORKSPACE
from fp4rt.typed import Arg, Axis, Dim, Store, TypedKernel, Value

from ...driver_double import DriverDouble, Gpu, install
from .test_operators import bf16, quantizer, ragged, unused, updater

pytestmark = pytest.mark.torch

M, N = Axis("M", "M"), Axis("N", "N")


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> DriverDouble:
    found = install(monkeypatch)
    monkeypatch.setattr(driver, "raw_stream", lambda device: 7)
    return found


def planned(kernel: TypedKernel, *, workspace: Any = 0, offset: int = 0, counters: int = 0) -> Artifact:
    """An artifact whose launch takes a pointer to every buffer, maps of the plain ones, sizes and f32 params.

    `counters` words of the workspace are zero before it and after it.
    """
    buffers = [name for arg in kernel.args for name in part_names(arg)]
    aliased = {"q.tensor_scale"} if kernel.name == "quantizer" else set()
    buffers = [name for name in buffers if name not in aliased]
    maps = [
        TensorMap(f"{arg.name}_map", arg.name, "U8", ("N", "M"), (("mul", ("ceildiv", "N", 16), 16),), (16, 1), (1, 1))
        for arg in kernel.args
        if arg.format is None and arg.dtype == "f32" and len(arg.axes) == 2
    ]
    params = [Param("tensor_map", m.name) for m in maps]
    params += [Param("pointer", name, offset if name == buffers[0] else 0) for name in buffers]
    params += [Param("pointer", WORKSPACE)] if workspace else []
    params += [Param("i32", "M"), Param("i64", "M")]
    params += [Param("f32", a.name) for a in kernel.args if a.direction == "param" and a.dtype == "f32"]
    outs = [a for a in kernel.args if a.direction == "out"]
    init = (Init(part_names(outs[0])[0], 1, width=1),) if workspace else ()
    init += (Init(WORKSPACE, counters, width=4, kept=True),) if counters else ()
    launch = Launch(kernel.name, ("M", 1, 1), (32, 1, 1), (1, 1, 1), 0, place(params))
    plan = Plan((launch,), tuple(maps), workspace, init)
    return Artifact.build(Manifest(kernel.name, "sm_90a", kernel, plan), {f"{kernel.name}.ptx": b""})


def scaler() -> TypedKernel:
    """y = x * gain + shift."""
    args = (
        Arg("x", "in", "f32", (M, N)),
        Arg("shift", "in", "f32", ()),
        Arg("gain", "param", "f32", (), 2.0),
        Arg("y", "out", "f32", (M, N)),
        Arg("z", "out", "bf16", (M,)),
    )
    values = (
        Value("arg", (), "f32", ("M", "N"), {"name": "x"}),
        Value("arg", (), "f32", (), {"name": "gain"}),
        Value("mul", (0, 1), "f32", ("M", "N")),
    )
    return TypedKernel("scaler", (Dim("M"), Dim("N")), args, values, (Store("y", 2), Store("z", 2)))


def in_place() -> TypedKernel:
    """`updater` of the operators' tests, without its integer."""
    whole = updater()
    return TypedKernel(
        whole.name, whole.dims, tuple(a for a in whole.args if a.name != "count"), whole.values, whole.stores
    )


def groups_by_offsets_alone() -> TypedKernel:
    """`ragged` of the operators' tests, the length of whose offsets alone says how many groups there are."""
    whole = ragged(FORMATS["nvfp4"])
    args = tuple(a for a in whole.args if a.name != "w")
    return TypedKernel("ragged_alone", whole.dims, args, whole.values, whole.stores)


KERNELS: dict[str, Callable[[], Artifact]] = {
    "scaler": lambda: planned(scaler()),
    "scaler_with_workspace": lambda: planned(scaler(), workspace=("mul", "M", 16), offset=16),
    "quantizer": lambda: planned(quantizer(FORMATS["nvfp4"])),
    "own_scale": lambda: planned(quantizer(FORMATS["mxfp8"])),
    "updater": lambda: planned(in_place()),
    "ragged": lambda: planned(ragged(FORMATS["nvfp4"])),
    "ragged_alone": lambda: planned(groups_by_offsets_alone()),
}


def pair(name: str) -> tuple[Kernel, Kernel, Gpu]:
    """A kernel that remembers calls, one that does not, and the GPU's double on which both are."""
    artifact, gpu = KERNELS[name](), Gpu()
    quick, checked = Kernel(artifact, gpu), Kernel(artifact, gpu)
    for kernel in (quick, checked):
        kernel.signature.check_data = lambda *_: None  # type: ignore[method-assign]  # a GPU's memory is not looked at
    checked.quick = None
    return quick, checked, gpu


def good(name: str, m: int, n: int) -> dict[str, Any]:
    """Arguments of a call."""
    if name.startswith("scaler"):
        return {"x": torch.zeros(m, n), "shift": torch.zeros(())}
    if name == "updater":
        return {"c": torch.zeros(m, n), "x": torch.zeros(m, n)}
    if name.startswith("ragged"):
        offsets = torch.tensor([0, 16, m], dtype=torch.int32)
        q = fp4rt.quantize(bf16(m, n).float(), "nvfp4", offsets=offsets)
        return {"offsets": offsets, "x": q} | ({"w": torch.zeros(2)} if name == "ragged" else {})
    return {"x": bf16(m, n), "s": torch.ones(())}


class Handle:
    """Memory by the protocol of CUDA arrays, which kernels do not take."""

    __cuda_array_interface__ = {"shape": (8, 32), "typestr": "<f4", "data": (4096, False), "version": 3}


class Own(torch.Tensor):
    """A tensor of another class."""


def tensors_of(values: Iterable[Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for x in values:
        parts = [x.codes, x.scales, x.tensor_scale] if isinstance(x, Quantized) else [x]
        found += [p for p in parts if isinstance(p, torch.Tensor)]
    return found


def outcome(kernel: Kernel, double: DriverDouble, args: dict[str, Any], options: dict[str, Any]) -> Any:
    """What a call did: its error, or what was launched, with addresses that say whose they are, and its outputs."""
    double.launched.clear()
    double.calls.clear()
    try:
        found = kernel(**args, **options)
    except RuntimeFault as error:
        assert not double.launched
        return type(error).__name__, str(error)
    except (RuntimeError, TypeError) as error:  # torch's own
        assert not double.launched
        return type(error).__name__
    owners: dict[int, str] = {}
    workspace = [options["workspace"]] if options.get("workspace") is not None else []
    for i, x in enumerate([*tensors_of(found.values()), *tensors_of(args.values()), *workspace]):
        if x.numel():
            owners.setdefault(x.data_ptr(), f"buffer {i}")
    return (
        [(x.function, x.config, [shown(p, owners) for p in x.parameters]) for x in double.launched],
        [owners.get(address, "elsewhere") for address, *_ in double.named("cuMemsetD8Async")],
        {name: described(x) for name, x in found.items()},
    )


def shown(parameter: bytes, owners: dict[int, str]) -> Any:
    """A parameter, of which an address is that of a buffer, of 16 bytes into one, or of none that is known."""
    if len(parameter) < 8:
        return parameter
    word = int.from_bytes(parameter[:8], "little")
    rest = parameter[8:] if len(parameter) > 8 else b""
    near = owners.get(word) or (owners.get(word - 16, "") and f"{owners[word - 16]} + 16")
    return (near or ("elsewhere" if word > 1 << 20 else word)), len(rest)


def described(x: Any) -> Any:
    if isinstance(x, Quantized):
        return x.format.name, tuple(x.shape), [described(p) for p in (x.codes, x.scales, x.tensor_scale, x.offsets)]
    return None if x is None else (type(x), x.dtype, tuple(x.shape))


def outputs_for(checked: Kernel, args: dict[str, Any]) -> dict[str, Any]:
    """Fresh outputs of a call, without those that are written in place."""
    found = checked(**args)
    return {name: x for name, x in found.items() if name not in args}


def moved(x: torch.Tensor, by: int) -> torch.Tensor:
    """The same values `by` elements after an aligned address."""
    if x.device.type == "meta":
        return x
    room = torch.empty(x.numel() + 64, dtype=x.dtype)
    skip = (-room.data_ptr() % 64) // x.element_size() + by
    part = room[skip : skip + x.numel()].view(x.shape)
    part.view(torch.uint8 if x.dim() else x.dtype).copy_(x.view(torch.uint8 if x.dim() else x.dtype))
    return part


def spoiled(x: Any, rng: random.Random) -> Any:
    """Another value for an argument: much of it wrong, some of it right in a way that is rare."""
    if isinstance(x, Quantized):
        parts = {"codes": x.codes, "scales": x.scales, "tensor_scale": x.tensor_scale}
        fmt, shape, offsets = x.format, x.shape, x.offsets
        match rng.randrange(9):
            case 0 | 1 | 2:
                which = rng.choice([name for name, part in parts.items() if part is not None])
                parts[which] = spoiled(parts[which], rng)
            case 3:
                shape = tuple(float(n) for n in shape)
            case 4:
                shape = rng.choice([(*shape[:-1], shape[-1] + 16), shape[:-1], list(shape), torch.Size(shape)])
            case 5:
                fmt = FORMATS[rng.choice(sorted(FORMATS))]
            case 6:
                fmt = type(fmt).from_json(fmt.to_json())
            case 7:
                offsets = rng.choice([None, torch.tensor([0, 16], dtype=torch.int32)])
            case _:
                return rng.choice([None, x.codes, x.numpy()])
        try:
            return Quantized(parts["codes"], parts["scales"], parts["tensor_scale"], fmt, shape, offsets)
        except (NumericsError, RuntimeFault):  # refused where it is made
            return x
    if not isinstance(x, torch.Tensor):
        return None
    with torch.no_grad():
        changes: list[Callable[[], Any]] = [
            lambda: x.double() if x.is_floating_point() and x.element_size() > 1 else x.to(torch.int16),
            lambda: x.t() if x.dim() == 2 else x.reshape(1, -1),
            lambda: torch.cat([x, x]) if x.dim() else x.reshape(1),
            lambda: x.view(torch.uint8) if x.dim() else x.numpy(),
            lambda: x.repeat_interleave(2, -1)[..., ::2] if x.dim() and x.element_size() > 1 else [1.0],
            lambda: x.numpy() if x.dtype != torch.bfloat16 else None,
            lambda: Handle(),
            lambda: x.tolist(),
            lambda: 1.5,
            lambda: torch.nn.Parameter(x, requires_grad=False),
            lambda: x.as_subclass(Own),
            lambda: x.to("meta"),
            lambda: moved(x, 1),
            lambda: moved(x, 16),
            lambda: x.clone(),
            lambda: x[:0] if x.dim() else x.expand(1),
        ]
        return rng.choice(changes)()


def changed(args: dict[str, Any], options: dict[str, Any], rng: random.Random) -> None:
    """Change one thing of a call."""
    out = options.get("out")
    match rng.randrange(10):
        case 0 | 1 | 2 | 3 if args:
            name = rng.choice(sorted(args))
            args[name] = spoiled(args[name], rng)
        case 4:
            args[rng.choice(["gain", "nonsense", "y"])] = rng.choice(
                [1, 2.5, True, 1e300, float("inf"), float("nan"), 10**400, np.float32(3), "1", None, 3.40282356e38]
            )
        case 5 if args:
            args.pop(rng.choice(sorted(args)))
        case 6:
            options["workspace"] = rng.choice(
                [torch.empty(4096, dtype=torch.uint8), torch.empty(3), np.empty(4096), next(iter(args.values()), None)]
            )
        case 7:
            options["stream"] = rng.choice([0, 5, "no stream"])
        case _ if isinstance(out, dict) and out:
            name = rng.choice(sorted(out))
            first = next(iter(args.values()))
            options["out"] = rng.choice(
                [
                    {**out, name: spoiled(out[name], rng)},
                    {**out, name: None},
                    {**out, name: first},
                    {**out, "other": first},
                    {n: x for n, x in out.items() if n != name},
                    collections.OrderedDict(out),
                    list(out.values()),
                    {},
                ]
            )
        case _:
            options["out"] = rng.choice([{}, None, {"x": 1}])


@pytest.mark.parametrize("name", KERNELS)
def test_repeated_calls_do_what_the_checks_do(name: str, double: DriverDouble) -> None:
    """For random calls, good and bad, three times each: the second is remembered where it is good."""
    quick, checked, _ = pair(name)
    rng, seen = random.Random(name), collections.Counter[bool]()
    for _ in range(60):
        args = good(name, 16 * rng.randint(1, 3), 32 * rng.randint(1, 2))
        options: dict[str, Any] = {"out": outputs_for(checked, args)} if rng.random() < 0.7 else {}
        for _ in range(2):  # the call beside which others are, which is remembered
            quick(**args, **options)
        for _ in range(rng.randrange(3)):
            changed(args, options, rng)
        for _ in range(3):
            wanted = outcome(checked, double, args, options)
            assert outcome(quick, double, args, options) == wanted
            seen[isinstance(wanted[0], str)] += 1
    assert min(seen[True], seen[False]) > 20


@pytest.mark.parametrize("name", KERNELS)
def test_good_calls_are_not_checked_again(name: str, double: DriverDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fresh buffers each time, with outputs given and without."""
    quick, checked, _ = pair(name)
    calls = [good(name, 32, 64) for _ in range(4)]
    outs = [outputs_for(checked, args) for args in calls]
    wanted = [outcome(checked, double, args, {"out": out}) for args, out in zip(calls, outs, strict=True)]
    for _ in range(2):
        quick(**calls[0], out=outs[0])
        quick(**calls[0])
    monkeypatch.setattr(type(quick.signature), "inputs", lambda *_: pytest.fail("it was checked"))
    for args, out, expected in zip(calls, outs, wanted, strict=True):
        assert outcome(quick, double, args, {"out": out}) == expected
        double.launched.clear()
        found = quick(**args)
        assert {n: described(x) for n, x in found.items()} == expected[2]
        assert len(double.launched) == 1


def test_maps_get_their_new_addresses_without_being_encoded(double: DriverDouble) -> None:
    quick, _, _ = pair("scaler")
    for _ in range(2):
        quick(**good("scaler", 16, 32))
    double.encoded.clear()
    for _ in range(3):
        args = good("scaler", 16, 32)
        double.launched.clear()
        y = quick(**args)["y"]
        maps = [p for p in double.launched[0].parameters if len(p) == 128]
        assert [int.from_bytes(p[:8], "little") for p in maps] == [args["x"].data_ptr(), y.data_ptr()]
    assert not double.encoded


def test_threads_have_parameters_of_their_own(double: DriverDouble) -> None:
    quick, _, _ = pair("scaler")
    calls = [(good("scaler", 16, 32), {"y": torch.zeros(16, 32), "z": bf16(16)}) for _ in range(8)]
    for _ in range(2):
        quick(**calls[0][0], out=calls[0][1])
    double.launched.clear()

    def work(args: dict[str, Any], out: dict[str, Any], gain: float) -> None:
        for _ in range(50):
            quick(**args, gain=gain, out=out)

    threads = [threading.Thread(target=work, args=(*call, float(i))) for i, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = collections.Counter(tuple(x.parameters) for x in double.launched)
    assert len(found) == len(calls) and set(found.values()) == {50}


def test_a_failed_launch_is_named_and_its_parameters_are_used_again(double: DriverDouble) -> None:
    quick, _, _ = pair("scaler")
    args = good("scaler", 16, 32)
    for _ in range(2):
        quick(**args)
    double.answers["cuLaunchKernelEx"] = 719
    with pytest.raises(fp4rt.DeviceError, match="FP6304: cuLaunchKernelEx: CUDA_ERROR_LAUNCH_FAILED"):
        quick(**args)
    double.answers.clear()
    assert quick(**args)["y"].shape == (16, 32)


@pytest.mark.parametrize("name", KERNELS)
def test_operators_launch_what_calls_do(name: str, double: DriverDouble) -> None:
    quick, checked, _ = pair(name)
    operator = checked.as_torch_op(unused())
    assert quick.quick is not None
    for _ in range(3):
        args = good(name, 32, 64)
        wanted = outcome(quick, double, args, {})
        double.launched.clear()
        found = operator(**args)
        assert len(double.launched) == 1
        assert {n: described(x) for n, x in found.items()} == wanted[2]
        owners = {
            x.data_ptr(): f"buffer {i}"
            for i, x in reversed([*enumerate(tensors_of([*found.values(), *args.values()]))])
        }
        assert [shown(p, owners) for p in double.launched[0].parameters] == wanted[0][0][2]
