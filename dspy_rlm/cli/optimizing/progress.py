"""What a person sees of an optimization that goes on: a line now and then, in place of the logs of optimizers."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dspy_rlm.cli.optimizing.metrics import Metric
from dspy_rlm.cli.optimizing.purse import Purse
from dspy_rlm.optimize.feedback import Feedback
from dspy_rlm.reports.text import dollars
from dspy_rlm.terminal.escaping import show

# Runs from one line to the next.
EVERY = 5


def watched(metric: Metric, purse: Purse, most: int) -> Metric:
    """Returns the metric, whose scores are shown on the stderr of now, a line for some runs."""
    stream = sys.stderr
    lock = threading.Lock()  # guards the scores
    scores: list[float] = []

    def showing(*arguments: Any, **options: Any) -> Feedback:
        result = metric(*arguments, **options)
        if len(arguments) > 3 or options.get("pred_name"):
            return result  # GEPA asks for the feedback of a step: no new run
        with lock:
            scores.append(float(result))
            if len(scores) % EVERY == 0:
                last = sum(scores[-EVERY:]) / EVERY
                cost = f", {dollars(purse.spent)}" if purse.spent else ""
                line = (
                    f"  {len(scores)} of at most {most} runs, mean of the last {EVERY}: {last:.2f}"
                )
                show(f"{line}{cost}", stream)
        return result

    return showing


@contextlib.contextmanager
def without_logs() -> Iterator[None]:
    """Keeps what optimizers print and log away, but for errors."""
    loggers = [logging.getLogger(name) for name in ("dspy", "gepa")]
    levels = [logger.level for logger in loggers]
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
