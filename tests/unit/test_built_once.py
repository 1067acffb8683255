from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BUILDER = """
import sys, time
from pathlib import Path
from stillhouse.artifacts import built_once

def build(folder):
    with (Path(sys.argv[1]) / "builds").open("a") as stream:
        stream.write("one\\n")
    time.sleep(0.5)
    return {"answer": 42}

print(built_once(Path(sys.argv[1]) / "folder", build)["answer"])
"""


def test_processes_that_ask_together_build_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILDER, str(tmp_path)]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [one.communicate(timeout=900)[0] for one in builders] == ["42\n"] * 3
    assert (tmp_path / "builds").read_text() == "one\n"
