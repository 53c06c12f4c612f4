"""Where compiled kernels come from when something asks for one by name: a folder made before, or a compiler.

fp4rt compiles nothing and imports no compiler. One that is installed registers itself under the entry point group
`fp4rt.compilers`; where none is, `fp4cc recipes build -o DIR` on another machine makes a folder of artifacts,

    DIR/TARGET/FILE/KERNEL.json     e.g. DIR/sm_90a/linear_layers/nvfp4.json, its cubin beside it

which is given to whoever asks, or named by FP4RT_ARTIFACTS (several: separated as in PATH).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias

from fp4rt.artifact import Artifact
from fp4rt.errors import ArtifactError, DeviceError

GROUP = "fp4rt.compilers"
FOLDERS = "FP4RT_ARTIFACTS"

#: (file, kernel, target) -> the artifact. `file` is the name of a file of recipes that the compiler ships, without its
#: suffix, or "quantizers" (`fp4rt.quantizing`). A target of None asks for the typed kernel, which the reference runs.
Supplier: TypeAlias = Callable[[str, str, str | None], Artifact]
Source: TypeAlias = "str | os.PathLike[str] | Supplier | None"


def supplier(given: Source = None) -> Supplier:
    """Who supplies kernels: what is given (a folder, or a function), else FP4RT_ARTIFACTS, else the installed compiler.

    Raises ArtifactError FP6140 where there is none of them, FP6141 for a folder that does not exist.
    """
    if callable(given):
        return given
    if given is not None:
        return _Folders([Path(given)])
    if named := [Path(p) for p in os.environ.get(FOLDERS, "").split(os.pathsep) if p]:
        return _Folders(named)
    for entry in entry_points(group=GROUP):
        return entry.load()
    raise ArtifactError(
        "there are no compiled kernels, and no compiler that could make them is installed",
        code="FP6140",
        help="pip install fp4cc, or run `fp4cc recipes build -o DIR` where it is installed and pass artifacts=DIR "
        f"(or set {FOLDERS}=DIR)",
    )


def known() -> bool:
    """Whether `supplier()` finds one."""
    return bool(os.environ.get(FOLDERS)) or bool(entry_points(group=GROUP))


def device_and_target(device: str | None, at: str, target: str | None = None) -> tuple[str, str | None]:
    """The device to load kernels for, and the target to ask them for.

    `device`: "cuda", "cuda:1", "emulator" or "reference", or None: where the tensors are, `at` ("cpu", "cuda:1"), and
    the reference for the CPU. `target` is the GPU's own, or for the emulator sm_100a, if it is not given. Raises
    DeviceError FP6147 for a device for which nothing is compiled.
    """
    chosen = device or ("reference" if at == "cpu" else at)
    kind, _, number = chosen.partition(":")
    if kind == "reference":
        return chosen, target
    if kind == "emulator":
        return chosen, target or "sm_100a"
    if kind != "cuda":
        raise DeviceError(
            f"no kernels are made for the device {chosen!r}",
            code="FP6147",
            help="move the tensors to a GPU or to the CPU, or say device='reference' or 'emulator'",
        )
    return chosen, target or _target_of(int(number) if number else None)


def _target_of(index: int | None) -> str:
    from fp4rt.cuda.driver import context

    found = context(index).capability
    targets = {(9, 0): "sm_90a", (10, 0): "sm_100a"}
    if found not in targets:
        raise DeviceError(
            f"GPU {index or 0} has compute capability {found[0]}.{found[1]}, for which nothing is compiled",
            code="FP6147",
            help=f"there are kernels for {', '.join(targets.values())}; device='reference' runs on the CPU",
        )
    return targets[found]


class _Folders:
    """Artifacts that were compiled before."""

    def __init__(self, roots: list[Path]) -> None:
        for root in roots:
            if not root.is_dir():
                raise ArtifactError(
                    f"{root} is no folder of artifacts", code="FP6141", help="see `fp4cc recipes build`"
                )
        self._roots = roots

    def __call__(self, file: str, kernel: str, target: str | None) -> Artifact:
        for root in self._roots:
            for name in [target] if target else sorted(p.name for p in root.iterdir() if p.is_dir()):
                if (path := root / name / file / f"{kernel}.json").is_file():
                    return Artifact.load(path)
        where = ", ".join(str(root) for root in self._roots)
        for_target = f" for {target}" if target else ""
        raise ArtifactError(
            f"{where} has no kernel {kernel} of {file}{for_target}",
            code="FP6141",
            help=f"make it: fp4cc recipes build -o DIR{f' --target {target}' if target else ''}",
        )
