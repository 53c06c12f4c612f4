"""`quantize`, which for a tensor on a GPU is a compiled kernel where there is one, and numpy's everywhere else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike

import fp4num
from fp4num import BlockFormat, Quantized
from fp4num.formats import FORMATS, block_format
from fp4num.rules import rule
from fp4num.tensors import imported, is_tensor, readable
from fp4rt import supply
from fp4rt.errors import ArtifactError, ConstraintError, DeviceError

if TYPE_CHECKING:
    from fp4rt.kernel import Kernel

#: What suppliers of kernels call the file of these quantizers, each of which has the name of `kernel_name`.
FILE = "quantizers"
_SOURCES = {"torch.bfloat16": "bf16", "torch.float16": "f16", "torch.float32": "f32"}
_SCALES = {"amax": ", amax = s", "given": ", tensor_scale = s", "none": ""}
#: Magnitudes for which a tensor scale and its reciprocal are ordinary numbers: others are numpy's to judge.
_LEAST, _MOST = 2.0**-100, 2.0**100

_loaded: dict[tuple[str, str], Kernel | None] = {}
_lock = threading.Lock()


def quantize(
    x: ArrayLike,
    fmt: BlockFormat | str,
    *,
    tensor_scale: Any = None,
    amax: Any = None,
    scale: ArrayLike | None = None,
    rounding: Literal["nearest", "stochastic"] = "nearest",
    rng: ArrayLike | None = None,
    stream: int = 0,
    quantizer: str | None = None,
    offsets: Any = None,
) -> Quantized:
    """Quantize a tensor [.., rows, columns] along its last axis: `fp4num.quantize`, the same arguments and bytes.

    A torch tensor of bf16, f16 or f32 on a GPU, to a format of the prelude by its own rule and to nearest, is
    quantized there by a compiled kernel where `fp4rt.supply` finds one; everything else is computed by numpy on the
    CPU, and a tensor copied there and back.
    """
    x = readable(x, "x")
    by_rule = quantizer is None and rounding == "nearest" and scale is None and offsets is None and rng is None
    if by_rule and is_tensor(x) and x.device.type == "cuda":  # pyright: ignore[reportAttributeAccessIssue]
        device = f"cuda:{x.get_device()}"  # pyright: ignore[reportAttributeAccessIssue]
        found = quantize_by_kernel(x, block_format(fmt), tensor_scale, amax, device)
        if found is not None:
            return found
    return fp4num.quantize(
        x, fmt, tensor_scale=tensor_scale, amax=amax, scale=scale, rounding=rounding, rng=rng, stream=stream,
        quantizer=quantizer, offsets=offsets,
    )  # fmt: skip


def kernel_name(f: BlockFormat, source: str, scale: str) -> str:
    """The name of the quantizer of a [M, K] tensor of `source` to a format of the prelude, whose tensor scale comes
    from an "amax", is "given", or does not exist ("none")."""
    return f"{f.name}_{source}_{scale}"


def kernel_names() -> list[str]:
    """All quantizers of this file."""
    kinds = {name: ("none",) if f.tensor_scale is None else ("amax", "given") for name, f in _formats().items()}
    return [
        kernel_name(FORMATS[name], source, scale)
        for name, scales in kinds.items()
        for source in _SOURCES.values()
        for scale in scales
    ]


def spec_text(name: str) -> str:
    """The spec of the quantizer of this name; what is no such name gives a spec without it."""
    rest, _, scale = name.rpartition("_")
    fmt, _, source = rest.rpartition("_")
    if name not in kernel_names():
        return "# no such quantizer\n"
    given = "" if scale == "none" else "    in s : f32[]\n"
    return (
        f"kernel {name}(M, K) {{\n    in x : {source}[M, K]\n{given}    out q : {fmt}[M, K]\n\n"
        f"    q = quantize(x{_SCALES[scale]})\n}}\n"
    )


def quantize_by_kernel(
    x: Any, f: BlockFormat, tensor_scale: Any, amax: Any, device: str, source: supply.Source = None
) -> Quantized | None:
    """`x` quantized by a kernel on `device`; None where there is none, or numpy has something to say about the call."""
    element = _SOURCES.get(str(x.dtype))
    if element is None or _formats().get(f.name) != f or x.ndim < 2 or 0 in x.shape or x.shape[-1] % f.row_unit:
        return None
    given: dict[str, Any] = {}
    if f.tensor_scale is not None:
        number = _scalar(x, f, tensor_scale, amax)
        if number is None:
            return None
        given = {"s": number}
    elif tensor_scale is not None or amax is not None:
        return None
    kind = "none" if not given else "amax" if tensor_scale is None else "given"
    kernel = _kernel(kernel_name(f, element, kind), device, source)
    if kernel is None:
        return None
    rows = x.detach().contiguous()
    try:
        parts: list[Any] = [kernel(x=part, **given)["q"] for part in rows.reshape(-1, *rows.shape[-2:])]
    except ConstraintError:  # a size that the target cannot do
        return None
    codes, scales = parts[0].codes, parts[0].scales
    if len(parts) > 1:  # scales of a batch lie one matrix after another
        codes, scales = (imported().cat([getattr(p, name) for p in parts]) for name in ("codes", "scales"))
    return Quantized(codes.reshape(*x.shape[:-1], -1), scales, parts[0].tensor_scale, f, tuple(x.shape))


def _formats() -> dict[str, BlockFormat]:
    """The prelude's formats that a kernel makes in one launch, each once."""
    return {name: f for name, f in FORMATS.items() if f.name == name and f.scale is not None and "all" not in f.stored}


def _scalar(x: Any, f: BlockFormat, tensor_scale: Any, amax: Any) -> Any:
    """What the quantizer is given as `s`, beside x; None if it is not a number far from both ends of float32."""
    torch = imported()
    value = amax if tensor_scale is None else tensor_scale
    if value is None:
        magnitude = x.detach().abs()
        if rule(f.quantizer).statistic != "amax_nan":
            magnitude = torch.where(magnitude.isnan(), 0.0, magnitude)
        value = magnitude.amax()
    elif tensor_scale is not None and amax is not None:
        return None
    number = torch.as_tensor(value).detach().to(device=x.device, dtype=torch.float32).reshape(-1)
    if number.numel() != 1 or not _LEAST < float(number) < _MOST:
        return None
    return number.reshape(())


def _kernel(name: str, device: str, source: supply.Source) -> Kernel | None:
    """The quantizer on a device, loaded once; None where nobody has it."""
    key = (name, device)
    with _lock:
        if source is None and key in _loaded:
            return _loaded[key]
        if source is None and not supply.known():  # a look at all installed packages
            return None
        try:
            selector, target = supply.device_and_target(device, device)
            kernel = supply.supplier(source)(FILE, name, target).load_kernel(selector)
        except (ArtifactError, DeviceError) as error:
            if error.code not in ("FP6141", "FP6147"):
                raise
            kernel = None
        if source is None:
            _loaded[key] = kernel
        return kernel
