"""The transformer of examples/ trained in every recipe on all GPUs of a machine, resumable; a table and a plot.

    fp4cc recipes build nvfp4_training mxfp8_training quartet ... -o kernels --target sm_90a
    python benchmarks/hopper_training.py kernels -o runs --seconds 500        again, until all runs are done
    python benchmarks/hopper_training.py -o runs --plot benchmarks/training.svg       of what lies in runs

A run is a recipe, how many of the last blocks stay in bf16 (`nvfp4_training:0`; one, without a number), and a seed.
Each GPU takes the next run that is not done. What is there after --seconds is saved, and goes on the next time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "transformer"))

import train

from fp4rt.recipes import RECIPES

TRAINING = tuple(name for name, recipe in RECIPES.items() if recipe.kind == "training")
#: Blocks at the end that stay in bf16, a seventh of all: "Pretraining Large Language Models with NVFP4" (NVIDIA, 2025)
#: has about as many.
KEEP = 1
RUNS = ("bf16", *TRAINING, "nvfp4_training:0", "nvfp4_qat")
#: The recipe that others are without a part of.
WHOLE = "nvfp4_training"


def options(run: str, seed: int, args: Any) -> Any:
    """The arguments of train.py for a run."""
    recipe, _, keep = run.partition(":")
    keep = "0" if recipe == "bf16" else keep or str(KEEP)
    words = ["-o", str(args.output), "--recipe", recipe, "--seed", str(seed), "--keep", keep, *args.more]
    found = train.parser().parse_args(words)
    found.artifacts = args.artifacts
    return found


def done(chosen: Any) -> bool:
    """Whether a run has all of its steps."""
    path = chosen.output / f"{train.name_of(chosen)}.json"
    return path.exists() and json.loads(path.read_text())["steps"] >= chosen.steps


def work(gpu: int, jobs: Any, args: Any, until: float) -> None:
    """Train one run after another on a GPU, until the time is over."""
    os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    while (job := jobs.get()) is not None:
        chosen = options(*job, args)
        chosen.seconds = until - time.time()
        if chosen.seconds < 10:
            continue
        try:
            report = train.train(chosen)
        except Exception as error:  # noqa: BLE001  # the other runs go on
            print(f"{job} on {gpu}: {type(error).__name__}: {error}", flush=True)
            continue
        print(json.dumps({k: v for k, v in report.items() if k != "losses"}), flush=True)
        torch.cuda.empty_cache()


def train_all(args: Any) -> None:
    until = time.time() + args.seconds
    # New processes, which do not share a context; and each sees one GPU.
    processes = multiprocessing.get_context("spawn")
    jobs = processes.Queue()
    gpus = max(1, torch.cuda.device_count())
    for seed in args.seeds:
        for run in args.runs:
            if not done(options(run, seed, args)):
                jobs.put((run, seed))
    for _ in range(gpus):
        jobs.put(None)
    workers = [processes.Process(target=work, args=(gpu, jobs, args, until)) for gpu in range(gpus)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def reports(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What was trained, by run, in the order of RUNS; runs that are not at their end are left out."""
    found: dict[str, list[dict[str, Any]]] = {run: [] for run in RUNS}
    for path in sorted(folder.glob("*.json")):
        report = json.loads(path.read_text())
        if report["steps"] == report["of"]:
            plain = report["recipe"] == "bf16" or report["keep"] == KEEP
            run = report["recipe"] + ("" if plain else f":{report['keep']}")
            found.setdefault(run, []).append(report)
    return {run: sorted(some, key=lambda r: r["seed"]) for run, some in found.items() if some}


