"""The lines of an observation about failed and guessed rows: code that does not look at each row would miss them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from sandbox_runtime.helpers import in_one_line

# The reasons that one line has, and the longest of them.
MAX_REASONS = 3
MAX_REASON_CHARS = 300

# The longest reply that one line quotes.
MAX_REPLY_CHARS = 200

# The most numbers of rows that one line lists.
MAX_ROWS = 20

_GUESS = "a guess (status 'extracted')"

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
        messages: The message of each failed item. Of the most frequent cause, a reply is quoted.
        total: The number of items.
    """
    if not messages:
        return ""
    kinds = _by_cause(messages)
    head = f"{name}: {len(messages):,} of {total:,} {unit} failed"
    quoted = _quoted(kinds[0])
    if len(kinds) == 1:
        same = kinds[0]
        every = "all " if len(messages) > 1 else ""
        return f"{head}, {every}{_relation(same)}: {same[0].reason}{quoted}"
    listed = [f"{len(same):,} {_relation(same)}: {same[0].reason}" for same in kinds[:MAX_REASONS]]
    others = sum(map(len, kinds[MAX_REASONS:]))
    more = f"; {others:,} with other errors" if others else ""
    return f"{head}: {listed[0]}{quoted}{''.join(f'; {one}' for one in listed[1:])}{more}"


def guessed(name: str, rows: Sequence[int], total: int) -> str:
    """Returns the line about sub-runs that did not submit; empty if all did.

    Args:
        name: The function that the cell called.
        rows: The numbers of the rows whose outputs were extracted.
        total: The number of rows.
    """
    if not rows:
        return ""
    if total == 1:
        return (
            f"{name}: the sub-run ended before it submitted, so its outputs are extracted: {_GUESS}"
        )
    listed = ", ".join(map(str, rows[:MAX_ROWS]))
    more = f" and {len(rows) - MAX_ROWS:,} more" if len(rows) > MAX_ROWS else ""
    return (
        f"{name}: {len(rows):,} of {total:,} sub-runs (row{'' if len(rows) == 1 else 's'} {listed}{more}) ended before "
        f"they submitted, so their outputs are extracted: {_GUESS}"
    )


@dataclasses.dataclass(frozen=True)
class _Failure:
    """The message of one failed item, in one line."""

    reason: str
    reply: str


def _by_cause(messages: Sequence[str]) -> list[list[_Failure]]:
    """Returns the failures, those of one cause together; the most frequent cause is first."""
    causes: dict[str, list[_Failure]] = {}
    for message in messages:
        reason, _, reply = message.partition(LAST_REPLY)
        key = " ".join(_OF_ONE_ROW.sub(r"\1#", reason[:COMPARED_CHARS]).split())
        failure = _Failure(
            _line(reason, MAX_REASON_CHARS), _line(_unmarked(reply), MAX_REPLY_CHARS)
        )
        causes.setdefault(key, []).append(failure)
    return sorted(causes.values(), key=len, reverse=True)


def _line(text: str, limit: int) -> str:
    return in_one_line(" ".join(text.split()), limit)


def _unmarked(reply: str) -> str:
    """Returns a reply without the marks of its lines."""
    return "\n".join(line.removeprefix("> ") for line in reply.split("\n"))


def _quoted(same: Sequence[_Failure]) -> str:
    """Returns the end of a line that quotes the reply behind a failure; empty if there was none."""
    reply = next((failure.reply for failure in same if failure.reply), "")
    return f" {'The' if len(same) == 1 else 'A'} last reply: {reply!r}" if reply else ""


def _relation(same: Sequence[_Failure]) -> str:
    """Returns "with" if the reasons are equal, "like" if the first is only an example."""
    return "with" if len({failure.reason for failure in same}) == 1 else "like"
