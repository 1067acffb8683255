"""The command line: one verb a file, thin over the library. `stillhouse --help` loads neither torch nor Ray."""

from stillhouse.cli.app import main, main_of

__all__ = ["main", "main_of"]
