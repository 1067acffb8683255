"""Presets of public rerankers: each token as the authors' own code makes it, each score as transformers' own logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from stillhouse.errors import BackboneError
from stillhouse.rankers import RANKERS, Ranker, load_ranker
from stillhouse.recipe.presets import PRESETS
from tests.contracts.tiny_llms import TEXTS, write_llm
from tests.contracts.tiny_models import write_model

KINDS = {
    "qwen3-reranker-0.6b": "qwen3",
    "mxbai-rerank-base-v2": "qwen2",
    "bge-reranker-v2-gemma": "gemma",
    "rankllama-v1-7b-passage": "llama",
}
QWEN3_ASKS = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
MXBAI_TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document "
    "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment "
    "(0 for not relevant, 1 for relevant).\nRelevance:"
)
GEMMA_ASKS = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)


def ids_of(tokenizer: Any, preset: str, query: str, doc: str) -> list[int]:
    """What the authors' code feeds the model, piece by piece as it tokenises."""

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    if preset.startswith("qwen3"):
        task = "Given a web search query, retrieve relevant passages that answer the query"
        pair = f"<Instruct>: {task}\n<Query>: {query}\n<Document>: {doc}"
        return [*ids(QWEN3_ASKS), *ids(pair), *ids("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")]
    if preset.startswith("mxbai"):
        system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        prefix = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
        pieces = [prefix, f"query: {query}", "\n", f"document: {doc}", "\n", MXBAI_TASK]
        return [token for piece in [*pieces, "<|im_end|>\n<|im_start|>assistant\n"] for token in ids(piece)]
    if preset.startswith("bge"):
        pieces = [f"A: {query}", "\n", f"B: {doc}", "\n", GEMMA_ASKS]
        return [tokenizer.bos_token_id, *(token for piece in pieces for token in ids(piece))]
    bos = tokenizer.bos_token_id
    return [bos, *ids(f"query: {query}"), bos, *ids(f"document: {doc}")]


@pytest.fixture(scope="module", params=list(KINDS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Ranker]:
    name, kind = request.param, KINDS[request.param]
    folder = write_llm(tmp_path_factory.mktemp(kind) / kind, kind, classifier=name.startswith("rankllama"))
    options = PRESETS[name].ranker() | {"backbone": str(folder)}
    ranker_class = RANKERS[options["ranker"]]
    return name, folder, ranker_class.from_spec(ranker_class.spec_class.model_validate(options))


def row(ranker: Ranker, query: str, doc: str) -> list[int]:
    (query_ids,), (doc_ids,) = ranker.reader("query").tokenise([query]), ranker.reader("doc").tokenise([doc])
    ids: list[int] = ranker.row(query_ids, doc_ids)[0]  # type: ignore[attr-defined]
    return ids


def test_every_token_is_the_authors_own(made: tuple[str, Path, Ranker]) -> None:
    name, folder, ranker = made
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for query in TEXTS:
        for doc in TEXTS:
            assert row(ranker, query, doc) == ids_of(tokenizer, name, query, doc), (query, doc)


def test_scores_are_the_models_own_logits_one_by_one(made: tuple[str, Path, Ranker]) -> None:
    name, folder, ranker = made
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    classifier = name.startswith("rankllama")
    auto = transformers.AutoModelForSequenceClassification if classifier else transformers.AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32).eval()
    scores_QK = ranker.score(TEXTS[:2], [TEXTS[:3], TEXTS[3:6]])
    answers = [PRESETS[name].options.get(key) for key in ("yes_token", "no_token")]
    for number, docs in enumerate([TEXTS[:3], TEXTS[3:6]]):
        for place, doc in enumerate(docs):
            with torch.no_grad():
                logits = model(torch.tensor([ids_of(tokenizer, name, TEXTS[number], doc)])).logits[0]
            if classifier:
                wanted = logits[0]
            else:
                yes, no = (tokenizer.convert_tokens_to_ids(answer) if answer else None for answer in answers)
                wanted = logits[-1, yes] - (logits[-1, no] if no is not None else 0)
            assert scores_QK[number, place].item() == pytest.approx(wanted.item(), abs=2e-5)
    assert scores_QK.std() > 1e-3


