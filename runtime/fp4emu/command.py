"""The command line `python -m fp4emu`: other people's PTX, run and watched, or looked at.

Exit status: 0 fine; 1 the PTX, the kernel or its data is wrong; 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from fp4emu.arguments import FORMS, Argument, ArgumentError, extent, parse
from fp4emu.asynchronous import Mode
from fp4emu.errors import Fault, PtxError
from fp4emu.gpu import TARGETS, Gpu, LoadedModule, runs_on
from fp4emu.order.checks import CHECKS, Level, Order
from fp4emu.ptx.tree import Function

FINE, WRONG, USAGE = 0, 1, 2

_RUN = f"""\
arguments, one --arg for each parameter in order:
{FORMS}

example:
  python -m fp4emu run saxpy.ptx saxpy --grid 4 --block 256 --arg f32:2 --arg x.npy --arg y.npy --arg u32:1024 \\
      --save 2=result.npy

Exit status: 0 nothing found; 1 the PTX, the kernel or its data is wrong; 2 the command line is wrong.
"""


class UsageError(Exception):
    """The command line is wrong; the message says how."""


def main(words: Sequence[str]) -> int:
    """Runs a command; its exit status. Findings go to standard output, what is wrong with the command to the other."""
    try:
        options = _parser().parse_args(words)
    except SystemExit as end:  # argparse has printed help, or what is wrong
        return int(end.code or 0)
    try:
        return options.command(options)
    except (UsageError, ArgumentError) as error:
        return _complain(str(error), USAGE)
    except Fault as fault:
        sys.stdout.write(f"{options.file}: {fault}\n")
        return WRONG
    except MemoryError:
        return _complain("the arrays do not fit into memory", WRONG)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        return _complain(f"{error.filename or 'a file'}: {error.strerror or error}", WRONG)


def _complain(text: str, status: int) -> int:
    sys.stderr.write(f"fp4emu: error: {text}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fp4emu", description="Run NVIDIA PTX without a GPU, and prove the order of its accesses."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="run an entry", epilog=_RUN, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run.set_defaults(command=_run)
    _add_file(run)
    run.add_argument("entry", metavar="ENTRY", help="the name of the kernel")
    for name, default in (("grid", None), ("block", None), ("cluster", "1")):
        run.add_argument(f"--{name}", required=default is None, default=default, type=_triple, metavar="X[,Y[,Z]]")
    run.add_argument("--smem", type=_whole, default=0, metavar="BYTES", help="dynamic shared memory")
    run.add_argument("--arg", action="append", default=[], metavar="ARG", help="see below")
    run.add_argument("--save", action="append", default=[], metavar="ARG=FILE.npy",
                     help="write an array after the run; ARG is a parameter's name, or its number from 0")  # fmt: skip
    run.add_argument("--order", choices=("strict", "default", "off"), default="default",
                     help="how the order of accesses is judged: the letter of the PTX ISA, with what CUTLASS and "
                     "DeepGEMM do on purpose as warnings (default), or not at all")  # fmt: skip
    run.add_argument("--check", action="append", default=[], type=_check, metavar="NAME=LEVEL",
                     help="the level of one check of order: fault, warn or off; the checks are "
                     + ", ".join(CHECKS))  # fmt: skip
    run.add_argument("--seed", type=_whole, metavar="N",
                     help="complete asynchronous work late and run warps in random order, by this seed")  # fmt: skip
    run.add_argument("--seconds", type=_seconds, metavar="S", help="stop, with status 1, when the time is over")
    entries = commands.add_parser("entries", help="list entries, their parameters, and what is not emulated")
    entries.set_defaults(command=_entries)
    _add_file(entries)
    return parser


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE.ptx")
    parser.add_argument("--target", choices=TARGETS, help="the GPU; otherwise one that the module's .target runs on")


def _triple(text: str) -> tuple[int, ...]:
    found = extent(text)
    if found is None or len(found) > 3 or 0 in found:
        raise argparse.ArgumentTypeError(f"{text!r} is not one to three positive numbers, such as 4,2,1")
    return found


def _check(text: str) -> tuple[str, Level]:
    name, _, level = text.partition("=")
    if name not in CHECKS or level not in get_args(Level):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=LEVEL; levels are fault, warn and off, checks {', '.join(CHECKS)}"
        )
    return name, cast("Level", level)


def _whole(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


# --- run ---


def _run(options: Any) -> int:
    mode: Mode = "immediate" if options.seed is None else "delayed"
    gpu, module = _load(options, mode, options.seed or 0)
    function = module.tree.functions.get(options.entry)
    if function is None or options.entry not in module.entries:
        raise UsageError(f"{options.file} has no entry {options.entry}; it has: {', '.join(module.entries) or 'none'}")
    arguments = [parse(text) for text in options.arg]
    _fits(function, arguments)
    saved = [_saving(function, arguments, text) for text in options.save]
    params = [argument.place(gpu) for argument in arguments]
    order = cast("Order | None", None if options.order == "off" else options.order)
    try:
        gpu.launch(
            module, options.entry, options.grid, options.block, cluster=options.cluster, shared_bytes=options.smem,
            params=params, seconds=options.seconds, order=order, checks=dict(options.check),
        )  # fmt: skip
    finally:
        sys.stdout.write(gpu.printed)
        for warning in gpu.warnings:
            sys.stdout.write(f"warning: {warning}\n")
    for argument, path in saved:
        try:
            np.save(path, argument.result(gpu))
        except Fault as fault:
            raise Fault(f"{argument.text} is saved to {path}, but {fault.message}", hint=fault.hint) from None
        sys.stdout.write(f"saved {path}\n")
    watched = f"order {options.order}" if order else "order not watched"
    how = "immediate completion" if options.seed is None else f"delayed completion, seed {options.seed}"
    sys.stdout.write(f"{options.entry}: ended with no fault ({gpu.target}, {watched}, {how})\n")
    return FINE


def _load(options: Any, mode: Mode = "immediate", seed: int = 0) -> tuple[Gpu, LoadedModule]:
    """A GPU that the file's module runs on, with it."""
    try:
        text = Path(options.file).read_bytes().rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise PtxError("this is not text: PTX is needed, not a cubin or an executable") from None
    except OSError as error:
        raise UsageError(f"{options.file}: {error.strerror or error}") from None
    target = options.target
    if target is None:
        named = re.search(r"^\s*\.target\s+(\w+)", text, re.MULTILINE)
        target = next((gpu for gpu in TARGETS if named and runs_on(named[1], gpu)), TARGETS[0])
    gpu = Gpu(target, mode=mode, seed=seed)
    return gpu, gpu.load(text)


