"""The process that is killed: it runs one program, or resumes it, and writes the outcome to a file."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import dspy


def work(base_url: str, program: str, text: str, journal: str, result: str, resumes: bool) -> None:
    """Runs in a process of its own."""
    from . import programs

    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def lm(name: str) -> dspy.LM:
        return dspy.LM(
            f"openai/{name}", api_base=base_url, api_key="none", cache=False, num_retries=0
        )

    from tests.thrifty_pool import ThriftyPool

    pool = ThriftyPool()
    with dspy.context(lm=lm(program), adapter=dspy.ChatAdapter()):
        rlm = programs.rlm(program, lm("sub"), journal=journal, pool=pool, checkpoints="auto")
        prediction = rlm.resume(journal) if resumes else rlm(text=text)
    pool.close()
    run = prediction.run
    outcome = {
        "outputs": {"total": prediction.total, "same": prediction.same},
        "status": run.status,
        "steps": [step.code for step in run.steps],
        "outputs_seen": [step.output for step in run.steps],
        "llm_calls": run.llm_calls,
        "calls": sum(usage.calls for usage in run.usage),
        "tokens": [
            sum(usage.input_tokens or 0 for usage in run.usage),
            sum(usage.output_tokens or 0 for usage in run.usage),
        ],
    }
    scratch = Path(f"{result}.{os.getpid()}")
    scratch.write_text(json.dumps(outcome))
    scratch.replace(result)
