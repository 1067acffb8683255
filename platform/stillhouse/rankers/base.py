"""What every ranker is: a plain torch module that turns queries and their documents into scores."""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from stillhouse.errors import RecipeError
from stillhouse.rankers import lora, saving
from stillhouse.rankers.backbones import checkpoint_layers, layers_of, resolve
from stillhouse.rankers.batching import Batch, Ids, Tokens, budget_of, ids_by_text, utf8
from stillhouse.rankers.compiling import compile_blocks
from stillhouse.rankers.heads import init_fresh
from stillhouse.rankers.identity import digest_of
from stillhouse.rankers.slots import check_ids, check_texts
from stillhouse.recipe.base import Spec
from stillhouse.recipe.load import describe

if TYPE_CHECKING:
    from stillhouse.collection.tokens import Tokeniser

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Truncation:
    """How many texts of the last scoring call were longer than their cap."""

    texts: int = 0
    truncated: int = 0

    @property
    def share(self) -> float:
        return self.truncated / self.texts if self.texts else 0.0


class Ranker(nn.Module, ABC):
    """Scores documents for queries. One subclass per architecture; `RANKERS` lists them."""

    key: ClassVar[str]
    spec_class: ClassVar[type[Spec]]
    separable: bool
    """Whether document representations can be kept: `encode_docs`, then `interact`."""
    forward_methods: ClassVar[tuple[str, ...]]
    """Methods besides `forward` that run blocks: register them where FSDP2 wraps the ranker."""
    has_kernels: ClassVar[bool] = False
    """Whether `kernel_parameters` names any."""

    def __init__(self, spec: Any, backbone: Any, tokenizer: Any) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.truncation = Truncation()
        self._fresh: frozenset[str] = frozenset()
        self.mlm_head: nn.Module | None = None
        if backbone is None:
            return
        if spec.freeze_word_embeddings:
            backbone.get_input_embeddings().weight.requires_grad_(False)
        if spec.gradient_checkpointing:
            checkpoint_layers(backbone)

    # Making and keeping

    @classmethod
    def from_backbone(cls, name_or_path: str, *, seed: int = 0, **options: Any) -> Self:
        """A fresh ranker on pretrained weights; `options` are the recipe keys of this architecture.

        Raises RecipeError for an option it does not have or a value that is not possible.
        """
        said = {"ranker": cls.key, "backbone": str(name_or_path)} | options
        try:
            spec = cls.spec_class.model_validate(said)
        except ValidationError as error:
            raise RecipeError(f"{cls.key}: {describe(error, said, cls.spec_class)}") from None
        return cls.from_spec(spec, seed=seed)

    @classmethod
    def from_spec(cls, spec: Any, seed: int = 0) -> Self:
        """A fresh ranker as a recipe describes it; layers the backbone lacks are drawn from `seed`, not globally."""
        own = {name: getattr(spec, name) for name in cls.spec_class.model_fields}
        with torch.random.fork_rng(devices=[]):
            ranker = cls._fresh_from(cls.spec_class(**own), seed)
            lora.add(ranker, seed)
        compile_blocks(ranker, needed=True)
        return ranker

    @classmethod
    @abstractmethod
    def _fresh_from(cls, spec: Any, seed: int) -> Self:
        """Load the backbone that `spec` names and draw the rest."""

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Self:
        """Reopen what `save_pretrained` wrote (folder, hub name, MLflow URI); a missing weight is an error."""
        folder = resolve(str(path))
        facts = saving.read_facts(folder, cls.key)
        spec: Any = cls.spec_class.model_validate_json(json.dumps(facts["spec"]))
        with torch.random.fork_rng(devices=[]):
            # A saved backbone has the chosen layers only (tk has no such option, and then this one is not read).
            ranker = cls._opened(spec.model_copy(update={"layers": None}), saving.backbone_folder(spec, folder))
            ranker.spec = spec
            if lora.lora_of(ranker) is not None:
                lora.add(ranker)
                lora.read(ranker, folder)
        saving.read_heads(folder, ranker)
        ranker._fresh = frozenset(facts["fresh_parameters"])
        compile_blocks(ranker, needed=False)
        return ranker

    @classmethod
    @abstractmethod
    def _opened(cls, spec: Any, folder: Path) -> Self:
        """The ranker with the backbone of a saved folder, heads still to be read."""

    def save_pretrained(self, path: str | Path, card: str = "", *, merge: bool = True) -> None:
        """Write a folder that `from_pretrained` and, where it can express the ranker, sentence-transformers 6 open.

        LoRA adapters are merged into the weights written, and the ranker that is reopened has none. `merge=False`
        keeps them apart: the frozen weights in `base/`, the adapters in `adapters/` as peft reads them.
        """
        saving.save(self, Path(path), card, merge=merge)

    def backbones(self) -> dict[str, Any]:
        """Subfolder (empty: the root) and attribute name of each pretrained model inside."""
        return {"": "backbone"}

    @abstractmethod
    def exported_modules(self) -> list[saving.LibraryModule] | None:
        """The layers after the transformer in sentence-transformers' terms; None where it cannot express them."""

    def unexpressed(self) -> list[str]:
        """Options in use that sentence-transformers cannot express."""
        return []

    def exported_config(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Contents of config_sentence_transformers.json and sentence_bert_config.json."""
        raise NotImplementedError

    def draw_fresh(self, seed: int, missing: Collection[str] = ()) -> Self:
        """Draw from `seed` what no checkpoint gave: heads, and the backbone's `missing` weights."""
        given = tuple(f"{attribute}." for attribute in self.backbones().values())
        wanted = {f"backbone.{name}" for name in missing}
        drawn = {
            name: parameter
            for name, parameter in self.named_parameters()
            if name in wanted or not name.startswith(given or ("\0",))
        }
        config = getattr(self.backbone, "config", None)
        own = {name: parameter for name, parameter in drawn.items() if name not in self.preset_parameters()}
        init_fresh(own.items(), seed, std=getattr(config, "initializer_range", 0.02))
        self._fresh = frozenset(drawn)
        return self

    def preset_parameters(self) -> set[str]:
        """Fresh parameters that start at a value of their own instead of a random one."""
        return set()

    # Scoring

    @abstractmethod
    def collate(
        self, queries: Sequence[Ids], docs: Sequence[Sequence[Ids]], *, num_chunks: int = 1, width: int | None = None
    ) -> Batch:
        """Cap the uncapped content ids of Q queries and their documents, add special tokens, pad.

        Pairs are sorted by length and cut into exactly `num_chunks` pieces of about equal numbers of tokens; a
        piece without pairs holds a dummy, so that every rank makes the same number of forwards. K is `width`, or
        the longest list of documents.
        """

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Scores, float32 [Q, K], -inf in padded slots; gradients flow, and are zero for dummies."""

    @abstractmethod
    def _score_ids(self, queries: Sequence[Ids], docs: Sequence[Sequence[Ids]], token_budget: int) -> np.ndarray: ...

    def score_tokens(
        self, queries: Sequence[Ids], docs: Sequence[Sequence[Ids]], *, token_budget: int | None = None
    ) -> np.ndarray:
        """Scores of uncapped content ids, float32 [Q, K], -inf in padded slots; no gradients, no dropout.

        Batches of about `token_budget` padded tokens (None: TOKEN_BUDGET), longest first: a pure function of the input.
        """
        caps = self.spec.query_max_length, self.spec.doc_max_length
        texts = [(ids, caps[0]) for ids in queries] + [(ids, caps[1]) for row in docs for ids in row]
        check_ids([ids for ids, _ in texts], self)
        self.truncation = Truncation(len(texts), sum(len(ids) > cap for ids, cap in texts))
        with self.inference():
            return self._score_ids(queries, docs, token_budget or budget_of(self.device))

    def score(self, queries: Sequence[str], docs: Sequence[Sequence[str]]) -> Tensor:
        """Scores of texts, float32 [Q, K] on CPU, -inf in padded slots; `truncation` counts what was cut."""
        check_texts(queries, docs)
        query_ids = ids_by_text(self.reader("query"), queries)
        doc_ids = ids_by_text(self.reader("doc"), [text for row in docs for text in row])
        scores_QK = self.score_tokens(
            [query_ids[one] for one in queries], [[doc_ids[one] for one in row] for row in docs]
        )
        if self.truncation.share > 0.01:
            cut = self.truncation
            logger.warning("%d of %d texts were cut at their cap (%.1f %%)", cut.truncated, cut.texts, 100 * cut.share)
        return torch.from_numpy(scores_QK)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Evaluation mode without autograd; the mode of before is restored."""
        training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.train(training)

    def for_scoring(self, dtype: torch.dtype) -> Self:
        """Cast the backbone's weights in place for inference; heads stay float32. Returns the ranker itself."""
        kept = {id(parameter) for head in self.heads() for parameter in head.parameters()}
        for parameter in self.parameters():
            if id(parameter) not in kept:
                parameter.data = parameter.data.to(dtype)
        return self.eval()

    # Masked language modelling, while training

    def hidden_states(self, tokens: Tokens, side: str) -> Tensor:
        """The encoder's last states [P, L, D] of P rows of a side (query or doc; joint rows: doc)."""
        raise NotImplementedError(f"{self.key} has no encoder of whole rows")

    def mask_logits(self, tokens: Tokens, at_PL: Tensor, side: str) -> Tensor:
        """Logits [M, V] of the M tokens where `at_PL` is True, in row order, by the head of `mlm_head.attach`."""
        assert self.mlm_head is not None
        hidden_MD = self.hidden_states(tokens, side)[at_PL]
        logits_MV: Tensor = self.mlm_head(hidden_MD, self.encoder_of(side).get_input_embeddings().weight)
        return logits_MV

    def encoder_of(self, side: str) -> Any:
        """The pretrained model that reads a side."""
        return self.backbone

    def attach_head(self, name: str, head: nn.Module, *, fresh: bool) -> None:
        """Put a head on for training; `detach_head` takes it off again before the ranker is saved."""
        setattr(self, name, head)
        if fresh:
            self._fresh |= {f"{name}.{inner}" for inner, _ in head.named_parameters()}

    def detach_head(self, name: str) -> None:
        setattr(self, name, None)
        self._fresh = frozenset(one for one in self._fresh if not one.startswith(f"{name}."))

    # Texts and tokens

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Content ids of each text: uncapped, without special tokens."""
        backend = self.tokenizer.backend_tokenizer
        # Saved tokenizers carry a cut and a padding of their own (MiniLM: 128 tokens).
        backend.no_truncation()
        backend.no_padding()
        encodings = backend.encode_batch_fast([utf8(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def reader(self, side: str) -> Tokeniser:
        """What tokenises the texts of a side (query or doc) for `score_tokens`: the ranker itself, or its prompt."""
        return self

    @property
    def tokenizer_digest(self) -> str:
        """SHA-256 of what decides the ids of a text."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        return hashlib.sha256(backend.to_str().encode()).hexdigest()

    def weight_digest(self) -> str:
        """SHA-256 over the name, dtype, shape and bytes of every tensor, sorted by name."""
        return digest_of(self.state_dict())

    # What training needs to know

    def blocks(self) -> list[nn.Module]:
        """Transformer blocks in order: what FSDP2 wraps."""
        return [block for name in self.backbones().values() for block in layers_of(getattr(self, name))]

    @abstractmethod
    def heads(self) -> list[nn.Module]:
        """Modules that stay float32 in `for_scoring`."""

    def fresh_parameters(self) -> set[str]:
        """Names of the parameters that did not come from the backbone."""
        return set(self._fresh)

    def kernel_parameters(self) -> set[str]:
        """Names of the parameters that weigh kernels, which may have a learning rate of their own."""
        return set()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    def choose_attention(self, backbone: Any) -> None:
        """Set the attention kernel the spec asks for; `auto` is eager on CPU, where it is faster for narrow heads."""
        wanted = self.spec.attention
        if wanted == "auto":
            wanted = "eager" if self.device.type == "cpu" else "sdpa"
        if backbone.config._attn_implementation != wanted:
            backbone.set_attn_implementation(wanted)
