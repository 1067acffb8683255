"""A Hugging Face hub on the loopback address, as far as `huggingface_hub` needs one to upload and download a model."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

import yaml

from tests.contracts.in_thread import InThread


class Hub:
    """What the server was sent: repositories, their files, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.token = "hf_the_only_one"
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []

    def sha(self, repo: str) -> str:
        """A commit id of the files as they are."""
        digest = hashlib.sha1(usedforsecurity=False)
        for path, content in sorted(self.files[repo].items()):
            digest.update(path.encode() + content)
        return digest.hexdigest()


@contextmanager
def serve() -> Iterator[Hub]:
    """Serve a hub in a thread; one token is right."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    with InThread(server):
        yield hub


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the requests are in `hub.asked`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlparse(self.path).path
        self.hub.asked.append(f"POST {path}")
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._json({"error": "Invalid credentials"}, 401)
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            self.hub.created.append(asked)
            self.hub.files.setdefault(repo, {})
            return self._json({"url": f"{self.hub.url}/{repo}", "id": repo, "name": repo})
        if path == "/api/validate-yaml":
            base = yaml.safe_load(json.loads(body)["content"].split("---")[1]).get("base_model", "a/b")
            wrong = (
                [] if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base) else [{"message": f"base_model {base}: no repository"}]
            )
            return self._json({"errors": wrong, "warnings": []}, 400 if wrong else 200)
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
        if match is None or match[1] not in self.hub.files:
            return self._json({"error": "not found"}, 404)
        repo = match[1]
        if match[2] == "preupload":
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.hub.files[repo][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        sha = self.hub.sha(repo)
        return self._json(
            {"commitUrl": f"{self.hub.url}/{repo}/commit/{sha}", "commitOid": sha, "pullRequestUrl": None}
        )

    def do_HEAD(self) -> None:
        self._file(with_body=False)

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        self.hub.asked.append(f"GET {path}")
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(/(revision|tree)/([^/]+))?", path)
        if match is None:
            return self._file(with_body=True)
        repo, kind, revision = match[1], match[3], match[4] or "main"
        if repo not in self.hub.files or revision not in ("main", "v1", self.hub.sha(repo)):
            return self._json({"error": "not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        files = self.hub.files[repo]
        if kind == "tree":
            return self._json(
                [{"type": "file", "path": name, "size": len(b), "oid": _oid(b)} for name, b in files.items()]
            )
        return self._json({"id": repo, "sha": self.hub.sha(repo), "siblings": [{"rfilename": name} for name in files]})

    def _file(self, *, with_body: bool) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", unquote(urlparse(self.path).path))
        files = self.hub.files.get(match[1], {}) if match else {}
        if match is None or match[3] not in files:
            return self._json({"error": "not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        content = files[match[3]]
        self.send_response(200)
        self.send_header("X-Repo-Commit", self.hub.sha(match[1]))
        self.send_header("ETag", f'"{_oid(content)}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
