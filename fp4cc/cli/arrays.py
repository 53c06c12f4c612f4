"""Arguments from files: .npy and .npz, never pickled."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from fp4cc.cli.files import replacing

if TYPE_CHECKING:
    from fp4num import BlockFormat, Quantized
    from fp4rt.typed import Arg, TypedKernel

_FLOATS = ("float16", "float32", "float64")
_PARTS = ("codes", "scales", "tensor_scale", "shape")
#: What an .npz file may say besides: the layout its scales are in, and that NaN among them is meant.
_NOTES = ("layout", "nan_blocks")


def load_inputs(kernel: TypedKernel, files: Mapping[str, Path]) -> dict[str, Any]:
    """The arguments given as files. Raises click.UsageError for names and files that do not fit the kernel."""
    wanted = {arg.name: arg for arg in kernel.args if arg.direction != "out"}
    found: dict[str, Any] = {}
    for name in files:
        if name not in wanted:
            raise click.UsageError(f"{kernel.name} has no input {name!r}; inputs: {', '.join(wanted)}")
    # Offsets before what they divide.
    for name, path in sorted(files.items(), key=lambda item: wanted[item[0]].format is not None):
        found[name] = _load(wanted[name], path, _offsets(wanted[name], found))
    return {name: found[name] for name in files}


def _offsets(arg: Arg, found: Mapping[str, Any]) -> Any:
    """The offsets of a ragged quantized argument: the order of its scales depends on them."""
    by = arg.axes[-2].by if arg.format is not None and len(arg.axes) > 1 else None
    if by is None:
        return None
    if by not in found:
        raise click.UsageError(f"the scales of {arg.name} lie group by group: give --input {by}=FILE as well")
    return found[by]


def sizes_from(kernel: TypedKernel, arrays: Mapping[str, Any]) -> dict[str, int]:
    """The dynamic dims that the shapes of the given arrays decide: axes whose extent is a bare dim."""
    names = {dim.name for dim in kernel.dims if dim.value is None and dim.expr is None}
    found: dict[str, int] = {}
    for name, array in arrays.items():
        axes = kernel.arg(name).axes
        shape = tuple(getattr(array, "shape", ()))
        if len(shape) != len(axes):
            continue  # the call reports it, with the types
        for axis, size in zip(axes, shape, strict=True):
            if isinstance(axis.extent, str) and axis.extent in names:
                found.setdefault(axis.extent, int(size))
    return found


def _load(arg: Arg, path: Path, offsets: Any) -> Any:
    try:
        data: Any = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise click.UsageError(f"{path} cannot be read as {path.suffix}: {error}") from None
    if arg.format is not None:
        return _quantized(arg.name, arg.format, path, data, offsets)
    if not isinstance(data, np.ndarray):
        raise click.UsageError(f"{path} holds several arrays; {arg.name} is a plain tensor: give a .npy file")
    return _plain(arg, path, data)


def _plain(arg: Arg, path: Path, data: np.ndarray) -> Any:
    from fp4num import encode
    from fp4rt.arrays import NUMPY_DTYPES

    dtype = str(arg.dtype)
    if arg.direction == "param":
        if data.size != 1:
            raise click.UsageError(f"{path} has shape {data.shape}; {arg.name} is one number")
        return data.reshape(()).item()
    if data.dtype.name in NUMPY_DTYPES.get(dtype, ()):
        return np.asarray(data, order="C")  # ascontiguousarray makes a number an array of one
    if data.dtype.name in _FLOATS and dtype in ("f32", "bf16", "f16", "e4m3", "e5m2"):
        values = data.astype(np.float32)
        if dtype == "f32":
            return np.asarray(values, order="C")
        codes = encode(values, dtype)
        return codes.view(np.float16) if dtype == "f16" else codes
    raise click.UsageError(f"{path} has dtype {data.dtype.name}; {arg.name} is {dtype}")


def _quantized(name: str, fmt: BlockFormat, path: Path, data: Any, offsets: Any) -> Quantized:
    from fp4num import Quantized, quantize

    if isinstance(data, np.ndarray):
        if data.dtype.name not in _FLOATS:
            raise click.UsageError(
                f"{path} has dtype {data.dtype.name}; {name} is {fmt.name}: give floats to quantize, "
                "or a .npz file with codes and scales"
            )
        return quantize(data, fmt, offsets=offsets)
    parts = {key: data[key] for key in data.files}
    unknown = sorted(set(parts) - {*_PARTS, *_NOTES})
    missing = [key for key in ("codes", "scales") if key not in parts and (key == "codes" or fmt.scale is not None)]
    if unknown or missing:
        found = ", ".join(parts) or "nothing"
        raise click.UsageError(
            f"{path} has {found}; a quantized argument has {', '.join(_PARTS)} (shape is optional, and so are "
            f"{' and '.join(_NOTES)})"
        )
    codes = parts["codes"]
    shape = (
        tuple(int(n) for n in parts["shape"])
        if "shape" in parts
        else (*codes.shape[:-1], codes.shape[-1] * 8 // fmt.bits)
    )
    return Quantized.from_parts(
        codes,
        parts.get("scales"),
        _number(parts["tensor_scale"], path, "tensor_scale") if "tensor_scale" in parts else None,
        fmt,
        shape,
        layout=str(parts["layout"]) if "layout" in parts else None,
        offsets=offsets,
        nan_blocks=bool(np.all(parts["nan_blocks"])) if "nan_blocks" in parts else False,
    )


def _number(array: np.ndarray, path: Path, what: str) -> float:
    if array.size != 1 or array.dtype.kind != "f":
        raise click.UsageError(f"{path}: {what} is {array.dtype.name} of shape {array.shape}; it is one float")
    return float(array.reshape(())[()])


def save_outputs(folder: Path, outputs: Mapping[str, Any]) -> None:
    """Write each output as NAME.npy, a quantized one as NAME.npz with the parts that `--input` reads."""
    from fp4num import Quantized
    from fp4num.dtypes import element_of, raw_codes

    folder.mkdir(parents=True, exist_ok=True)
    for name, value in outputs.items():
        if isinstance(value, Quantized):
            parts: dict[str, Any] = {"codes": value.codes, "scales": value.scales, "shape": np.asarray(value.shape)}
            if value.tensor_scale is not None:
                parts["tensor_scale"] = np.asarray(value.tensor_scale, np.float32)
            if value.format.scale == "e4m3" and (np.asarray(value.scales) == 0x7F).any():
                parts["nan_blocks"] = np.asarray(True)  # what `--input` wants to be told
            with replacing(folder / f"{name}.npz") as file:
                np.savez(file, **parts)  # pyright: ignore[reportArgumentType]
        else:
            element = element_of(value.dtype)  # numpy's format has no bf16 or fp8: codes are saved
            with replacing(folder / f"{name}.npy") as file:
                np.save(file, value if element is None else raw_codes(value, element))