def spread(values: list[float]) -> float:
    """Between the largest and the least."""
    return max(values) - min(values)


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Losses of all seeds, their mean and spread, and differences seed by seed, since runs of one seed start from the
    same weights and read the same bytes: on what was not learned, and over the last tenth of what was."""
    losses = {run: {r["seed"]: r["validation"] for r in some} for run, some in found.items()}
    learned = {run: {r["seed"]: last_of(r) for r in some} for run, some in found.items()}
    seeds = sorted({seed for some in losses.values() for seed in some})
    names = [
        "recipe",
        "tokens",
        *(f"seed {s}" for s in seeds),
        "mean",
        "spread",
        "against bf16",
        "batches",
        "ms a step",
    ]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for run, some in found.items():
        own = losses[run]
        cells = [f"{own[s]:.4f}" if s in own else "" for s in seeds]
        mean = statistics.mean(own.values())
        ms = statistics.median(r["ms"] for r in some)
        against = ["" if run == "bf16" else apart(of[run], of.get("bf16", {})) for of in (losses, learned)]
        rest = [f"{mean:.4f}", f"{spread([*own.values()]):.4f}", *against, f"{ms:.1f}"]
        lines.append("| " + " | ".join([run, f"{some[0]['tokens'] / 1e6:.1f} M", *cells, *rest]) + " |")
    lines += ["", f"| without | against {WHOLE} | beyond the spread | batches | beyond the spread |", "|---" * 5 + "|"]
    for run in losses:
        if run.startswith(f"{WHOLE}_") and WHOLE in losses:
            cells = [f(of[run], of[WHOLE]) for of in (losses, learned) for f in (apart, verdict)]
            lines.append(f"| {' | '.join([run, *cells])} |")
    return "\n".join(lines)


def last_of(report: dict[str, Any]) -> float:
    """The mean loss of the last tenth of the batches, before they were learned."""
    points = [loss for _, loss in report["losses"]]
    return statistics.mean(points[-max(1, len(points) // 10) :])


def differences(own: dict[int, float], other: dict[int, float]) -> list[float]:
    """Of each seed that both have, as a part of the other's loss."""
    return [own[s] / other[s] - 1 for s in own if s in other]


def apart(own: dict[int, float], other: dict[int, float]) -> str:
    """The mean difference and its spread over seeds."""
    each = differences(own, other)
    return f"{statistics.mean(each):+.2%} ({min(each):+.2%} to {max(each):+.2%})" if each else ""


def verdict(own: dict[int, float], other: dict[int, float]) -> str:
    """Whether the means differ by more than the larger spread of the two."""
    noise = max(spread([*own.values()]), spread([*other.values()]))
    more = statistics.mean(own.values()) - statistics.mean(other.values())
    return "worse" if more > noise else "better" if -more > noise else "no"


def plot(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """The losses of the batches, and how far they are above those of bf16 of the same seeds."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "fp4cc"
    import matplotlib.pyplot as plt

    figure, (whole, above) = plt.subplots(2, 1, figsize=(8, 9), sharex=True)
    base = {r["seed"]: dict(r["losses"]) for r in found.get("bf16", [])}
    for i, (run, some) in enumerate(found.items()):
        million = some[0]["tokens"] / some[0]["steps"] / 1e6
        look = {"color": f"C{i}", "linewidth": 1.2}
        for r in some:
            label = run if r is some[0] else None
            whole.plot([s * million for s, _ in r["losses"]], [v for _, v in r["losses"]], **look, label=label)
        each = [dict(r["losses"]) for r in some if r["seed"] in base]
        first = [base[r["seed"]] for r in some if r["seed"] in base]
        if run != "bf16" and each:
            parts = [(s, statistics.mean(v[s] / b[s] - 1 for v, b in zip(each, first, strict=True))) for s in each[0]]
            above.plot([s * million for s, _ in parts], [100 * v for _, v in smooth(parts)], **look)
    whole.set(ylabel="nats a byte", ylim=(0.65, 2.5), title="Loss of the batches; one line a seed")
    above.set(xlabel="million bytes", ylabel="above bf16's, %, mean of the seeds", ylim=(-1, 9))
    above.axhline(0, color="gray", linewidth=0.5)
    whole.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def smooth(points: list[tuple[int, float]], width: int = 5) -> list[tuple[int, float]]:
    """Means of `width` neighbors."""
    values = [v for _, v in points]
    near = [values[max(0, i - width // 2) : i + width // 2 + 1] for i in range(len(values))]
    return [(s, statistics.mean(some)) for (s, _), some in zip(points, near, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", type=Path, nargs="?")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--runs", nargs="+", default=RUNS)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1))
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--plot", type=Path, help="an SVG of the curves")
    args, args.more = parser.parse_known_args()  # what is left is train.py's
    if args.artifacts is not None:
        train_all(args)
    found = reports(args.output)
    print(table(found), flush=True)
    if args.plot is not None:
        plot(found, args.plot)


if __name__ == "__main__":
    main()
