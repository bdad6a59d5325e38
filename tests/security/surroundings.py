"""The targets of a program, with random marks in them: a file, a variable, a listener, tools, a signal.

Everything here is real and belongs to the process that makes it. Knows no sandbox.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "HOSTILE_SUITE_SECRET"
KEPT = [1, 2, 3]
FIELDS = {"answer": "str", "count": "int"}


class Surroundings:
    """A context manager; use `watch` for each program."""

    def __init__(self, folder: Path) -> None:
        """Creates the secrets in an empty folder."""
        self.folder = folder
        self.token = f"file-{secrets.token_hex(12)}"
        self.variable_token = f"variable-{secrets.token_hex(12)}"
        self.secret = folder / "secret.txt"
        self.secret.write_text(self.token, encoding="utf-8")
        self.calls: list[tuple[str, Any]] = []
        self._heard: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.bind(self._server.getsockname())
        self._old_handler: Any = None

    @property
    def port(self) -> int:
        """The port of the listeners, TCP and UDP."""
        return int(self._server.getsockname()[1])

    def __enter__(self) -> Surroundings:
        os.environ[VARIABLE] = self.variable_token
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._receive, daemon=True).start()
        if threading.current_thread() is threading.main_thread():
            self._old_handler = signal.signal(
                signal.SIGUSR1, lambda *_: self._heard.append("a signal")
            )
        return self

    def __exit__(self, *exc: object) -> None:
        os.environ.pop(VARIABLE, None)
        # A thread in accept() is woken by this, not by close().
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._datagrams.close()
        if self._old_handler is not None:
            signal.signal(signal.SIGUSR1, self._old_handler)

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._heard.append("a connection")
            connection.close()

    def _receive(self) -> None:
        while True:
            try:
                self._datagrams.recv(1024)
            except OSError:
                return
            self._heard.append("a datagram")

    def fill(self, code: str) -> str:
        """Returns the code with the placeholders replaced."""
        for name, value in (
            ("SECRET", self.secret),
            ("FOLDER", self.folder),
            ("VARIABLE", VARIABLE),
            ("PORT", self.port),
            ("HOST", os.getpid()),
        ):
            code = code.replace(f"@{name}@", str(value))
        return code

    def tools(self) -> dict[str, Callable[..., Any]]:
        """Returns the tools that programs may call; each call is recorded."""

        def echo(value: Any) -> Any:
            """Returns its argument."""
            self.calls.append(("echo", value))
            return f"echo: {value}"

        def lookup(key: str, times: int = 1) -> str:
            """Looks up a key."""
            self.calls.append(("lookup", (key, times)))
            if not isinstance(times, int):
                raise TypeError("times must be a number")
            return f"{key} " * min(times, 1000)

        return {"echo": echo, "lookup": lookup}

    @contextmanager
    def watch(self) -> Iterator[list[str]]:
        """Records a program's effects; the list is filled at the end of the block."""
        self.calls.clear()
        self._heard.clear()
        before = self._files()
        noted: list[str] = []
        yield noted
        noted += [f"the host heard {what}" for what in self._heard]
        if self._files() != before:
            noted.append("the host's files changed")

    def secrets_in(self, text: str) -> list[str]:
        """Returns the names of the secrets in a text."""
        found = (("file", self.token), ("environment", self.variable_token))
        return [f"the secret of the {name} came out" for name, token in found if token in text]

    def _files(self) -> dict[str, bytes]:
        return {
            str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()
        } | {str(path): b"" for path in self.folder.rglob("*") if not path.is_file()}
