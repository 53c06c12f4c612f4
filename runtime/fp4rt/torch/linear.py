"""`Linear`: a layer with a quantized weight, for inference, by compiled kernels."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4num import BlockFormat, Quantized
from fp4rt import arrays, io, quantizing
from fp4rt.checks import describe_axes, format_difference
from fp4rt.errors import TorchError
from fp4rt.kernel import Kernel
from fp4rt.manifest import dumps
from fp4rt.torch.inputs import by_autocast
from fp4rt.torch.modules import QuantizedBuffer, keeping_types
from fp4rt.torch.operators import Operator, as_op
from fp4rt.torch.quantizing import format_text, quantize_as
from fp4rt.typed import Arg, TypedKernel

_count = itertools.count()


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which argument of a product is which, by their axes: out[M, N], x[M, K], weight[N, K], bias[N]."""

    out: Arg
    x: Arg
    weight: Arg
    bias: Arg | None


class Linear(torch.nn.Module):  # pyright: ignore[reportUntypedBaseClass]
    """y = x @ weight.T + bias with a quantized weight [N, K]: the recipe is that of the kernel's spec.

    `kernel` computes out[M, N] of x[M, K] and weight[N, K] (and bias[N], if it has one; else the bias is added in the
    output's type). Where its x is quantized, `quantizer`, a kernel with one plain input [M, K], makes it, with
    `input_scale` if it takes an f32[], or with what `largest`, a kernel from such an input to an f32[], finds in each
    call; without a quantizer `fp4rt.quantize` does. `pre_quant_scale` [K] multiplies x first, in float32, rounded to
    x's type. x may have any leading axes and strides: it is copied where they are not
    rows. For inference: a gradient is refused (FP6118). Raises TorchError FP6123 for kernels of another form, FP6124
    for a weight that is not the kernel's.
    """

    bias: Any
    input_scale: Any
    pre_quant_scale: Any

    def __init__(
        self,
        kernel: Kernel | Operator,
        weight: Quantized,
        *,
        bias: Any = None,
        quantizer: Kernel | Operator | None = None,
        largest: Kernel | Operator | None = None,
        input_scale: Any = None,
        pre_quant_scale: Any = None,
    ) -> None:
        super().__init__()
        self._product = operator_of(kernel)
        self._roles = roles = _roles(self._product.kernel.manifest.kernel)
        self._quantizer = None if quantizer is None else operator_of(quantizer)
        self._quantizing = None if self._quantizer is None else _quantizing(self._quantizer, roles.x)
        self._format_text = "" if roles.x.format is None else format_text(roles.x.format)
        _check_weight(roles.weight, weight)
        self._largest = None if largest is None else operator_of(largest)
        self._finding = None if self._largest is None else _finding(self._largest)
        takes = None if self._quantizing is None else self._quantizing[1]
        if takes is not None and (input_scale is None) == (largest is None):
            raise TorchError(
                f"{self._quantizer!r} takes {takes!r}, and {'none was' if largest is None else 'both were'} given: "
                "the tensor scale of x, or a kernel that finds its largest magnitude",
                code="FP6124",
                help="pass input_scale, from calibration or the checkpoint, or largest",
            )
        self.weight = QuantizedBuffer(weight)
        device, out = self.weight.codes.device, roles.out if roles.bias is None else roles.bias
        self.out_features, self.in_features = self.weight.shape
        self.register_buffer("bias", _vector(bias, self.out_features, _type(out), device, "bias"))
        self.register_buffer(
            "pre_quant_scale", _vector(pre_quant_scale, self.in_features, torch.float32, device, "pre_quant_scale")
        )
        self.register_buffer("input_scale", _one(input_scale, device))

    @staticmethod
    def from_layer(layer: io.Linear, kernel: Kernel | Operator, quantizer: Kernel | Operator | None = None) -> Linear:
        """Of a checkpoint's layer (`fp4rt.io`), with its scales and bias."""
        return Linear(
            kernel,
            layer.weight.to(layer.weight.codes.device if isinstance(layer.weight.codes, torch.Tensor) else "cpu"),
            bias=layer.bias,
            quantizer=quantizer,
            input_scale=layer.input_scale,
            pre_quant_scale=layer.pre_quant_scale,
        )

    @staticmethod
    def from_float(linear: Any, kernel: Kernel | Operator, **options: Any) -> Linear:
        """Of a `torch.nn.Linear`: its weight is quantized by the rule of the kernel's format; `options` of `Linear`."""
        fmt = weight_format(operator_of(kernel))
        bias = None if linear.bias is None else linear.bias.detach()
        return Linear(kernel, quantizing.quantize(linear.weight.detach(), fmt), **{"bias": bias, **options})

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self._product.kernel.name}"

    def forward(self, x: Any) -> Any:
        """[.., K] to [.., N]."""
        roles, x = self._roles, by_autocast(x)
        rows = x.reshape(-1, x.shape[-1])
        if self.pre_quant_scale is not None:
            rows = (rows * self.pre_quant_scale).to(x.dtype)
        args = {roles.x.name: self._operand(rows.contiguous(), roles.x.format), roles.weight.name: self.weight.value}
        if roles.bias is not None:
            args[roles.bias.name] = self._bias(_type(roles.bias))
        y = self._product(**args)[roles.out.name]
        if roles.bias is None and self.bias is not None:
            y = y + self.bias
        return y.reshape(*self._leading(x), self.out_features)

    def _leading(self, x: Any) -> tuple[int, ...]:
        """The axes of y before the last."""
        return tuple(x.shape[:-1])

    def _operand(self, rows: Any, f: BlockFormat | None) -> Any:
        """What the kernel multiplies by the weight."""
        return rows if f is None else self._quantized(rows, f)

    def _bias(self, dtype: Any) -> Any:
        """The bias of a kernel that takes one: zeros where the layer has none."""
        return self.weight.codes.new_zeros(self.out_features, dtype=dtype) if self.bias is None else self.bias

    def _quantized(self, rows: Any, f: BlockFormat) -> Quantized:
        if self._quantizer is None or self._quantizing is None:
            return quantize_as(rows, f, self._format_text, self.input_scale)
        source, scale, out = self._quantizing
        given: dict[str, Any] = {} if scale is None else {scale: self.input_scale}
        if scale is not None and self._largest is not None and self._finding is not None:
            given[scale] = self._found(self._largest(**{self._finding[0]: rows})[self._finding[1]])
        return self._quantizer(**{source: rows, **given})[out]

    def _found(self, largest: Any) -> Any:
        """What the quantizer is given for the largest magnitude of these rows."""
        return largest

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Linear:
        return super()._apply(keeping_types(fn), recurse)


