"""What a Hopper GPU wrote, by family: tests/golden/silicon/FAMILY.json.xz.

Each file has {"about": ..., "programs": {name: [digest of what was given, output]}}; an output is base64, or 16
hexadecimal digits of its SHA-256 where a program's is not kept whole.
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
from pathlib import Path

from .program import Program

FOLDER = Path(__file__).parent.parent / "golden" / "silicon"
Results = dict[str, tuple[str, str]]


def load(family: str) -> Results:
    """What was recorded of a family's programs, by name."""
    content = json.loads(lzma.decompress((FOLDER / f"{family}.json.xz").read_bytes()))
    return {name: (given, output) for name, (given, output) in content["programs"].items()}


def save(family: str, about: str, results: Results) -> None:
    """Writes a family's file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"about": about, "programs": results}, separators=(",", ":"))
    packed = lzma.compress(content.encode(), preset=9 | lzma.PRESET_EXTREME)
    (FOLDER / f"{family}.json.xz").write_bytes(packed)


def kept(program: Program, raw: bytes) -> str:
    """An output as it is kept."""
    return base64.b64encode(raw).decode() if program.whole else hashlib.sha256(raw).hexdigest()[:16]


def same(program: Program, found: bytes, recorded: str) -> bool:
    """Whether an output is what was recorded, or as near as the program says."""
    if program.near is not None:
        return program.near.holds(found, base64.b64decode(recorded))
    return kept(program, found) == recorded
