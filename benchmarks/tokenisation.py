"""How often a search tokenises: once for all its trials, against once in each.

    python -m benchmarks.tokenisation [--small] [--trials 8] [--workspace .stillhouse]

Opens the data of a training as each trial does, in one workspace; then the same with a workspace of its own for each
trial's tokens, which is what tokenising in each costs.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks.measured import Result, Row, command_of, hand_in, machine, parser_of, versions
from benchmarks.speed_data import DOC_CAP, QUERY_CAP, Data, open_data
from stillhouse.collection import token_ids
from stillhouse.rankers import RANKERS
from stillhouse.rankers.base import Ranker


def main() -> None:
    parser = parser_of(__doc__, "tokenisation")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--workspace", type=Path, default=Path(".stillhouse"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = open_data(options.workspace, small=options.small)
    hand_in(measure(data, options.trials), options)


def measure(data: Data, trials: int) -> Result:
    caps = {"query_max_length": QUERY_CAP, "doc_max_length": DOC_CAP}
    ranker = RANKERS["dual_encoder"].from_backbone("minilm", num_layers=1, **caps)
    texts = len(data.collection.docs) + sum(len(data.collection.splits[name].queries) for name in ("train", "dev"))
    with tempfile.TemporaryDirectory() as place:
        shared, seconds_shared = counted(ranker, data, lambda trial: Path(place, "shared"), trials)
        apart, seconds_apart = counted(ranker, data, lambda trial: Path(place, str(trial)), trials)
    rows = [
        Row(
            name=f"{trials} trials, tokens kept",
            values={"texts tokenised": shared, "a text": shared / texts, "seconds": sum(seconds_shared)},
            unit="texts",
            ratio=sum(seconds_apart) / sum(seconds_shared),
            reached=shared == texts,
        ),
        Row(
            name=f"{trials} trials, tokenising in each",
            values={"texts tokenised": apart, "a text": apart / texts, "seconds": sum(seconds_apart)},
            unit="texts",
        ),
        Row(
            name="a trial after the first, tokens kept",
            values={"seconds": statistics.median(seconds_shared[1:])},
            unit="s",
        ),
    ]
    return Result(
        question="Tokenisation for several trials",
        command=command_of("tokenisation"),
        goal="each text once, whatever the number of trials",
        machine=machine(1),
        versions=versions("tokenizers", "transformers"),
        rows=rows,
        about=f"{texts} texts of pydocs; a trial opens documents, train and dev queries",
    )


def counted(ranker: Ranker, data: Data, root: Callable[[int], Path], trials: int) -> tuple[int, list[float]]:
    """Texts that went through the tokenizer, and the seconds of each trial's opening."""
    total, plain = 0, type(ranker).tokenise

    def tokenise(self: Ranker, texts: list[str]) -> list[list[int]]:
        nonlocal total
        total += len(texts)
        return plain(self, texts)

    seconds = []
    with patch.object(type(ranker), "tokenise", tokenise):
        for trial in range(trials):
            start = time.perf_counter()
            for part in (data.collection.docs, *(data.collection.splits[name].queries for name in ("train", "dev"))):
                token_ids(part, ranker, root(trial))
            seconds.append(time.perf_counter() - start)
    return total, seconds


if __name__ == "__main__":
    main()
