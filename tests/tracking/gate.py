"""A gate before a server, which goes away, falls silent, or loses an answer when told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Gate:
    """A port of this machine that passes everything on to a server's port.

    Attributes:
        mode: `open` passes on, `closed` ends every connection at once, `silent` accepts and never
            answers, `deaf` passes the request on and drops the answer to the next creation of a
            run.
    """

    def __init__(self, port: int) -> None:
        self.mode = "open"
        self._behind = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        kept = []
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.mode == "closed":
                near.close()
            elif self.mode == "silent":
                kept.append(near)
            else:
                far = socket.create_connection(("127.0.0.1", self._behind))
                threading.Thread(target=self._requests, args=(near, far), daemon=True).start()
                threading.Thread(target=self._answers, args=(far, near), daemon=True).start()

    def _requests(self, near: socket.socket, far: socket.socket) -> None:
        for data in self._received(near):
            if self.mode == "deaf" and data.startswith(b"POST /api/2.0/mlflow/runs/create "):
                self.mode = "losing"
            far.sendall(data)
        _end(near, far)

    def _answers(self, far: socket.socket, near: socket.socket) -> None:
        for data in self._received(far):
            if self.mode == "losing":
                # The server has made the run; its answer finds nobody.
                self.mode = "open"
                break
            near.sendall(data)
        _end(near, far)

    def _received(self, source: socket.socket) -> Iterator[bytes]:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.mode in ("closed", "silent"):
                    return
                yield data


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
