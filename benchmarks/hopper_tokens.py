"""Tokens a second of a decoder in each recipe, beside bf16 and torchao: python benchmarks/hopper_tokens.py

A decoder with the layers of Llama 3 8B, half as many, random weights and a head in bf16. A step takes one token of each
sequence, through a cache of keys and values of a fixed length that is half full, and is one CUDA graph. Needs a GPU,
torch and a folder of kernels:

    fp4cc recipes build w4a16_nvfp4 w4a16_mxfp4 nvfp4 mxfp8 -o kernels --target sm_90a
    FP4RT_ARTIFACTS=kernels python benchmarks/hopper_tokens.py

Prints a table: milliseconds a step, tokens a second, times bf16's, bytes of the layers' weights, and how far the logits
are from bf16's. The ways of torchao and transformers are tried where they are installed.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import fp4rt.torch

WIDTH, INNER, HEADS, GROUPS, HEAD, WORDS = 4096, 14336, 32, 8, 128, 32768


class Layer(nn.Module):
    def __init__(self, batch: int, length: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(WIDTH) for _ in range(2))
        self.q, self.o = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.k, self.v = (nn.Linear(WIDTH, GROUPS * HEAD, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(WIDTH, INNER, bias=False) for _ in range(2))
        self.down = nn.Linear(INNER, WIDTH, bias=False)
        self.register_buffer("keys", torch.zeros(batch, GROUPS, length, HEAD))
        self.register_buffer("values", torch.zeros(batch, GROUPS, length, HEAD))

    def forward(self, x: torch.Tensor, at: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        h = self.norms[0](x)
        batch = len(x)
        q = self.q(h).view(batch, HEADS, 1, HEAD)
        self.keys.index_copy_(2, at, self.k(h).view(batch, GROUPS, 1, HEAD))
        self.values.index_copy_(2, at, self.v(h).view(batch, GROUPS, 1, HEAD))
        mixed = functional.scaled_dot_product_attention(q, self.keys, self.values, mask, enable_gqa=True)
        x = x + self.o(mixed.reshape(batch, WIDTH))
        h = self.norms[1](x)
        return x + self.down(functional.silu(self.gate(h)) * self.up(h))


class Decoder(nn.Module):
    def __init__(self, layers: int, batch: int, length: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(Layer(batch, length) for _ in range(layers))
        self.norm, self.head = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)
        for p in self.parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=p.shape[1] ** -0.5)

    def forward(self, tokens: torch.Tensor, at: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, at, mask)
        return self.head(self.norm(x))


def ours(recipe: str) -> Callable[[Any], Any]:
    return lambda model: fp4rt.torch.convert(model, recipe, inside)


def inside(name: str, layer: Any) -> bool:
    return name.startswith("layers.")


def torchao(config: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def change(model: Any) -> Any:
        from torchao import quantization

        quantization.quantize_(model, config(quantization), lambda m, name: type(m) is nn.Linear and inside(name, m))
        return model

    return change


def transformers_fp8(model: Any) -> Any:
    """Transformers' own layer of its FineGrainedFP8Config, whose kernel comes from a hub by the package `kernels`."""
    from transformers.integrations.finegrained_fp8 import FP8Linear

    for name, layer in [x for x in model.named_modules() if type(x[1]) is nn.Linear and inside(*x)]:
        n, k = layer.weight.shape
        blocks = layer.weight.float().view(n // 128, 128, k // 128, 128)
        scales = blocks.abs().amax((1, 3)) / 448
        new = FP8Linear(k, n, block_size=(128, 128)).to(layer.weight.device)
        codes = (blocks / scales[:, None, :, None]).view(n, k).to(torch.float8_e4m3fn)
        new.weight, new.weight_scale_inv = (nn.Parameter(x, requires_grad=False) for x in (codes, scales))
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, new)
    return model


WAYS: dict[str, Callable[[Any], Any]] = {
    "bf16": lambda model: model,
    **{name: ours(name) for name in ("w4a16_nvfp4", "w4a16_mxfp4", "nvfp4", "mxfp8")},
    "torchao int4, groups of 128": torchao(
        lambda q: q.Int4WeightOnlyConfig(group_size=128, int4_packing_format="tile_packed_to_4d")
    ),
    "torchao fp8, rows": torchao(lambda q: q.Float8DynamicActivationFloat8WeightConfig(granularity=q.PerRow())),
    "torchao fp8 weights": torchao(lambda q: q.Float8WeightOnlyConfig()),
    "transformers fp8, blocks of 128": transformers_fp8,
}


def step_of(model: Any, inputs: tuple[Any, ...]) -> tuple[Callable[[], None], torch.Tensor]:
    """A step as a CUDA graph, and where its logits come."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            model(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = model(*inputs)
    return graph.replay, logits


def milliseconds(run: Callable[[], None], steps: int) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(steps):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / steps


@torch.no_grad()
def measure(batch: int, options: Any) -> list[str]:
    torch.manual_seed(0)
    with torch.device("cuda"):
        plain = Decoder(options.layers, batch, options.length).to(torch.bfloat16).eval()
        at = torch.tensor([options.length // 2])
        mask = (torch.arange(options.length) <= at).expand(batch, 1, 1, -1)
        inputs = torch.randint(WORDS, (batch,)), at, mask
    wanted, steps, rows, kept = None, {}, {}, []
    for name, change in WAYS.items():
        try:
            model = change(copy.deepcopy(plain))
            steps[name], logits = step_of(model, inputs)
        except (
            ImportError,
            RuntimeError,
            TypeError,
            ValueError,
            AssertionError,
        ) as error:  # a peer that refuses is a row of the table
            rows[name] = f"| {batch} | {name} | {type(error).__name__}: {str(error).splitlines()[0][:80]} | | | | |"
            continue
        steps[name]()
        wanted = logits.float().clone() if wanted is None else wanted
        size = sum(
            bytes_of(t) for n, t in model.state_dict().items() if inside(n, t) and not n.endswith(("keys", "values"))
        )
        error = float((logits.float() - wanted).norm() / wanted.norm())
        rows[name] = f"{size / 1e9:.2f} | {error:.3f} |"
        kept.append(model)  # a graph reads its weights, and does not keep them
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.passes):
        for name, run in steps.items():
            times[name].append(milliseconds(run, options.steps))
    for name, found in times.items():
        ms = statistics.median(found)
        ratio = statistics.median(a / b for a, b in zip(times["bf16"], found, strict=True))
        rows[name] = f"| {batch} | {name} | {ms:.2f} | {1e3 * batch / ms:.0f} | {ratio:.2f} | {rows[name]}"
    return list(rows.values())


def bytes_of(held: Any) -> int:
    """Of what a state holds: a tensor, one of torchao's, which is made of several, or something beside tensors."""
    if not isinstance(held, torch.Tensor):
        return 0
    if not hasattr(held, "__tensor_flatten__"):
        return held.untyped_storage().nbytes()
    return sum(bytes_of(getattr(held, name)) for name in held.__tensor_flatten__()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    for name, value in {"layers": 16, "length": 1024, "steps": 20, "passes": 7}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {options.layers} layers\n")
    print("| batch | weights | ms a step | tokens a second | times bf16 | GB of layers | logits' distance |")
    print("|---|---|---|---|---|---|---|")
    for batch in options.batches:
        print("\n".join(measure(batch, options)), flush=True)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
