from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from stillhouse.mapped import mapped_arrays
from stillhouse.training.teacher import TeacherScores, write_teacher_scores


def test_made_once_read_only_and_anew_for_another_file(tmp_path: Path) -> None:
    source = tmp_path / "file"
    calls: list[bytes] = []

    def make() -> dict[str, np.ndarray]:
        calls.append(source.read_bytes())
        return {"bytes": np.frombuffer(calls[-1], dtype=np.uint8), "none": np.zeros(0, dtype=np.float32)}

    source.write_bytes(b"ab")
    for _ in range(2):
        arrays = mapped_arrays(source, make)
        assert arrays["bytes"].tolist() == [97, 98]
        assert len(arrays["none"]) == 0
    assert calls == [b"ab"]
    with pytest.raises(ValueError, match="read-only"):
        arrays["bytes"][0] = 1
    source.write_bytes(b"abc")
    assert mapped_arrays(source, make)["bytes"].tolist() == [97, 98, 99]
    assert arrays["bytes"].tolist() == [97, 98]


def test_teacher_scores_lie_in_shared_memory(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    write_teacher_scores(path, [(np.array([1, 0]), np.array([5, 7]), np.array([0.5, 0.25], dtype=np.float32))])
    scores = TeacherScores.read(path)
    assert scores.of(0, np.array([7, 5])).tolist()[0] == 0.25
    assert scores.of(1, np.array([5])).tolist() == [0.5]
    maps = Path(f"/proc/{os.getpid()}/maps").read_text()
    assert f"{path.name}.mapped" in maps
