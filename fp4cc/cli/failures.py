"""Exceptions as messages and exit statuses."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import dataclass, field
from enum import IntEnum

import click

from fp4cc.cli.terminal import wants_color, width_of


class Status(IntEnum):
    """Exit statuses: the first four are part of the public surface, the others are 128 and a signal, as in shells."""

    FINE = 0
    WRONG = 1
    USAGE = 2
    NO_DEVICE = 3
    INTERRUPTED = 130
    BROKEN_PIPE = 141


#: Codes of the runtime's errors that mean "there is no such device here".
_NO_DEVICE = ("FP6301", "FP6302")


@dataclass(frozen=True, slots=True)
class Failure:
    """What to print: `text` for people, `diagnostics` for machines."""

    status: Status
    text: str
    diagnostics: list[dict[str, object]] = field(default_factory=list[dict[str, object]])


def failure_of(error: Exception) -> Failure:
    """The failure that an exception stands for; one nobody expected is our fault and says so."""
    from fp4cc.diagnostics import DiagnosticError, render, to_json
    from fp4cc.driver.request import RequestError
    from fp4rt.errors import RuntimeFault

    if isinstance(error, DiagnosticError):
        text = render(error.diagnostics, color=wants_color(sys.stderr), width=width_of(sys.stderr))
        return Failure(Status.WRONG, text.rstrip("\n"), to_json(error.diagnostics))
    if isinstance(error, RuntimeFault):
        status = Status.NO_DEVICE if error.code in _NO_DEVICE else Status.WRONG
        return _plain(status, error.code, error.message, [error.help] if error.help else [])
    if isinstance(error, RequestError):
        return _plain(Status.USAGE, "", str(error), [])
    if isinstance(error, click.ClickException):
        return _plain(Status(error.exit_code), "", error.format_message(), [])
    if isinstance(error, OSError):
        return _plain(Status.WRONG, "FP6203", _os_error(error), [])
    if isinstance(error, MemoryError):
        message = "there is not enough memory for arrays of these sizes" + (f": {error}" if str(error) else "")
        return _plain(Status.WRONG, "FP6204", message, ["choose smaller sizes with --at or --set"])
    if type(error).__module__.partition(".")[0] == "fp4num" and isinstance(error, ValueError):
        return _plain(Status.WRONG, "FP6103", str(error), [])
    details = "".join(traceback.format_exception(error))
    return _plain(
        Status.WRONG,
        "FP9003",
        f"fp4cc failed in an unexpected way: {type(error).__name__}: {error}",
        ["this is a bug in fp4cc: please report it with the spec, the command line and this trace:\n" + details],
    )


def fail(failure: Failure, *, as_json: bool) -> int:
    """Print a failure (JSON to standard output, text to standard error) and give its exit status."""
    if as_json:
        click.echo(json.dumps({"ok": False, "diagnostics": failure.diagnostics}, indent=1))
    else:
        click.echo(failure.text, err=True, color=True)
    return int(failure.status)


def _plain(status: Status, code: str, message: str, help: list[str]) -> Failure:
    mark = click.style(f"error[{code}]" if code else "error", fg="red", bold=True)
    mark = mark if wants_color(sys.stderr) else click.unstyle(mark)
    lines = [f"{mark}: {message}", *(f"  = help: {line}" for line in help)]
    found: dict[str, object] = {
        "code": code,
        "severity": "error",
        "title": message,
        "labels": [],
        "notes": [],
        "help": help,
    }
    return Failure(status, "\n".join(lines), [found])


def _os_error(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what
