"""LiteLLM's proxy as a process, in front of the real model's server.

    python -m benchmarks.real_model.proxy FOLDER      # installs it into an environment of its own, some 300 MB

Its dependencies would downgrade those of this project, so it has its own environment; `uv pip install` takes seconds, pip
minutes. It runs without a database: one key, one model with a price of its own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import dspy

from benchmarks.real_model.install import python_of
from benchmarks.real_model.server import NAME

PACKAGE = "litellm[proxy]==1.100.0"

VARIABLE = "DSPY_RLM_LITELLM_PROXY"
"""The folder of the environment, for tests."""

KEY = "sk-of-the-test"

# US dollars a token: of prompts, and of replies.
PRICES = (1e-6, 2e-6)

# Its imports alone take eight seconds of CPU time.
START_SECONDS = 300


def home(folder: str | None = None) -> Path:
    """Returns the folder of the environment."""
    default = Path(__file__).parent / ".venv-proxy"
    return Path(folder or os.environ.get(VARIABLE) or default).absolute()


def command_of(folder: Path) -> Path:
    """Returns the command of the proxy."""
    python = python_of(folder)
    return python.with_name("litellm.exe" if os.name == "nt" else "litellm")


class Proxy:
    """The proxy, started, watched until it answers, killed."""

    def __init__(self, upstream: int, folder: Path | None = None) -> None:
        """Starts it.

        Args:
            upstream: The port of the OpenAI-compatible server behind it.
            folder: The environment; by default `home`.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._folder = TemporaryDirectory()
        config = Path(self._folder.name) / "config.json"  # which is YAML, too
        config.write_text(json.dumps(_config(upstream)), encoding="utf-8")
        self.process = subprocess.Popen(
            [command_of(folder or home()), "--config", config, "--host", "127.0.0.1", "--port", str(self.port)],
            cwd=self._folder.name,
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        address = f"http://127.0.0.1:{self.port}/health/liveliness"
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(address, timeout=60):
                    return
            except OSError:
                time.sleep(0.2)
        self.close()
        raise RuntimeError("LiteLLM's proxy did not start.")

    def lm(self, *, key: str = KEY, **options: Any) -> dspy.LM:
        """Returns the model behind the proxy, deterministic and without DSPy's cache."""
        options = {"cache": False, "num_retries": 0, "temperature": 0.0, "timeout": 600, **options}
        base = f"http://127.0.0.1:{self.port}/v1"
        return dspy.LM(f"openai/{NAME}", api_base=base, api_key=key, **options)

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _config(upstream: int) -> dict[str, Any]:
    model = {
        "model": f"openai/{NAME}",
        "api_base": f"http://127.0.0.1:{upstream}/v1",
        "api_key": "none",
        "input_cost_per_token": PRICES[0],
        # llama.cpp says how much of a prompt was in its cache, which costs nothing unless a price is set.
        "cache_read_input_token_cost": PRICES[0],
        "output_cost_per_token": PRICES[1],
        "max_retries": 0,
    }
    return {
        "model_list": [{"model_name": NAME, "litellm_params": model}],
        "litellm_settings": {"num_retries": 0, "telemetry": False},
        "router_settings": {"num_retries": 0},
        "general_settings": {"master_key": KEY},
    }


def main(folder: str | None = None) -> None:
    """Installs it if it is missing."""
    target = home(folder)
    if not command_of(target).exists():
        venv.create(target, with_pip=True)
        subprocess.run([str(python_of(target)), "-m", "pip", "install", PACKAGE], check=True)
    print(command_of(target))


if __name__ == "__main__":
    main(*sys.argv[1:2])
