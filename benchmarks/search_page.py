"""`docs/search/`: the report of a search as pages of the documentation.

stillhouse tune pydocs-search
python -m benchmarks.search_page runs/pydocs-search docs/search
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from stillhouse.errors import StillhouseError

PICTURES = "search_files"
FILES = ("search.md", "search.json")
OF_A_MACHINE = re.compile(r"(?<![\w.:/])(?:/(?:home|root|Users|tmp|work|mnt|var|opt|data)/|[A-Z]:\\)[^\s\"'|)]*")
"""A path that means something on one machine only."""


def publish(run: Path, docs: Path) -> list[Path]:
    """Copy Markdown, JSON and pictures of a search into `docs`; returns what was written.

    Raises StillhouseError, before anything is written, where a file is missing or names a path of this machine.
    """
    pictures = sorted((run / PICTURES).glob("*.svg"))
    sources = [*(run / name for name in FILES), *pictures]
    for source in sources:
        if not source.exists():
            raise StillhouseError(f"{source}: not there; `stillhouse tune` or `stillhouse study` writes it")
        found = OF_A_MACHINE.search(source.read_text(encoding="utf-8"))
        if found:
            raise StillhouseError(
                f"{source}: names {found.group()}, a path of this machine; leave it out of the recipe"
            )
    if not pictures:
        raise StillhouseError(f"{run / PICTURES}: no pictures; `stillhouse study` draws them")
    shutil.rmtree(docs / PICTURES, ignore_errors=True)
    (docs / PICTURES).mkdir(parents=True)
    return [Path(shutil.copyfile(source, docs / source.relative_to(run))) for source in sources]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m benchmarks.search_page RUN DOCS")
    try:
        print("\n".join(str(path) for path in publish(Path(sys.argv[1]), Path(sys.argv[2]))))
    except StillhouseError as error:
        sys.exit(f"error: {error}")
