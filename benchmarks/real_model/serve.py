"""llama.cpp's own HTTP server with a model: serve.py WEIGHTS PORT [TOKENS_A_SLOT] [SLOTS].

Runs with the interpreter of the environment that `install` creates. One thread: llama.cpp's threads spin at their barriers,
so that two on a busy machine are several times slower than one.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def main(weights: str, port: str, tokens: str = "4096", slots: str = "1") -> None:
    """Serves until the standard input is closed: so a server does not outlive the process that started it."""
    import xllamacpp

    settings: Any = xllamacpp.CommonParams()
    settings.model.path = weights
    settings.model_alias = {"smollm2-135m"}
    settings.hostnames = ["127.0.0.1"]
    settings.port = int(port)
    settings.n_ctx = int(tokens) * int(slots)
    settings.n_parallel = int(slots)
    settings.kv_unified = False
    settings.cont_batching = True
    settings.endpoint_metrics = True
    settings.endpoint_slots = True
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.ui = False
    settings.use_jinja = True
    server = xllamacpp.Server(settings)
    print("READY", server.listening_address, flush=True)
    sys.stdin.read()
    # Its threads do not end by themselves.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
