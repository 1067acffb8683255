"""What the user sees: our own lines, errors as one line, and the noise of the libraries only when asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from typer import Abort
from typer.exceptions import TyperException

from stillhouse.errors import StillhouseError

if TYPE_CHECKING:
    from rich.console import Console

NO_TELEMETRY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
QUIET = {
    "RAY_DEDUP_LOGS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Below this the C++ core warns on stderr about actors that Ray Data makes in its usual way.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_COLOR_PREFIX": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore",
}


def quiet(*, verbose: bool = False) -> None:
    """Set the environment that the libraries read when they are imported; what the user has set stays."""
    for name, value in (NO_TELEMETRY | ({} if verbose else QUIET)).items():
        os.environ.setdefault(name, value)
    if not verbose:
        import warnings

        warnings.simplefilter("ignore")


def open_console() -> Console:
    """The console of a command; results go to stdout, so that they can be piped."""
    from rich.console import Console

    # A pipe has no width: lines for `grep` are not broken at 80 characters.
    terminal = sys.stdout.isatty()
    return Console(highlight=False, width=None if terminal else 160, soft_wrap=not terminal)


def guard(command: Callable[[], Any], *, debug: bool = False) -> int:
    """Run a command; its exit status, with every error told in one line on stderr."""
    try:
        status = command()
    except TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        return _fail(_one_line(error.format_message()).rstrip(".") + hint, 2)
    except (KeyboardInterrupt, Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; nothing is left to tell.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (stays open until exit)
        return 1
    except Exception as error:
        if debug:
            raise
        return _fail(describe(error), 1)
    return status if isinstance(status, int) else 0


def describe(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, StillhouseError):
        return _one_line(str(error))
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return _one_line(f"{place}{error.strerror}")
    return _one_line(f"{type(error).__name__}: {error}") + " (--debug shows where)"


def _one_line(text: str) -> str:
    """The text without line breaks, so that `grep` and logs keep an error whole."""
    return " ".join(text.split()) or "unknown error"


def _fail(text: str, status: int) -> int:
    print(f"error: {text}", file=sys.stderr)
    return status
