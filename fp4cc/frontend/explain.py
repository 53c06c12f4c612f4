"""Syntax errors in the language's words: what the parser met, what it could have taken, and the shape of the unit."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import cast

from lark import Token, UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from fp4cc.diagnostics import Diagnostic, did_you_mean, error
from fp4cc.diagnostics.foreign import ITEMS
from fp4cc.source import Span

_SHAPES = {
    "use": '`use "folder/file.fp4"`',
    "function": "`fn NAME(a, b = 1) = EXPRESSION`",
    "kernel_head": "`kernel NAME(M, N = 4096, F = N / 2) where CONDITION {`",
    "layout_head": "`layout NAME {`",
    "format_head": "`format NAME {` or `format NAME extends BASE {`",
    "schedule_head": "`schedule KERNEL on TARGET when CONDITION {`",
    "statement": "`in NAME : TYPE[AXES]` (or `out`, `inout`, `param`), or `NAME = EXPRESSION`",
}
_FIELDS = {
    "layout_field": {
        "coords": "`coords row : 128, k : 4`",
        "atom": "`atom ((32, 4), 4) : ((16, 4), 1)`",
        "order": "`order k, row, batch`",
        "pad": "`pad 0`",
    },
    "format_field": {
        "element": "`element e2m1 pack low_first`",
        "scale": "`scale e4m3 per 1 x 16` or `scale e4m3 per 16 x 16 stored 1 x 16`",
        "layout": "`layout blocked_128x4`",
        "tensor_scale": "`tensor_scale f32 multiplies` (or `divides`), perhaps with `per batch`",
        "quantizer": "`quantizer nvfp4_amax`",
    },
}
_UNITS = {
    "use": "this `use`",
    "function": "this function",
    "kernel_head": "the head of this kernel",
    "layout_head": "the head of this layout",
    "format_head": "the head of this format",
    "schedule_head": "the head of this schedule",
    "statement": "this statement",
    "layout_field": "this field",
    "format_field": "this field",
    "schedule_field": "this field",
}
_WORDS = {
    "NUMBER": "a number",
    "STRING": 'a string like `"file.fp4"`',
    "DIMS": "extents like `1 x 16`",
    "DIRECTION": "`in`, `out`, `inout` or `param`",
    "SENSE": "`multiplies` or `divides`",
    "RPAR": "`)`",
    "RSQB": "`]`",
    "LPAR": "`(`",
    "LSQB": "`[`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "EQUAL": "`=`",
}
_OPERATORS = frozenset(("COMPARE", "SIGN", "TIMES", "AND", "OR", "DOT", "MINUSMORETHAN"))
_EXPRESSION = frozenset(("NAME", "NUMBER", "STRING", "LPAR", "SIGN", "NOT"))
#: What other languages call a direction.
_SYNONYMS = {"input": "in", "output": "out", "inp": "in", "result": "out", "arg": "in", "scalar": "param"}
_DIRECTIONS = ("in", "out", "inout", "param")
_RESERVED = frozenset(("in", "out", "inout", "param", "and", "or", "not"))
_WORD = re.compile(r"[A-Za-z_]\w*")
#: `in nvfp4 a[M, K]` or `in a nvfp4[M, K]`: direction, type and name, axes.
_NO_COLON = re.compile(r"(\w+)\s+([A-Za-z_]\w*)\s+([A-Za-z_]\w*)\s*(\[.*?\]|)", re.DOTALL)
_TYPES = frozenset(("f32", "bf16", "f16", "e4m3", "e5m2", "i32", "u32", "u64", "nvfp4", "mxfp4", "mxfp6", "mxfp8"))


def explain(problem: UnexpectedInput, rule: str, unit: Span) -> Diagnostic:
    """The diagnostic of a unit that does not parse as `rule`."""
    found, expected = _where(problem, unit)
    if (fields := _FIELDS.get(rule)) is not None and (word := _WORD.match(unit.text)) and word.group() not in fields:
        return _unknown_field(rule, fields, unit, word.group())
    before = Span(unit.source, unit.start, found.start)
    if found.text == "=" and (word := before.text.strip()) in _RESERVED:
        found = Span(unit.source, unit.start, unit.start + len(word))
    if found.text in _RESERVED and ("NAME" in expected or found.start == unit.start):
        return error(
            "FP1012",
            f"`{found.text}` is a reserved word",
            found,
            "not free as a name",
            help=f"take another name, such as `{found.text}_`",
        )
    if found.text in ("<", ">", "<=", ">=", "==", "!=") and "AND" in expected:
        return error(
            "FP1011", "comparisons do not chain", found, "a second comparison", help="compare twice: `a < b and b < c`"
        )
    wanted = _wanted(expected)
    if not found.text:
        title = f"{_UNITS[rule]} ends too early"
        label = f"expected {wanted} here" if wanted else "more was expected here"
    else:
        title = f"unexpected {_quoted(found.text)} in {_UNITS[rule].removeprefix('the head of ')}"
        label = f"expected {wanted}" if wanted else "nothing more was expected here"
    return error("FP1001", title[0].lower() + title[1:], found, label, help=_help(rule, unit, found))


def _where(problem: UnexpectedInput, unit: Span) -> tuple[Span, Collection[str]]:
    """The offending text (empty at the end of the unit) and the names of the terminals that fit there."""
    source = unit.source
    if isinstance(problem, UnexpectedToken):
        token = cast("Token", problem.token)
        expected = problem.accepts or problem.expected
        if token.type == "$END":
            return Span(source, unit.end, unit.end), expected
        start = unit.end if token.start_pos is None else unit.start + token.start_pos
        return Span(source, start, start + len(token)), expected
    if isinstance(problem, UnexpectedCharacters):
        start = unit.start + (problem.pos_in_stream or 0)
        word = re.compile(r"\w+|.").match(source.text, start, unit.end)
        return Span(source, start, word.end() if word else start), problem.allowed or ()
    if isinstance(problem, UnexpectedEOF):
        return Span(source, unit.end, unit.end), problem.expected
    return unit, ()


def _wanted(expected: Collection[str]) -> str:
    names = set(expected) - {"$END"}
    words: list[str] = []
    if names >= {"NAME", "NUMBER", "LPAR"}:
        words.append("an expression")
        names -= _EXPRESSION
    elif "NAME" in names:
        words.append("a name")
        names.discard("NAME")
    if names & {"SIGN", "TIMES"}:
        # After a whole expression nearly everything can follow; what closes or continues the list is worth saying.
        names -= _OPERATORS | {"LPAR", "LSQB"}
        if not names:
            words.append("an operator")
    for name in sorted(names):
        words.append(_WORDS.get(name, f"`{name.lower()}`"))
    if len(words) > 4:
        return ""
    return " or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)


def _help(rule: str, unit: Span, found: Span) -> tuple[str, ...]:
    if (fields := _FIELDS.get(rule)) is not None:
        word = _WORD.match(unit.text)
        shape = fields[word.group()] if word else " or ".join(fields.values())
        return (f"write {shape}",)
    if rule == "schedule_field":
        return ("a schedule's field is a word and its values: `tile 128 x 256 x 256`, `stages auto`",)
    hints = _hints(rule, unit, found)
    kind = {
        "kernel_head": "a kernel starts with",
        "statement": "a statement is",
        "use": "a use is",
        "function": "a function is",
        "layout_head": "a layout starts with",
        "format_head": "a format starts with",
        "schedule_head": "a schedule starts with",
    }[rule]
    return (*hints, f"{kind} {_SHAPES[rule]}")


def _hints(rule: str, unit: Span, found: Span) -> list[str]:
    """What the author may have meant, for habits from other languages."""
    source = unit.source.text
    before = source[unit.start : found.start].rstrip()
    after = source[found.end : unit.end].lstrip()
    hints = [_number_hint(before, found.text, after), _operator_hint(rule, before, found.text, after)]
    if re.search(r"\blambda\b", unit.text):
        hints.append(ITEMS["lambda"])
    word = _WORD.match(unit.text)
    if rule == "statement" and word is not None:
        hints.append(_declaration_hint(unit.text, word.group(), before, found.text, after))
    return [hint for hint in hints if hint]


def _number_hint(before: str, found: str, after: str) -> str:
    if (number := re.search(r"(?<![\w.])(\d[\d.]*)$", before)) is not None:
        if not found[:1].isalnum() and number.group(1).endswith("."):
            return f"write `{number.group(1)}0`"
        if re.fullmatch(r"_\d[\d_]*", found):
            return f"write `{number.group(1)}{found.replace('_', '')}`"
        if found.lower() in ("f", "l", "u", "h", "ll", "ul", "ull"):
            return f"write `{number.group(1)}`: numbers have no suffix"
    if found == "." and after[:1].isdigit():
        return f"write `0.{re.match(r'[0-9]*', after).group()}`"  # type: ignore[union-attr]  # it starts with a digit
    return ""


def _operator_hint(rule: str, before: str, found: str, after: str) -> str:
    if found == ":" and after.startswith("=") and rule == "statement":
        return "assign with `=`"
    if found in ("+", "-", "*", "/", "@", "%") and after.startswith("="):
        return f"there is no `{found}=`: a name has one value, so give the new one a name of its own"
    if found in ("=", "==") and rule == "statement" and before.count("=") == (found == "="):
        return "assign with `=`; `==` compares"
    if found == "*" and before.endswith("*"):
        return "there is no power operator; multiply"
    if found in ("if", "else"):
        return "choose element by element: `where(x > 0, a, b)`"
    if found == "->" or (rule == "function" and found in (":", "{")):
        return "the type of a result is not declared"
    if found == ":" and rule == "kernel_head":
        return "the head names dims; arguments are declared in the braces: `in a : nvfp4[M, K]`"
    if found == "[" and before.endswith("]"):
        return "all axes stand in one pair of brackets: `[M, K]`"
    if found == "=" and rule == "kernel_head" and re.search(r"\bwhere\b", before):
        return "compare with `==`"
    if (cast := re.search(r"\((\w+)\)$", before)) is not None and cast.group(1) in _TYPES and found:
        return f"write `{cast.group(1)}({found}{'(...)' if after.startswith('(') else ' ...' if after else ''})`"
    return ""


def _declaration_hint(text: str, word: str, before: str, found: str, after: str) -> str:
    if word in _DIRECTIONS:
        if (hint := _form_hint(word, before, found)) is not None:
            return hint
        if (typed := _NO_COLON.match(text)) is None:
            return ""
        direction, first, second, axes = typed.groups()
        if first in _TYPES and second not in _TYPES:
            first, second = second, first  # as in C
        return f"write `{direction} {first} : {second}{axes}`"
    if "=" in before:
        indexed = re.search(r"[\w)]\s*\[", f"{before}{found}") is not None
        return "values are not indexed: they are used whole" if indexed and found in (":", "[") else ""
    if (found == "[" or re.match(r"\w+\s*\[", before) is not None) and "=" in after:
        return f"values are not indexed: write `{word} = ...`; `{word}[rows] = ...` stores rows by their numbers"
    if (direction := _SYNONYMS.get(word)) is not None:
        return f"write `{direction} {found} {after}`" if after.startswith(":") else f"the word is `{direction}`"
    if found == ":" and not after.startswith("="):
        if "=" in after:
            return f"values have no declared type: write `{word} = ...`"
        return f"say how it is used: `in {word} : ...`, or `out`, `inout`, `param`"
    return did_you_mean(word, _DIRECTIONS) if "=" not in text else ""


def _form_hint(direction: str, before: str, found: str) -> str | None:
    """What is wrong with the form of a declaration; None if it is not known."""
    name = before.removeprefix(direction).strip()
    if found == "," and ":" not in before:
        return f"declare each by itself: `{direction} {name} : ...; {direction} ...`"
    if found == "(" and ":" in before:
        return f"axes stand in square brackets, after a type: `{before.rpartition(' ')[2]}[M, K]`"
    if found == "<" and ":" in before:
        return "a type is a word: `in x : f32[M, K]`, `in a : nvfp4[M, K]`"
    if found == "=" and ":" not in before:
        return f"say its type: `{direction} {name} : f32 = ...`"
    return None


def _unknown_field(rule: str, fields: dict[str, str], unit: Span, word: str) -> Diagnostic:
    owner = "layout" if rule == "layout_field" else "format"
    place = Span(unit.source, unit.start, unit.start + len(word))
    return error(
        "FP1001",
        f"a {owner} has no field `{word}`",
        place,
        "unknown field",
        help=(did_you_mean(word, fields), f"its fields are {', '.join(f'`{f}`' for f in fields)}"),
    )


def _quoted(text: str) -> str:
    return f"`{text}`" if len(text) <= 40 else f"`{text[:40]}...`"
