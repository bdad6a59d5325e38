"""The LM of the job: counts the words of a text, in three turns that take a while."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Generator
from typing import Any

from dspy_rlm.testing import Action, Observation, PolicyServer, Task, policy
from dspy_rlm.testing.chat import ChatRequest

CALLS_A_ROW = 3

_NAME = re.compile(r"\brow-\d+\b")


def count_words(task: Task) -> Generator[Any, Observation, None]:
    """Names the row, looks it up, counts its words."""
    seen = yield Action("See the name.", "name = text.split()[0]\nprint(name)")
    name = seen.output.strip()
    yield Action("Look it up.", f"print(look_up({name!r}))")
    yield Action("Count.", "SUBMIT(name=name, words=len(text.split()) - 1)")


def serve(latency_seconds: float) -> PolicyServer:
    """Returns a server whose replies take between half of the latency and one and a half."""
    play = policy(count_words)

    def reply(request: ChatRequest) -> str:
        time.sleep(latency_seconds * random.uniform(0.5, 1.5))
        return play(request)

    return PolicyServer({"root": reply})


def paid(server: PolicyServer) -> Counter[str]:
    """Returns the requests by row."""
    names = (_NAME.search(one.prompt) for one in server.requests)
    return Counter(found[0] for found in names if found)
