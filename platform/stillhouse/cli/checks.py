"""What `stillhouse doctor` looks at: each check says what it found and, if that is a problem, its mend."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

State = Literal["ok", "note", "FAILS"]
_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """`note` can be lived with; `FAILS` makes the command fail."""

    name: str
    state: State
    found: str
    mend: str = ""


def python() -> Iterator[Check]:
    """The interpreter."""
    yield Check("Python", "ok", f"{sys.version.split()[0]} in {sys.prefix}")


def packages() -> Iterator[Check]:
    """Every package that pyproject.toml names, against its bound and against the version that was tested."""
    from packaging.requirements import Requirement

    tested, reinstall = _tested_versions(), "make install, or pip install -c constraints.txt -e '.[demo,dev]'"
    good, missing = [], []
    try:
        requirements = [Requirement(line) for line in metadata.requires("stillhouse") or []]
    except metadata.PackageNotFoundError:
        yield Check("packages", "note", "stillhouse is run from its source, not installed: versions unknown", reinstall)
        return
    for requirement in requirements:
        extra = next((name for name in ("demo", "dev") if requirement.marker and name in str(requirement.marker)), "")
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if extra == "":
                yield Check(requirement.name, "FAILS", "not installed", reinstall)
            else:
                missing.append(f"{requirement.name} ({extra})")
            continue
        wanted = tested.get(_plain(requirement.name), "")
        if not requirement.specifier.contains(found.partition("+")[0], prereleases=True):
            yield Check(requirement.name, "FAILS", f"{found}, needed: {requirement.specifier}", reinstall)
        elif wanted and found.partition("+")[0] != wanted:
            yield Check(requirement.name, "note", f"{found}; tested with {wanted}", reinstall)
        else:
            good.append(f"{requirement.name} {found}")
    yield Check("packages", "ok" if good else "FAILS", f"{len(good)} as tested: {', '.join(good)}")
    if missing:
        yield Check("extras", "note", f"not installed: {', '.join(missing)}", reinstall)


def devices() -> Iterator[Check]:
    """What torch would compute on, and in which dtype."""
    import torch

    build = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
        yield Check("device", "ok", f"{len(names)} GPU: {', '.join(names)}; dtype auto is {dtype}; {build}")
    elif shutil.which("nvidia-smi"):
        mend = "install a CUDA build: make install TORCH='torch==2.13.0 --index-url <that of the build>'"
        yield Check("device", "note", f"an NVIDIA driver is here, but {build} sees no GPU", mend)
    else:
        threads, cpus = torch.get_num_threads(), os.cpu_count()
        yield Check("device", "ok", f"CPU, {cpus} cores, {threads} threads; dtype auto is float32; {build}")


def ray_starts(*, verbose: bool = False) -> Iterator[Check]:
    """Ray connects or starts, and a worker imports what a driver has."""
    from stillhouse.cluster import probe
    from stillhouse.versions import versions

    try:
        resources, workers = probe(verbose=verbose)
    except Exception as error:
        mend = "unset RAY_ADDRESS to start Ray here; see the newest log under /tmp/ray; --verbose shows more"
        yield Check("Ray", "FAILS", " ".join(str(error).split())[:200], mend)
        return
    amounts = ", ".join(f"{resources.get(key, 0):g} {key}" for key in ("CPU", "GPU"))
    where = os.environ.get("RAY_ADDRESS") or "started here"
    mine = versions()
    wrong = [f"{name} {version}, here {mine[name]}" for name, version in workers.items() if version != mine[name]]
    if wrong:
        yield Check("Ray", "FAILS", f"workers have {', '.join(wrong)}", "install the same versions on every node")
    else:
        yield Check("Ray", "ok", f"{where}: {amounts}; a worker answers")


def record(uri: str) -> Iterator[Check]:
    """The MLflow store answers; runs that a kill left open are closed."""
    from stillhouse.errors import StillhouseError
    from stillhouse.tracking import close_stale, tracking_spec

    path = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
    if path is not None and not path.exists():
        yield Check("MLflow", "ok", f"{uri}: nothing recorded yet")
        return
    try:
        closed = close_stale(tracking_spec(uri))
    except StillhouseError as error:
        yield Check("MLflow", "FAILS", " ".join(str(error).split()), "start that server, or set tracking.uri")
        return
    yield Check("MLflow", "ok", uri + (f"; closed {len(closed)} runs that a kill had left open" if closed else ""))


def disk() -> Iterator[Check]:
    """Room and the right to write where results and caches go."""
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        free = shutil.disk_usage(folder).free / _GIB
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            yield Check("disk", "FAILS", f"{folder}: {error.strerror}", "work in a folder that you can write to")
            continue
        state: State = "ok" if free >= 5 else "note" if free >= 1 else "FAILS"
        mend = (
            "" if state == "ok" else "free some; `stillhouse scores gc` and `make clean-runs` remove what can be remade"
        )
        yield Check("disk", state, f"{folder}: writable, {free:.1f} GiB free", mend)


def memory() -> Iterator[Check]:
    """Memory that is free now."""
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free"
    if memory.available < 2 * _GIB:
        yield Check("memory", "FAILS", found, "close other programs; the demo needs 4 GiB")
    elif memory.available < 4 * _GIB:
        yield Check("memory", "note", found, "the demo needs 4 GiB; lower scale.num_workers and store.actors")
    else:
        yield Check("memory", "ok", found)


def _tested_versions() -> dict[str, str]:
    """Package -> version of constraints.txt, in the checkout or as the wheel carries it."""
    package = Path(__file__).parents[1]
    for path in (package.parents[1] / "constraints.txt", package / "shipped" / "constraints.txt"):
        if path.is_file():
            pairs = (line.strip().partition("==") for line in path.read_text().splitlines() if "==" in line)
            return {_plain(name): version for name, _, version in pairs}
    return {}


def _plain(name: str) -> str:
    """A package's name as pip compares it."""
    return name.lower().replace("_", "-").replace(".", "-")
