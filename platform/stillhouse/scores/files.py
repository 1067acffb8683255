"""One file of scores: written whole, named by what it holds and by its own checksum; and where files may lie."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow as pa
import pyarrow.parquet as pq

from stillhouse.artifacts import atomic_file
from stillhouse.errors import StoreError
from stillhouse.records import SCORE_SCHEMA
from stillhouse.scores.remote import PATIENCE_S, RemotePath, open_remote

CHECKSUM_DIGITS = 16
_READERS = 8
"""Files read at once from an object store, whose answers take long but come together."""


class CorruptFileError(StoreError):
    """A file of scores whose bytes are not those that were written."""


class Place(Protocol):
    """A file or folder: a `pathlib.Path`, or a `RemotePath` that does the same in an object store."""

    @property
    def name(self) -> str: ...
    @property
    def stem(self) -> str: ...
    @property
    def parent(self) -> Self: ...
    def __truediv__(self, name: str, /) -> Self: ...
    def __lt__(self, other: Self, /) -> bool: ...
    def with_name(self, name: str, /) -> Self: ...
    def as_posix(self) -> str: ...
    def exists(self) -> bool: ...
    def stat(self) -> Any: ...
    def read_bytes(self) -> bytes: ...
    def read_text(self) -> str: ...
    def unlink(self, missing_ok: bool = False) -> None: ...
    def glob(self, pattern: str, /) -> Iterator[Self]: ...


def place_of(ref: str | Place, patience_s: float = PATIENCE_S) -> Place:
    """A folder by path or URI: `scores`, `file:///shared/scores`, `s3://bucket/scores`, `gs://...`, any of fsspec's.

    A remote storage that does not answer is asked again for `patience_s` seconds.
    """
    if not isinstance(ref, str):
        return ref
    if "://" not in ref:
        return Path(ref)
    if ref.startswith("file://"):
        return Path(url2pathname(urlsplit(ref).path))
    return open_remote(ref, patience_s)


def is_remote(ref: str | Place) -> bool:
    """Whether a path or URI means the same in every folder and on every machine: nothing local."""
    return isinstance(ref, RemotePath) if not isinstance(ref, str) else "://" in ref


def absolute(ref: str) -> str | Path:
    """A path that holds in another working folder; a URI stays as it is."""
    return ref if is_remote(ref) else Path(ref).absolute()


def address_of(path: Place) -> str:
    """What `place_of` opens in another process."""
    return path.uri if isinstance(path, RemotePath) else str(_local(path).resolve())


def patience_of(path: Place) -> float:
    """How long its storage is asked again, in seconds."""
    return path.storage.patience_s if isinstance(path, RemotePath) else 0.0


def put(path: Place, content: bytes) -> None:
    """Write a file that appears complete or not at all, over an older one."""
    if isinstance(path, RemotePath):
        path.write_bytes(content)
        return
    with atomic_file(_local(path)) as temporary:
        temporary.write_bytes(content)


def put_json(path: Place, value: Any) -> None:
    """Write JSON so that a reader never sees half of it."""
    put(path, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def put_first(path: Place, content: bytes) -> None:
    """Write a file that is not there; of two that do so at once the first wins, in an object store the last."""
    if path.exists():
        return
    if isinstance(path, RemotePath):
        path.write_bytes(content)
        return
    target = _local(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    own = target.with_name(f".{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    own.write_bytes(content)
    try:
        os.link(own, target)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        own.replace(target)
    finally:
        own.unlink(missing_ok=True)


def set_aside(path: Place) -> None:
    """Give a file the name `<name>.corrupt`; nothing happens if another process has done so."""
    aside = path.with_name(f"{path.name}.corrupt")
    try:
        if isinstance(path, RemotePath):
            path.rename(path.with_name(aside.name))
        else:
            os.replace(_local(path), _local(aside))
    except FileNotFoundError:
        pass


def files_below(path: Place) -> list[Place]:
    """Every file in a folder and its folders."""
    if isinstance(path, RemotePath):
        return list(path.files())
    return [file for file in _local(path).rglob("*") if file.is_file()]


def newest_change(folder: Place) -> float:
    """When something in a folder changed last, in seconds since 1970."""
    if isinstance(folder, RemotePath):
        return max((file.stat().st_mtime for file in folder.files()), default=0.0)
    return _local(folder).stat().st_mtime


def remove_tree(folder: Place) -> None:
    """Remove a folder and what is in it; it need not be there."""
    if isinstance(folder, RemotePath):
        folder.remove_tree()
    else:
        shutil.rmtree(_local(folder), ignore_errors=True)


def write_scores(folder: Place, generation: str, table: pa.Table) -> Place:
    """Write `folder/gen=<generation>-<checksum>.parquet`; it appears complete or not at all.

    The checksum in the name needs no second file, so a file and its proof appear in one rename or one upload, and two
    writers of equal bytes write the same file.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table.select(SCORE_SCHEMA.names).cast(SCORE_SCHEMA), sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    path = folder / f"gen={generation}-{_checksum(content)}.parquet"
    try:
        put(path, content)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written: {error.strerror}; make room, then run the same command again: "
            "finished shards are kept"
        ) from None
    return path


def os_error_told(error: OSError, place: object) -> str:
    """A full disk or a folder that cannot be written, as one line; a write that fails names no file, so `place`."""
    return (
        f"{error.filename or place}: {error.strerror or error}; make room or mend it, then run the same command "
        "again: finished shards are kept"
    )


def read_scores(path: Place, columns: list[str] | None = None) -> pa.Table:
    """The rows of a file, after its bytes were checked against its name.

    Raises CorruptFileError if they differ, FileNotFoundError if the file went, StoreError if it cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    if _checksum(content) != named_checksum(path):
        raise CorruptFileError(
            f"{path}: its bytes changed since it was written; run `stillhouse scores verify` or `stillhouse score`: "
            "it is set aside and its pairs are scored again"
        )
    return pq.read_table(pa.BufferReader(content), columns=columns, schema=SCORE_SCHEMA)


def read_all(paths: Sequence[Place], columns: list[str] | None = None) -> list[pa.Table]:
    """`read_scores` of each, in order."""
    if not any(isinstance(path, RemotePath) for path in paths):
        return [read_scores(path, columns) for path in paths]
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda path: read_scores(path, columns), paths))


def is_intact(path: Place) -> bool:
    """Whether the bytes are those that were written."""
    try:
        return _checksum(path.read_bytes()) == named_checksum(path)
    except OSError:
        return False


def facts_of(path: Place) -> dict[str, Any]:
    """Rows, bytes and SHA-256 of a file of scores."""
    content = path.read_bytes()
    return {
        "rows": pq.read_metadata(pa.BufferReader(content)).num_rows,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def named_checksum(path: Place) -> str:
    return path.stem.rpartition("-")[2]


def score_files(folder: Place, generation: str = "*") -> list[Place]:
    """The files of a partition, by name; only one generation's if it is given."""
    return sorted(folder.glob(f"gen={generation}-{'[0-9a-f]' * CHECKSUM_DIGITS}.parquet"))


def _local(path: Place) -> Path:
    return Path(str(path))


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:CHECKSUM_DIGITS]
