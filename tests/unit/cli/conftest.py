"""The command as a user calls it, in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from stillhouse.cli import main


@dataclass
class Done:
    status: int
    out: str
    err: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """`stillhouse ARGUMENTS` in this process."""

    def run(*arguments: str) -> Done:
        with monkeypatch.context() as patch:
            # What the command sets for its libraries ends with it.
            patch.setattr(os, "environ", os.environ.copy())
            status = main([str(one) for one in arguments])
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return run
