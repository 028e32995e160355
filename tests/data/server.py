"""An HTTP server on this machine, in the place of an official source."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def serving(handler: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL at which a request handler answers, past any proxy, for as long as the block runs."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> contextlib.AbstractContextManager[str]:
    """The URL of a folder with files."""
    return serving(lambda *args: _Quiet(*args, directory=str(folder)), monkeypatch)
