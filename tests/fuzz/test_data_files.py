"""Hostile data files: each is refused with a code, or gives arrays that a kernel takes or refuses with a code."""

from __future__ import annotations

import io as streams
import json
import random
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp4cc.cli.arrays import load_inputs
from fp4num import Quantized
from fp4rt import RuntimeFault, io
from fp4rt.devices.reference import ReferenceDevice

from .artifacts import Good, typed
from .limits import bounded
from .mutations import mutate_bytes, mutate_json

Files = dict[str, bytes]


@cache
def _gemm() -> Good:
    return typed("nvfp4_gemm.fp4")


@cache
def _goods() -> dict[str, Files]:
    """Good files by kind: what a kernel's argument comes in, and a checkpoint in one file and in two."""
    a = _gemm().arguments["a"]
    assert isinstance(a, Quantized)
    parts = {"codes": a.codes, "scales": a.scales, "tensor_scale": a.tensor_scale, "shape": np.array(a.shape)}
    floats = np.random.default_rng(0).standard_normal(a.shape)
    layer = io.to_modelopt(a, "layer")
    layer["other.four"] = io.Tensor("F4", layer["layer.weight"].data)
    return {
        "npz": {"a.npz": _saved(np.savez, **parts)},
        "packed": {"a.npz": _saved(np.savez_compressed, **parts)},
        "npy": {"a.npy": _saved(np.save, floats)},
        "half": {"a.npy": _saved(np.save, floats.astype(np.float16).T)},
        "checkpoint": {"model.safetensors": _checkpoint(layer)},
        "shards": {
            "one.safetensors": _checkpoint({k: v for k, v in layer.items() if "scale" in k}),
            "two.safetensors": _checkpoint({k: v for k, v in layer.items() if "scale" not in k}),
            "model.safetensors.index.json": json.dumps(
                {"weight_map": {k: f"{'one' if 'scale' in k else 'two'}.safetensors" for k in layer}}
            ).encode(),
        },
    }


def _saved(save: Callable[..., None], *args: Any, **arrays: Any) -> bytes:
    out = streams.BytesIO()
    save(out, *args, **arrays)
    return out.getvalue()


def _checkpoint(tensors: dict[str, Any]) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        io.save_checkpoint(Path(folder) / "a.safetensors", tensors, {"format": "pt"})
        return (Path(folder) / "a.safetensors").read_bytes()


# edits


def _bytes(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    return mutate_bytes(rng, content)


def _json_part(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """An edit of the header of a .safetensors file, its length mended; of all of a JSON file."""
    header, data = (content, b"") if content.startswith(b"{") else _split(content)
    others = [json.loads(_split(files["model.safetensors"])[0]) for files in (_goods()["checkpoint"],)]
    case = mutate_json(rng, json.loads(header), others)
    mended = case.text if content.startswith(b"{") else len(case.text).to_bytes(8, "little") + case.text + data
    return mended, case.what


def _split(content: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(content[:8], "little")
    return content[8 : 8 + length], content[8 + length :]


_DTYPES = ("<f4", ">f4", "<f8", "|u1", "<u2", "|O", "<U4", "|V3", "<c8", "<i8", "|b1", "<M8[s]", "f4,i4", "nonsense",
           "")  # fmt: skip
_SHAPES = ("(32, 32)", "()", "(1024,)", "(-1,)", "(2.0,)", "(1, 2, 3)", "(10**12,)", "(100000, 1000000)", "None",
           "(0,)", "(True,)", f"({'1, ' * 40})", "(" * 300 + ")" * 300)  # fmt: skip


def _header(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """Another dtype, order or shape in the header of a .npy file."""
    end = content.index(b"\n") + 1
    dtype, shape = rng.choice(_DTYPES), rng.choice(_SHAPES)
    order = rng.choice(("False", "True", "3"))
    text = f"{{'descr': {dtype!r}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    size = len(text).to_bytes(2, "little")
    return content[:6] + b"\1\0" + size + text + content[end:], f"header {dtype} {shape}"


def _member(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """A .npz file whose members are left out, renamed, exchanged, spoiled or added to."""
    with zipfile.ZipFile(streams.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    kind = rng.choice(("header", "header", "bytes", "delete", "rename", "swap", "add"))
    if kind in ("header", "bytes"):
        members[name], _ = (_header if kind == "header" else _bytes)(rng, members[name])
    elif kind == "delete":
        del members[name]
    elif kind == "rename":
        members[rng.choice((".npy", "x", "../x.npy", "codes", "é.npy", "/x.npy"))] = members.pop(name)
    elif kind == "swap":
        other = rng.choice(list(members))
        members[name], members[other] = members[other], members[name]
    else:
        members["more.npy"] = members[name]
    out = streams.BytesIO()
    how = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(out, "w", how) as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return out.getvalue(), f"{kind} member {name}"


def _edit(rng: random.Random, name: str, content: bytes) -> tuple[bytes, str]:
    own = {".npz": _member, ".npy": _header}.get(Path(name).suffix, _json_part)
    return rng.choice((own, own, own, _bytes))(rng, content)


# outcomes


def _read(folder: Path, kind: str) -> str:
    """What became of the files: "fine", or the code of the error."""
    try:
        if kind in ("checkpoint", "shards"):
            _use_checkpoint(folder)
        else:
            path = next(iter(folder.iterdir()))
            given = load_inputs(_gemm().artifact.manifest.kernel, {"a": path})
            kernel = _gemm().artifact.load_kernel(ReferenceDevice(memory_limit=1 << 28, time_limit=2.0))
            kernel(**{**_gemm().arguments, **given})
    except RuntimeFault as error:
        return error.code
    return "fine"


def _use_checkpoint(folder: Path) -> None:
    checkpoint = io.open_checkpoint(folder)
    for name in checkpoint:
        try:
            np.asarray(checkpoint[name].data).sum()
        except RuntimeFault as error:
            assert error.code == "FP6412"
    io.from_modelopt(checkpoint, "layer")


def _run(cases: int, seed: int, folder: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    kinds = list(_goods())
    for index in range(cases):
        rng = random.Random(f"{seed} {index}")
        kind = kinds[index % len(kinds)]
        files = dict(_goods()[kind])
        name = rng.choice(list(files))
        files[name], what = _edit(rng, name, files[name])
        if rng.random() < 0.1:  # a whole file in another's place
            files[name] = rng.choice([content for good in _goods().values() for content in good.values()])
        at = folder / "case"
        at.mkdir()
        for file, content in files.items():
            (at / file).write_bytes(content)
        with bounded(f"case {seed} {index}, {name} of {kind}, {what}"):
            found[_read(at, kind)] += 1
        shutil.rmtree(at)
    return found


def test_good_ones_are_read(tmp_path: Path) -> None:
    for kind, files in _goods().items():
        at = tmp_path / kind
        at.mkdir()
        for name, content in files.items():
            (at / name).write_bytes(content)
        assert _read(at, kind) == "fine", kind


def test_thirty(tmp_path: Path) -> None:
    found = _run(30, 1, tmp_path)
    assert found["FP6410"] >= 5


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(2, 12))
def test_five_hundred(seed: int, tmp_path: Path) -> None:
    found = _run(50, seed, tmp_path)
    assert found["FP6410"] >= 5