def weight_format(product: Operator) -> BlockFormat:
    """The format that a linear layer's kernel wants its weight in. TorchError FP6123 for a kernel of another form."""
    fmt = _roles(product.kernel.manifest.kernel).weight.format
    assert fmt is not None  # a weight is quantized
    return fmt


def operator_of(kernel: Kernel | Operator) -> Operator:
    """The operator of a kernel, by a name that is the same in each process."""
    if isinstance(kernel, Operator):
        return kernel
    text = f"{dumps(kernel.manifest)}{kernel.selector}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    alone = "" if kernel.selector is not None else f"_{next(_count)}"  # a device object is no other's
    return as_op(kernel, f"fp4rt::{kernel.name}_{digest}{alone}")


def _roles(kernel: TypedKernel) -> _Roles:
    outs = [a for a in kernel.args if a.direction in ("out", "inout")]
    inputs = [a for a in kernel.args if a.direction == "in"]
    out = outs[0]
    if len(outs) == 1 and out.direction == "out" and out.format is None and len(out.axes) == 2:
        m, n = (x.extent for x in out.axes)
        weights = [a for a in inputs if a.format is not None and len(a.axes) == 2 and a.axes[0].extent == n]
        xs = [a for a in inputs if len(a.axes) == 2 and a.axes[0].extent == m and a not in weights[:1]]
        biases = [a for a in inputs if len(a.axes) == 1 and a.axes[0].extent == n and a.format is None]
        params = [a for a in kernel.args if a.direction == "param" and a.default is None]
        found = len(weights) == len(xs) == 1 and xs[0].axes[1].extent == weights[0].axes[1].extent and not params
        if found and len(biases) <= 1 and len(inputs) == 2 + len(biases):
            return _Roles(out, xs[0], weights[0], biases[0] if biases else None)
    args = ", ".join(f"{a.direction} {a.name} : {describe_axes(a)}" for a in kernel.args)
    raise TorchError(
        f"{kernel.name}({args}) is no linear layer",
        code="FP6123",
        help="it takes x[M, K], a quantized weight[N, K] and perhaps bias[N], and gives one plain output [M, N]",
    )


