"""The cuda device with numpy arrays, and what it refuses at load."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import numpy as np
import pytest

import fp4rt
from fp4rt.compare import compare_outputs
from fp4rt.cuda.driver import context
from fp4rt.cuda.tensormaps import encode
from fp4rt.manifest import Manifest, Param, Plan

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def kernel(artifact: fp4rt.Artifact) -> fp4rt.Kernel:
    return artifact.load_kernel("cuda")


@pytest.mark.parametrize("shape", [(64, 32), (1, 4), (65, 36), (1000, 260), (4096, 1024), (0, 8), (8, 0)])
def test_equals_the_reference(artifact: fp4rt.Artifact, kernel: fp4rt.Kernel, shape: tuple[int, int]) -> None:
    args = fp4rt.random_inputs(artifact.manifest, dict(zip("MN", shape, strict=True)), seed=3, defaults=False)
    expected = artifact.load_kernel("reference")(**args)
    assert all(c.equal for c in compare_outputs(artifact.manifest, kernel(**args), expected))


def test_emulator_and_silicon_agree(artifact: fp4rt.Artifact, kernel: fp4rt.Kernel) -> None:
    args = fp4rt.random_inputs(artifact.manifest, {"M": 200, "N": 100}, seed=4)
    found = artifact.load_kernel("emulator")(**args)
    assert all(c.equal for c in compare_outputs(artifact.manifest, found, kernel(**args)))


def test_tensor_maps_are_encoded_as_the_emulator_does(artifact: fp4rt.Artifact, kernel: fp4rt.Kernel) -> None:
    from fp4rt.devices.emulator import _tensor_map

    plan = kernel.resolve({"M": 200, "N": 100})
    for m in plan.tensor_maps:
        address = 0x7F00_1234_5600
        ours = _tensor_map(m, {m.source: address})
        with context(None).current():
            theirs = encode(m, address)
        assert theirs[:64] == (ours if isinstance(ours, bytes) else ours.encode())[:64]


def test_outputs_given_and_bound(artifact: fp4rt.Artifact, kernel: fp4rt.Kernel) -> None:
    x = np.arange(64 * 32, dtype=np.float32).reshape(64, 32)
    y = np.empty_like(x)
    bound = kernel.bind(x=x, shift=1.0, gain=3.0, out={"y": y})
    assert bound()["y"] is y
    np.testing.assert_array_equal(y, x * 3 + 1)
    x[:] = 7
    bound()
    assert (y == 22).all()


def test_two_threads(kernel: fp4rt.Kernel) -> None:
    failures: list[str] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(50):
            shape = (int(rng.integers(1, 300)), int(rng.integers(1, 40)) * 4)
            x = rng.standard_normal(shape).astype(np.float32)
            y = kernel(x=x, shift=float(seed), gain=2.0)["y"]
            if not np.array_equal(y, x * np.float32(2) + np.float32(seed)):
                failures.append(f"thread {seed}: {shape}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_fork_is_named(kernel: fp4rt.Kernel) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kernel(x=np.zeros((64, 32), np.float32), shift=0.0)
            answer = "no error"
        except fp4rt.ForkError as error:
            answer = error.code
        os.write(write, answer.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"FP6303"


def test_another_architecture_is_refused(artifact: fp4rt.Artifact) -> None:
    other = replace(artifact, manifest=replace(artifact.manifest, target="sm_100a"))
    with pytest.raises(fp4rt.ArtifactError, match=r"FP6007.*sm_100a"):
        other.load_kernel("cuda")


def _with_plan(artifact: fp4rt.Artifact, plan: Plan) -> fp4rt.Artifact:
    manifest: Manifest = replace(artifact.manifest, plan=plan)
    return replace(artifact, manifest=manifest)


def test_other_parameters_are_refused(artifact: fp4rt.Artifact) -> None:
    plan = artifact.manifest.plan
    launch = plan.launches[0]
    wrong = replace(launch, params=(*launch.params, Param("i32", 1, offset=284, size=4)))
    with pytest.raises(fp4rt.ArtifactError, match=r"FP6006.*7 parameters against 8"):
        _with_plan(artifact, replace(plan, launches=(wrong,))).load_kernel("cuda")


def test_a_missing_entry_is_refused(artifact: fp4rt.Artifact) -> None:
    plan = artifact.manifest.plan
    wrong = replace(plan.launches[0], entry="nothing")
    with pytest.raises(fp4rt.ArtifactError, match=r"FP6006.*no entry 'nothing'"):
        _with_plan(artifact, replace(plan, launches=(wrong,))).load_kernel("cuda")


def test_too_much_shared_memory_is_refused(artifact: fp4rt.Artifact) -> None:
    plan = artifact.manifest.plan
    wrong = replace(plan.launches[0], smem=240000)
    with pytest.raises(fp4rt.DeviceError, match="FP6305"):
        _with_plan(artifact, replace(plan, launches=(wrong,))).load_kernel("cuda")


def test_a_damaged_cubin_is_refused(artifact: fp4rt.Artifact) -> None:
    damaged = fp4rt.Artifact.build(
        artifact.manifest, {**artifact.files, "scale_shift.cubin": artifact.cubin()[:4] + bytes(4000)}
    )
    with pytest.raises(fp4rt.ArtifactError, match="FP6006"):
        damaged.load_kernel("cuda")


def test_no_such_device(artifact: fp4rt.Artifact) -> None:
    with pytest.raises(fp4rt.DeviceError, match=r"FP6302.*cuda:99"):
        artifact.load_kernel("cuda:99")


def test_auto_takes_the_gpu(artifact: fp4rt.Artifact) -> None:
    assert artifact.load_kernel("auto").device.startswith("cuda:")


def test_a_cluster_of_sixteen_is_allowed(artifact: fp4rt.Artifact) -> None:
    """A non-portable cluster size loads: the attribute is set. (The kernel itself is written for two.)"""
    plan = artifact.manifest.plan
    launch = plan.launches[0]
    wide = replace(launch, cluster=(16, 1, 1), grid=replace(launch.grid, cluster_size=16))
    loaded = _with_plan(artifact, replace(plan, launches=(wide,))).load_kernel("cuda")
    assert loaded.device.startswith("cuda:")
