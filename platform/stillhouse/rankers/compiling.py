"""torch.compile for the blocks of a ranker."""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING

from stillhouse.errors import RecipeError

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker

logger = logging.getLogger(__name__)


def compile_blocks(ranker: Ranker, *, needed: bool) -> None:
    """Compile each block in place where the spec asks for it; parameters keep their names.

    Blocks of one class share their code, so this costs one compilation, and FSDP2 may wrap them afterwards. Without a
    C++ compiler it is a RecipeError where `needed`, else a warning: a ranker compiled elsewhere still opens here.
    """
    if not ranker.spec.compile:
        return
    compilers = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    if any(shutil.which(name) for name in compilers if name):
        for block in ranker.blocks():
            block.compile(dynamic=True)
    elif needed:
        raise RecipeError("compile: true needs a C++ compiler and finds none: install g++, set CXX, or leave it off")
    else:
        logger.warning("this ranker asks for compile: true; there is no C++ compiler here, so it runs as it is")
