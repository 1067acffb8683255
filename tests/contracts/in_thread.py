"""Servers of the standard library's kind, answering from a thread of this process."""

from __future__ import annotations

import threading
from socketserver import BaseServer
from types import TracebackType


class InThread:
    """Serves from the moment it is made; `stop`, or the end of a `with`, frees the port."""

    def __init__(self, server: BaseServer) -> None:
        self.server = server
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def __enter__(self) -> InThread:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
