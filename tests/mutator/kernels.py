"""The kernels that are broken: small, but every engine and way of synchronising is among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fp4rt import Artifact, Kernel, random_inputs
from fp4rt.devices.emulator import EmulatorDevice

EMPTY = {"M": 5, "N": 9, "K": 0}
"""No steps along K, and rows of the result that TMA does not store."""


def by_threads(N: int, K: int = 32, M: int = 5) -> dict[str, int]:
    """Few steps and several tiles, of a result that TMA does not store."""
    return {"M": M, "N": N, "K": K}


GEMM = "kernel gemm(M, N, K) {{ in a : {a}[M, K]; in b : {b}[N, K]; out c : {c}[M, N]; c = a @ b.T }}\n"
SCHEDULE = "schedule gemm on {target} {{ {fields} }}\n"


def _gemm(a: str, b: str, c: str, target: str = "", fields: str = "") -> str:
    return GEMM.format(a=a, b=b, c=c) + (SCHEDULE.format(target=target, fields=fields) if fields else "")


@dataclass(frozen=True)
class Subject:
    """A spec for a target, and the sizes of its call: one cluster on `sms` SMs has all tiles, more than it has stages
    of anything, so that each barrier is waited for again."""

    name: str
    spec: str
    sizes: dict[str, int]
    target: str = "sm_100a"
    sms: int = 1
    more: tuple[dict[str, int], ...] = ()
    """Sizes of further calls, that reach what the first does not (K = 0)."""
    peaks: tuple[str, tuple[tuple[int, int], ...]] = ("", ())
    """An input, and places: a further call for each, in which the input is greatest there. What a maximum is lost of,
    shows only where that was the maximum."""


SUBJECTS = (
    Subject(
        "nvfp4",
        _gemm("nvfp4", "nvfp4", "f32", "sm_100a", "tile 128 x 64 x 256; cluster 1 x 1; stages 2"),
        {"M": 136, "N": 136, "K": 544},
        more=(EMPTY, by_threads(201)),
    ),
    Subject(
        "pair",
        _gemm("nvfp4", "nvfp4", "bf16", "sm_100a", "tile 256 x 128 x 256; cluster 2 x 1; stages 2"),
        {"M": 264, "N": 264, "K": 544},
        sms=2,
        more=(EMPTY, by_threads(401)),
    ),
    Subject(
        "multicast",
        _gemm("mxfp8", "mxfp4", "bf16", "sm_100a", "tile 128 x 64 x 128; cluster 2 x 2; stages 2"),
        {"M": 264, "N": 200, "K": 384},
        sms=4,
        more=(EMPTY, by_threads(401, K=128)),
    ),
    Subject(
        "converters",
        _gemm("bf16", "nvfp4", "bf16", "sm_100a", "stages 2"),
        {"M": 136, "N": 656, "K": 288},
        more=(EMPTY, by_threads(657)),
    ),
    Subject(
        "quantized",
        "kernel gemm(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; in bias : bf16[N]; in ts : f32[]; "
        "out q : nvfp4[M, N]; q = quantize(gelu(a @ b.T + bias), tensor_scale = ts) }\n"
        "schedule gemm on sm_100a { tile 128 x 128 x 256; cluster 1 x 1; stages 2 }\n",
        {"M": 136, "N": 416, "K": 544},
        more=({"M": 5, "N": 16, "K": 0},),
    ),
    Subject(
        "hopper",
        _gemm("bf16", "bf16", "f32", "sm_90a", "tile 128 x 128 x 64; cluster 1 x 1; stages 2"),
        {"M": 136, "N": 264, "K": 160},
        "sm_90a",
        more=(EMPTY, {"M": 136, "N": 264, "K": 64}, by_threads(401)),
    ),
    Subject("hopper weights", _gemm("bf16", "nvfp4", "bf16"), {"M": 264, "N": 400, "K": 288}, "sm_90a",
            more=(by_threads(401, M=264),)),
    Subject("hopper rows", _gemm("nvfp4", "nvfp4", "bf16"), {"M": 136, "N": 272, "K": 288}, "sm_90a",
            more=(by_threads(401, M=136),)),
    Subject(
        "decode",
        GEMM.format(a="bf16", b="nvfp4", c="bf16").replace("(M, N, K)", "(M = 8, N, K)"),
        {"M": 8, "N": 40, "K": 2304},
        "sm_90a",
    ),
    Subject("amax", "kernel amax(M, N) { in x : bf16[M, N]; out top : f32[]; top = max(abs(x), over = (M, N)) }\n",
            {"M": 136, "N": 160}, peaks=("x", tuple((0, 8 * i) for i in range(16)))),
)  # fmt: skip


@dataclass
class Broken:
    """A compiled subject whose parsed functions may be changed and run again. `expected` are the outputs of each call,
    `reached` the instructions of each launched entry that some call executes."""

    subject: Subject
    artifact: Artifact
    limit: float = 60.0
    inputs: list[dict[str, Any]] = field(init=False)
    expected: list[dict[str, np.ndarray[Any, Any]]] = field(init=False)
    reached: dict[tuple[str, str], set[int]] = field(init=False)

    def __post_init__(self) -> None:
        sizes = (self.subject.sizes, *self.subject.more)
        self.inputs = [random_inputs(self.artifact.manifest, each, seed=0) for each in sizes]
        self.inputs += [self._peak(*place) for place in self.subject.peaks[1]]
        self._kernels: dict[tuple[str, int], Kernel] = {}
        self.expected = [self.run(call, "immediate", 0) for call in range(len(self.inputs))]
        self.reached = {}
        for name, module in self.modules().items():
            for (entry, *_), program in module.programs.items():
                blocks = [program.flow.blocks[block] for block, _, _ in program.specialised]
                self.reached[name, entry] = {i for block in blocks for i in range(block.start, block.end)}

    def _peak(self, row: int, column: int) -> dict[str, Any]:
        """The first call's inputs with 2^120 at a place of a bf16 input, by its code, and 0 elsewhere."""
        name = self.subject.peaks[0]
        codes = np.zeros_like(self.inputs[0][name])
        codes[row, column] = 0x7B80
        return {**self.inputs[0], name: codes}

    def kernel(self, mode: str, seed: int) -> Kernel:
        """The artifact on an emulator of its own, whose modules are loaded once."""
        if (mode, seed) not in self._kernels:
            device = EmulatorDevice(
                mode=mode,  # type: ignore[arg-type]
                seed=seed,
                sms=self.subject.sms,
                order="strict",
                time_limit=self.limit,
            )
            self._kernels[mode, seed] = Kernel(self.artifact, device)
        return self._kernels[mode, seed]

    def modules(self, mode: str = "immediate", seed: int = 0) -> dict[str, Any]:
        """The loaded modules by name."""
        return self.kernel(mode, seed).executable._modules  # type: ignore[attr-defined]

    def run(self, call: int, mode: str, seed: int) -> dict[str, np.ndarray[Any, Any]]:
        """The bytes of each output of a call."""
        outputs = self.kernel(mode, seed)(**self.inputs[call])
        return {name: _bytes(value) for name, value in outputs.items()}


def _bytes(value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value).reshape(-1).view(np.uint8).copy()
    parts = [p for n in ("data", "scales", "codes") if isinstance(p := getattr(value, n, None), np.ndarray)]
    assert parts, value
    return np.concatenate([np.ascontiguousarray(p).reshape(-1).view(np.uint8) for p in parts])
