"""`fp4cc recipes`: what layers can be made of, and their kernels compiled ahead, for machines without a compiler."""

from __future__ import annotations

from pathlib import Path

import click

from fp4cc.cli.options import json_option, plans_option, print_json, target_option
from fp4cc.cli.terminal import definitions, progress

_EPILOG = """\b
Examples:
  fp4cc recipes list
  fp4cc recipes build -o kernels --target sm_90a                all of them
  fp4cc recipes build nvfp4 mxfp8_training -o kernels --target sm_90a

\b
On the other machine, where fp4cc need not be installed:
  fp4rt.torch.convert(model, "nvfp4", artifacts="kernels")
or set FP4RT_ARTIFACTS=kernels.
"""
_QUANTIZERS = "quantizers"


@click.group(epilog=_EPILOG)
def command() -> None:
    """List the recipes of `fp4rt.torch.convert`, or compile their kernels to a folder."""


@command.command("list")
@json_option
def list_recipes(as_json: bool) -> int:
    """Print each recipe, what it is for, and its kernels."""
    from fp4rt.recipes import RECIPES

    if as_json:
        found = [
            {"name": r.name, "kind": r.kind, "summary": r.summary, "kernels": dict(r.kernels)} for r in RECIPES.values()
        ]
        print_json({"ok": True, "recipes": found})
    else:
        rows = [(r.name, f"{r.kind}: {r.summary}") for r in RECIPES.values()]
        rows.append((_QUANTIZERS, "fp4rt.quantize of tensors on a GPU"))
        click.echo("\n".join(definitions(rows, indent="")))
    return 0


@command.command(epilog="\b\nExample:\n  fp4cc recipes build nvfp4 -o kernels --target sm_90a")
@click.argument("names", nargs=-1, metavar="[RECIPE]...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to write to; made if missing.",
)
@target_option
@plans_option
@json_option
def build(names: tuple[str, ...], output: Path, target: str, plans: int, as_json: bool) -> int:
    """Compile the kernels of recipes, of all without names, to DIR/TARGET/FILE/KERNEL.json and its files.

    `quantizers` stands for those of `fp4rt.quantize`.
    """
    from fp4cc.supply import artifact
    from fp4rt.artifact import Artifact
    from fp4rt.quantizing import FILE, kernel_names
    from fp4rt.recipes import RECIPES, find, kernels_of

    chosen = names or (*RECIPES, _QUANTIZERS)
    wanted = kernels_of(find(name) for name in chosen if name != _QUANTIZERS)
    wanted += [(FILE, name) for name in kernel_names()] if _QUANTIZERS in chosen else []
    written: list[str] = []
    with progress(enabled=not as_json) as line:
        for file, kernel in wanted:
            line.step(f"{file}/{kernel} for {target}")
            built = artifact(file, kernel, target, plans=plans)
            written.append(str(Artifact(built.manifest, built.files).save(output / target / file)))
    if as_json:
        print_json({"ok": True, "target": target, "artifacts": written})
    else:
        click.echo("\n".join(written))
    return 0
