"""A local server that speaks /v1/completions and /v1/chat/completions with log-probabilities of a real model."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.contracts.in_thread import InThread

KEY = "sk-secret-of-the-test"


class CompletionServer:
    """Serves the language model of a folder; `faults` are used up one a request, in order."""

    def __init__(self, folder: Path, key: str = "") -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.key = key
        self.faults: deque[str] = deque()
        """`429`, `500`, `400`, `slow`, `shuffle`, `hang up`, `twice`, `no logprobs`."""
        self.requests: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""

    def reply(self, path: str, body: dict[str, Any], fault: str) -> dict[str, Any]:
        chat = path == "/v1/chat/completions"
        prompts = [body["messages"][-1]["content"]] if chat else body["prompt"]
        prompts = [prompts] if isinstance(prompts, str) else prompts
        asked = body["top_logprobs"] if chat else body["logprobs"]
        choices, tokens = [], 0
        for index, prompt in enumerate(prompts):
            ids = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
            tokens += len(ids)
            with self.lock, torch.no_grad():
                logprobs = self.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            values, found = logprobs.topk(min(asked, len(logprobs)))
            top = [
                (self.tokenizer.decode([one]), value)
                for one, value in zip(found.tolist(), values.tolist(), strict=True)
            ]
            choices.append({"index": index, "finish_reason": "length"} | (_chat(top) if chat else _plain(top)))
        if fault == "shuffle":
            choices.reverse()
        if fault == "twice":
            choices[-1]["index"] = 0
        if fault == "no logprobs":
            choices = [choice | {"logprobs": None} for choice in choices]
        kind = "chat.completion" if chat else "text_completion"
        usage = {"prompt_tokens": tokens, "completion_tokens": len(prompts), "total_tokens": tokens + len(prompts)}
        return {"id": "x", "created": 0, "object": kind, "model": body["model"], "choices": choices, "usage": usage}


def _plain(top: list[tuple[str, float]]) -> dict[str, Any]:
    # The likeliest of tokens that are spelt alike stands.
    return {
        "text": top[0][0],
        "logprobs": {
            "tokens": [top[0][0]],
            "token_logprobs": [top[0][1]],
            "top_logprobs": [dict(reversed(top))],
            "text_offset": [0],
        },
    }


def _chat(top: list[tuple[str, float]]) -> dict[str, Any]:
    listed = [{"token": token, "logprob": value, "bytes": None} for token, value in top]
    message = {"role": "assistant", "content": top[0][0]}
    return {"message": message, "logprobs": {"content": [listed[0] | {"top_logprobs": listed}]}}


def _handler(server: CompletionServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.requests.append({"path": self.path, "time": time.monotonic(), **body})
                fault = server.faults.popleft() if server.faults else ""
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            try:
                self._serve(body, fault)
            finally:
                with server.lock:
                    server.at_once -= 1

        def _serve(self, body: dict[str, Any], fault: str) -> None:
            given = self.headers.get("Authorization", "")
            if server.key and given != f"Bearer {server.key}":
                self._send(401, {"error": {"message": f"wrong key {given.removeprefix('Bearer ')}"}})
            elif fault in ("400", "429", "500"):
                self._send(int(fault), {"error": {"message": "as the test wants"}})
            elif fault == "hang up":
                self.close_connection = True
            else:
                if fault == "slow":
                    time.sleep(1.5)
                self._send(200, server.reply(self.path, body, fault))

        def _send(self, status: int, reply: dict[str, Any]) -> None:
            content = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if status == 429:
                self.send_header("Retry-After", "0.05")
            self.end_headers()
            with suppress(OSError):  # who asked may no longer wait
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(folder: Path, key: str = "") -> Iterator[CompletionServer]:
    """A server on a free port of this machine."""
    server = CompletionServer(folder, key)
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    listener.daemon_threads = True
    server.url = f"http://127.0.0.1:{listener.server_address[1]}/v1"
    with InThread(listener):
        yield server
