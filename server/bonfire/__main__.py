"""`python -m bonfire` is the `bonfire` command."""

from bonfire.cli import main

main()
