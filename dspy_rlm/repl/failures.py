"""The line of an observation about rows of a batch that failed: code that does not look at each row would miss them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sandbox_runtime.helpers import in_one_line

# The reasons that one line has, and the longest of them.
MAX_REASONS = 3
MAX_REASON_CHARS = 300

# The beginning of a reason by which equal causes are found.
COMPARED_CHARS = 1_000

# Between the reason and the reply that it quotes, in the message of a failed row.
LAST_REPLY = "\nThe last reply was:\n"

# Parts in which the same cause differs from row to row: the value at the end of a line, quoted texts, numbers and names
# with digits. A status code tells causes apart.
_OF_ONE_ROW = re.compile(
    r"(\b(?:HTTP|status|code)\W{1,3}\d{3}\b)|, got .*|(?<!\w)'[^'\n]{0,300}'(?!\w)|\"[^\"\n]{0,300}\"|\w{0,40}\d\w{0,40}",
    re.IGNORECASE,
)


def failed_rows(name: str, unit: str, messages: Sequence[str], total: int) -> str:
    """Returns the line about a batch: `predict_batched: 12 of 12 rows failed, all with: ...`; empty if none failed.

    Args:
        name: The function that the cell called.
        unit: The items of the batch, such as "rows".
        messages: The message of each failed item. A reply that it quotes is left out.
        total: The number of items.
    """
    if not messages:
        return ""
    kinds = _by_cause([message.partition(LAST_REPLY)[0] for message in messages])
    head = f"{name}: {len(messages):,} of {total:,} {unit} failed"
    if len(kinds) == 1:
        same = kinds[0]
        return f"{head}, {'all ' if len(messages) > 1 else ''}{_relation(same)}: {same[0]}"
    listed = [f"{len(same):,} {_relation(same)}: {same[0]}" for same in kinds[:MAX_REASONS]]
    others = sum(map(len, kinds[MAX_REASONS:]))
    more = f"; {others:,} with other errors" if others else ""
    return f"{head}: {'; '.join(listed)}{more}"


def _by_cause(reasons: Sequence[str]) -> list[list[str]]:
    """Returns the reasons, each in one line, those of one cause together; the most frequent cause is first."""
    causes: dict[str, list[str]] = {}
    for reason in reasons:
        key = " ".join(_OF_ONE_ROW.sub(r"\1#", reason[:COMPARED_CHARS]).split())
        causes.setdefault(key, []).append(in_one_line(" ".join(reason.split()), MAX_REASON_CHARS))
    return sorted(causes.values(), key=len, reverse=True)


def _relation(same: Sequence[str]) -> str:
    """Returns "with" if the reasons are equal, "like" if the first is only an example."""
    return "with" if len(set(same)) == 1 else "like"
