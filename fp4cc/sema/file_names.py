"""Names of kernels as names of files: an artifact is `NAME.json` with `NAME.cubin`, on whatever file system it is."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fp4cc.diagnostics import Collector, error
from fp4cc.source import Span

#: With `_v12.cubin` and what tools put before or after it, a name stays within the 255 bytes of a file name.
MAX_LENGTH = 128
#: Devices of Windows, where a file `con.json` is the console.
_DEVICE = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]", re.IGNORECASE)


def check_file_names(kernels: Mapping[str, Span], collector: Collector) -> None:
    """Report kernels whose files would have no good name (FP2034), or that of another kernel (FP2033)."""
    first: dict[str, str] = {}
    for name, span in kernels.items():
        if len(name) > MAX_LENGTH:
            title = f"the name of a kernel has {len(name)} characters"
            collector.report(error("FP2034", title, span, f"at most {MAX_LENGTH}", help="give it a shorter name",
                                   notes=["its files are called so"]))  # fmt: skip
        elif _DEVICE.fullmatch(name):
            collector.report(error("FP2034", f"no file can be called `{name}` everywhere", span, "a device of Windows",
                                   notes=["its files are called so"], help=f"write `{name}_kernel`"))  # fmt: skip
        other = first.setdefault(name.lower(), name)
        if other != name:
            collector.report(error("FP2033", f"the kernels `{other}` and `{name}` would have the same files", span,
                                   "differs in case only", also=[(kernels[other], "the other one")],
                                   notes=["some file systems take `a.json` and `A.json` for one file"],
                                   help="rename one of them"))  # fmt: skip
