"""A language model's prompt: its own tokens, and what of it is tokenised together with a text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stillhouse.errors import BackboneError

Tokenise = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True)
class Slot:
    """The place of one text: `before` and `after` are tokenised with it, in that order."""

    before: str = ""
    after: str = ""

    @property
    def fixed(self) -> str:
        """The part of `before` whose tokens are the prompt's: white space belongs to the text's first token."""
        return self.before.rstrip()


class SlotReader:
    """Tokenises the texts of one slot as they stand in the prompt."""

    def __init__(self, slot: Slot, tokenise: Tokenise, tokenizer_digest: str) -> None:
        self.slot = slot
        self._tokenise = tokenise
        said = repr((tokenizer_digest, slot.before, slot.after))
        self.tokenizer_digest = hashlib.sha256(said.encode()).hexdigest()

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Content ids of each text, uncapped: without the prompt's, with the white space around the text."""
        (fixed,) = self._tokenise([self.slot.fixed])
        whole = self._tokenise([f"{self.slot.before}{text}{self.slot.after}" for text in texts])
        for text, ids in zip(texts, whole, strict=True):
            if ids[: len(fixed)] != fixed:
                raise BackboneError(
                    f"template: the tokens of {self.slot.fixed!r} change before the text {text[:40]!r}; put white "
                    "space between them, or leave joined out"
                )
        return [ids[len(fixed) :] for ids in whole]


@dataclass(frozen=True)
class Prompt:
    """A template taken apart: `literals[i]`, the text of `slots[i]`, ..., `literals[2]`."""

    literals: tuple[str, str, str]
    slots: tuple[Slot, Slot]
    document_first: bool

    def slot(self, side: str) -> Slot:
        return self.slots[(side == "query") == self.document_first]


def parse_prompt(template: str, joined: str) -> Prompt:
    """Take `template` apart at {query} and {document}.

    `joined`: `none` tokenises texts apart; `left` each with the end of the prompt line before it; `both` also with
    the line breaks after it, which is how the whole prompt as one string is tokenised where a tokenizer's words end
    at line breaks.
    """
    before, first, between, _, after = re.split(r"\{(query|document)\}", template)
    literals, slots = [before, between, after], [Slot(), Slot()]
    if joined != "none":
        for number in range(2):
            breaks = ""
            if joined == "both":
                breaks = re.match(r"\s*\n|", literals[number + 1]).group()  # type: ignore[union-attr]
                literals[number + 1] = literals[number + 1].removeprefix(breaks)
            literal = literals[number]
            start = literal.rstrip().rfind("\n") + 1
            slots[number] = Slot(literal[start:], breaks)
            literals[number] = literal.rstrip()
    return Prompt((literals[0], literals[1], literals[2]), (slots[0], slots[1]), first == "document")
