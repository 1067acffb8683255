"""Teacher scores on disk, addressed by the teacher and the two texts; each pair stands once."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from stillhouse.artifacts import stable_hash
from stillhouse.errors import StoreError
from stillhouse.records import SCORE_SCHEMA
from stillhouse.scores.files import (
    CorruptFileError,
    Place,
    facts_of,
    is_intact,
    place_of,
    put_first,
    put_json,
    read_all,
    score_files,
    set_aside,
    write_scores,
)
from stillhouse.scores.keys import KEY, Hashes, pair_keys, partition_of, positions

Scale = Literal["logit", "probability", "grade", "order"]
KEY_FILE = "key.json"
MANIFEST = "manifest.json"
_LISTINGS = 8
"""How often a partition is listed again because its files changed."""
_CACHED_PAIRS = 4_000_000
"""Pairs a store keeps in memory between lookups: 68 bytes each."""


class ScoreStore:
    """One teacher's scores: `<root>/<key>/{key.json, manifest.json, part=NNN/gen=G.parquet}`.

    `root` is a folder, or the URI of one in an object store. `identity` says who the teacher is, and
    `identity["scale"]` (default `logit`) what its numbers mean. A store that exists keeps the number of partitions it
    was made with. A store that is `mending` sets a corrupt file aside where it meets one, and has its pairs no more;
    otherwise CorruptFileError names the file.
    """

    def __init__(self, root: str | Place, identity: dict[str, Any], partitions: int = 16) -> None:
        self.identity = identity
        self.key = stable_hash(identity)
        self.path: Place = place_of(root) / self.key
        self.scale: Scale = identity.get("scale", "logit")
        if self.scale not in get_args(Scale):
            raise StoreError(f"store {self.key}: scale {self.scale!r} is none of {', '.join(get_args(Scale))}")
        if not 1 <= partitions <= 999:
            raise StoreError(f"store {self.key}: {partitions} partitions; use 1 to 999")
        self._wanted_partitions = partitions
        self._cache: dict[int, tuple[list[Place], np.ndarray, np.ndarray]] = {}
        self.mending = False
        self.set_aside: list[str] = []
        """Names of the files that were set aside while mending."""

    @classmethod
    def open(cls, path: str | Place) -> ScoreStore:
        """An existing store by its folder."""
        folder = place_of(path)
        facts = _read_key(folder)
        store = cls(folder.parent, facts["identity"], facts["partitions"])
        if store.key != folder.name:
            raise StoreError(f"{path}: key.json belongs to store {store.key}; restore the file or rename the folder")
        return store

    @cached_property
    def partitions(self) -> int:
        if (self.path / KEY_FILE).exists():
            return int(_read_key(self.path)["partitions"])
        return self._wanted_partitions

    def create(self) -> None:
        """Make the folder with its key.json; the first of two that do so at once wins."""
        facts = {"identity": self.identity, "scale": self.scale, "partitions": self._wanted_partitions}
        put_first(
            self.path / KEY_FILE, (json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
        )
        self.__dict__.pop("partitions", None)

    def check_partitions(self) -> None:
        """Raise StoreError if key.json says another number than this store was opened with.

        An object store has no "write if absent": of two jobs that make a store at the same moment the later one's
        key.json stays, and what the other wrote may lie where nobody looks.
        """
        found = int(_read_key(self.path)["partitions"])
        if found != self.partitions:
            raise StoreError(
                f"store {self.key}: another job made it with {found} partitions while this one wrote "
                f"{self.partitions}; give both the same store.partitions, remove the store's folder, then score again"
            )

    def folder(self, partition: int) -> Place:
        return self.path / f"part={partition:03d}"

    def files(self, partition: int | None = None) -> list[Place]:
        """The files of one partition or of all, in order."""
        wanted = range(self.partitions) if partition is None else [partition]
        return [path for number in wanted for path in score_files(self.folder(number))]

    def has(self, partition: int, generation: str) -> bool:
        return bool(score_files(self.folder(partition), generation))

    def write(self, partition: int, generation: str, table: pa.Table) -> Place:
        """Add rows of SCORE_SCHEMA; `generation` names their content."""
        return write_scores(self.folder(partition), generation, table)

    def lookup(self, query_hashes: Hashes, doc_hashes: Hashes) -> np.ndarray:
        """The score of each pair, float32 [P]; NaN where the pair is not scored."""
        return self.lookup_keys(pair_keys(query_hashes, doc_hashes))

    def lookup_keys(self, keys: np.ndarray) -> np.ndarray:
        """As `lookup`, from `keys.pair_keys`."""
        scores = np.full(len(keys), np.nan, dtype=np.float32)
        partition = partition_of(keys, self.partitions)
        for number in np.unique(partition):
            chosen = np.flatnonzero(partition == number)
            scores[chosen] = self.lookup_in(int(number), keys[chosen])
        return scores

    def lookup_in(self, number: int, keys: np.ndarray) -> np.ndarray:
        """As `lookup_keys`, for keys of one partition."""
        scores = np.full(len(keys), np.nan, dtype=np.float32)
        known_keys, known_scores = self.partition(number)
        found = positions(keys, known_keys)
        scores[found >= 0] = known_scores[found[found >= 0]]
        return scores

    def partition(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Sorted keys and their scores, each pair once; of a pair written twice the first file's score counts."""
        paths = self.files(number)
        if number in self._cache and self._cache[number][0] == paths:
            return self._cache[number][1:]
        paths, tables = self._read(number, ["query_hash", "doc_hash", "score"])
        keys = [pair_keys(table["query_hash"], table["doc_hash"]) for table in tables]
        all_keys, first = np.unique(np.concatenate([np.empty(0, KEY), *keys]), return_index=True)
        scores = np.concatenate([np.empty(0, np.float32), *(table["score"].to_numpy() for table in tables)])[first]
        self._remember(number, paths, all_keys, scores)
        return all_keys, scores

    def _read(self, number: int, columns: list[str] | None = None) -> tuple[list[Place], list[pa.Table]]:
        """The files of a partition and their rows; listed again if one goes meanwhile, as when another job mends."""
        for _ in range(_LISTINGS):
            paths = self.files(number)
            try:
                return paths, read_all(paths, columns)
            except FileNotFoundError:
                continue
            except CorruptFileError:
                if not self.mending:
                    raise
                for path in paths:
                    if not is_intact(path):
                        set_aside(path)
                        self.set_aside.append(name_of(path))
        raise StoreError(
            f"{self.folder(number)}: its files change while they are read; wait for the jobs that write it"
        )

    def _remember(self, number: int, paths: list[Place], keys: np.ndarray, scores: np.ndarray) -> None:
        self._cache.pop(number, None)
        while self._cache and sum(len(kept) for _, kept, _ in self._cache.values()) + len(keys) > _CACHED_PAIRS:
            self._cache.pop(next(iter(self._cache)))
        if len(keys) <= _CACHED_PAIRS:
            self._cache[number] = (paths, keys, scores)

    def table(self, number: int) -> pa.Table:
        """All columns of a partition, sorted by pair, each pair once."""
        _, tables = self._read(number)
        table = pa.concat_tables([SCORE_SCHEMA.empty_table(), *tables]).combine_chunks()
        _, first = np.unique(pair_keys(table["query_hash"], table["doc_hash"]), return_index=True)
        return table.take(pa.array(first))

    def __len__(self) -> int:
        return sum(len(self.partition(number)[0]) for number in range(self.partitions))

    def digest(self) -> str:
        """SHA-256 over (query_hash, doc_hash, score bits) in the order of the pairs; no provenance in it."""
        digest = hashlib.sha256()
        for number in range(self.partitions):
            keys, scores = self.partition(number)
            rows = np.empty(len(keys), dtype=[("key", KEY), ("score", "<f4")])
            rows["key"], rows["score"] = keys, scores
            digest.update(rows.tobytes())
        return digest.hexdigest()

    def manifest(self) -> dict[str, Any]:
        """What the last finished job left: `files` (name -> rows, bytes, sha256) and `rows`; empty if there is none."""
        try:
            manifest: dict[str, Any] = json.loads((self.path / MANIFEST).read_text())
        except (OSError, ValueError):
            return {"files": {}, "rows": 0}
        return manifest

    def commit(self) -> None:
        """Write the manifest: what stands in the store now. Costs a read of the files that are new to it."""
        known = self.manifest()["files"]
        present = {name_of(path): path for path in self.files()}
        if known.keys() == present.keys() and (self.path / MANIFEST).exists():
            return
        files = {name: known.get(name) or facts_of(path) for name, path in present.items()}
        put_json(self.path / MANIFEST, {"files": files, "rows": sum(facts["rows"] for facts in files.values())})


def name_of(path: Place) -> str:
    """The name of a file within its store: `part=NNN/gen=....parquet`."""
    return f"{path.parent.name}/{path.name}"


def _read_key(path: Place) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((path / KEY_FILE).read_text())
    except FileNotFoundError:
        raise StoreError(f"{path}: no key.json; this is no score store") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path / KEY_FILE}: cannot be read: {error}") from None
    return facts
