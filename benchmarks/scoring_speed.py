"""Cross-encoder scoring, pairs per second, against sentence-transformers on the same weights and pairs.

    python -m benchmarks.scoring_speed [--small] [--threads 2] [--workspace .stillhouse]

Both score the same texts, tokenisation included, in turn; texts are cut beforehand so that both read the same tokens.
The peer runs in a process of its own, ours as a scoring actor does.
The share of the limit compares our time on token ids with the time of the model's matrix products alone, each at the
rate measured for its shape in this run, padding not counted.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import torch

from benchmarks.matrix_rates import Shape, seconds_at_limit
from benchmarks.measured import Result, Row, alternate, command_of, hand_in, machine, parser_of, spread, versions
from benchmarks.scoring_peer import open_peer
from benchmarks.speed_data import DOC_CAP, QUERY_CAP, Data, bert_base, open_data, open_for, trained_cross_encoder
from stillhouse.evaluation.measures import named_qrels, per_query
from stillhouse.rankers import RANKERS
from stillhouse.rankers.batching import TOKEN_BUDGET
from stillhouse.rankers.processor import bound_kernel_caches, keep_freed_memory
from stillhouse.scores.identity import resolve_dtype

MINILM, BERT_BASE = Shape(6, 384, 1536, 12), Shape(12, 768, 3072, 12)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
NDCG_TOLERANCE = 0.002


def main() -> None:
    parser = parser_of(__doc__, "scoring_speed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workspace", type=Path, default=Path(".stillhouse"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # As the scoring actors do.
    bound_kernel_caches()
    keep_freed_memory()
    hand_in(measure(options.workspace, small=options.small, threads=options.threads), options)


def measure(workspace: Path, *, small: bool, threads: int) -> Result:
    data = open_data(workspace, small=small)
    folder = trained_cross_encoder(data, steps=2 if small else 100)
    queries, docs, _ = data.pairs("dev", 2 if small else 22, 30)
    repeats = 1 if small else 5
    timed = against_peer(folder, queries, docs, repeats)
    found = peer_rows(timed, sum(map(len, docs)))
    found.append(defaults_row(data, folder, timed, sum(map(len, docs)), small=small))
    found += limit_rows(folder, MINILM, "MiniLM-L6", 0.4, queries, docs, repeats)
    base = bert_base(workspace / "speed" / ("bert-base-2" if small else "bert-base"), 2 if small else 12)
    shape = Shape(2, 768, 3072, 12) if small else BERT_BASE
    few = 1 if small else 6
    found += limit_rows(base, shape, "BERT-base shape", 0.6, queries[:few], docs[:few], repeats)
    return Result(
        question="Cross-encoder scoring, pairs per second",
        command=command_of("scoring_speed"),
        goal="1.5 x the peer in the same dtype; 5 x its default with ours at equal nDCG@10 (0.002); share of the "
        "matrix rate 0.4 for MiniLM and 0.6 for BERT-base, bfloat16",
        machine=machine(threads),
        versions=versions("torch", "transformers", "sentence-transformers"),
        rows=found,
        about=f"{sum(map(len, docs))} pairs of pydocs dev, {QUERY_CAP} + {DOC_CAP} tokens at most, {repeats} times",
        notes=NOTES,
    )


def against_peer(
    folder: Path, queries: list[str], docs: list[list[str]], repeats: int
) -> dict[str, tuple[list[float], float]]:
    """By `ours/dtype` and `theirs/dtype`: seconds of each repeat; and the largest difference of the two's scores."""
    pairs = [(query, doc) for query, row in zip(queries, docs, strict=True) for doc in row]
    found = {}
    for name, dtype in DTYPES.items():
        ours = open_for(folder, dtype)
        scores: dict[str, torch.Tensor] = {}
        with open_peer(folder, dtype, torch.get_num_threads()) as peer:
            ways = {
                "ours": lambda ours=ours, scores=scores: scores.update(ours=ours.score(queries, docs).flatten()),
                "theirs": lambda peer=peer, scores=scores: scores.update(theirs=peer.predict(pairs)),
            }
            for way in ways.values():
                way()
            seconds = alternate(ways, repeats)
        mine = scores["ours"][scores["ours"].isfinite()]
        difference = float((mine - scores["theirs"]).abs().max())
        found |= {f"{who}/{name}": (times, difference) for who, times in seconds.items()}
    return found


def peer_rows(timed: dict[str, tuple[list[float], float]], pairs: int) -> list[Row]:
    rows = []
    for name in DTYPES:
        (ours, difference), (theirs, _) = timed[f"ours/{name}"], timed[f"theirs/{name}"]
        ratio = statistics.median(theirs) / statistics.median(ours)
        rows.append(
            Row(
                name=f"{name}, against CrossEncoder.predict in {name}",
                values={"ours": rate(pairs, ours), "theirs": rate(pairs, theirs), "largest difference": difference},
                unit="pairs/s",
                ratio=ratio,
                spread=max(spread(ours), spread(theirs)),
                reached=ratio >= 1.5,
            )
        )
    return rows


