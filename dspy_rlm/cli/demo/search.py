"""A scripted policy that answers questions about any text: it counts the lines with the words in capitals.

It is no language model. `dspy-rlm serve-policy` serves it, so that every command can be tried without a key.
"""

from __future__ import annotations

import re
from collections.abc import Generator

from dspy_rlm.prompts.variables import described_names
from dspy_rlm.testing import (
    Action,
    ChatRequest,
    Observation,
    Player,
    Task,
    asks_for,
    fields,
    policy,
    route,
    rules,
)

LOOK = """\
texts = {source} if isinstance({source}, dict) else {{"text": {source}}}
print(len(texts), "texts,", sum(map(len, texts.values())), "characters")"""

SEARCH = """\
import re
words = re.findall(r"\\b[A-Z]{2,}\\b", question) or question.split()
hits = [
    (name, number, line)
    for name, text in texts.items()
    for number, line in enumerate(text.split("\\n"), 1)
    if any(word in line for word in words)
]
for hit in hits[:10]:
    print(*hit)"""

ASK = """\
counted = sub_llm(f"{len(hits)} lines with {' or '.join(words)}:\\n" + "\\n".join(hit[2] for hit in hits))
print(counted)"""


# The heading of the prompt that `ASK` sends.
HEADING = r"^(\d+) lines (.*):"


def _count(heading: re.Match[str]) -> str:
    return f"There are {heading[1]} lines {heading[2]}."


@policy
def _search(task: Task) -> Generator[Action, Observation, None]:
    source = next(name for name in described_names(task.variables_info) if name != "question")
    yield Action("How much is there?", LOOK.format(source=source))
    yield Action("Find the lines with the words in capitals.", SEARCH)
    yield Action("Let the sub-LM read them.", ASK)
    lines = ", lines=[hit[1] for hit in hits]" if "`lines`" in task.system else ""
    yield Action("That answers it.", f"SUBMIT(answer=counted{lines})")


def _is_hello(request: ChatRequest) -> bool:
    """Returns whether a request is that of `dspy-rlm doctor`."""
    return request.prompt.startswith("Reply with the word OK")


def players() -> dict[str, Player]:
    """Returns the LMs by the names of their models: `root` writes the code, `sub` reads."""
    root = route(
        (_is_hello, lambda _: "OK"),
        (asks_for("code"), _search),
        otherwise=fields(lambda _: {"answer": "unknown"}),
    )
    return {
        "root": root,
        "sub": rules([(HEADING, _count), ("^Reply with the word OK", lambda _: "OK")], "?"),
    }
