"""`fp4cc cache`: what the cache holds, and emptying it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fp4cc.cli.options import json_option, print_json
from fp4cc.cli.terminal import definitions

if TYPE_CHECKING:
    from fp4cc.cache import Usage

_EPILOG = """\b
Examples:
  fp4cc cache info
  fp4cc cache clear

\b
The cache lies in FP4CC_CACHE_DIR, or in fp4cc in the user's cache folder. It
holds FP4CC_CACHE_SIZE bytes (500M, 10G; 2G if it is not set): beyond that, the
kernels that were used least recently are removed.
"""


@click.group(epilog=_EPILOG)
def command() -> None:
    """Say what the cache of compiled kernels holds, or empty it."""


@command.command()
@json_option
def info(as_json: bool) -> int:
    """Print the folder, the number of entries, their size and the limit."""
    from fp4cc.cache import Store

    store = Store()
    usage = store.usage()
    if as_json:
        print_json({"ok": True, "folder": str(store.root), **_numbers(usage), "limit": store.limit})
    else:
        rows = [
            ("folder", str(store.root)),
            ("entries", str(usage.entries)),
            ("size", f"{usage.size / 1e6:.1f} MB of {store.limit / 1e6:.0f} MB"),
            ("temporary", f"{usage.temporary} folders being written, or left behind"),
        ]
        click.echo("\n".join(definitions(rows, indent="")))
    return 0


@command.command()
@json_option
def clear(as_json: bool) -> int:
    """Remove all entries, and what processes that were killed left behind."""
    from fp4cc.cache import Store

    store = Store()
    before = store.clear()
    after = store.usage()
    if as_json:
        print_json({"ok": after.entries == 0, "folder": str(store.root), "removed": _numbers(before)})
    else:
        click.echo(f"removed {before.entries} entries, {before.size / 1e6:.1f} MB, from {store.root}")
    if after.entries:
        click.echo(f"{after.entries} entries could not be removed, or were added meanwhile", err=True)
    return 1 if after.entries else 0


def _numbers(usage: Usage) -> dict[str, int]:
    return {"entries": usage.entries, "bytes": usage.size, "temporary": usage.temporary}
