"""Files in an object store or on any other file system that pyarrow or fsspec opens, used like `pathlib` paths."""

from __future__ import annotations

import fnmatch
import posixpath
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit, urlunsplit

import fsspec  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.fs

from stillhouse.errors import StoreError

PATIENCE_S = 60.0
"""How long a storage that does not answer is asked again before the job stops."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 16.0
_WHOLE_WRITES = {"s3", "s3a", "gcs", "gs", "abfs", "abfss", "az", "adl", "oss", "memory"}
"""Where an object appears when its upload is complete, never before: no rename is needed, and there is none."""
_LASTING = (
    *("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "UNRECOGNIZED_CLIENT"),
    *("INVALID_CLIENT_TOKEN_ID", "MISSING_AUTHENTICATION_TOKEN", "INVALID_SIGNATURE", "HTTP status 301"),
    *("HTTP status 400", "HTTP status 401", "HTTP status 403", "HTTP status 405"),
)
"""Parts of messages of errors that waiting does not mend."""
_T = TypeVar("_T")


class Stat(NamedTuple):
    """What `os.stat` says of a file, as far as it is used."""

    st_size: int
    st_mtime: float


@dataclass
class Storage:
    """A connection, and how URIs of things in it are written."""

    filesystem: Any
    prefix: str
    """What stands before the path in a URI: `s3://`."""
    query: str
    """Of a URI: options such as `region` and `endpoint_override`, without the question mark."""
    patience_s: float
    gave_up: bool = False
    """Not answering when it was asked last: a job that stops for it does not wait again to note that."""

    @property
    def writes_whole(self) -> bool:
        return str(self.filesystem.type_name).rpartition("+")[2] in _WHOLE_WRITES

    def tried(self, what: str, path: str, action: Callable[[], _T]) -> _T:
        """The action's result; errors that pass are waited for, the others raise StoreError that names the object.

        FileNotFoundError stays as it is: some callers expect it.
        """
        started, wait = time.monotonic(), _FIRST_WAIT_S
        while True:
            try:
                result = action()
                self.gave_up = False
                return result
            except FileNotFoundError:
                raise
            except (OSError, pa.ArrowException) as error:
                told = " ".join(str(error).split()) or type(error).__name__
                if any(part in told for part in _LASTING) or isinstance(error, PermissionError):
                    raise StoreError(
                        f"{self.prefix}{path}: cannot be {what}: {told}; check bucket and credentials (the usual "
                        "environment variables of its provider, on every node), then run the same command again"
                    ) from None
                if self.gave_up or time.monotonic() - started + wait > self.patience_s:
                    self.gave_up = True
                    raise StoreError(
                        f"{self.prefix}{path}: cannot be {what}: {told}; when the storage answers again, run the "
                        "same command: finished shards are kept"
                    ) from None
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)


class RemotePath:
    """The part of `pathlib.Path` that a score store needs. Errors are StoreError, or FileNotFoundError."""

    def __init__(self, storage: Storage, path: str, info: Any = None) -> None:
        self.storage = storage
        self._path = path.rstrip("/")
        self._info = info

    def __str__(self) -> str:
        return f"{self.storage.prefix}{self._path}"

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    @property
    def uri(self) -> str:
        """What `open_remote` opens again."""
        return f"{self}?{self.storage.query}" if self.storage.query else str(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.uri == other.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def __lt__(self, other: RemotePath) -> bool:
        return self._path < other._path

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.storage, posixpath.join(self._path, name))

    @property
    def name(self) -> str:
        return posixpath.basename(self._path)

    @property
    def stem(self) -> str:
        return posixpath.splitext(self.name)[0]

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.storage, posixpath.dirname(self._path))

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def relative_to(self, other: RemotePath) -> RemotePath:
        if not self._path.startswith(f"{other._path}/"):
            raise ValueError(f"{self} is not below {other}")
        return RemotePath(self.storage, self._path[len(other._path) + 1 :])

    def as_posix(self) -> str:
        return self._path

    def exists(self) -> bool:
        return bool(self._found().type != pa.fs.FileType.NotFound)

    def stat(self) -> Stat:
        info = self._info or self._found()
        if info.type == pa.fs.FileType.NotFound:
            raise FileNotFoundError(f"{self}: no such file")
        return Stat(info.size or 0, info.mtime.timestamp() if info.mtime else 0.0)

    def read_bytes(self) -> bytes:
        def read() -> bytes:
            with self.storage.filesystem.open_input_stream(self._path) as stream:
                return bytes(stream.read())

        return self.storage.tried("read", self._path, read)

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def write_bytes(self, content: bytes) -> None:
        """Appears complete or not at all: by the upload's end, or by a rename where a file system shows half of it."""
        filesystem = self.storage.filesystem

        def write() -> None:
            if self.storage.writes_whole:
                _write(filesystem, self._path, content)
                return
            folder, name = posixpath.split(self._path)
            filesystem.create_dir(folder, recursive=True)
            temporary = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}.tmp"
            try:
                _write(filesystem, temporary, content)
                filesystem.move(temporary, self._path)
            except BaseException:
                if filesystem.get_file_info(temporary).type == pa.fs.FileType.File:
                    filesystem.delete_file(temporary)
                raise

        try:
            self.storage.tried("written", self._path, write)
        except FileNotFoundError as error:
            raise StoreError(f"{self}: cannot be written: {error}; make its folder or bucket first") from None

    def write_text(self, text: str) -> None:
        self.write_bytes(text.encode())

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self.storage.tried("removed", self._path, lambda: self.storage.filesystem.delete_file(self._path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rename(self, target: RemotePath) -> RemotePath:
        """A copy, then the removal: whoever comes between finds both."""
        filesystem = self.storage.filesystem
        self.storage.tried("copied", self._path, lambda: filesystem.copy_file(self._path, target._path))
        self.unlink(missing_ok=True)
        return target

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """What matches, one part of the pattern a level."""
        first, _, rest = pattern.partition("/")
        if not any(letter in first for letter in "*?["):
            below = self / first
            if rest:
                yield from below.glob(rest)
            elif below.exists():
                yield below
            return
        for info in self._list(recursive=False):
            path = RemotePath(self.storage, info.path, info)
            if fnmatch.fnmatchcase(path.name, first):
                yield from path.glob(rest) if rest else [path]

    def files(self) -> list[RemotePath]:
        """Every file below."""
        found = self._list(recursive=True)
        return [RemotePath(self.storage, info.path, info) for info in found if info.type == pa.fs.FileType.File]

    def remove_tree(self) -> None:
        """Remove every file below."""
        for path in self.files():
            path.unlink(missing_ok=True)

    def _found(self) -> Any:
        return self.storage.tried("read", self._path, lambda: self.storage.filesystem.get_file_info(self._path))

    def _list(self, recursive: bool) -> list[Any]:
        selector = pa.fs.FileSelector(self._path, allow_not_found=True, recursive=recursive)
        found: list[Any] = self.storage.tried(
            "listed", self._path, lambda: self.storage.filesystem.get_file_info(selector)
        )
        # Some list the folder itself as an empty object of its own.
        return [info for info in found if info.path.rstrip("/") != self._path]


def open_remote(uri: str, patience_s: float = PATIENCE_S) -> RemotePath:
    """A folder by its URI (`s3://bucket/prefix`), through pyarrow, or through fsspec where pyarrow knows none.

    Credentials and endpoints come from where the provider's tools take them (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`,
    a role of the machine); a URI that carries some is refused, since it would stand in records and logs.
    """
    parts = urlsplit(uri)
    if parts.password is not None:
        shown = urlunsplit(parts._replace(netloc=f"...@{parts.netloc.rpartition('@')[2]}"))
        raise StoreError(f"{shown}: credentials stand in the URI; give them in the environment instead")
    # One request for a small file instead of the three of a multipart upload.
    query = parts.query or ("allow_delayed_open=true" if parts.scheme == "s3" else "")
    plain = urlunsplit(parts._replace(query=query, fragment=""))
    try:
        filesystem, path = pa.fs.FileSystem.from_uri(plain)
    except (pa.ArrowException, OSError) as error:
        if "Unrecognized filesystem type" not in str(error):
            raise StoreError(f"{uri}: cannot be opened: {' '.join(str(error).split())}") from None
        filesystem, path = _from_fsspec(uri)
    base, path = urlunsplit(parts._replace(query="", fragment="")).rstrip("/"), path.rstrip("/")
    if not path.strip("/") or not base.endswith(path):
        raise StoreError(
            f"{uri}: is no folder in a storage; write it so that it ends with the path, as s3://bucket/scores"
        )
    return RemotePath(Storage(filesystem, base.removesuffix(path), parts.query, patience_s), path)


def _from_fsspec(uri: str) -> tuple[Any, str]:
    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise StoreError(f"{uri}: no file system opens it: {error}; install its fsspec package") from None
    return pa.fs.PyFileSystem(pa.fs.FSSpecHandler(filesystem)), path


def _write(filesystem: Any, path: str, content: bytes) -> None:
    with filesystem.open_output_stream(path) as stream:
        stream.write(content)
