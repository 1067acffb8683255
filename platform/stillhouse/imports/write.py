"""Rows as the files that recipes read: a collection folder, a TREC run, triples, scores; equal bytes each time."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from stillhouse.imports.format import Format, Place
from stillhouse.imports.merge import Pair, merge_pairs, merge_texts, pair_line, text_line
from stillhouse.imports.row import Passage
from stillhouse.imports.spool import Spool

_PAIR_PARTS, _TEXT_PARTS = 256, 64


class Writer:
    """Takes rows one by one and writes the folder at the end."""

    def __init__(self, folder: Path, form: Format, split: str, paths: list[Path], texts: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.depth = 0
        """The most candidates of a query."""
        self._folder, self._form, self._split, self._paths = folder, form, split, paths
        self._texts = texts
        spool = folder / "spool"
        spool.mkdir()
        self._pairs = Spool(spool / "pairs", _PAIR_PARTS)
        self._queries = Spool(spool / "queries", _TEXT_PARTS)
        self._docs = Spool(spool / "docs", _TEXT_PARTS)
        self._open = ExitStack()
        self._triples = self._open.enter_context(packed(folder / self.name("triples"))) if form.triples else None

    def name(self, kind: str) -> str:
        endings = {"corpus": "corpus.jsonl.gz", "queries": f"queries.{self._split}.jsonl.gz"}
        ending = "trec" if kind == "candidates" else "tsv"
        return endings.get(kind, f"{kind}.{self._split}.{ending}.gz")

    def add(self, query_id: str, query: str | None, passages: list[tuple[str, Passage]], place: Place) -> None:
        """A row whose ids are settled: (document id, passage)."""
        for doc_id, passage in passages:
            self._pairs.add(query_id, pair_line(query_id, doc_id, passage, place))
            if self._texts:
                self._docs.add(doc_id, text_line(doc_id, passage.title, passage.text or "", place))
        if self._texts:
            self._queries.add(query_id, text_line(query_id, "", query or "", place))

    def add_triple(self, query_id: str, positive: str, negative: str) -> None:
        assert self._triples
        self._triples.write(f"{query_id}\t{positive}\t{negative}\n")
        self.counts["triples"] += 1

    def close(self) -> None:
        """Also after an error: closes what is open."""
        self._open.close()
        for spool in (self._pairs, self._queries, self._docs):
            spool.close()

    def finish(self) -> None:
        """Write what the rows make together."""
        self._open.close()
        with ExitStack() as stack:
            kinds = ["candidates"] + ["scores"] * bool(self._form.scales) + ["qrels"] * self._texts
            outputs = {kind: stack.enter_context(packed(self._folder / self.name(kind))) for kind in kinds}
            for lines in self._pairs.parts():
                for query_id, docs in merge_pairs(lines, self._paths).items():
                    self._write_query(outputs, query_id, docs)
        # What holds nothing would only be an error in a recipe.
        for kind, counted in (("candidates", "candidates"), ("scores", "scored pairs"), ("triples", "triples")):
            if not self.counts[counted]:
                (self._folder / self.name(kind)).unlink(missing_ok=True)
        if self._texts:
            self._write_texts("queries", "query_id", "query", self._queries)
            self._write_texts("corpus", "doc_id", "document", self._docs)

    def _write_query(self, outputs: Mapping[str, TextIO], query_id: str, docs: Mapping[str, Pair]) -> None:
        self.counts["queries"] += 1
        for doc_id, pair in docs.items():
            if pair.grade is not None and "qrels" in outputs:
                outputs["qrels"].write(f"{query_id}\t0\t{doc_id}\t{pair.grade}\n")
                self.counts["judgements"] += 1
            if pair.score is not None:
                outputs["scores"].write(f"{query_id}\t{doc_id}\t{pair.score:.9g}\n")
                self.counts["scored pairs"] += 1
        ranked = [doc_id for doc_id, pair in docs.items() if pair.rank is not None]
        by_score = self._form.ranked_by == "score"
        if by_score:
            ranked.sort(key=lambda doc_id: docs[doc_id].score or 0.0, reverse=True)
        else:
            ranked.sort(key=lambda doc_id: docs[doc_id].rank or 0)
        for place, doc_id in enumerate(ranked):
            score = f"{docs[doc_id].score:.9g}" if by_score else str(len(ranked) - place)
            outputs["candidates"].write(f"{query_id} Q0 {doc_id} {place + 1} {score} import\n")
        self.counts["candidates"] += len(ranked)
        self.depth = max(self.depth, len(ranked))

    def _write_texts(self, name: str, id_field: str, kind: str, spool: Spool) -> None:
        with packed(self._folder / self.name(name)) as out:
            for lines in spool.parts():
                for text_id, (title, text) in merge_texts(lines, kind, self._paths).items():
                    row = (
                        {id_field: text_id, "title": title, "text": text}
                        if title
                        else {id_field: text_id, "text": text}
                    )
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
                    self.counts["documents"] += name == "corpus"


@contextmanager
def packed(path: Path) -> Iterator[TextIO]:
    """A gzip text file whose bytes depend on its text alone: the digest of a score file names its teacher."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=5, mtime=0) as stream,
        io.TextIOWrapper(stream, encoding="utf-8", newline="\n") as text,
    ):
        yield text
