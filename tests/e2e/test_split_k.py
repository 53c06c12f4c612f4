"""K shared by CTAs: emulated kernels equal the reference, with the same bits on any number of SMs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fp4rt import Artifact, random_inputs
from fp4rt.devices.emulator import EmulatorDevice

from .mutants import Change, Find, Mutation, at, call, instruction, kernel, names, operands, without
from .test_hopper_weights import spec
from .test_mutations import assert_caught

Check = Callable[..., None]
Run = Callable[..., Any]

TILES = ("256 x 128 x 64", "128 x 128 x 64", "128 x 64 x 64", "64 x 64 x 64")
PARTS = ("2", "3", "4", "8", "auto")
EPILOGUES = ("plain", "scalars", "f32", "bias", "two", "quantized", "columns", "amax")
#: What the warps that multiply store themselves: only these have tiles of 64 rows.
STORED = ("plain", "scalars")


def weights(epilogue: str, tile: str, parts: str, w: str = "nvfp4") -> str:
    """A product with weights in registers and K in so many parts."""
    return spec("bf16", w, epilogue, tile=f"{tile}; split_k {parts}")


#: On the other engine of Hopper, by name: arguments and statements.
PRODUCTS = {
    "blocks": "in x : nvfp4[M, K]; in w : nvfp4[N, K]; in b : bf16[N]; out y : bf16[M, N]; y = relu(x @ w.T + b)",
    "lines": "in x : lines[M, K]; in w : lines[N, K]; out y : f32[M, N]; y = x @ w.T",
    "plain": "in x : bf16[M, K]; in w : bf16[N, K]; in r : bf16[M, N]; out y : bf16[M, N]; y = x @ w.T + r",
    "two": "in x : mxfp8[M, K]; in w : mxfp4[N, K]; in d : mxfp4[N, K]; out y : f32[M, N]; y = (x @ w.T) * (x @ d.T)",
    "promoted": "in x : ds_act[M, K]; in w : ds_weight[N, K]; out y : bf16[M, N]; y = x @ w.T",
    "fast": "in x : e4m3[M, K]; in w : e5m2[N, K]; out y : f32[M, N]; y = relu(matmul(x, w.T, accumulate = fast))",
    "fast_scaled": "in x : ds_act[M, K]; in w : ds_weight[N, K]; out y : bf16[M, N]\n"
    "y = matmul(x, w.T, accumulate = fast)",
    "quantized": "in x : nvfp4[M, K]; in w : nvfp4[N, K]; in ts : f32[]; out y : nvfp4[M, N]\n"
    "y = quantize(x @ w.T, tensor_scale = ts)",
    "reduced": "in x : bf16[M, K]; in w : bf16[N, K]; out y : f32[M]; y = max(abs(x @ w.T), over = N)",
}


def product(name: str, parts: str, cluster: str = "1 x 1") -> str:
    head = "format lines extends nvfp4 { layout linear }\n"
    schedule = f"schedule gemm on sm_90a {{ cluster {cluster}; split_k {parts} }}"
    return f"{head}kernel gemm(M, N, K) {{ {PRODUCTS[name]} }}\n{schedule}\n"


#: What the epilogue's warps store; the artifact is shared by tests.
JOINED = weights("f32", "128 x 64 x 64", "3")


def test_parts_of_k(check: Check) -> None:
    """Three parts of three steps along K, on two SMs; and of one: two parts are empty then."""
    check(JOINED, "sm_90a", M=4, N=72, K=544, sms=2, mode="delayed", order="strict")
    check(JOINED, "sm_90a", M=3, N=9, K=32)


@pytest.mark.slow
def test_an_epilogue_after_the_sum(check: Check) -> None:
    """The epilogue's own warps take the tiles that are whole, and pass over the other parts."""
    check(weights("bias", "128 x 64 x 64", "2"), "sm_90a", M=20, N=72, K=352, sms=3, mode="delayed", order="strict")


@pytest.mark.slow
@pytest.mark.parametrize("w", ["nvfp4", "lines", "mxfp4"])
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("tile", TILES)
def test_weights_in_registers(check: Check, tile: str, parts: str, w: str) -> None:
    """An epilogue by seed, with sizes that are no whole tiles, on two of 1, 8 and 148 SMs."""
    seed = sum(map(ord, tile + parts + w))
    numbers = random.Random(seed)
    of_tile = STORED if tile.startswith("64") else EPILOGUES
    epilogue = numbers.choice(of_tile)
    text = weights(epilogue, tile, parts, w)
    m = 16 * numbers.randint(1, 6) if epilogue == "columns" else numbers.randint(1, 100)
    sizes = {"M": m, "N": 16 * numbers.randint(1, 9), "K": 32 * numbers.choice([1, 5, 17, 23])}
    for sms in numbers.sample((1, 8, 148), 2):
        check(text, "sm_90a", seed=seed, mode="delayed", sms=sms, order="strict", **sizes)


