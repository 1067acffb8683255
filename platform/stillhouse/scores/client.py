"""Questions to an OpenAI-compatible server: what each prompt's first token says for yes and against no."""

from __future__ import annotations

import importlib.util
import math
import os
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from stillhouse.errors import RecipeError, StoreError
from stillhouse.recipe.endpoint import EndpointTeacher
from stillhouse.scores.rate import RateLimit

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
_AGAIN = (408, 409, 425, 429)
_ALL_FAIL = (401, 403, 404, 405)
_IMPOSSIBLE = -9998.0
"""Servers write -9999 for minus infinity: no log-probability."""
_CHARS_PER_TOKEN = 4
"""Guess before the server has counted."""


@dataclass(frozen=True)
class Answer:
    """One prompt's score, or why it has none."""

    score: float
    """log p(yes) - log p(no); NaN where refused."""
    tokens: int
    """Of the prompt, as the server counts; 0 where it does not."""
    refused: str = ""


def check_endpoint(teacher: EndpointTeacher, place: str) -> None:
    """RecipeError where the extra is not installed."""
    if importlib.util.find_spec("openai") is None:
        raise RecipeError(f"{place}: {teacher.endpoint} needs the extra endpoint: pip install 'stillhouse[endpoint]'")


class Client:
    """Asks with many requests under way, within the limits; thread-safe."""

    def __init__(self, spec: EndpointTeacher, *, first_wait_s: float = FIRST_WAIT_S) -> None:
        check_endpoint(spec, "endpoint")
        import openai

        self.spec = spec
        self._key = os.environ.get(spec.key_env, "") if spec.key_env else ""
        if spec.key_env and not self._key:
            raise StoreError(f"{spec.endpoint}: the environment variable {spec.key_env} is not set where scoring runs")
        # Tries are counted here, so that each counts against the limits.
        self._openai = openai.OpenAI(
            base_url=spec.endpoint, api_key=self._key or "none", timeout=spec.timeout_s, max_retries=0
        )
        self._errors = openai
        self._requests = RateLimit(spec.requests_per_minute, sleep=self._pause)
        self._tokens = RateLimit(spec.tokens_per_minute, sleep=self._pause)
        self._first_wait_s = first_wait_s
        self._stop = threading.Event()
        self._failures: list[BaseException] = []

    def ask(self, prompts: Sequence[str]) -> list[Answer]:
        """An answer per prompt, in their order. Raises StoreError where the server serves no prompt at all."""
        size = self.spec.prompts_per_request
        batches = [prompts[start : start + size] for start in range(0, len(prompts), size)]
        self._stop.clear()
        self._failures.clear()
        with ThreadPoolExecutor(self.spec.concurrency) as pool:
            try:
                return [answer for answers in pool.map(self._batch_or_stop, batches) for answer in answers]
            except BaseException as error:
                # Those that wait give up now: what they would learn is thrown away.
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise (self._failures or [error])[0] from None

    def _batch_or_stop(self, prompts: Sequence[str]) -> list[Answer]:
        """The first failure stops the others, and is the one that is told."""
        try:
            return self._batch(prompts)
        except BaseException as error:
            self._failures.append(error)
            self._stop.set()
            raise

    def _batch(self, prompts: Sequence[str]) -> list[Answer]:
        try:
            return self._read(self._send(prompts), len(prompts))
        except self._errors.APIStatusError as error:
            if len(prompts) > 1:
                # One prompt that the server refuses takes its neighbours with it; alone it is named.
                return [answer for prompt in prompts for answer in self._batch([prompt])]
            return [Answer(math.nan, 0, f"the server refuses it with {self._told(error)}")]

    def _send(self, prompts: Sequence[str]) -> Any:
        """The server's reply, after as many tries as it takes; raises APIStatusError where it refuses these prompts."""
        guess = sum(len(prompt) for prompt in prompts) / _CHARS_PER_TOKEN
        for number in range(1, self.spec.max_tries + 1):
            self._pause(0)
            self._requests.take(1)
            taken = self._tokens.take(guess)
            try:
                reply = self._create(prompts)
                if not getattr(reply, "choices", None):
                    raise StoreError(f"{self._place}: answers nothing that is a completion; is the URL its /v1?")
                if reply.usage is not None:
                    self._tokens.settle(taken, reply.usage.prompt_tokens)
                return reply
            except self._errors.APIStatusError as error:
                if error.status_code in _ALL_FAIL:
                    raise StoreError(f"{self._place}: {self._told(error)}") from None
                if error.status_code not in _AGAIN and error.status_code < 500:
                    raise
                failure, asked = self._told(error), _retry_after(error.response.headers)
            except self._errors.APIConnectionError as error:  # time-outs too
                failure, asked = self._told(error), 0.0
            except self._errors.APIError as error:
                raise StoreError(f"{self._place}: {self._told(error)}") from None
            if number < self.spec.max_tries:
                backoff = min(LONGEST_WAIT_S, self._first_wait_s * 2 ** (number - 1))
                self._pause(max(asked, backoff * random.uniform(0.5, 1.0)))
        raise StoreError(f"{self._place}: {failure}, in {self.spec.max_tries} tries; finished shards are kept")

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise StoreError(f"{self._place}: stopped")

    def _create(self, prompts: Sequence[str]) -> Any:
        # Temperature 1: some servers divide by it before they take the logarithm.
        common = {"model": self.spec.model, "max_tokens": 1, "temperature": 1.0, "top_p": 1.0}
        if self.spec.api == "completions":
            prompt = list(prompts) if len(prompts) > 1 else prompts[0]
            return self._openai.completions.create(prompt=prompt, logprobs=self.spec.top_logprobs, **common)
        system = self.spec.template.system
        messages = [{"role": "system", "content": system}] if system is not None else []
        messages.append({"role": "user", "content": prompts[0]})
        return self._openai.chat.completions.create(
            messages=messages, logprobs=True, top_logprobs=self.spec.top_logprobs, **common
        )

    def _read(self, reply: Any, count: int) -> list[Answer]:
        """Answers by the index that the server gives each choice: it may send them in any order."""
        choices = {choice.index: choice for choice in reply.choices}
        if sorted(choices) != list(range(count)) or len(reply.choices) != count:
            indices = [choice.index for choice in reply.choices]
            raise StoreError(f"{self._place}: answers {indices} to {count} prompts; expected each index once")
        tokens = reply.usage.prompt_tokens // count if reply.usage is not None else 0
        return [self._answer(choices[index], tokens) for index in range(count)]

    def _answer(self, choice: Any, tokens: int) -> Answer:
        found = _logprobs(choice.logprobs, self.spec.api)
        if not found:
            raise StoreError(f"{self._place}: answers without log-probabilities; serve the model with logprobs")
        answers = (self.spec.template.yes_token, self.spec.template.no_token)
        for token in answers:
            if not _IMPOSSIBLE < found.get(token, -math.inf) < math.inf:
                shown = ", ".join(repr(one) for one in sorted(found, key=found.__getitem__, reverse=True)[:5])
                return Answer(
                    math.nan, tokens, f"{token!r} is not among its {len(found)} likeliest tokens (first: {shown})"
                )
        return Answer(found[answers[0]] - found[answers[1]], tokens)

    @property
    def _place(self) -> str:
        return f"{self.spec.endpoint}, model {self.spec.model}"

    def _told(self, error: Any) -> str:
        """One line without the key, which some servers repeat."""
        status = getattr(error, "status_code", None)
        text = " ".join(str(error.message).split()).removeprefix(f"Error code: {status} - ")
        if self._key:
            text = text.replace(self._key, "***")
        return f"{status}: {text[:200]}" if status else text[:200]


def _logprobs(found: Any, api: str) -> dict[str, float]:
    """Token -> log-probability at the first place of the answer; of tokens spelt alike the likelier."""
    if api == "completions":
        first = (getattr(found, "top_logprobs", None) or [None])[0]
        return dict(first or {})
    content = getattr(found, "content", None)
    listed = content[0].top_logprobs if content else []
    return {one.token: one.logprob for one in sorted(listed, key=lambda one: one.logprob)}


def _retry_after(headers: Any) -> float:
    try:
        return min(600.0, max(0.0, float(headers.get("retry-after", 0))))
    except ValueError:
        return 0.0