def defaults_row(
    data: Data, folder: Path, timed: dict[str, tuple[list[float], float]], pairs: int, *, small: bool
) -> Row:
    """Our default dtype against their float32, and what the dtype costs in nDCG@10 over more queries."""
    default = resolve_dtype("auto", "cpu")
    ours, theirs = timed[f"ours/{default}"][0], timed["theirs/float32"][0]
    gains = {name: ndcg(data, folder, name, 4 if small else 200) for name in dict.fromkeys(("float32", default))}
    ratio = statistics.median(theirs) / statistics.median(ours)
    equal = abs(gains[default] - gains["float32"]) <= NDCG_TOLERANCE
    return Row(
        name=f"defaults: ours ({default}) against theirs (float32)",
        values={"ours": rate(pairs, ours), "theirs": rate(pairs, theirs)}
        | {f"nDCG@10 {name}": value for name, value in gains.items()},
        unit="pairs/s",
        ratio=ratio,
        spread=max(spread(ours), spread(theirs)),
        reached=ratio >= 5 and equal,
    )


def ndcg(data: Data, folder: Path, dtype: str, count: int) -> float:
    """nDCG@10 of dev queries re-ranked in a dtype."""
    queries, docs, rows = data.pairs("dev", count, 30)
    scores_QK = open_for(folder, DTYPES[dtype]).score(queries, docs)
    query_ids, doc_ids = data.collection.splits["dev"].queries.ids, data.collection.docs.ids
    run = {}
    for row, scores_K in zip(rows, scores_QK.tolist(), strict=True):
        candidates = data.candidates["dev"].rows(row)[:30].tolist()
        run[query_ids[row]] = {doc_ids[doc]: scores_K[place] for place, doc in enumerate(candidates)}
    values = per_query(run, named_qrels(data.collection, "dev", rows), ["nDCG@10"])["nDCG@10"]
    return statistics.fmean(values.values())


def limit_rows(
    folder: Path, shape: Shape, name: str, goal: float, queries: list[str], docs: list[list[str]], repeats: int
) -> list[Row]:
    rows = []
    for dtype_name, dtype in DTYPES.items():
        if (folder / "ranker.json").exists():
            ranker = open_for(folder, dtype)
        else:
            caps = {"query_max_length": QUERY_CAP, "doc_max_length": DOC_CAP}
            ranker = RANKERS["cross_encoder"].from_backbone(str(folder), **caps).for_scoring(dtype)
        query_ids = ranker.tokenise(queries)
        doc_ids = [ranker.tokenise(row) for row in docs]
        lengths = [len(ranker.row(q, d)[0]) for q, row in zip(query_ids, doc_ids, strict=True) for d in row]
        score = lambda ranker=ranker, q=query_ids, d=doc_ids: ranker.score_tokens(q, d)  # noqa: E731
        score()
        seconds = alternate({"ours": score}, repeats)["ours"]
        median = statistics.median(seconds)
        budget = TOKEN_BUDGET["cpu"]
        limits = [seconds_at_limit(shape, lengths, dtype, budget, last_layer_whole=whole) for whole in (True, False)]
        counts = dtype == torch.bfloat16
        rows.append(
            Row(
                name=f"{name}, {dtype_name}: share of the matrix rate",
                values={
                    "pairs/s": rate(len(lengths), seconds),
                    "pairs/s at the limit": len(lengths) / limits[0],
                    "share of the products needed": limits[1] / median,
                },
                unit="share",
                ratio=limits[0] / median,
                spread=spread(seconds),
                reached=limits[0] / median >= goal if counts else None,
            )
        )
    return rows


def rate(pairs: int, seconds: list[float]) -> float:
    return pairs / statistics.median(seconds)


NOTES = [
    "The share counts every layer whole, as the model is defined; 'of the products needed' leaves out the last layer's "
    "rows that no score reads.",
    "Tried, one call on 12 pairs of 160 tokens, 12 heads of 32, bfloat16: scaled_dot_product_attention 5.0 ms without "
    "and 6.0 with a mask, the library's eager attention 5.3, plain products with the softmax in place 2.6 (float32: "
    "6.1, 6.5, 7.4, 5.3). Of the 2.6 ms the softmax is 1.5.",
    "Tried: products of 8,192 tokens are no faster than of 2,048 (float32 with packed weights up to 40 % slower).",
    "Packed weights against the default product: float32 1.7 to 2.6 x (the default is MKL, slow on an AMD processor), "
    "bfloat16 1.1 to 1.4 x; GELU in the product costs nothing, apart it is a tenth.",
]

if __name__ == "__main__":
    main()
