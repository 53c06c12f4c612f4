"""Arguments from files: .npy and .npz, never pickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from fp4cc.cli.files import replacing
from fp4rt.errors import ArgumentError
from fp4rt.sizes import shifted

if TYPE_CHECKING:
    from fp4num import BlockFormat, Quantized
    from fp4rt.typed import Arg, TypedKernel

_FLOATS = ("float16", "float32", "float64")


def load_inputs(kernel: TypedKernel, files: Mapping[str, Path]) -> dict[str, Any]:
    """The arguments given as files.

    Raises click.UsageError for a name that is no input, CheckpointError (see `fp4rt.io.npy.read_arrays`) for a file
    that cannot be read, ArgumentError FP6103 to FP6105 for arrays that do not fit the argument.
    """
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
    """The dynamic dims that the shapes of the given arrays decide: axes that are a dim, or a dim and a number."""
    names = {dim.name for dim in kernel.dims if dim.value is None and dim.expr is None}
    found: dict[str, int] = {}
    sums: list[tuple[tuple[str, int], int]] = []
    for name, array in arrays.items():
        axes = kernel.arg(name).axes
        shape = tuple(getattr(array, "shape", ()))
        if len(shape) != len(axes):
            continue  # the call reports it, with the types
        for axis, size in zip(axes, shape, strict=True):
            if isinstance(axis.extent, str) and axis.extent in names:
                found.setdefault(axis.extent, int(size))
            sums += [(of, int(size)) for of in [shifted(axis.extent)] if of is not None and of[0] in names]
    for (name, number), size in sums:
        found.setdefault(name, size - number)
    return found


def _load(arg: Arg, path: Path, offsets: Any) -> Any:
    from fp4rt.io.npy import read_arrays

    data = read_arrays(path)
    if arg.format is not None:
        return _quantized(arg.name, arg.format, path, data, offsets)
    if not isinstance(data, np.ndarray):
        raise ArgumentError(
            f"{path} holds several arrays; {arg.name} is a plain tensor", argument=arg.name, help="give a .npy file"
        )
    return _plain(arg, path, data)


def _plain(arg: Arg, path: Path, data: np.ndarray) -> Any:
    from fp4num import encode
    from fp4rt.arrays import NUMPY_DTYPES

    dtype = str(arg.dtype)
    if arg.direction == "param":
        if data.size != 1:
            raise ArgumentError(
                f"{path} has shape {data.shape}; {arg.name} is one number", argument=arg.name, code="FP6105"
            )
        return data.reshape(()).item()
    if data.dtype.name in NUMPY_DTYPES.get(dtype, ()):
        return np.asarray(data, order="C")  # ascontiguousarray makes a number an array of one
    if data.dtype.name in _FLOATS and dtype in ("f32", "bf16", "f16", "e4m3", "e5m2"):
        values = _narrowed(path, data)
        if dtype == "f32":
            return np.asarray(values, order="C")
        codes = encode(values, dtype)
        return codes.view(np.float16) if dtype == "f16" else codes
    raise ArgumentError(f"{path} has dtype {data.dtype.name}; {arg.name} is {dtype}", argument=arg.name, code="FP6104")


def _quantized(name: str, fmt: BlockFormat, path: Path, data: Any, offsets: Any) -> Quantized:
    from fp4num import quantize
    from fp4rt.io.npy import quantized_from

    if not isinstance(data, np.ndarray):
        return quantized_from(data, fmt, str(path), offsets)
    if data.dtype.name not in _FLOATS:
        raise ArgumentError(
            f"{path} has dtype {data.dtype.name}; {name} is {fmt.name}",
            argument=name,
            code="FP6104",
            help="give floats to quantize, or a .npz file with codes and scales",
        )
    try:
        return quantize(_narrowed(path, data), fmt, offsets=offsets)
    except ValueError as error:
        raise ArgumentError(f"{path}: {error}", argument=name, code="FP6105") from error


def _narrowed(path: Path, data: np.ndarray) -> np.ndarray:
    """The numbers as f32. One that is finite and too large for it is refused: it would silently become infinite."""
    with np.errstate(over="ignore"):
        values = data.astype(np.float32)
    if bool(np.any(np.isinf(values) & np.isfinite(data))):
        raise ArgumentError(f"{path} has numbers that are too large for f32", code="FP6104")
    return values


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