def _fits(function: Function, arguments: list[Argument]) -> None:
    """`UsageError` unless there is an argument of the right size for each parameter."""
    if len(arguments) != len(function.params):
        takes = ", ".join(f"{p.name} ({p.size} bytes)" for p in function.params) or "none"
        raise UsageError(
            f"{function.name} takes {len(function.params)} arguments, {len(arguments)} were given: {takes}"
        )
    for parameter, argument in zip(function.params, arguments, strict=True):
        if argument.size != parameter.size:
            raise UsageError(
                f"the parameter {parameter.name} of {function.name} has {parameter.size} bytes, "
                f"--arg {argument.text} has {argument.size}"
            )


def _saving(function: Function, arguments: list[Argument], text: str) -> tuple[Argument, str]:
    name, equals, path = text.partition("=")
    names = [parameter.name for parameter in function.params]
    number = int(name) if re.fullmatch("[0-9]{1,6}", name) else names.index(name) if name in names else len(names)
    if not equals or not path.endswith(".npy"):
        raise UsageError(f"--save {text}: it is ARG=FILE.npy")
    if number >= len(names):
        raise UsageError(f"--save {text}: {function.name} has no parameter {name}; it has {', '.join(names) or 'none'}")
    if arguments[number].array is None:
        raise UsageError(f"--save {text}: --arg {arguments[number].text} is no array")
    if not Path(path).parent.is_dir():
        raise UsageError(f"--save {text}: there is no folder {Path(path).parent}")
    return arguments[number], path


# --- entries ---


def _entries(options: Any) -> int:
    gpu, module = _load(options)
    out = sys.stdout
    out.write(f"{options.file}: .target {module.tree.target}, looked at for {gpu.target}\n")
    refused = False
    for name in module.entries:
        function = module.tree.functions[name]
        out.write(f"\n{name} (line {function.line})\n")
        for line in _described(module, function):
            out.write(f"  {line}\n")
        problems = _problems(module, function)
        refused = refused or bool(problems)
        for problem in problems:
            out.write(f"  not emulated: {problem}\n")
    if not module.entries:
        out.write("no entries\n")
    return WRONG if refused else FINE


def _described(module: LoadedModule, function: Function) -> list[str]:
    lines = [f"parameter {i}: {p.name}, {p.size} bytes" + (", perhaps a tensor map" if p.size == 128 else "")
             for i, p in enumerate(function.params)]  # fmt: skip
    shared = [v for v in (*function.variables.values(), *module.tree.variables.values()) if v.space == "shared"]
    fixed = [f"{v.name}: {v.size} bytes" for v in shared if v.size]
    if fixed:
        lines.append(f"shared memory: {', '.join(fixed)}")
    lines += [f"dynamic shared memory: {v.name} (--smem)" for v in shared if v.extern and not v.size]
    for what, value in (
        ("--block", function.required_block),
        ("--block at most", function.max_block),
        ("--cluster", function.required_cluster),
    ):
        if value is not None:
            lines.append(f"{what} {','.join(map(str, value))}")
    return lines


def _problems(module: LoadedModule, function: Function) -> list[str]:
    """What keeps an entry from running: each kind of refused instruction with its lines, in it or in what it calls."""
    lines: dict[str, list[int]] = {}
    for refused in function.refusals:
        lines.setdefault(refused.message, []).append(refused.line or 0)
    if not lines:
        try:
            module.program(function.name)
        except PtxError as error:
            lines[error.message] = [error.line or 0]
    return [f"{text} (line {', '.join(map(str, where))})" for text, where in lines.items()]
