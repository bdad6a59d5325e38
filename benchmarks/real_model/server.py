"""The server of the real model as a process: started, watched until it answers, killed."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

import dspy

from benchmarks.real_model.install import home, python_of, weights

NAME = "smollm2-135m"

# Loading takes a second on a quiet machine.
START_SECONDS = 300


class RealServer:
    """A llama.cpp server with the model, in a process of its own."""

    def __init__(self, *, tokens: int = 4096, slots: int = 1, folder: Path | None = None) -> None:
        """Starts it.

        Args:
            tokens: The context window of a slot.
            slots: Requests at once.
            folder: The environment; by default that of `install`.
        """
        folder = folder or home()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        script = Path(__file__).with_name("serve.py")
        command = [python_of(folder), script, weights(folder), self.port, tokens, slots]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if json.loads(self.get("/health")).get("status") == "ok":
                    return
            except (OSError, ValueError):
                time.sleep(0.2)
        self.close()
        raise RuntimeError("The server of the real model did not start.")

    def get(self, path: str) -> bytes:
        """Returns the body of a page of the server."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as response:
            body: bytes = response.read()
        return body

    def counts(self) -> tuple[int, int]:
        """Returns the tokens of prompts and of replies that the server has processed, those from its cache left out."""
        text = self.get("/metrics").decode()
        found = dict(re.findall(r"^llamacpp:(\w+) ([\d.e+-]+)$", text, re.MULTILINE))
        return round(float(found["prompt_tokens_total"])), round(
            float(found["tokens_predicted_total"])
        )

    def busy(self) -> int:
        """Returns the slots that work on a request."""
        return sum(bool(slot["is_processing"]) for slot in json.loads(self.get("/slots")))

    def lm(self, **options: Any) -> dspy.LM:
        """Returns the model as a `dspy.LM`, deterministic and without DSPy's cache."""
        options = {
            "cache": False,
            "num_retries": 0,
            "temperature": 0.0,
            "max_tokens": 64,
            "timeout": 3000,
            **options,
        }
        base = f"http://127.0.0.1:{self.port}/v1"
        return dspy.LM(f"openai/{NAME}", api_base=base, api_key="none", **options)

    def kill(self) -> None:
        """Ends the process at once, as the kernel does that has no memory left."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def close(self) -> None:
        """Ends the process."""
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
