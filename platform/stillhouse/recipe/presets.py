"""Public rerankers by name: weights, prompt, answers and caps, as their authors state them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillhouse.errors import RecipeError


@dataclass(frozen=True)
class Preset:
    """A ranker of the recipe (`options`) on public weights."""

    backbone: str
    """Hub name."""
    source: str
    """Where the authors' own code or card states prompt and score."""
    options: Mapping[str, Any]
    """Recipe keys of the ranker; `{instruction}` in the template takes `line` filled with the instruction."""
    instruction: str | None = None
    line: str = ""

    def ranker(self, instruction: str | None = None) -> dict[str, Any]:
        """The recipe keys of the ranker with an instruction (None: the authors' own, if they have one)."""
        text = self.instruction if instruction is None else instruction
        options = {"backbone": self.backbone, **self.options}
        if "template" in options:
            line = self.line.replace("{}", text) if text else ""
            options["template"] = options["template"].replace("{instruction}", line)
        return options


def _encoder(query_max_length: int, doc_max_length: int) -> dict[str, Any]:
    caps = {"query_max_length": query_max_length, "doc_max_length": doc_max_length}
    return {"ranker": "cross_encoder", "pooling": "pooler", **caps}


_QWEN3 = {
    "ranker": "causal_lm",
    "head": "yes_no",
    "template": (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        "{instruction}<Query>: {query}\n<Document>: {document}"
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    ),
    "joined": "both",
    "append_eos": False,
    "yes_token": "yes",
    "no_token": "no",
    "query_max_length": 512,
    "doc_max_length": 2048,
}
_MXBAI_V2 = {
    "ranker": "causal_lm",
    "head": "yes_no",
    "template": (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n{instruction}query: {query}\ndocument: {document}\n"
        "You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:<|im_end|>\n<|im_start|>assistant\n"
    ),
    "joined": "left",
    "append_eos": False,
    "yes_token": "1",
    "no_token": "0",
    "query_max_length": 512,
    "doc_max_length": 2048,
}
_BGE_GEMMA = {
    "ranker": "causal_lm",
    "head": "yes_no",
    "template": (
        "A: {query}\nB: {document}\nGiven a query A and a passage B, determine whether the passage contains an answer "
        "to the query by providing a prediction of either 'Yes' or 'No'."
    ),
    "joined": "left",
    "append_eos": False,
    "yes_token": "Yes",
    "no_token": None,
    "query_max_length": 256,
    "doc_max_length": 768,
}
_RANKLLAMA = {
    "ranker": "causal_lm",
    "head": "linear",
    "template": "query: {query}<s>document: {document}",
    "joined": "left",
    "append_eos": False,
    "query_max_length": 32,
    "doc_max_length": 164,
}
_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
_FLAG = "github.com/FlagOpen/FlagEmbedding, FlagEmbedding/inference/reranker"
_MXBAI = "github.com/mixedbread-ai/mxbai-rerank, mxbai_rerank"


def _qwen3(size: str) -> Preset:
    name = f"Qwen/Qwen3-Reranker-{size}"
    return Preset(name, f"model card of {name}", _QWEN3, _INSTRUCTION, "<Instruct>: {}\n")


def _card(name: str, query_max_length: int = 64, doc_max_length: int = 444) -> Preset:
    return Preset(name, f"model card of {name}", _encoder(query_max_length, doc_max_length))


PRESETS: dict[str, Preset] = {
    "ms-marco-minilm-l6": _card("cross-encoder/ms-marco-MiniLM-L6-v2"),
    "ms-marco-minilm-l12": _card("cross-encoder/ms-marco-MiniLM-L12-v2"),
    "ms-marco-electra-base": _card("cross-encoder/ms-marco-electra-base"),
    "bge-reranker-base": _card("BAAI/bge-reranker-base"),
    "bge-reranker-large": _card("BAAI/bge-reranker-large"),
    "bge-reranker-v2-m3": _card("BAAI/bge-reranker-v2-m3", 256, 764),
    "gte-reranker-modernbert-base": _card("Alibaba-NLP/gte-reranker-modernbert-base", 512, 2048),
    "mxbai-rerank-xsmall-v1": _card("mixedbread-ai/mxbai-rerank-xsmall-v1"),
    "mxbai-rerank-base-v1": _card("mixedbread-ai/mxbai-rerank-base-v1"),
    "mxbai-rerank-large-v1": _card("mixedbread-ai/mxbai-rerank-large-v1"),
    "qwen3-reranker-0.6b": _qwen3("0.6B"),
    "qwen3-reranker-4b": _qwen3("4B"),
    "qwen3-reranker-8b": _qwen3("8B"),
    "mxbai-rerank-base-v2": Preset(
        "mixedbread-ai/mxbai-rerank-base-v2", f"{_MXBAI}/mxbai_rerank_v2.py", _MXBAI_V2, None, "instruction: {}\n"
    ),
    "mxbai-rerank-large-v2": Preset(
        "mixedbread-ai/mxbai-rerank-large-v2", f"{_MXBAI}/mxbai_rerank_v2.py", _MXBAI_V2, None, "instruction: {}\n"
    ),
    "bge-reranker-v2-gemma": Preset("BAAI/bge-reranker-v2-gemma", f"{_FLAG}/decoder_only/base.py", _BGE_GEMMA),
    "rankllama-v1-7b-passage": Preset(
        "castorini/rankllama-v1-7b-lora-passage", "github.com/texttron/tevatron, examples/rankllama", _RANKLLAMA
    ),
}


def preset_named(name: Any, place: str) -> Preset:
    """The preset of that name; RecipeError names all."""
    if name not in PRESETS:
        raise RecipeError(f"{place}: unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def expand_presets(tree: dict[str, Any], place: str) -> dict[str, Any]:
    """Plain data of a recipe with the presets of its teachers written out; keys beside `preset` win."""
    teachers = tree.get("teachers")
    if not isinstance(teachers, dict):
        return tree
    return tree | {"teachers": {name: _expanded(one, f"{place}: teachers.{name}") for name, one in teachers.items()}}


def _expanded(teacher: Any, place: str) -> Any:
    if not isinstance(teacher, dict):
        return teacher
    if isinstance(teacher.get("template"), str) and "endpoint" in teacher:
        return teacher | {"template": _prompt(teacher["template"], f"{place}.template")}
    if "preset" not in teacher:
        return teacher
    said = {key: value for key, value in teacher.items() if key not in ("preset", "instruction")}
    if "ranker" in said:
        raise RecipeError(f"{place}: preset says what ranker it is; leave out ranker or preset")
    preset, instruction = preset_named(teacher["preset"], f"{place}.preset"), teacher.get("instruction")
    if instruction is not None and not (preset.line and isinstance(instruction, str)):
        raise RecipeError(f"{place}.instruction: {teacher['preset']} reads none, or it is no text; leave it out")
    return preset.ranker(instruction) | said


def _prompt(name: str, place: str) -> dict[str, Any]:
    """The prompt of a preset for an endpoint: it answers with log-probabilities of tokens."""
    options = preset_named(name, place).ranker()
    if options.get("head") != "yes_no" or options["no_token"] is None:
        raise RecipeError(
            f"{place}: the score of {name} is no difference of two answers, which is all that log-probabilities give; "
            f"score it here with preset: {name}"
        )
    return {"prompt": options["template"], "yes_token": options["yes_token"], "no_token": options["no_token"]}
