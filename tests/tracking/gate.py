"""A gate before a server, which goes away, falls silent, or loses an answer when told to."""

from __future__ import annotations

import contextlib
import socket
import threading


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
        self._pump(near, far, b"POST /api/2.0/mlflow/runs/create ")

    def _answers(self, far: socket.socket, near: socket.socket) -> None:
        self._pump(far, near, None)

    def _pump(self, source: socket.socket, target: socket.socket, creation: bytes | None) -> None:
        try:
            while data := source.recv(65536):
                if self.mode in ("closed", "silent"):
                    break
                target.sendall(data)
                if self.mode == "deaf" and creation is not None and data.startswith(creation):
                    # The server has the request; its answer finds nobody.
                    target.recv(1)
                    self.mode = "open"
                    break
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
