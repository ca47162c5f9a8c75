"""A proxy before an HTTP server, which fails in the ways in which servers do."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# How a server fails. `down` ends every connection; `error` answers 500; `slow` waits; `losing`
# passes every request on, and of every third the answer reaches nobody.
MODES = ("down", "error", "slow", "losing")
_SLOW_SECONDS = 0.3
_LOST_EVERY = 3
_PATIENCE_SECONDS = 60
# Headers of one connection, which are not passed on.
_OF_CONNECTION = ("connection", "transfer-encoding", "keep-alive", "content-length", "host")


class Unreliable:
    """A port of this machine that passes requests on to a server's port, as its mode allows.

    Attributes:
        mode: `open`, or one of `MODES`.
        requests: the number of requests that came.
        failed: the number of those that got no answer of the server.
    """

    def __init__(self, port: int) -> None:
        self.mode = "open"
        self.requests = 0
        self.failed = 0
        self.behind = port
        self._served = itertools.count(1)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Gives the port back."""
        self._server.shutdown()
        self._server.server_close()

    def loses_answer(self) -> bool:
        """Returns whether the answer to the request that is being served is lost."""
        return self.mode == "losing" and next(self._served) % _LOST_EVERY == 0


def _handler(proxy: Unreliable) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            proxy.requests += 1
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if proxy.mode == "down":
                self._end()
                return
            if proxy.mode == "error":
                proxy.failed += 1
                self.send_error(500, "not today")
                return
            if proxy.mode == "slow":
                time.sleep(_SLOW_SECONDS)
            try:
                status, headers, content = self._passed_on(body)
            except (OSError, http.client.HTTPException):
                self._end()
                return
            if proxy.loses_answer():
                self._end()
                return
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            """Returns the answer of the server: its status, headers and content."""
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in _OF_CONNECTION
            }
            behind = http.client.HTTPConnection(
                "127.0.0.1", proxy.behind, timeout=_PATIENCE_SECONDS
            )
            try:
                behind.request(self.command, self.path, body, headers)
                answer = behind.getresponse()
                content = answer.read()
            finally:
                behind.close()
            kept = [
                (name, value)
                for name, value in answer.getheaders()
                if name.lower() not in _OF_CONNECTION
            ]
            return answer.status, kept, content

        def _end(self) -> None:
            """Ends the connection without an answer."""
            proxy.failed += 1
            self.close_connection = True

        def log_message(self, format: str, *values: object) -> None:
            """Says nothing."""

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve

    return Handler
