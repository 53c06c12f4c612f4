"""Times of layers of experts on a Hopper GPU, beside triton_kernels, torch._grouped_mm and humming. Needs torch.

    python tests/gpu/compile_specs.py benchmarks/hopper_experts.fp4     (where the compiler is installed)
    python benchmarks/hopper_experts.py [--models NAME ..] [--tokens T ..] [--peers NAME ..]

All in one process, in turns. A CUDA graph holds calls with routings that differ (the experts that they read, past twice
the L2), and each alternation runs one graph of each; a ratio is ours by a peer's of the same alternation, and what is
printed the median over 7 of them with the least and the greatest. `pair`: the two products of rows by expert; `layer`:
from logits and tokens to tokens. Routings: each token's experts drawn uniformly, by Zipf's law with exponent 1.2, and
one: all rows of a pair to one expert, of a layer all tokens to the same few. The error is that of the second product's
result on 16 rows, against f32 on dequantized weights, by the largest result (bf16 itself: 4e-3), of ours, then of
triton_kernels and humming; of a layer, that of triton_kernels' result to ours.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from expert_peers import Call, Routed, TritonKernels, Weights, grouped_mm, humming

import fp4rt
from fp4rt.torch import by_expert, route

BUILD = Path(__file__).resolve().parent.parent / "tests" / "gpu" / "build" / "hopper_experts"
TOKENS, ROUTINGS = (1, 16, 128, 1024, 8192), ("uniform", "zipf", "one")
PASSES, CALLS, ROTATED, MOST, PASS_US = 7, 20, 120 << 20, 48, 40e3
VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class Model:
    """E experts, `top` a token, of two products: [2 F, D] and [D, F]."""

    experts: int
    top: int
    d: int
    f: int
    mxfp4: bool


MODELS = {
    "gpt_oss": Model(32, 4, 2880, 2880, True),
    "small": Model(128, 8, 2048, 768, False),
    "large": Model(256, 8, 7168, 2048, False),
}


def weights(e: int, n: int, k: int, mxfp4: bool) -> Weights:
    """Random codes, and scales such that results have about the size of what is multiplied."""
    codes = torch.randint(0, 256, (e, n, k // 2), dtype=torch.uint8, device="cuda")
    low, high = (117, 123) if mxfp4 else (0x20, 0x38)
    scales = torch.randint(low, high, (e, n, k // (32 if mxfp4 else 16)), dtype=torch.uint8, device="cuda")
    if mxfp4:
        return Weights(codes, scales, None, torch.randn(e, n, device="cuda").bfloat16())
    return Weights(codes, scales, torch.rand(e, device="cuda") * 0.02 + 0.02, None)


def packed(w: Weights) -> fp4rt.Quantized:
    """The same for our kernels: scales in atoms of 128 rows x 4."""
    (e, n, k), block = w.shape, 32 if w.tensor_scale is None else 16
    padded = torch.zeros(e, -(-n // 128) * 128, -(-k // block // 4) * 4, dtype=torch.uint8, device="cuda")
    padded[:, :n, : k // block] = w.scales
    atoms = padded.view(e, -1, 4, 32, padded.shape[2] // 4, 4).permute(0, 1, 4, 3, 2, 5).reshape(-1)
    name = "mxfp4" if w.tensor_scale is None else "nvfp4_experts"
    return fp4rt.Quantized.from_parts(w.codes, atoms.contiguous(), w.tensor_scale, name, (e, n, k))


def dequantized(w: Weights, expert: int) -> torch.Tensor:
    """An expert's weights in f32."""
    table = torch.tensor([*VALUES, *(-value for value in VALUES)], device="cuda")
    codes, scales = w.codes[expert], w.scales[expert]
    elements = table[torch.stack((codes & 15, codes >> 4), -1).long()].reshape(*scales.shape, -1)
    if w.tensor_scale is None:
        factor = torch.exp2(scales.float() - 127)
    else:
        factor = scales.view(torch.float8_e4m3fn).float() * w.tensor_scale[expert]
    return (elements * factor[..., None]).reshape(codes.shape[0], -1)


def logits(model: Model, tokens: int, kind: str, seed: int) -> torch.Tensor:
    """[T, E] whose largest are the experts of each token: Gumbel noise draws them without putting any back."""
    draw = torch.Generator("cuda").manual_seed(seed)
    noise = torch.rand(tokens, model.experts, generator=draw, device="cuda").clamp_min(1e-9)
    gumbel = -torch.log(-torch.log(noise))
    rank = torch.randperm(model.experts, generator=draw, device="cuda").float()
    if kind == "zipf":
        return gumbel - 1.2 * torch.log(rank + 1)
    return gumbel if kind == "uniform" else (rank + 0 * gumbel)


