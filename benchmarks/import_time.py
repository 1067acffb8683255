"""How long `import stillhouse` and `stillhouse --help` take, and whether they load torch or Ray.

    python -m benchmarks.import_time [--small] [--repeats 15]

Each run is a fresh interpreter, in turn with one that does nothing. `--small` tries it and writes no result.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.measured import Result, Row, alternate, command_of, hand_in, machine, parser_of, spread, versions

GOAL_S = 0.3
HEAVY = ("torch", "ray", "transformers", "mlflow", "optuna", "pyarrow", "numpy")
HELP = "import sys; from stillhouse.cli import main; sys.exit(main(['--help']))"
WAYS = {"python alone": "pass", "import stillhouse": "import stillhouse", "stillhouse --help": HELP}
_LOADED = "; import sys, json; print(json.dumps(sorted(set(sys.modules) & set({heavy!r}))))"


def main() -> None:
    parser = parser_of(__doc__, "import_time")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    result = measure(3 if arguments.small else arguments.repeats)
    hand_in(result, arguments)


def measure(repeats: int) -> Result:
    """Median wall time of each way, and what of HEAVY it loads."""
    ways = {name: (lambda code=code: run(code)) for name, code in WAYS.items()}
    alternate(ways, 1)  # compiles what has no bytecode
    rows = []
    for name, times in alternate(ways, repeats).items():
        found = loaded(WAYS[name])
        middle = statistics.median(times)
        reached = None if name == "python alone" else middle < GOAL_S and not found
        values = {"median s": middle, "fastest s": min(times)}
        rows.append(Row(name=name, values=values, spread=spread(times), reached=reached, raw=times, loaded=found))
    return Result(
        question="Start: the time of an import and of the command's help",
        about=f"A fresh interpreter each time, {repeats} times in turn; none of {', '.join(HEAVY)} may be loaded.",
        goal=f"under {GOAL_S} s, without torch and Ray",
        command=command_of("import_time"),
        machine=machine(),
        versions=versions("typer"),
        rows=rows,
    )


def run(code: str) -> None:
    """A fresh interpreter runs the code."""
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)


def loaded(code: str, heavy: Sequence[str] = HEAVY) -> list[str]:
    """The heavy libraries that are loaded when the code has run."""
    # An exit of the code may not keep the question from being asked.
    asked = "try:\n    exec(" + repr(code) + ")\nexcept SystemExit:\n    pass\n" + _LOADED.format(heavy=list(heavy))[2:]
    done = subprocess.run([sys.executable, "-c", asked], stdout=subprocess.PIPE, text=True, check=True)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
