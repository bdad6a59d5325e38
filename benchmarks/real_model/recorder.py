"""A relay in front of the real model's server, which adds up the usage that the server itself reports."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import dspy

from benchmarks.real_model.server import NAME
from sandbox_runtime.helpers import start_thread

TIMEOUT = 600

_STREAM_LINE = b"data: "


class Recorder:
    """The relay: streams pass through line by line, and errors as they are."""

    def __init__(self, upstream: int) -> None:
        """Starts it on a port of its own.

        Args:
            upstream: The port of the server.
        """
        self.sent = self.received = self.answered = 0
        self._lock = threading.Lock()
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                address = f"http://127.0.0.1:{upstream}{self.path}"
                headers = {"Content-Type": "application/json"}
                try:
                    reply = urlopen(Request(address, body, headers), timeout=TIMEOUT)
                except HTTPError as error:
                    reply = error
                with reply:
                    self.send_response(reply.status)
                    self.send_header("Content-Type", reply.headers["Content-Type"])
                    self.end_headers()
                    # Added up before the last line is passed on: whoever has read the reply finds it counted.
                    for line in reply:
                        recorder._add(line.removeprefix(_STREAM_LINE))
                        self.wfile.write(line)
                        self.wfile.flush()

            def log_message(self, *_: Any) -> None:
                """Prints nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        start_thread(self._server.serve_forever, "recorder")

    def _add(self, line: bytes) -> None:
        try:
            usage = json.loads(line).get("usage")
        except (ValueError, AttributeError):
            return
        if usage:
            with self._lock:
                self.sent += usage["prompt_tokens"]
                self.received += usage["completion_tokens"]
                self.answered += 1

    @property
    def totals(self) -> tuple[int, int, int]:
        """Replies, tokens of their prompts, and tokens of the replies."""
        with self._lock:
            return self.answered, self.sent, self.received

    def lm(self, **options: Any) -> dspy.LM:
        """Returns the model behind this relay."""
        base = f"http://127.0.0.1:{self.port}/v1"
        return dspy.LM(
            f"openai/{NAME}", api_base=base, api_key="none", cache=False, num_retries=0,
            temperature=0.0, timeout=TIMEOUT, **options,
        )  # fmt: skip

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
