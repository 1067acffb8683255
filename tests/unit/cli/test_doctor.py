"""`stillhouse doctor`: what it finds is so, and what must be mended makes it fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from stillhouse.cli import checks
from stillhouse.cli.checks import Check


def by_name(found: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def requirements(*lines: str) -> Callable[[str], list[str]]:
    return lambda package: list(lines)


def test_packages_are_compared_with_bound_and_tested_version(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version("rich")
    monkeypatch.setattr(
        metadata, "requires", requirements("rich>=1", "torch>=99", "no-such-thing>=1", 'ruff>=99; extra == "dev"')
    )
    monkeypatch.setattr(checks, "_tested_versions", lambda: {"rich": version})
    found = by_name(checks.packages())
    assert found["packages"].found == f"1 as tested: rich {version}"
    assert found["torch"].state == "FAILS"
    assert found["torch"].found == f"{metadata.version('torch')}, needed: >=99"
    assert found["no-such-thing"].state == "FAILS"
    assert all(check.mend for check in found.values() if check.state != "ok")

    monkeypatch.setattr(checks, "_tested_versions", lambda: {"rich": "0.1"})
    assert by_name(checks.packages())["rich"] == Check(
        "rich", "note", f"{version}; tested with 0.1", found["torch"].mend
    )


def test_a_missing_extra_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", requirements("rich>=1", 'no-such-thing>=1; extra == "demo"'))
    found = by_name(checks.packages())
    assert found["extras"].state == "note"
    assert "no-such-thing (demo)" in found["extras"].found


def test_the_tested_versions_are_read() -> None:
    tested = checks._tested_versions()
    assert tested["ray"] == "2.60.0"
    assert "types-pyyaml" in tested


def test_the_device_is_the_one_torch_has() -> None:
    found = by_name(checks.devices())["device"].found
    assert torch.__version__ in found
    if torch.cuda.is_available():
        assert torch.cuda.get_device_name(0) in found
    else:
        assert f"{os.cpu_count()} cores" in found
        assert "float32" in found


@pytest.mark.parametrize(("free", "state"), [(100.0, "ok"), (3.0, "note"), (0.5, "FAILS")])
def test_disk(free: float, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, int(free * 2**30)))
    found = list(checks.disk())
    assert found[0].found == f"{tmp_path}: writable, {free:.1f} GiB free"
    assert {check.state for check in found} == {state}


@pytest.mark.parametrize(("free", "state"), [(100.0, "ok"), (3.0, "note"), (0.5, "FAILS")])
def test_memory(free: float, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=int(free * 2**30)))
    assert [check.state for check in checks.memory()] == [state]


def test_the_record(tmp_path: Path) -> None:
    assert [check.state for check in checks.record(f"sqlite:///{tmp_path}/mlflow.db")] == ["ok"]
    broken = tmp_path / "broken.db"
    broken.write_text("this is no database, but a text of some length" * 100)
    (check,) = checks.record(f"sqlite:///{broken}")
    assert check.state == "FAILS"
    assert str(broken) in check.found
    assert "\n" not in check.found


def test_a_failure_is_the_status_and_stands_in_the_table(
    call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("packages", "devices", "record", "disk", "memory"):
        monkeypatch.setattr(checks, name, lambda *_: iter([]))
    monkeypatch.setattr(
        checks, "ray_starts", lambda verbose: iter([Check("Ray", "FAILS", "none", "pip install '.[x]'")])
    )
    done = call("doctor")
    assert done.status == 1
    assert "Ray" in done.out
    assert "pip install '.[x]'" in done.out, "square brackets are no markup"
    monkeypatch.setattr(checks, "ray_starts", lambda verbose: iter([]))
    assert call("doctor").status == 0


def test_a_package_that_cannot_be_imported_is_a_finding(
    call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Iterator[Check]:
        import no_such_module_at_all  # noqa: F401

        yield from ()

    for name in ("packages", "record", "disk", "memory"):
        monkeypatch.setattr(checks, name, lambda *_: iter([]))
    monkeypatch.setattr(checks, "ray_starts", lambda verbose: iter([]))
    monkeypatch.setattr(checks, "devices", broken)
    done = call("doctor")
    assert done.status == 1
    assert "no_such_module_at_all" in done.out