def _quantizing(operator: Operator, x: Arg) -> tuple[str, str | None, str]:
    """The names of a quantizer's input, of its tensor scale, and of its output, which is what the product takes."""
    kernel = operator.kernel.manifest.kernel
    inputs = [a for a in kernel.args if a.direction == "in"]
    sources = [a for a in inputs if a.format is None and len(a.axes) == 2]
    scales = [a for a in inputs if not a.axes and a.dtype == "f32"]
    outs = [a for a in kernel.args if a.direction == "out" and a.format is not None and x.format is not None]
    fits = [a for a in outs if a.format and x.format and not format_difference(x.format, a.format)]
    plain = len(inputs) == 1 + len(scales) and len(sources) == 1 and len(scales) <= 1
    same = [a for a in fits if sources and [e.extent for e in a.axes] == [e.extent for e in sources[0].axes]]
    if not plain or len(same) != 1 or len(kernel.outputs) != 1:
        raise TorchError(
            f"{kernel.name} does not quantize x for {describe_axes(x)}",
            code="FP6123",
            help="a quantizer takes x[M, K], and perhaps an f32[], and gives x in the product's format",
        )
    return sources[0].name, scales[0].name if scales else None, same[0].name


def _finding(operator: Operator) -> tuple[str, str]:
    """The names of the input and of the output of a kernel that finds the largest magnitude."""
    kernel = operator.kernel.manifest.kernel
    inputs = [a for a in kernel.args if a.direction == "in" and a.format is None and len(a.axes) == 2]
    outs = [a for a in kernel.args if a.direction == "out" and a.dtype == "f32" and not a.axes]
    if len(inputs) != 1 or len(outs) != 1 or len(kernel.args) != 2:
        raise TorchError(
            f"{kernel.name} does not find one number of x",
            code="FP6123",
            help="it takes x[M, K], and gives one f32[]",
        )
    return inputs[0].name, outs[0].name


def _check_weight(arg: Arg, weight: Quantized) -> None:
    assert arg.format is not None
    if not isinstance(weight, Quantized):  # pyright: ignore[reportUnnecessaryIsInstance]  # it is the caller's
        raise TorchError(f"the weight is a Quantized, not {type(weight).__name__}", code="FP6124")
    if difference := format_difference(arg.format, weight.format):
        raise TorchError(
            f"the kernel's weight is {describe_axes(arg)}, and this one is {weight.format.name}: {difference}",
            code="FP6124",
        )
    fixed = [x.extent for x in arg.axes]
    if len(weight.shape) != 2 or any(isinstance(e, int) and e != n for e, n in zip(fixed, weight.shape, strict=True)):
        raise TorchError(
            f"the kernel's weight is {describe_axes(arg)}, and this one has the shape {list(weight.shape)}",
            code="FP6124",
        )


def _type(arg: Arg) -> Any:
    return getattr(torch, arrays.TORCH_DTYPES[str(arg.dtype)][0])


def _vector(value: Any, size: int, dtype: Any, device: Any, what: str) -> Any:
    if value is None:
        return None
    found = torch.as_tensor(value).detach().to(device=device, dtype=dtype)
    if tuple(found.shape) != (size,):
        raise TorchError(f"{what} has the shape {tuple(found.shape)}, not ({size},)", code="FP6124")
    return found.clone()


def _one(value: Any, device: Any) -> Any:
    if value is None:
        return None
    found = torch.as_tensor(value, dtype=torch.float32).detach().to(device).reshape(-1)
    if found.numel() != 1:
        raise TorchError(f"input_scale is one number, not {found.numel()}", code="FP6124")
    return found.reshape(()).clone()
