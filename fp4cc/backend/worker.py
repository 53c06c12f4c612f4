"""The child process: import one kernel file and compile it.

`python -m fp4cc.backend.worker` imports the CuTe DSL at once, so that this overlaps with the parent's front end, then
reads one job from standard input: a JSON line `{"kernel": path, "arch": "sm_100a", "output": folder}`. It imports the
file, calls its `compile(arch)`, and writes `kernel.ptx` and `kernel.cubin` to the folder. End of file instead of a job
ends it quietly. Whatever the DSL prints goes to standard output and error, which the parent keeps for its report.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import resource
import sys
from pathlib import Path
from types import ModuleType

#: What every emitted kernel imports; done before the job arrives.
_IMPORTS = (
    "cutlass",
    "cutlass.cute",
    "cutlass.cute.runtime",
    "cutlass.experimental.cuda",
    "cutlass.experimental.primitives",
)


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernel", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules["kernel"] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Serve one job; the exit status is 0 when both files are written."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.dont_write_bytecode = True
    gc.disable()  # a short life with many long-lived objects: collections only cost
    for module in _IMPORTS:
        importlib.import_module(module)

    line = sys.stdin.readline()
    if not line.strip():
        return 0
    job = json.loads(line)
    module = _import_file(Path(job["kernel"]))
    compiled = module.compile(job["arch"])
    ptx = compiled.__ptx__
    output = Path(job["output"])
    # Older DSL versions end the text with a NUL.
    text = ptx.decode("ascii") if isinstance(ptx, bytes) else ptx
    (output / "kernel.ptx").write_text(text.rstrip("\0"), encoding="ascii")
    (output / "kernel.cubin").write_bytes(compiled.__cubin__)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # taking the DSL's modules down in order takes longer than reading a job
