"""The `fp4cc` command, and `python -m fp4cc`: small, so that Ctrl-C while the rest is imported ends it quietly too."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from fp4cc.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
