"""Every diagnostic code of the compiler, with its title. docs/diagnostics.md has a section for each.

FP1xxx the text; FP2xxx names, types and axes; FP3xxx formats and layouts; FP4xxx what a target can do; FP5xxx
schedules; FP6xxx artifacts, data and devices (they live in `fp4rt.errors`); FP9xxx faults of fp4cc itself. A code
never changes its meaning, and a retired one is not used again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A code and its general title; a diagnostic's own title is more particular."""

    code: str
    title: str

    @property
    def page(self) -> str:
        """Where the documentation explains it."""
        return f"docs/diagnostics.md#{self.code.lower()}"


_TITLES = {
    # The text.
    "FP1001": "the text does not follow the language",
    "FP1002": "a bracket is never closed",
    "FP1003": "a closing bracket has no opening one",
    "FP1004": "a character that the language does not use",
    "FP1005": "a string is never closed",
    "FP1006": "an expression is nested too deeply",
    "FP1007": "a number cannot be represented",
    "FP1008": "the file is not UTF-8 text",
    "FP1009": "the file is too large",
    "FP1010": "a file holds items only",
    "FP1011": "comparisons do not chain",
    "FP1012": "a reserved word is used as a name",
    "FP1013": "too many errors",
    "FP1014": "a spec is too large with the files it uses",
    "FP1015": "a statement or comment of another language",
    "FP1016": "the file is no spec",
    # Names, types, axes.
    "FP2001": "unknown name",
    "FP2002": "a name is defined twice",
    "FP2003": "unknown function",
    "FP2004": "wrong arguments to a function",
    "FP2005": "a function calls itself",
    "FP2006": "a name is assigned twice",
    "FP2007": "an output is never assigned",
    "FP2008": "this cannot be assigned",
    "FP2009": "an output is read",
    "FP2010": "the axes of a product do not fit",
    "FP2011": "an operation needs other axes",
    "FP2012": "scale blocks do not lie along the contracted axis",
    "FP2013": "a value's axes are not its destination's",
    "FP2014": "an axis occurs twice in a type",
    "FP2015": "a dimension cannot be found from the inputs",
    "FP2016": "not a size expression",
    "FP2017": "a condition on the sizes cannot hold",
    "FP2018": "a value of the wrong type",
    "FP2019": "unknown type",
    "FP2020": "a declaration that does not make sense",
    "FP2021": "a dimension is defined by itself",
    "FP2022": "an inout argument is read elsewhere than at its own place",
    "FP2023": "values cannot be used this way",
    "FP2024": "unzip is used wrongly",
    "FP2025": "a ragged or masked axis is declared wrongly",
    "FP2026": "random numbers are used wrongly",
    "FP2027": "a tensor with an anonymous axis is used elementwise",
    "FP2028": "hadamard is used wrongly",
    "FP2029": "a kernel is too large",
    "FP2030": "a used file cannot be read",
    "FP2031": "a used path leaves its folder",
    "FP2032": "files use each other in a circle",
    "FP2033": "two kernels would have the same files",
    "FP2034": "the name of a kernel is no name for a file",
    "FP2035": "a size is too complicated",
    "FP2036": "rows in groups are contracted beside another axis",
    "FP2040": "unknown way of accumulating",
    "FP2041": "fast sums of elements that have none",
    "FP2042": "an index is no input of row numbers",
    "FP2043": "something is indexed that is no input",
    "FP2044": "the rows of this input cannot be numbered",
    "FP2045": "an argument cannot be assigned by rows",
    # Formats and layouts.
    "FP3001": "a field is missing",
    "FP3002": "a field is given twice",
    "FP3003": "unknown element, scale, layout or quantizer",
    "FP3004": "a layout puts two scales in one place",
    "FP3005": "a layout's atom does not fit its coordinates",
    "FP3006": "a layout's order does not name each coordinate once",
    "FP3007": "a number in a layout is out of range",
    "FP3008": "formats extend each other in a circle",
    "FP3009": "a format's blocks do not make sense",
    "FP3010": "a format's fields contradict each other",
    "FP3011": "the destination's tensor scale is not given",
    "FP3012": "the destination has no such scale",
    "FP3013": "a quantized output depends on a reduction of the same kernel",
    "FP3014": "a quantized output needs quantize, and quantize a quantized output",
    "FP3020": "a quantized output with a tensor scale for each batch",
    "FP3080": "a tensor has ragged rows and the axis of their groups",
    "FP3081": "a product has ragged rows and the axis of their groups",
    "FP3082": "a reduction over a masked axis",
    # Chains of kernels.
    "FP3501": "the elements of producer and consumer differ",
    "FP3502": "the scale types of producer and consumer differ",
    "FP3503": "the scale blocks of producer and consumer differ",
    "FP3504": "the stored blocks of producer and consumer differ",
    "FP3505": "the scale layouts of producer and consumer differ",
    "FP3506": "the tensor scales of producer and consumer differ",
    "FP3507": "the axes of producer and consumer differ",
    "FP3508": "the sizes of producer and consumer differ",
    # What a target can do.
    "FP4001": "a kernel of scalars only cannot be compiled yet",
    "FP4002": "these products cannot be compiled into one kernel yet",
    "FP4004": "an operand of a product is computed",
    "FP4005": "operands of these types cannot be multiplied",
    "FP4006": "this ragged or masked axis cannot be compiled yet",
    "FP4007": "an operand has not all batch axes, or another order of them",
    "FP4011": "a size is not a legal multiple",
    "FP4012": "kernels cannot be compiled for this target yet",
    "FP4020": "an operation cannot be compiled in an epilogue yet",
    "FP4021": "an epilogue cannot store this type yet",
    "FP4022": "an output does not have the axes of the product",
    "FP4023": "an epilogue cannot read this type yet",
    "FP4024": "an input has axes that the epilogue cannot read yet",
    "FP4025": "an output cannot be quantized in an epilogue yet",
    "FP4026": "a size is beyond what a kernel can count",
    "FP4030": "K is split into too many parts",
    "FP4031": "K is not split for rows in groups",
    "FP4032": "K is not split where products have different left operands",
    "FP4050": "these operands cannot be multiplied over rows in groups yet",
    "FP4051": "a product over rows in groups stands beside one of something else",
    "FP4052": "rows by number cannot be an operand here yet",
    "FP4053": "these rows by number cannot be multiplied on this target yet",
    "FP4054": "quantized rows by number cannot be read in an epilogue yet",
    "FP4055": "rows by number with these axes cannot be read here yet",
    "FP4056": "an argument cannot be picked from along this axis yet",
    "FP4057": "a reduction over an axis of row numbers cannot be compiled yet",
    "FP4058": "rows are stored by number beside an output that takes two launches",
    "FP4059": "rows cannot be stored by these numbers yet",
    "FP4060": "the operands of these products cannot be swapped",
    "FP4061": "an operation cannot be made with swapped operands",
    "FP4070": "operands of a product over rows in groups do not fit together",
    "FP4071": "an output is none that parts of K can add to",
    "FP4072": "what is added by atomics is not linear in the product",
    "FP4202": "the target takes no scale blocks of this size",
    "FP4203": "the target takes another scale type with blocks of this size",
    "FP4204": "the operands' scales differ",
    "FP4205": "the target multiplies no such elements",
    "FP4206": "TMA does not store every tile of an output",
    "FP4290": "weights in registers: the left operand is neither bf16 nor f16",
    "FP4291": "weights in registers: the right operand needs no conversion",
    "FP4292": "weights in registers: the left operand's type does not hold them",
    "FP4293": "weights in registers: scales cover parts of stages",
    "FP4294": "weights in registers: products do not share a left operand, or share sums",
    "FP4295": "weights in registers: right operands differ",
    "FP4296": "weights in registers: accumulators, or blocks of outputs, do not fit in 128 columns",
    "FP4300": "this cannot be compiled for rows in groups yet",
    # Schedules.
    "FP5001": "a schedule names no kernel",
    "FP5002": "unknown target",
    "FP5003": "unknown schedule field",
    "FP5004": "a schedule field has the wrong value",
    "FP5005": "a schedule field is given twice",
    "FP5006": "a schedule can never be chosen",
    "FP5007": "two used files have schedules of one kernel",
    "FP5010": "no such tile on this target",
    "FP5011": "no such cluster on this target",
    "FP5012": "the stages do not fit in shared memory",
    "FP5013": "a schedule field asks for something not built yet",
    "FP5014": "a schedule field has a value the target does not have",
    "FP5090": "weights in registers: no clusters",
    # Faults of the compiler.
    "FP9001": "fp4cc made an invalid program",
    "FP9002": "the CuTe DSL failed on an emitted kernel",
    "FP9003": "fp4cc failed in an unexpected way",
}

#: Every code by its name.
CODES: dict[str, Code] = {code: Code(code, title) for code, title in _TITLES.items()}
