"""fp4num: the arithmetic of block-scaled formats. Element codecs, scale layouts, quantizers; numpy only.

>>> import numpy as np, fp4num
>>> q = fp4num.quantize(np.ones((128, 64), np.float32), "nvfp4")
>>> q.codes.shape, q.scales.shape, float(fp4num.dequantize(q)[0, 0])
((128, 32), (512,), 1.0)
"""

from __future__ import annotations

from fp4num.codecs import decode, encode, round_to
from fp4num.elements import ELEMENTS, ElementFormat
from fp4num.errors import DataError, FormatError, LayoutError, NumericsError
from fp4num.formats import FORMATS, BlockFormat, block_format
from fp4num.hadamard import hadamard
from fp4num.layouts import LAYOUTS, ScaleLayout
from fp4num.packing import pack, unpack
from fp4num.proof import Proof
from fp4num.quantize import codes_under, dequantize, operand_values, quantize
from fp4num.quantized import Quantized
from fp4num.rules import RULES

__all__ = [
    "ELEMENTS",
    "FORMATS",
    "LAYOUTS",
    "RULES",
    "BlockFormat",
    "DataError",
    "ElementFormat",
    "FormatError",
    "LayoutError",
    "NumericsError",
    "Proof",
    "Quantized",
    "ScaleLayout",
    "block_format",
    "codes_under",
    "decode",
    "dequantize",
    "encode",
    "hadamard",
    "operand_values",
    "pack",
    "quantize",
    "round_to",
    "unpack",
]
