"""Reference pages made from the code: `python -m bonfire.reference` writes them, `--check` fails when one is stale."""

import sys
from pathlib import Path

from bonfire.config import settings_table

_SETTINGS = """# Settings

Read from the environment at start. A wrong value, or a `BONFIRE_*` name that is none of these, stops the start with
its name and what was expected. An empty value is the same as none.

"""


def pages() -> dict[str, str]:
    """Each generated page of docs/, by file name."""
    return {"settings.md": _SETTINGS + settings_table()}


def main(arguments: list[str]) -> int:
    docs = Path(__file__).resolve().parents[2] / "docs"
    stale = [name for name, text in pages().items() if not (docs / name).exists() or (docs / name).read_text() != text]
    if "--check" in arguments:
        for name in stale:
            print(f"docs/{name} is stale: run `make generate`", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (docs / name).write_text(pages()[name])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
