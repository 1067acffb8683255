"""What a person does with stores: list, show, verify, merge, gc."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from stillhouse.errors import StoreError
from stillhouse.scores.attempts import FOLDER as ATTEMPTS
from stillhouse.scores.files import (
    Place,
    facts_of,
    files_below,
    is_intact,
    newest_change,
    place_of,
    put,
    remove_tree,
    set_aside,
)
from stillhouse.scores.generation import add_missing, generation_of
from stillhouse.scores.journal import read_jobs
from stillhouse.scores.keys import pair_keys
from stillhouse.scores.store import KEY_FILE, MANIFEST, Scale, ScoreStore, name_of

_STALE_S = 3600.0
"""A temporary file or a try that is older belongs to no running job."""


@dataclass(frozen=True)
class StoreSummary:
    key: str
    path: Place
    teacher: str
    scale: Scale
    pairs: int
    """As the manifest says; a job that runs has written more."""
    files: int
    bytes: int


@dataclass(frozen=True)
class Verification:
    files: int
    """Files that are whole."""
    pairs: int
    corrupt: list[str]
    """Set aside as `<name>.corrupt`; the next scoring job scores their pairs again."""
    gone: list[str]
    """In the manifest, but no longer on disk; scored again as well."""
    manifest_rebuilt: bool
    """The manifest was missing or did not name what is there."""

    @property
    def ok(self) -> bool:
        return not (self.corrupt or self.gone or self.manifest_rebuilt)


@dataclass(frozen=True)
class Collected:
    """What `gc` removed."""

    temporary: int
    corrupt: int
    compacted: int
    """Partitions whose files became one."""
    bytes: int


def list_stores(root: str | Place) -> list[StoreSummary]:
    """The stores under a root, by key."""
    return [_summary(ScoreStore.open(path.parent)) for path in sorted(place_of(root).glob(f"*/{KEY_FILE}"))]


def find_store(root: str | Place, key: str) -> ScoreStore:
    """A store by its key or the beginning of it."""
    found = [path.parent for path in sorted(place_of(root).glob(f"*/{KEY_FILE}")) if path.parent.name.startswith(key)]
    if len(found) != 1:
        known = ", ".join(summary.key for summary in list_stores(root)) or "none"
        raise StoreError(f"{root}: {len(found)} stores begin with {key!r}; stores: {known}")
    return ScoreStore.open(found[0])


def show(store: ScoreStore) -> dict[str, Any]:
    """Identity, size, digest and provenance; costs a read of the whole store."""
    jobs = read_jobs(store.path)
    return {
        "key": store.key,
        "path": str(store.path),
        "identity": store.identity,
        "scale": store.scale,
        "partitions": store.partitions,
        "pairs": len(store),
        "files": len(store.files()),
        "bytes": sum(path.stat().st_size for path in store.files()),
        "digest": store.digest(),
        "jobs": jobs,
        "actor_hours": sum(job.get("actor_seconds", 0.0) for job in jobs) / 3600,
        "scored": sum(job.get("scored", 0) for job in jobs),
        "truncated": sum(job.get("truncated", 0) for job in jobs),
    }


def verify(store: ScoreStore) -> Verification:
    """Check every byte; set corrupt files aside, and make the manifest say what is there."""
    known = store.manifest()["files"]
    had_manifest = (store.path / MANIFEST).exists()
    corrupt, whole = [], set()
    for path in store.files():
        name = name_of(path)
        if is_intact(path):
            whole.add(name)
        else:
            set_aside(path)
            corrupt.append(name)
    gone = sorted(known.keys() - whole - set(corrupt))
    rebuilt = not had_manifest or bool(whole - known.keys())
    store.commit()
    return Verification(len(whole), len(store), corrupt, gone, rebuilt)


def merge(source: ScoreStore, target: ScoreStore) -> int:
    """Copy into `target` the pairs that it lacks, from a store of the same teacher; how many."""
    if source.key != target.key:
        raise StoreError(
            f"merge: {source.path} and {target.path} are two teachers; a store holds one (an ensemble joins several)"
        )
    target.create()
    added = sum(add_missing(target, source.table(number)) for number in range(source.partitions))
    target.commit()
    for path in sorted((source.path / "jobs").glob("*.json")):
        copy = target.path / "jobs" / path.name
        if not copy.exists():
            put(copy, path.read_bytes())
    return added


def gc(store: ScoreStore, *, compact_above: int = 32) -> Collected:
    """Remove what killed jobs left and what was set aside; make one file of partitions with many, or with pairs twice.

    Run it while no job writes the store.
    """
    before = _bytes(store.path)
    temporary = [path for path in _temporary(store.path) if time.time() - path.stat().st_mtime > _STALE_S]
    corrupt = list(store.path.glob("part=*/*.corrupt"))
    for path in [*temporary, *corrupt]:
        path.unlink(missing_ok=True)
    for folder in (store.path / ATTEMPTS).glob("*"):
        if time.time() - newest_change(folder) > _STALE_S:
            remove_tree(folder)
    compacted = sum(_compact(store, number, compact_above) for number in range(store.partitions))
    store.commit()
    return Collected(len(temporary), len(corrupt), compacted, before - _bytes(store.path))


def _compact(store: ScoreStore, partition: int, compact_above: int) -> bool:
    paths = store.files(partition)
    table = store.table(partition)
    rows = sum(facts_of(path)["rows"] for path in paths)
    if len(paths) <= compact_above and rows == len(table):
        return False
    keys = pair_keys(table["query_hash"], table["doc_hash"])
    whole = store.write(partition, generation_of(keys), table)
    # The new file first: a reader in between finds pairs twice with equal scores, never none.
    for path in paths:
        if path != whole:
            path.unlink()
    return True


def _temporary(path: Place) -> list[Place]:
    return [*path.glob("part=*/.gen=*.tmp"), *path.glob(".*.tmp")]


def _summary(store: ScoreStore) -> StoreSummary:
    manifest = store.manifest()
    sizes = [facts["bytes"] for facts in manifest["files"].values()]
    teacher = str(store.identity.get("name") or store.identity.get("ranker", "unknown"))
    return StoreSummary(store.key, store.path, teacher, store.scale, manifest["rows"], len(sizes), sum(sizes))


def _bytes(path: Place) -> int:
    return sum(file.stat().st_size for file in files_below(path))