def routed(model: Model, tokens: int, kind: str, seed: int) -> tuple[Routed, Any]:
    """A routing, and of a pair the same with all rows to one expert where that is its kind."""
    scores = logits(model, tokens, kind, seed)
    routing = route(scores, model.top)
    if kind == "one":
        routing = by_expert(torch.full_like(routing.experts, seed % model.experts), routing.weights, model.experts)
    counts = (routing.offsets[1:] - routing.offsets[:-1]).int()
    return Routed(routing.offsets, counts, scores, model.top), routing


# What is timed.


class Ours:
    """The kernels of hopper_experts.fp4."""

    def __init__(self, name: str, build: Path, up: Weights, down: Weights) -> None:
        loaded = (fp4rt.Artifact.load(build / f"{name}_{part}.json").load_kernel("cuda") for part in PARTS)
        self.up, self.down, self.combine = loaded
        self.weights = [packed(w) for w in (up, down)]
        self.biases = [{} if w.bias is None else {"bias": w.bias} for w in (up, down)]

    def pair(self, routed: Routed, x: Any, h: Any, y: Any) -> Call:
        """The two products of rows by expert."""
        common = {"offsets": routed.offsets}
        first = self.up.bind(x=x, w=self.weights[0], **common, **self.biases[0], out={"y": h})
        second = self.down.bind(x=h, w=self.weights[1], **common, **self.biases[1], out={"y": y})

        def call() -> Any:
            first()
            second()
            return y

        return call

    def layer(self, routed: Routed, x: Any) -> Call:
        """From logits and tokens to tokens."""

        def call() -> Any:
            routing = route(routed.logits, routed.top)
            common = {"offsets": routing.offsets}
            rows = x.index_select(0, routing.rows)
            h = self.up(x=rows, w=self.weights[0], **common, **self.biases[0])["y"]
            z = self.down(x=h, w=self.weights[1], **common, **self.biases[1])["y"]
            return self.combine(weights=routing.weights, places=routing.places, z=z)["y"]

        return call


PARTS = ("up", "down", "combine")


def torch_layer(plain: Sequence[Any], mxfp4: bool) -> Callable[[Routed, Any], Call]:
    """The layer in torch on bf16 weights, without biases."""

    def layer(routed: Routed, x: Any) -> Call:
        def call() -> Any:
            routing = route(routed.logits, routed.top)
            ends = routing.offsets[1:].contiguous()
            wide = torch._grouped_mm(x.index_select(0, routing.rows), plain[0].mT, offs=ends)
            g, u = wide[:, 0::2], wide[:, 1::2]
            if mxfp4:
                g = g.clamp(max=7.0)
                h = g * torch.sigmoid(1.702 * g) * (u.clamp(-7.0, 7.0) + 1)
            else:
                h = torch.nn.functional.silu(g) * u
            z = torch._grouped_mm(h, plain[1].mT, offs=ends)
            return (z[routing.places.long()] * routing.weights[..., None]).sum(1).bfloat16()

        return call

    return layer


class Graph:
    """A CUDA graph of calls that take turns."""

    def __init__(self, calls: Sequence[Call], count: int) -> None:
        self.calls, self.count = calls, count  # they own buffers that the graph reads
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for call in calls[:2]:
                call()
            stream.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=stream):
                for i in range(count):
                    calls[i % len(calls)]()
        torch.cuda.synchronize()

    def microseconds(self) -> float:
        """The time of a call of a replay."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self.graph.replay()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / self.count * 1e3


def spread(values: Sequence[float]) -> str:
    """The median with the least and the greatest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def in_turns(graphs: dict[str, Graph]) -> dict[str, list[float]]:
    """The times of each graph in each alternation, after one that does not count."""
    names, found = list(graphs), {name: list[float]() for name in graphs}
    for number in range(-1, PASSES):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            time = graphs[name].microseconds()
            if number >= 0:
                found[name].append(time)
    return found


def report(what: str, name: str, tokens: int, kind: str, graphs: dict[str, Graph], error: str) -> None:
    """A row of the table."""
    times = in_turns(graphs)
    ours = times["ours"]
    cells = [f"{statistics.median(ours):.1f}"]
    for peer in PEERS:
        if peer in times:
            ratios = [mine / other for mine, other in zip(ours, times[peer], strict=True)]
            cells += [f"{statistics.median(times[peer]):.1f}", spread(ratios)]
        else:
            cells += ["", ""]
    print("|", " | ".join([what, name, str(tokens), kind, *cells, error]), "|", flush=True)


PEERS = ("triton_kernels", "torch._grouped_mm", "humming")


def attempt(what: str, make: Callable[[], Any]) -> Any:
    """What a peer makes; None where it cannot, and why on stderr."""
    try:
        return make()
    except Exception:  # noqa: BLE001  another peer goes on
        print(f"# {what}: {traceback.format_exc(limit=-3)}", file=sys.stderr, flush=True)
        return None


