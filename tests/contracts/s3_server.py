"""A real S3 server (moto's) on loopback, that can be stopped, started again with its objects, and told to refuse."""

from __future__ import annotations

import logging
import os
import time
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

from tests.contracts.in_thread import InThread

SLOW_DOWN = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""
KEY, SECRET = "AKIATESTKEY", "a-secret-that-no-log-may-show"


class S3Server:
    """Objects live in this process, so they outlast a stop."""

    def __init__(self, port: int = 0) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.port = port
        self.refusals = 0
        """Requests still to be answered with 503."""
        self.requests: list[str] = []
        self._application = DomainDispatcherApplication(create_backend_app)
        self._served: InThread | None = None

    def start(self) -> S3Server:
        from moto.moto_server.werkzeug_app import MotoRequestHandler
        from werkzeug.serving import make_server

        server = make_server("127.0.0.1", self.port, self._answer, True, request_handler=MotoRequestHandler)
        self.port = server.server_port
        self._served = InThread(server)
        return self

    def stop(self) -> None:
        assert self._served is not None
        self._served.stop()
        self._served = None

    @property
    def running(self) -> bool:
        return self._served is not None

    def environment(self) -> dict[str, str]:
        """What a client needs, under the names that every tool of the provider reads."""
        return environment(self.port)

    def bucket(self, name: str) -> str:
        """Make a bucket; its URI."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        return f"s3://{name}"

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        if self.refusals > 0:
            self.refusals -= 1
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [SLOW_DOWN]
        return self._application(environ, start_response)  # type: ignore[no-any-return]


def environment(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def export(port: int) -> None:
    """Set the variables for this process and those it starts."""
    os.environ.update(environment(port))
