"""The build copies recipes, search spaces, suites and tested versions into the wheel; the rest is in pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

_SHIPPED = ("jobs/recipes", "search_spaces", "suites")


class _WithShipped(build_py):
    """`stillhouse.recipe.find_file` looks in `stillhouse/shipped/<folder name>/` when there is no checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for folder in map(Path, _SHIPPED):
            target = Path(self.build_lib) / "stillhouse" / "shipped" / folder.name
            target.mkdir(parents=True, exist_ok=True)
            for source in sorted(folder.glob("*.yaml")):
                shutil.copy2(source, target)
        # `stillhouse doctor` compares with the tested versions.
        shutil.copy2("constraints.txt", Path(self.build_lib) / "stillhouse" / "shipped")


setup(cmdclass={"build_py": _WithShipped})
