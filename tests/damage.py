"""Specs with a token too many, too few, or another one, for tests of what is said of them."""

from __future__ import annotations

import random
import re

TOKEN = re.compile(r"[A-Za-z_]\w*|\d[\w.]*|->|//|<=|>=|==|!=|\s+|.", re.DOTALL)

TYPES = (
    "f32", "bf16", "f16", "e4m3", "e5m2", "i32", "u32", "u64", "nvfp4", "nvfp4_2d", "mxfp4", "mxfp6", "mxfp8",
    "mxfp6_e2m3", "mxfp8_e5m2", "fp8_token", "ds_act", "ds_weight",
)  # fmt: skip
FUNCTIONS = (
    "abs", "sqrt", "rsqrt", "exp", "log", "tanh", "sigmoid", "erf", "relu", "gelu", "gelu_tanh", "silu", "sign",
    "isnan", "f32", "bf16", "f16", "e4m3", "e5m2", "squared_relu", "leaky_relu", "dequantize", "quantize",
)  # fmt: skip
WORDS = (
    *TYPES, *FUNCTIONS, "M", "N", "K", "E", "in", "out", "inout", "param", "where", "when", "and", "or", "not", "over",
    "by", "upto", "fn", "use", "kernel", "layout", "format", "schedule", "extends", "hadamard", "unzip", "uniform",
    "stochastic", "nearest", "rounding", "max", "min", "sum", "mean", "mean_square", "fma", "T", "all", "group", "size",
    "x", "y", "a", "b", "@", ".T", "(", ")", "[", "]", "{", "}", "==", "<", "->", "=", ":", ";", ",", "#", "/", "//",
    "%", "+", "-", "*", '"', "def", "return", "**", "&&", "+=",
)  # fmt: skip
ODD = ("\0", "\t", "\r\n", "é", "漢", "\ufeff", "\x1b[31m", "\u2028", "'", "`", "$", "\\", "\ud800", "\u201c")


def damaged(text: str, rng: random.Random) -> str:
    """The text with one of its tokens taken out, doubled, exchanged, or replaced by a word or by an odd character."""
    tokens = TOKEN.findall(text)
    at = rng.randrange(len(tokens))
    match rng.randrange(6):
        case 0:
            del tokens[at]
        case 1:
            tokens.insert(at, tokens[rng.randrange(len(tokens))])
        case 2:
            other = rng.randrange(len(tokens))
            tokens[at], tokens[other] = tokens[other], tokens[at]
        case 3:
            tokens[at] = rng.choice(WORDS)
        case 4:
            tokens.insert(at, f" {rng.choice(WORDS)} ")
        case _:
            tokens[at] = rng.choice(ODD)
    return "".join(tokens)
