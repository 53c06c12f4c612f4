"""One rank of a group: python parallel_worker.py RANK RANKS FILE [KERNELS]. Prints what it found equal.

Over gloo, on the CPU; or, with a folder made by `fp4cc recipes build`, over NCCL, each rank on a GPU of its own. With
"all" for the rank, they are children of one process that has imported everything, and FILE.RANK has what each printed.
"""

from __future__ import annotations

import copy
import os
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import fp4rt
import fp4rt.torch
from fp4rt.recipes import RECIPES
from fp4rt.torch import GatheredLinear, RowParallelLinear, convert, parallelize


@dataclass(frozen=True)
class Rank:
    rank: int
    ranks: int
    device: torch.device
    #: What makes or holds kernels.
    artifacts: Any

    def part(self, size: int) -> slice:
        """This rank's part of an axis."""
        return slice(self.rank * size // self.ranks, (self.rank + 1) * size // self.ranks)


def whole(*shape: int, seed: int, largest: float) -> torch.Tensor:
    """Small numbers whose products have exact sums, and whose scales are powers of two: `largest` decides that."""
    x = (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2).round().clamp(-5, 5)
    x[:, 0::128] = largest
    return x.bfloat16()


def check_recipe(recipe: str, me: Rank) -> None:
    """A column-parallel and a row-parallel layer are the whole ones, bit for bit."""
    largest = 7.0 if recipe == "deepseek_fp8" else 5.25  # 448 and 2688 times a power of two
    plain = torch.nn.ModuleDict({"up": torch.nn.Linear(256, 512), "down": torch.nn.Linear(512, 256)}).bfloat16()
    plain["up"].weight.data = whole(512, 256, seed=1, largest=largest)
    plain["down"].weight.data = whole(256, 512, seed=2, largest=largest)
    for layer in plain.values():
        layer.bias.data = whole(1, len(layer.bias), seed=3, largest=1.0)[0]
    plain.to(me.device)
    plain_up = torch.nn.ModuleList([copy.deepcopy(plain["up"])])
    one = convert(copy.deepcopy(plain), recipe, artifacts=me.artifacts)
    cut = parallelize(plain, recipe, {"up": "column", "d*": "row"}, artifacts=me.artifacts)
    assert isinstance(cut["down"], RowParallelLinear)
    x, h = whole(2, 5, 256, seed=4, largest=5.0), whole(10, 512, seed=5, largest=4.0)
    x[0, 0, 3] = h[0, 3] = largest  # of one rank alone
    if recipe == "deepseek_fp8":
        h[:, 0::128] = largest
        x[..., 0::128] = largest
    x, h, mine = x.to(me.device), h.to(me.device), me.part(512)
    with torch.no_grad():
        assert torch.equal(cut["up"](x), one["up"](x)[..., mine]), recipe
        assert torch.equal(cut["down"](h[:, mine]), one["down"](h)), recipe
        check_gathered(recipe, plain_up, one["up"], me, largest)
    both = cut["up"].weight.value, one["up"].weight.value
    parts = [torch.zeros_like(both[0].codes) for _ in range(me.ranks)]
    dist.all_gather(parts, both[0].codes)
    assert torch.equal(torch.cat(parts), both[1].codes)


def check_gathered(recipe: str, plain: Any, one: Any, me: Rank, largest: float) -> None:
    """A column-parallel layer of rows that ranks share is the whole one, at whole atoms of rows and elsewhere."""
    layer = parallelize(plain, recipe, {"0": "gathered"}, artifacts=me.artifacts)[0]
    assert isinstance(layer, GatheredLinear)
    for rows in (128, 5):
        x = whole(me.ranks * rows, 3 * 256, seed=rows, largest=4.0).reshape(me.ranks * rows, 3, 256)
        x[0, 0, 3] = largest  # of one rank alone
        if recipe == "deepseek_fp8":
            x[..., 0::128] = largest
        x = x.to(me.device)
        assert torch.equal(layer(x[me.part(len(x))]), one(x)[..., me.part(512)]), (recipe, rows)


def check_data_parallel(recipe: str, me: Rank) -> None:
    """Gradients over ranks are the mean of those of each rank's batch, and both ranks take the same step with them."""
    torch.manual_seed(0)
    width = 128 if RECIPES[recipe].rows == 128 else 32
    net = torch.nn.Sequential(torch.nn.Linear(width, 128), torch.nn.GELU(), torch.nn.Linear(128, width)).to(me.device)
    convert(net, recipe, artifacts=me.artifacts)

    def gradients(model: Any, who: int) -> list[torch.Tensor]:
        x = torch.randn(32, width, generator=torch.Generator().manual_seed(who)).to(me.device)
        torch.manual_seed(100 + who)
        with torch.autocast(me.device.type, dtype=torch.bfloat16):
            model(x).float().square().mean().backward()
        return [p.grad.clone() for p in model.parameters()]

    each = [gradients(copy.deepcopy(net), who) for who in range(me.ranks)]
    mean = [sum(t / me.ranks for t in theirs) for theirs in zip(*each, strict=True)]
    for wrap, model in (
        ("DDP", torch.nn.parallel.DistributedDataParallel(copy.deepcopy(net))),
        ("FSDP2", sharded(copy.deepcopy(net), torch.float32)),
        ("FSDP2, parameters gathered in bf16", sharded(copy.deepcopy(net), torch.bfloat16)),
    ):
        found = [whole_of(g) for g in gradients(model, me.rank)]
        unit = 2.0**-8 if "bf16" in wrap else 1e-6  # each rank's gradient is rounded to the parameter's type
        for ours, theirs, *own in zip(found, mean, *each, strict=True):
            room = unit * sum(t.abs() / me.ranks for t in own)
            assert ((ours - theirs).abs() <= room).all(), (recipe, wrap)
        torch.optim.SGD(model.parameters(), 0.1).step()
        for p, before, g in zip(model.parameters(), net.parameters(), found, strict=True):
            assert torch.allclose(whole_of(p), before - 0.1 * g), (recipe, wrap)


def sharded(net: Any, gathered: torch.dtype) -> Any:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    for layer in (net[0], net[2], net):
        fully_shard(layer, mp_policy=MixedPrecisionPolicy(param_dtype=gathered, reduce_dtype=torch.float32))
    return net


def whole_of(x: Any) -> Any:
    return (x.full_tensor() if hasattr(x, "full_tensor") else x).detach()


def check_errors(me: Rank) -> None:
    def error(make: Any, recipe: str, plan: Any) -> str:
        try:
            parallelize(make, recipe, plan, artifacts=me.artifacts)
        except fp4rt.TorchError as found:
            return str(found)
        return "none"

    def one(n: int, k: int) -> Any:
        return torch.nn.ModuleDict({"a": torch.nn.Linear(k, n, dtype=torch.bfloat16)})

    assert me.ranks == 2
    assert error(one(384, 64), "nvfp4", {"a": "column"}).startswith(
        "FP6146: a: 384 rows of nvfp4 cannot be cut for 2 ranks: each has a multiple of 128 of them, whole scale blocks"
    )
    assert "FP6146: a: 192 columns of nvfp4" in error(one(64, 192), "nvfp4", {"a": "row"})
    assert "multiple of 64 of them" in error(one(64, 192), "nvfp4", {"a": "row"})
    assert "FP6146: a: 128 columns of ds_weight" in error(one(128, 128), "deepseek_fp8", {"a": "row"})
    assert "FP6143: no torch.nn.Linear of the model is called 'b'" in error(one(256, 64), "nvfp4", {"b": "row"})
    assert "FP6142: nvfp4_training is a recipe for training" in error(one(256, 64), "nvfp4_training", {"a": "row"})


def fork(ranks: int, file: str) -> int:
    """Run all ranks; the status of the worst."""
    import torch.distributed.fsdp  # pyright: ignore[reportUnusedImport]
    import torch.optim

    import fp4cc.supply  # noqa: F401  # pyright: ignore[reportUnusedImport]

    torch.optim.SGD([torch.zeros(1)], 1.0)  # which imports the compiler of torch
    children: list[int] = []
    for rank in range(ranks):
        child = os.fork()
        if not child:
            with open(f"{file}.{rank}", "w", 1) as out, redirect_stdout(out), redirect_stderr(out):
                status = 1
                try:
                    run(rank, ranks, file, [])
                    status = 0
                except Exception:  # noqa: BLE001  # the child ends here, whatever it was
                    traceback.print_exc()
                out.flush()
                os._exit(status)
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


def run(rank: int, ranks: int, file: str, kernels: list[str]) -> None:
    torch.set_num_threads(1)
    if kernels:
        me = Rank(rank, ranks, torch.device("cuda", rank), Path(kernels[0]))
        torch.cuda.set_device(me.device)
    else:
        from fp4cc.supply import artifact

        me = Rank(rank, ranks, torch.device("cpu"), artifact)
    backend = "nccl" if kernels else "gloo"
    dist.init_process_group(backend, init_method=f"file://{file}", rank=rank, world_size=ranks)
    for recipe in (name for name, r in RECIPES.items() if r.kind == "inference"):
        check_recipe(recipe, me)
        print(f"{recipe} equal", flush=True)
    for recipe in (name for name, r in RECIPES.items() if r.kind in ("training", "qat")):
        check_data_parallel(recipe, me)
        print(f"{recipe} equal", flush=True)
    check_errors(me)
    print("errors equal", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    if sys.argv[1] == "all":
        sys.exit(fork(int(sys.argv[2]), sys.argv[3]))
    run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
