"""`python -m fp4cc` is the `fp4cc` command."""

from fp4cc.cli.main import main

main()