def test_long_texts_are_cut_and_the_prompt_never(made: tuple[str, Path, Ranker], tmp_path: Path) -> None:
    name, folder, _ = made
    caps = {"query_max_length": 3, "doc_max_length": 5}
    options = PRESETS[name].ranker() | {"backbone": str(folder)} | caps
    ranker = RANKERS["causal_lm"].from_spec(RANKERS["causal_lm"].spec_class.model_validate(options))
    long, empty = "river stone garden window letter engine.", row(ranker, "", "")
    (query,), (doc,) = ranker.reader("query").tokenise([long]), ranker.reader("doc").tokenise([long])
    assert min(len(query), len(doc)) > 5
    ids = ranker.row(query, doc)[0]  # type: ignore[attr-defined]
    specials = ranker.template.specials  # type: ignore[attr-defined]
    breaks = ranker.breaks["query"]  # type: ignore[attr-defined]
    assert ids == [*specials[0], *query[:3], *breaks, *specials[1], *doc[:5], *specials[2]]
    # Where the line break after the query is its own token, it closes a query that was cut as one that was not.
    assert breaks == (ranker.tokenise(["\n"])[0] if name.startswith("qwen3") else [])
    assert [*specials[2]] == empty[len(empty) - len(specials[2]) :]
    ranker.save_pretrained(tmp_path / "kept")
    again = load_ranker(tmp_path / "kept")
    assert torch.equal(again.score(["a"], [["b"]]), ranker.score(["a"], [["b"]]))
    assert again.reader("doc").tokenizer_digest == ranker.reader("doc").tokenizer_digest


def test_presets_name_rankers_of_ours_with_known_options() -> None:
    for preset in PRESETS.values():
        options = preset.ranker()
        RANKERS[options["ranker"]].spec_class.model_validate(options)
        assert "{instruction}" not in options.get("template", "")


def test_an_instruction_stands_where_the_card_puts_it() -> None:
    assert (
        "<|im_start|>user\n<Instruct>: find laws\n<Query>: "
        in PRESETS["qwen3-reranker-4b"].ranker("find laws")["template"]
    )
    assert (
        "user\ninstruction: find laws\nquery: {query}"
        in PRESETS["mxbai-rerank-base-v2"].ranker("find laws")["template"]
    )
    assert "user\nquery: {query}" in PRESETS["mxbai-rerank-base-v2"].ranker()["template"]


def test_a_decoder_with_a_classifier_asks_for_a_prompt(tmp_path: Path) -> None:
    folder = write_llm(tmp_path / "qwen2", "qwen2", classifier=True)
    with pytest.raises(BackboneError, match="nothing between query and document, so it needs a prompt"):
        load_ranker(folder)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "modernbert", "deberta-v2", "electra"])
def test_public_cross_encoders_open_with_their_own_head(kind: str, tmp_path: Path) -> None:
    """Scores of classification models of the presets' architectures are transformers' own, pair by pair."""
    folder = write_model(tmp_path / kind, "electra" if kind in ("electra", "deberta-v2") else "roberta")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    ids = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0}
    more = {"max_position_embeddings": 162, "vocab_size": len(tokenizer), "num_labels": 1, "type_vocab_size": 1}
    if kind in ("electra", "deberta-v2"):
        more["type_vocab_size"] = 2
    config = transformers.AutoConfig.for_model(kind, **sizes, **ids, **more)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(folder)
    ranker = load_ranker(folder)
    docs = ["a silver needle", "river garden " * 3, ""]
    scores_QK = ranker.score(["river stone"], [docs])
    for place, doc in enumerate(docs):
        with torch.no_grad():
            # In lists: on its own, an empty second text counts as none.
            logits = model(**tokenizer(["river stone"], [doc], return_tensors="pt")).logits
        assert scores_QK[0, place].item() == pytest.approx(logits.item(), abs=2e-5)