@pytest.mark.slow
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("name", PRODUCTS)
def test_the_other_engine(check: Check, name: str, parts: str) -> None:
    seed = sum(map(ord, name + parts))
    numbers = random.Random(seed)
    text = product(name, parts, numbers.choice(["1 x 1", "2 x 1"]) if name != "promoted" else "1 x 1")
    k = 128 * numbers.choice([1, 3, 5]) if name in ("promoted", "fast_scaled") else 32 * numbers.choice([1, 5, 17, 23])
    sizes = {"M": numbers.randint(1, 140), "N": 16 * numbers.randint(1, 9), "K": k}
    for sms in numbers.sample((2, 8, 148), 2):
        check(text, "sm_90a", seed=seed, mode="delayed", sms=sms, order="strict", **sizes)


def bits(artifact: Artifact, sms: int, seed: int, **dims: int) -> bytes:
    """y of one run on data whose sums are not exact."""
    inputs = random_inputs(artifact.manifest, dims, seed=1)
    numbers = np.random.default_rng(1)
    raw = numbers.standard_normal((dims["M"], dims["K"])).astype(np.float32).view(np.uint32) >> 16
    x = np.asarray(inputs["x"])
    inputs["x"] = raw.astype(np.uint16).view(x.dtype).reshape(x.shape)
    kernel = artifact.load_kernel(EmulatorDevice(mode="delayed", seed=seed, sms=sms))
    return np.asarray(kernel(**inputs)["y"]).tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("text", [weights("f32", "128 x 64 x 64", "4"), product("plain", "3")], ids=["rs", "wgmma"])
def test_the_same_bits_on_any_number_of_sms(compiler: Any, text: str) -> None:
    """Sums are not exact here, so that another order would show."""
    artifact = compiler.artifact(text, "sm_90a")
    found = {bits(artifact, sms, seed, M=40, N=72, K=672) for sms, seed in ((1, 0), (8, 1), (148, 2))}
    assert len(found) == 1


def test_launches_one_after_the_other(compiler: Any) -> None:
    """The kernel leaves every count at 0: the emulator checks it at the end of each run."""
    artifact = compiler.artifact(JOINED, "sm_90a")
    (init,) = artifact.manifest.plan.init
    assert init.kept and init.value == 0


def met(which: int) -> Find:
    """Where the threads that have sums meet."""
    return call(kernel, "barrier_cta_sync", which, lambda each: "SPLIT_BARRIER" in names(each))


def counted(before: str, after: str) -> Change:
    """Parts that arrive are counted by another instruction."""
    return at(instruction("atom.acq_rel"), operands(before, after))


#: What holds of parts that meet, wherever their sums are.
ARRIVALS = [
    Mutation("arrival without an order", counted("acq_rel", "relaxed"), ordered=True),
    Mutation("arrival does not release", counted("acq_rel", "acquire"), ordered=True),
    Mutation("arrival does not acquire", counted("acq_rel", "release"), ordered=True),
    Mutation("arrival for this CTA alone", counted("gpu", "cta"), ordered=True),
    Mutation("count not back at 0", counted("inc", "add")),
    Mutation("arrival before all have stored", without(met(0)), ordered=True),
    Mutation("parts read before the arrival is known", without(met(1)), ordered=True),
]
MUTATIONS = [
    *ARRIVALS,
    Mutation("parts added to this CTA's own sums", without(call(kernel, "clear", 1))),
]


def caught(compiler: Any, run: Run, mutation: Mutation) -> None:
    assert_caught(compiler, run, JOINED, "sm_90a", mutation, sms=8, M=4, N=40, K=736)


def test_an_arrival_without_an_order_is_caught(compiler: Any, run: Run) -> None:
    caught(compiler, run, MUTATIONS[0])


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS[1:], ids=lambda each: each.name.replace(" ", "-"))
def test_mutation_is_caught(compiler: Any, run: Run, mutation: Mutation) -> None:
    caught(compiler, run, mutation)
