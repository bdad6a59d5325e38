"""A program that runs a job, for tests that kill it: `python -m tests.jobs.child URL OUT ROWS [option=value ...]`."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import dspy

import dspy_rlm
from tests.thrifty_pool import ThriftyPool


def fragile(text: str) -> str:
    """Ends this process, if the text says so: as a native library of a tool may."""
    if "poison" in text:
        os.kill(os.getpid(), signal.SIGKILL)
    return text.upper()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Runs the job, and prints its report."""
    url, out, count, *options = sys.argv[1:]
    settings: dict[str, Any] = {
        name: json.loads(value) for name, value in (option.split("=", 1) for option in options)
    }
    poison, key = settings.pop("poison", None), settings.pop("api_key", "none")
    lm = dspy.LM("openai/root", api_base=url, api_key=key, cache=False, num_retries=0)
    rlm = dspy_rlm.RLM("text: str -> answer: str", tools=[fragile], pool=ThriftyPool())
    rlm.set_lm(lm)
    rows = [
        {"id": i, "text": f"{'poison' if i == poison else 'row'} {i}"} for i in range(int(count))
    ]
    _say("ready")
    report = dspy_rlm.batch(rlm, rows, out=out, key="id", **settings)
    _say(json.dumps(report.dump()))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
