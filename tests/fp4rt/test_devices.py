"""Device names, plug-ins, and what is missing."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

import fp4rt
from fp4rt import Artifact, DeviceError, devices
from fp4rt.cuda.module import runs_on
from fp4rt.devices.reference import ReferenceDevice

DATA = Path(__file__).parent.parent / "gpu" / "data" / "scale_shift.json"
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return Artifact.load(DATA)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("gpu", r"FP6301: no device is called 'gpu'(.|\n)*auto, cuda, emulator, reference"),
        ("cuda:x", "FP6301: device 'cuda:x': 'x' is not a device number"),
        ("cuda:-1", "FP6301"),
        ("reference:1", "FP6301: there is one reference device"),
        ("emulator:2", "FP6301: there is one emulator"),
    ],
)
def test_names_that_are_none(artifact: Artifact, selector: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        artifact.load_kernel(selector)


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without libcuda."""
    from fp4rt.cuda import driver

    def missing() -> Any:
        raise DeviceError("there is no NVIDIA driver here: libcuda.so.1")

    monkeypatch.setattr(driver, "_driver", None)
    monkeypatch.setattr(driver, "_initialize", missing)


@pytest.mark.usefixtures("no_driver")
def test_cuda_without_a_driver(artifact: Artifact) -> None:
    with pytest.raises(DeviceError, match="FP6302: there is no NVIDIA driver here"):
        artifact.load_kernel("cuda")


@pytest.mark.usefixtures("no_driver")
def test_auto_falls_back_to_the_emulator(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = devices.open_device("auto", artifact)
    assert opened.name == "emulator"


def test_auto_of_an_uncompiled_kernel_is_the_reference() -> None:
    from fp4rt.manifest import Manifest, Plan
    from fp4rt.typed import TypedKernel

    empty = TypedKernel("k", (), (), (), ())
    kernel = Artifact.build(Manifest("k", "sm_100a", empty, Plan(())), {}).load_kernel()
    assert kernel.device == "reference"
    assert kernel() == {}
    assert repr(kernel) == "<fp4rt kernel k for sm_100a on reference>"
    for name in ("emulator",):
        with pytest.raises(DeviceError, match="FP6302: k was not compiled"):
            kernel.artifact.load_kernel(name)


def test_cuda_without_cuda_python(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    from fp4rt.cuda import driver

    def missing(name: str) -> Any:
        raise ImportError("No module named 'cuda'")

    monkeypatch.setattr(driver, "_driver", None)
    monkeypatch.setattr(driver, "import_module", missing)
    with pytest.raises(DeviceError, match=r"FP6302: the cuda device needs cuda-python(.|\n)*pip install cuda-python"):
        artifact.load_kernel("cuda")


def test_a_plug_in_device(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is installed with an entry point in the group "fp4rt.devices"."""

    class Mine(ReferenceDevice):
        name = "mine"

    monkeypatch.setattr(sys.modules[__name__], "Mine", Mine, raising=False)
    entry = EntryPoint("mine", f"{__name__}:Mine", devices.GROUP)
    monkeypatch.setattr(devices, "entry_points", lambda group: EntryPoints([entry]))
    monkeypatch.setattr(EntryPoint, "load", lambda self: Mine)
    assert artifact.load_kernel("mine").device == "mine"
    assert "mine" in devices.device_names()


@pytest.mark.parametrize(
    ("target", "capability", "good"),
    [
        ("sm_100a", (10, 0), True),
        ("sm_100a", (10, 3), False),
        ("sm_100f", (10, 3), True),
        ("sm_103f", (10, 0), False),
        ("sm_90", (9, 0), True),
        ("sm_90a", (9, 0), True),
        ("sm_90a", (10, 0), False),
        ("sm_80", (9, 0), False),
        ("sm_120a", (12, 0), True),
        ("nonsense", (9, 0), False),
    ],
)
def test_architectures(target: str, capability: tuple[int, int], good: bool) -> None:
    assert runs_on(target, capability) is good


def test_a_fork_after_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from fp4rt.cuda import driver

    monkeypatch.setattr(driver, "forked", False)
    driver._mark_forked()
    with pytest.raises(fp4rt.ForkError, match=r"FP6303(.|\n)*spawn"):
        driver.driver()


def test_the_fork_hook_runs_in_the_child_only() -> None:
    code = (
        "import os\n"
        "from fp4rt.cuda import driver\n"
        "os.register_at_fork(after_in_child=driver._mark_forked)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(7 if driver.forked else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), driver.forked)\n"
    )
    assert python(code) == "7 False"


def _like(**attributes: object) -> object:
    """An object of a class with these attributes."""
    return type("Stream", (), attributes)()


@pytest.mark.parametrize(
    "stream",
    [
        7,
        _like(cuda_stream=7),
        _like(ptr=7),
        _like(__cuda_stream__=(0, 7)),
        _like(__cuda_stream__=lambda self: (0, 7)),
        _like(__int__=lambda self: 7),
    ],
)
def test_streams_of_several_libraries(stream: object) -> None:
    from fp4rt.cuda.driver import stream_handle

    assert stream_handle(stream) == 7


def test_what_is_no_stream() -> None:
    from fp4rt.cuda.driver import stream_handle

    with pytest.raises(DeviceError, match="FP6304: stream: expected a CUDA stream, found str"):
        stream_handle("main")


# imports


def python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'runtime'}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def test_importing_fp4rt_imports_nothing_heavy() -> None:
    code = (
        "import sys, fp4rt; "
        "print([m for m in ('numpy', 'torch', 'cuda', 'fp4num', 'fp4emu', 'fp4cc', 'lark') if m in sys.modules])"
    )
    assert python(code) == "[]"


def test_loading_for_the_reference_needs_numpy_only() -> None:
    code = (
        f"import sys, fp4rt; fp4rt.load({str(DATA)!r}, 'reference'); "
        "print([m for m in ('torch', 'cuda', 'fp4emu', 'fp4cc', 'lark', 'jinja2', 'cutlass') if m in sys.modules])"
    )
    assert python(code) == "[]"


def test_every_public_name_exists() -> None:
    for name in fp4rt.__all__:
        assert getattr(fp4rt, name) is not None
    assert set(fp4rt.__all__) <= set(dir(fp4rt))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fp4rt.nothing  # type: ignore[attr-defined]


def test_torch_is_never_imported(monkeypatch: pytest.MonkeyPatch, artifact: Artifact) -> None:
    import numpy as np

    real = builtins.__import__

    def guard(name: str, *args: Any, **kwargs: Any) -> Any:
        assert name.partition(".")[0] != "torch" or "torch" in sys.modules
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", guard)
    kernel = artifact.load_kernel("reference")
    assert kernel(x=np.ones((4, 4), np.float32), shift=0.0)["count"] == 1
