"""The entry point: finds the command, imports only that one, and turns failures into exit statuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from fp4cc.cli.failures import Status, fail, failure_of
from fp4cc.cli.interrupts import Interrupted, drop_output, interruptible
from fp4cc.cli.terminal import ready_streams
from fp4cc.version import version

#: Command name -> one-line help. Each is `fp4cc.cli.commands.NAME.command`, imported when it is called.
COMMANDS = {
    "check": "Check a spec and print every error.",
    "compile": "Compile a spec to cubin, PTX and manifest.",
    "emit": "Print one stage of the compilation: ast, ir, lowered, python, ptx, sass or cubin.",
    "run": "Compile, run on a device, and compare with the reference.",
    "verify": "Run several shapes and completion orders against the reference.",
    "explain": "Say what was chosen, why, and what it costs.",
    "trace": "Predict when each warp, copy and tensor core of a call works, and what it waits for.",
    "bench": "Time calls on a GPU, beside cuBLAS and the estimate.",
    "tune": "Find the fastest schedule for each size on a GPU, and write it as schedule blocks.",
    "diff": "Say what an edit changes: numerics, layout, interface or only the schedule.",
    "layout": "Describe and draw a scale layout, as text or SVG.",
    "recipes": "List the recipes of layers for PyTorch, or compile their kernels.",
    "cache": "Say what the cache of compiled kernels holds, or empty it.",
    "doctor": "Show what is installed, what is missing, and how to get it.",
}

#: Set by the shell functions that complete command lines; click answers them.
_COMPLETION = "_FP4CC_COMPLETE"

_EPILOG = """\b
Start here:
  fp4cc check   examples/nvfp4_gemm.fp4
  fp4cc run     examples/nvfp4_gemm.fp4
  fp4cc compile examples/nvfp4_gemm.fp4 -o out
  fp4cc explain examples/nvfp4_gemm.fp4 --set M=4096 --set N=4096 --set K=4096

\b
Exit status: 0 fine; 1 the spec or the data is wrong, or verification failed;
2 the command line is wrong; 3 no such device; 130 interrupted by Ctrl-C.
"""


class _Commands(click.Group):
    """A group whose commands are modules, so that `fp4cc compile` on a warm cache imports next to nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"fp4cc.cli.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from fp4cc.diagnostics import did_you_mean

            hint = did_you_mean(args[0], COMMANDS)
            ctx.fail(f"no command `{args[0]}`" + (f"; {hint}" if hint else f"; commands: {', '.join(COMMANDS)}"))
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version(), "-V", "--version", prog_name="fp4cc")
def cli() -> None:
    """Compile .fp4 specs: block-scaled FP4/FP6/FP8 GEMM kernels, verified without a GPU."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with interruptible():
            ready_streams()
            status = _run(arguments)
            sys.stdout.flush()
    except (Interrupted, KeyboardInterrupt, click.Abort) as stop:
        drop_output()
        click.echo(str(stop) or "interrupted", err=True)
        sys.exit(stop.status if isinstance(stop, Interrupted) else Status.INTERRUPTED)
    except BrokenPipeError:  # the reader went away (`fp4cc emit ... | head`)
        drop_output()
        sys.exit(Status.BROKEN_PIPE)
    except OSError as error:  # standard output cannot be written: its disk is full
        drop_output()
        sys.exit(fail(failure_of(error), as_json=False))
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    """The exit status of a command, whose failures are printed."""
    as_json = "--json" in arguments
    try:
        status: Any = cli.main(args=arguments, prog_name="fp4cc", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, BrokenPipeError):
        raise
    except SystemExit:
        if _COMPLETION in os.environ:
            raise
        raise BrokenPipeError from None  # how click ends where the reader went away: no command exits by itself
    except click.ClickException as error:
        if as_json:
            return fail(failure_of(error), as_json=True)
        error.show()
        return error.exit_code
    except Exception as error:  # noqa: BLE001  # the last resort; reported as our fault, with its trace
        return fail(failure_of(error), as_json=as_json)
    return status if isinstance(status, int) else Status.FINE
