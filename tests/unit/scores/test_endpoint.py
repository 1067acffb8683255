"""A teacher behind a real local server: its scores, its faults, its store."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stillhouse.collection import Collection
from stillhouse.errors import RecipeError, StoreError
from stillhouse.rankers import RANKERS, Ranker
from stillhouse.recipe.endpoint import EndpointTeacher
from stillhouse.recipe.presets import PRESETS, expand_presets
from stillhouse.scores.ask import ask_pairs
from stillhouse.scores.client import Client
from stillhouse.scores.journal import read_jobs
from stillhouse.scores.rate import RateLimit
from stillhouse.scores.store import ScoreStore
from tests.contracts.completion_server import KEY, CompletionServer, serving
from tests.contracts.tiny_llms import write_llm

SCHEMA = pa.schema([("query_row", pa.int32()), ("doc_row", pa.int32())])
ALL = 10_000


def grid(queries: int, docs: int) -> pa.Table:
    rows = [(query, doc) for query in range(queries) for doc in range(docs)]
    return pa.table([[query for query, _ in rows], [doc for _, doc in rows]], schema=SCHEMA)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llm(tmp_path_factory.mktemp("served") / "qwen3", "qwen3")


@pytest.fixture(scope="module")
def ranker(folder: Path) -> Ranker:
    options = PRESETS["qwen3-reranker-0.6b"].ranker() | {"backbone": str(folder)}
    return RANKERS["causal_lm"].from_spec(RANKERS["causal_lm"].spec_class.model_validate(options))


@pytest.fixture
def server(folder: Path) -> Iterator[CompletionServer]:
    with serving(folder) as running:
        yield running


def spec_of(server: CompletionServer, **options: Any) -> EndpointTeacher:
    said = {"endpoint": server.url, "model": "tiny", "template": "qwen3-reranker-0.6b", "top_logprobs": 1000} | options
    (expanded,) = expand_presets({"teachers": {"t": said}}, "test")["teachers"].values()
    return EndpointTeacher.model_validate(expanded)


def store_of(root: Path, spec: EndpointTeacher) -> ScoreStore:
    return ScoreStore(root, spec.identity(), 2)


def prompts_of(spec: EndpointTeacher, toy: Collection, count: int) -> list[str]:
    query = toy.splits["train"].queries.text(0)
    return [spec.template.fill(query, toy.docs.text(row)) for row in range(count)]


def test_scores_are_those_of_the_same_model_here(
    tmp_path: Path, server: CompletionServer, ranker: Ranker, toy: Collection
) -> None:
    """log p(yes) - log p(no) is logit(yes) - logit(no): both log-probabilities hold the same log Z."""
    spec = spec_of(server, prompts_per_request=3, concurrency=2)
    store = store_of(tmp_path, spec)
    server.faults.extend(["shuffle", "429", "500", "shuffle", "hang up"])
    report = ask_pairs(store, spec, toy, "train", grid(3, 4), in_process=True, shard_size=6)
    assert (report.scored, report.reused) == (12, 0)
    queries, docs = toy.splits["train"].queries, toy.docs
    wanted_QK = ranker.score(queries.texts(range(3)), [docs.texts(range(4))] * 3)
    for query in range(3):
        found = store.lookup([queries.hashes[query]] * 4, docs.hashes[:4])
        assert found.tolist() == pytest.approx(wanted_QK[query].tolist(), abs=1e-4)
    assert wanted_QK.std() > 1e-2
    assert store.scale == "logit"
    assert int(sum(store.table(part)["num_tokens"].to_numpy().sum() for part in range(2))) > 12 * 60

    asked = len(server.requests)
    again = ask_pairs(store, spec, toy, "train", grid(4, 4), in_process=True)
    assert (again.scored, again.reused) == (4, 12)
    assert len(server.requests) == asked + 2  # 4 new pairs, 3 a request
    assert read_jobs(store.path)[0]["endpoint"]["endpoint"] == server.url


def test_chat_sends_system_and_user_messages(server: CompletionServer, toy: Collection) -> None:
    template = {"prompt": "{query} | {document}", "yes_token": "yes", "no_token": "no", "system": "Judge."}
    spec = spec_of(server, api="chat", template=template)
    (answer,) = Client(spec).ask(["river | stone"])
    plain = spec_of(server, template={key: value for key, value in template.items() if key != "system"})
    # The test's server reads only the user's message: both kinds of call see the same prompt.
    assert answer == Client(plain).ask(["river | stone"])[0]
    assert [one["role"] for one in server.requests[0]["messages"]] == ["system", "user"]
    assert (server.requests[0]["temperature"], server.requests[0]["max_tokens"]) == (1.0, 1)


def test_an_answer_that_is_not_among_the_likeliest_is_refused_by_name(
    tmp_path: Path, server: CompletionServer, toy: Collection
) -> None:
    spec = spec_of(server, top_logprobs=2)
    store = store_of(tmp_path, spec)
    named = (
        r"query q0, document d\d: '(yes|no)' is not among its 2 likeliest tokens \(first: .*\); its shard of 2 pairs"
    )
    with pytest.raises(StoreError, match=named):
        ask_pairs(store, spec, toy, "train", grid(1, 2), in_process=True)
    assert len(store) == 0


def test_what_was_answered_is_kept_and_the_next_job_asks_only_for_what_was_refused(
    tmp_path: Path, server: CompletionServer, toy: Collection
) -> None:
    spec = spec_of(server, concurrency=1)
    plain, store = store_of(tmp_path / "plain", spec), store_of(tmp_path / "refused", spec)
    ask_pairs(plain, spec, toy, "train", grid(2, 6), in_process=True, shard_size=6)
    asked = len(server.requests)
    server.faults.extend(["", "400", "400"])
    named = (
        r"query q\d, document d\d: the server refuses it with 400: as the test wants \(and 1 pairs more\); the other \d"
    )
    with pytest.raises(StoreError, match=named):
        ask_pairs(store, spec, toy, "train", grid(2, 6), in_process=True, shard_size=6)
    assert len(store) == 10
    assert read_jobs(store.path)[0]["scored"] == 10
    report = ask_pairs(store, spec, toy, "train", grid(2, 6), in_process=True, shard_size=6)
    assert (report.scored, report.reused) == (2, 10)
    assert len(server.requests) == asked + 12 + 2
    assert store.digest() == plain.digest()


def test_one_prompt_the_server_refuses_is_named_and_its_neighbours_are_not(
    server: CompletionServer, toy: Collection
) -> None:
    spec = spec_of(server, prompts_per_request=2, concurrency=1)
    server.faults.extend(["400", "", "400"])  # the two together, the first alone, the second alone
    first, second = Client(spec).ask(prompts_of(spec, toy, 2))
    assert math.isfinite(first.score)
    assert second.refused == "the server refuses it with 400: as the test wants"


@pytest.mark.parametrize(
    ("faults", "options", "message"),
    [
        (["500"] * 3, {"max_tries": 3}, "500: .* in 3 tries; finished shards are kept"),
        (["slow"] * 2, {"max_tries": 2, "timeout_s": 0.3}, "timed out.*, in 2 tries"),
        (["twice"], {"prompts_per_request": 2}, r"answers \[0, 0\] to 2 prompts; expected each index once"),
        (["no logprobs"], {}, "answers without log-probabilities"),
    ],
)
def test_a_server_that_does_not_serve_ends_the_job(
    server: CompletionServer, toy: Collection, faults: list[str], options: dict[str, Any], message: str
) -> None:
    spec = spec_of(server, concurrency=1, **options)
    server.faults.extend(faults)
    with pytest.raises(StoreError, match=f"model tiny: .*{message}" if "tries" in message else message):
        Client(spec, first_wait_s=0.01).ask(prompts_of(spec, toy, 2))
    assert len(server.requests) == (len(faults) if options.get("max_tries") else 1)


def test_the_key_comes_from_the_environment_and_is_written_nowhere(
    tmp_path: Path, folder: Path, toy: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(folder, key=KEY) as server:
        spec = spec_of(server, key_env="STILLHOUSE_TEST_KEY")
        store = store_of(tmp_path, spec)
        with pytest.raises(StoreError, match="environment variable STILLHOUSE_TEST_KEY is not set"):
            ask_pairs(store, spec, toy, "train", grid(1, 1), in_process=True)
        monkeypatch.setenv("STILLHOUSE_TEST_KEY", KEY + "-wrong")
        with pytest.raises(StoreError, match=r"401: .*wrong key \*\*\*"):
            ask_pairs(store, spec, toy, "train", grid(1, 1), in_process=True)
        assert len(server.requests) == 1  # another try would change nothing
        monkeypatch.setenv("STILLHOUSE_TEST_KEY", KEY)
        ask_pairs(store, spec, toy, "train", grid(1, 1), in_process=True)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_requests_run_side_by_side_up_to_the_limit(server: CompletionServer, toy: Collection) -> None:
    spec = spec_of(server, concurrency=3)
    server.faults.extend(["slow"] * 3)
    answers = Client(spec).ask(prompts_of(spec, toy, 9))
    assert [answer.refused for answer in answers] == [""] * 9
    assert 2 <= server.most_at_once <= 3  # 3 but on a machine that starts no thread in 1.5 seconds


def test_rates_hold_in_every_minute() -> None:
    now, waits = [0.0], []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    limit = RateLimit(10, lambda: now[0], sleep)
    taken = []
    for units in (4, 4, 4, 2, 25):
        limit.take(units)
        taken.append((now[0], units))
    # 4 + 4 fit; the next 4 wait for the first to be a minute old, 2 fit beside it; 25 wait for an empty minute.
    assert taken == [(0.0, 4), (0.0, 4), (60.0, 4), (60.0, 2), (120.0, 25)]
    early = RateLimit(10, lambda: now[0], sleep)
    early.settle(early.take(8), 1)
    early.take(9)
    assert now[0] == 120.0
    assert waits == [60.0, 60.0]


def test_where_it_runs_is_not_who_it_is(server: CompletionServer) -> None:
    spec = spec_of(server)
    elsewhere = {
        "endpoint": "https://elsewhere.example/v1",
        "concurrency": 99,
        "requests_per_minute": 3,
        "max_tries": 1,
    }
    assert spec_of(server, **elsewhere).identity() == spec.identity()
    assert server.url not in json.dumps(spec.identity())
    for change in (
        {"model": "other"},
        {"top_logprobs": 20},
        {"doc_max_chars": 9},
        {"template": "mxbai-rerank-base-v2"},
    ):
        assert spec_of(server, **change).identity() != spec.identity()


def test_texts_are_cut_at_their_caps_and_the_prompt_never(
    tmp_path: Path, server: CompletionServer, toy: Collection
) -> None:
    spec = spec_of(server, query_max_chars=5, doc_max_chars=7)
    store = store_of(tmp_path, spec)
    report = ask_pairs(store, spec, toy, "train", grid(1, 1), in_process=True)
    assert report.truncated_share == 1.0
    query, doc = toy.splits["train"].queries.text(0)[:5], toy.docs.text(0)[:7]
    assert server.requests[0]["prompt"].endswith(
        f"<Query>: {query}\n<Document>: {doc}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_parity_with_the_ranker_here_is_checked_before_a_job(
    tmp_path: Path, server: CompletionServer, ranker: Ranker, toy: Collection
) -> None:
    ranker.save_pretrained(tmp_path / "same")
    spec = spec_of(server, compare_with=str(tmp_path / "same"))
    store = store_of(tmp_path / "a", spec)
    report = ask_pairs(store, spec, toy, "train", grid(2, 2), in_process=True, parity_check=3)
    assert report.parity is not None
    assert (report.parity.pairs, report.parity.relative_difference < 1e-3) == (3, True)
    other = spec_of(server, compare_with=str(tmp_path / "same"), template="mxbai-rerank-base-v2")
    with pytest.raises(StoreError, match=r"is too far from .*look at the template"):
        ask_pairs(store_of(tmp_path / "b", other), other, toy, "train", grid(2, 2), in_process=True, parity_check=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "bge-reranker-v2-gemma"}, "no difference of two answers"),
        ({"template": "rankllama-v1-7b-passage"}, "score it here with preset: rankllama"),
        ({"template": "nothing"}, "unknown preset 'nothing'; known: ms-marco-minilm-l6, "),
        ({"template": {"prompt": "{query}"}}, "hold {query} and {document} once each"),
        ({"endpoint": "http://me:word@here/v1"}, "would be stored with the scores; use key_env"),
        ({"endpoint": "ftp://here"}, "is no http or https URL"),
        ({"api": "chat"}, "raw prompt with its own chat tokens; use api completions"),
    ],
)
def test_what_cannot_be_asked_is_refused(server: CompletionServer, options: dict[str, Any], message: str) -> None:
    with pytest.raises((RecipeError, ValueError), match=message):
        spec_of(server, **options)
