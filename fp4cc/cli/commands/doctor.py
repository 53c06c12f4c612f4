"""`fp4cc doctor`: what is here, what is missing, how to get it."""

from __future__ import annotations

import click

from fp4cc.cli.options import json_option, print_json
from fp4cc.cli.terminal import definitions

_EPILOG = """\b
Exit status 1 means that something `fp4cc compile` or `fp4cc run` needs is missing;
a missing GPU is no fault, the emulator stands in for it.
"""


@click.command(epilog=_EPILOG)
@json_option
def command(as_json: bool) -> int:
    """Show versions, GPU, driver, cache, and what is missing with the command that fixes it."""
    from fp4cc.cli.checkup import checkup

    findings = checkup()
    broken = [f for f in findings if f.state == "missing"]
    if as_json:
        print_json(
            {
                "ok": not broken,
                "findings": [{"what": f.what, "state": f.state, "value": f.value, "fix": f.fix} for f in findings],
            }
        )
    else:
        rows = [(f"{_SIGNS[f.state]}  {f.what}", f.value + (f" -> {f.fix}" if f.fix else "")) for f in findings]
        click.echo("\n".join(definitions(rows, indent="")))
    return 1 if broken else 0


_SIGNS = {"fine": "ok", "absent": "--", "missing": "!!"}
