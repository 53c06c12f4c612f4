"""The module: directives, variables, functions (PTX ISA chapters 4, 5 and 11)."""

from __future__ import annotations

import re

from fp4emu.ptx.body import BodyParser
from fp4emu.ptx.text import Text
from fp4emu.ptx.tree import Function, Module
from fp4emu.ptx.variables import parse_parameter, parse_variable

_SPACES = re.compile(r"\s+")
_VERSION = re.compile(r"\.version\s+(\d+)\.(\d+)")
_TARGET = re.compile(r"\.target\s+([\w]+)((?:\s*,\s*[\w]+)*)")
_ADDRESS_SIZE = re.compile(r"\.address_size\s+(\d+)")
_FILE = re.compile(r"\.file\b[^\n]*")
_SECTION = re.compile(r"\.section\b[^{]*\{[^}]*\}")
_LINKAGE = re.compile(r"\.(visible|extern|weak|common)\b")
_FUNCTION = re.compile(r"\.(entry|func)\b")
_NAME = re.compile(r"\s*([A-Za-z_$%][\w$]*)")
_PARAMETERS = re.compile(r"\s*\(([^()]*)\)")
_TUNING = re.compile(
    r"\s*\.(reqntid|maxntid|reqnctapercluster|maxclusterrank|minnctapersm|maxnreg|maxnctapersm)\s+(\d+(?:\s*,\s*\d+)*)"
)
_FLAG = re.compile(r"\s*\.(explicitcluster|noreturn|blocksareclusters)\b")
_PRAGMA = re.compile(r"\s*\.pragma\b[^;]*;")
_VARIABLE = re.compile(r"\.(global|const|shared|local|param)\b[^;]*;")


def parse(text: str, gpu: str) -> Module:
    """The module in a PTX text, to run on `gpu` ("sm_100a"); `PtxError` with the line for everything not understood."""
    source = Text(text)
    body = source.body
    module = Module(gpu=gpu)
    position, end = 0, len(body)
    while True:
        blank = _SPACES.match(body, position)
        position = blank.end() if blank else position
        if position >= end or body[position] == "\0":
            break
        found = _VERSION.match(body, position)
        if found:
            module.version = (int(found[1]), int(found[2]))
        elif found := _TARGET.match(body, position):
            module.target = found[1]
        elif found := _ADDRESS_SIZE.match(body, position):
            if found[1] != "64":
                raise source.error("only .address_size 64 is emulated", position)
        elif found := _FILE.match(body, position) or _SECTION.match(body, position):
            pass
        else:
            position = _declaration(source, module, position)
            continue
        position = found.end()
    if not module.target:
        raise source.error("the module has no .target directive", 0)
    return module


def _declaration(source: Text, module: Module, position: int) -> int:
    """A variable or a function, with its linkage; returns the offset behind it."""
    body = source.body
    extern = False
    start = position
    while linkage := _LINKAGE.match(body, position):
        extern = extern or linkage[1] == "extern"
        position = linkage.end()
        blank = _SPACES.match(body, position)
        position = blank.end() if blank else position
    kind = _FUNCTION.match(body, position)
    if kind:
        return _function(source, module, kind[1] == "entry", kind.end(), start)
    found = _VARIABLE.match(body, position)
    if not found:
        raise source.error(
            "this directive is not understood",
            position,
            hint="known: .version .target .entry .func .global .const .shared",
        )
    for variable in parse_variable(source, found.group(), position, extern):
        module.variables[variable.name] = variable
    return found.end()


def _function(source: Text, module: Module, entry: bool, position: int, start: int) -> int:
    body = source.body
    returns = None if entry else _PARAMETERS.match(body, position)
    position = returns.end() if returns else position
    name = _NAME.match(body, position)
    if not name:
        raise source.error("a function needs a name", position)
    position = name.end()
    function = Function(name[1], entry, source.line_of(start))
    if returns:
        function.returns = parse_parameter(source, returns[1], returns.start(1))
    params = _PARAMETERS.match(body, position)
    if params:
        function.params = parse_parameter(source, params[1], params.start(1))
        position = params.end()
    while True:
        if tuning := _TUNING.match(body, position):
            _tune(function, tuning[1], [int(n) for n in tuning[2].split(",")])
            position = tuning.end()
        elif flag := _FLAG.match(body, position) or _PRAGMA.match(body, position):
            position = flag.end()
        else:
            break
    blank = _SPACES.match(body, position)
    position = blank.end() if blank else position
    if body[position : position + 1] == ";":
        function.defined = False
        if function.name not in module.functions:
            module.functions[function.name] = function
        return position + 1
    if body[position : position + 1] != "{":
        raise source.error(f"the body of {function.name} should start here", position)
    module.functions[function.name] = function
    return BodyParser(source, module, function).parse(position + 1)


def _tune(function: Function, directive: str, numbers: list[int]) -> None:
    padded = (*numbers, 1, 1)[:3]
    if directive == "reqntid":
        function.required_block = (padded[0], padded[1], padded[2])
    elif directive == "maxntid":
        function.max_block = (padded[0], padded[1], padded[2])
    elif directive == "reqnctapercluster":
        function.required_cluster = (padded[0], padded[1], padded[2])
    elif directive == "maxnreg":
        function.max_registers = numbers[0]
    elif directive == "minnctapersm":
        function.min_blocks = numbers[0]
