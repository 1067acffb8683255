"""Docstrings of installed packages, read with `ast`: nothing is imported, nothing is run."""

from __future__ import annotations

import ast
import gc
import importlib.util
import os
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from stillhouse.errors import CollectionError

STDLIB = "stdlib"
_NO_LIBRARY_CODE = {"__pycache__", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data"} | {
    "site-packages",
    "test",
    "testing",
    "tests",
    "turtledemo",
}


class SourceFile(NamedTuple):
    module: str
    path: Path


class Docstring(NamedTuple):
    name: str
    """Full dotted name: module, classes, function."""
    module: str
    text: str
    """Indentation cleaned as `inspect.cleandoc` does."""


def source_files(packages: Sequence[str]) -> list[SourceFile]:
    """The `.py` files of the packages, without their tests, sorted by module; `stdlib` is the standard library.

    Raises CollectionError for a package that is not installed or has no Python source.
    """
    files = {file.module: file for package in packages for file in _package_files(package)}
    return [files[module] for module in sorted(files)]


def read_docstrings(files: Sequence[SourceFile], counts: Counter[str]) -> list[Docstring]:
    """Docstrings of public functions, methods and classes, sorted by name; a name defined twice counts once.

    A name is public when neither it nor a class around it starts with an underscore. Modules are not judged:
    libraries keep much of their public interface in private ones (numpy._core, torch._tensor).
    `counts` receives what was read and what was skipped.
    """
    found: dict[str, Docstring] = {}
    with _no_garbage_collection(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        for file in files:
            counts["files"] += 1
            for docstring in _file_docstrings(file, counts):
                if docstring.name in found:
                    counts["names defined again"] += 1
                else:
                    found[docstring.name] = docstring
    return [found[name] for name in sorted(found)]


def _package_files(package: str) -> Iterator[SourceFile]:
    for root, prefix in _roots(package):
        if root.is_file():
            yield SourceFile(prefix, root)
            continue
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = sorted(name for name in subfolders if name not in _NO_LIBRARY_CODE)
            parts = Path(folder).relative_to(root).parts
            for name in sorted(names):
                stem, suffix = os.path.splitext(name)
                if suffix == ".py":
                    tail = parts if stem == "__init__" else (*parts, stem)
                    module = ".".join((prefix, *tail) if prefix else tail)
                    yield SourceFile(module, Path(folder, name))


def _roots(package: str) -> list[tuple[Path, str]]:
    """Folders or single files of a package, each with the dotted name of what it holds."""
    if package == STDLIB:
        return [(Path(sysconfig.get_paths()["stdlib"]), "")]
    top, *rest = package.split(".")
    try:
        # Of the top name only: for a dotted name find_spec imports the parent.
        spec = importlib.util.find_spec(top)
    except ValueError:
        spec = None
    if spec is None:
        raise CollectionError(f"collection.packages: {package} is not installed in {sys.prefix}; install it or drop it")
    places = [Path(place) for place in spec.submodule_search_locations or [spec.origin or ""]]
    places = [place.joinpath(*rest) for place in places]
    places = [place if place.is_dir() else place.with_suffix(".py") for place in places]
    roots = [(place, package) for place in places if place.exists()]
    if not roots:
        raise CollectionError(f"collection.packages: {package} has no Python source to read docstrings from; drop it")
    return roots


def _file_docstrings(file: SourceFile, counts: Counter[str]) -> Iterator[Docstring]:
    try:
        source = file.path.read_bytes()
        if b'"""' not in source and b"'''" not in source:
            return
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        counts["files that do not parse"] += 1
        return
    for name, node in _definitions(tree.body, file.module):
        text = ast.get_docstring(node)
        if text:
            yield Docstring(name, file.module, text)


_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _definitions(body: Sequence[ast.stmt], prefix: str) -> Iterator[tuple[str, _Definition]]:
    for node in body:
        if isinstance(node, _Definition):
            if node.name.startswith("_"):
                continue
            name = f"{prefix}.{node.name}" if prefix else node.name
            yield name, node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, name)
        elif isinstance(node, (ast.If, ast.Try)):
            yield from _definitions(node.body, prefix)
            yield from _definitions(node.orelse, prefix)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Syntax trees have no cycles; collecting while they grow costs a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