class Bench:
    """One model with its weights in everybody's layout."""

    def __init__(self, name: str, build: Path, tokens: Sequence[int], peers: Sequence[str]) -> None:
        self.name, self.model, self.peers = name, MODELS[name], ("ours", *peers)
        m = self.model
        self.first = weights(m.experts, 2 * m.f, m.d, m.mxfp4)
        self.second = weights(m.experts, m.d, m.f, m.mxfp4)
        self.ours = Ours(name, build, self.first, self.second)
        both = self.first, self.second
        plain = attempt("torch", lambda: grouped_mm(*both))
        theirs = None
        if "humming" in peers:
            theirs = attempt("humming", lambda: humming(*both, [t * m.top for t in tokens]))
        triton = attempt("triton_kernels", lambda: TritonKernels(*both)) if m.mxfp4 else None
        self.pairs = {"triton_kernels": getattr(triton, "pair", None), "torch._grouped_mm": plain, "humming": theirs}
        self.layers = {"triton_kernels": getattr(triton, "layer", None),
                       "torch._grouped_mm": plain and torch_layer(plain.weights, m.mxfp4)}  # fmt: skip

    def pair(self, tokens: int, kind: str) -> None:
        """Time the two products."""
        m = self.model
        rows, read = tokens * m.top, m.d * m.f * 3 * 9 // 16
        experts = 1 if kind == "one" else min(rows, m.experts)
        count = min(MOST, max(2, -(-ROTATED // (read * experts))))
        every = [routed(m, tokens, kind, seed)[0] for seed in range(count)]
        x = torch.randn(rows, m.d, device="cuda").bfloat16()
        h, y = (torch.empty(rows, width, dtype=torch.bfloat16, device="cuda") for width in (m.f, m.d))
        h.normal_()
        graphs: dict[str, Graph] = {}
        error = ""
        for name, make in {"ours": self.ours.pair, **self.pairs}.items():
            if make is None or name not in self.peers:
                continue
            calls = attempt(name, lambda make=make: [make(each, x, h, y) for each in every])
            if not calls:
                continue
            if name != "torch._grouped_mm":  # whose weights are others
                error += f"{self.checked(calls[0], every[0], h):.0e} "
            graph = attempt(name, lambda calls=calls: timed(calls))
            if graph is not None:
                graphs[name] = graph
        report("pair", self.name, tokens, kind, graphs, error.strip())

    def checked(self, call: Call, routing: Routed, h: Any) -> float:
        """The error of the second product on some rows, of the h that the first one left there or that was there."""
        y = call()
        torch.cuda.synchronize()
        ends, worst, largest = routing.offsets[1:], 0.0, 1e-9
        for row in torch.linspace(0, y.shape[0] - 1, 16).long().unique().tolist():
            expert = int((ends <= row).sum())
            exact = dequantized(self.second, expert) @ h[row].float()
            if self.second.bias is not None:
                exact = exact + self.second.bias[expert].float()
            worst = max(worst, float((y[row].float() - exact).abs().max()))
            largest = max(largest, float(exact.abs().max()))
        return worst / largest

    def layer(self, tokens: int, kind: str) -> None:
        """Time the whole layer."""
        x = torch.randn(tokens, self.model.d, device="cuda").bfloat16()
        every = []
        for seed in range(8):
            scores = logits(self.model, tokens, kind, seed)
            every.append(Routed(None, None, scores, self.model.top))
        graphs: dict[str, Graph] = {}
        first: Any = None
        error = ""
        for name, make in {"ours": self.ours.layer, **self.layers}.items():
            if not make or name not in self.peers:
                continue
            calls = [make(each, x) for each in every]
            graph = attempt(name, lambda calls=calls: timed(calls))
            if graph is None:
                continue
            graphs[name] = graph
            y = calls[0]()
            if name == "ours":
                first = y.float()
            elif name == "triton_kernels":
                error = f"{float((y.float() - first).abs().max() / first.abs().max()):.0e}"
        report("layer", self.name, tokens, kind, graphs, error)


def timed(calls: Sequence[Call]) -> Graph:
    """A graph of as many calls as take some milliseconds, each routing at least once where that is not too long."""
    once = Graph(calls[:2], 2)
    once.microseconds()
    time = max(1.0, once.microseconds())
    return Graph(calls, min(max(CALLS, len(calls)), max(2, int(PASS_US / time))))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=[*MODELS])
    parser.add_argument("--tokens", nargs="*", type=int, default=TOKENS)
    parser.add_argument("--routings", nargs="*", default=ROUTINGS)
    parser.add_argument("--peers", nargs="*", default=PEERS)
    parser.add_argument("--build", type=Path, default=BUILD)
    given = parser.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__)
    titles = ["what", "model", "tokens", "routing", "ours, us"]
    for peer in PEERS:
        titles += [f"{peer}, us", "ours by it"]
    titles.append("error")
    print("|", " | ".join(titles), "|")
    print("|---" * len(titles) + "|")
    for name in given.models:
        bench = Bench(name, given.build, given.tokens, given.peers)
        for tokens in given.tokens:
            for kind in given.routings:
                bench.pair(tokens, kind)
                bench.layer(tokens, kind)
        del bench
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
