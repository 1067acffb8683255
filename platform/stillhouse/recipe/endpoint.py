"""What a recipe says about a teacher behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from stillhouse.recipe.base import Count, Spec


class PromptSpec(Spec):
    """What the model is asked, and the two answers that are compared."""

    prompt: str
    """With {query} and {document} once each."""
    yes_token: str = "yes"  # noqa: S105
    """The answer as the endpoint spells the token, white space included."""
    no_token: str = "no"  # noqa: S105
    system: str | None = None
    """System message; only where api is chat."""

    def fill(self, query: str, document: str) -> str:
        """The prompt with the texts as they are, whatever braces they hold."""
        parts = re.split(r"(\{query\}|\{document\})", self.prompt)
        return "".join({"{query}": query, "{document}": document}.get(part, part) for part in parts)

    @field_validator("prompt")
    @classmethod
    def _has_both_places(cls, prompt: str) -> str:
        if prompt.count("{query}") != 1 or prompt.count("{document}") != 1:
            raise ValueError("must hold {query} and {document} once each")
        return prompt

    @model_validator(mode="after")
    def _answers_differ(self) -> PromptSpec:
        if self.yes_token == self.no_token:
            raise ValueError(f"yes_token and no_token are both {self.yes_token!r}; two answers are compared")
        return self


class EndpointTeacher(Spec):
    """A language model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, a paid service).

    Its score is log p(yes) - log p(no) of the first answered token.
    """

    endpoint: str
    """Base URL, e.g. `http://127.0.0.1:8000/v1`; no part of the teacher's identity."""
    model: str
    """Name by which the server knows the weights; part of the identity, so give each its own."""
    template: PromptSpec
    """A mapping, or the name of a preset whose prompt it takes."""
    api: Literal["completions", "chat"] = "completions"
    """`completions` sends the prompt as it is; `chat` as a user's message, which the server wraps."""
    top_logprobs: Annotated[int, Field(ge=2, le=1000)] = 20
    """Tokens whose log-probabilities are asked for; a pair without both answers among them is refused."""
    query_max_chars: Count = 2_000
    doc_max_chars: Count = 10_000
    """Longer texts are cut here; the prompt around them never is."""
    key_env: str | None = None
    """Environment variable that holds the key, where the scoring runs; the key itself is written nowhere."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 16
    """Requests under way at once."""
    prompts_per_request: Annotated[int, Field(ge=1, le=256)] = 1
    """Only completions; answers are matched by their index."""
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    """Prompt tokens; None sets no limit."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Of one request."""
    max_tries: Count = 8
    """Of one request, after 429, 5xx, time-outs and broken connections; the wait doubles up to a minute."""

    compare_with: str | None = None
    """Folder or hub name of the same ranker here: `store.parity_check` pairs are scored by both before a job."""

    @field_validator("endpoint")
    @classmethod
    def _is_a_plain_url(cls, endpoint: str) -> str:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{endpoint!r} is no http or https URL")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("a URL with a name, key or query would be stored with the scores; use key_env")
        return endpoint

    @model_validator(mode="after")
    def _fits_the_api(self) -> EndpointTeacher:
        if self.api == "chat" and self.prompts_per_request > 1:
            raise ValueError("prompts_per_request: a chat request holds one prompt; leave it out")
        if self.api == "chat" and "<|im_start|>" in self.template.prompt:
            raise ValueError("template: it is a raw prompt with its own chat tokens; use api completions")
        if self.api == "completions" and self.template.system is not None:
            raise ValueError("template.system: completions have no system message; use api chat")
        return self

    def identity(self) -> dict[str, Any]:
        """What decides the scores: model, prompt, answers, caps; not where it runs and how fast it is asked."""
        decides = {"model", "template", "api", "top_logprobs", "query_max_chars", "doc_max_chars"}
        return {"ranker": "endpoint", **self.model_dump(mode="json", include=decides), "scale": "logit"}
