"""The line of an observation about rows of a batch that failed: code that does not look at each row would miss them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sandbox_runtime.helpers import in_one_line

# The reasons that one line has, and the longest of them.
MAX_REASONS = 3
MAX_REASON_CHARS = 300


def failed_rows(name: str, unit: str, reasons: Sequence[str], total: int) -> str:
    """Returns the line about a batch: `predict_batched: 12 of 12 rows failed, all with: ...`; empty if none failed.

    Args:
        name: The function that the cell called.
        unit: The items of the batch, such as "rows".
        reasons: The message of each failed item.
        total: The number of items.
    """
    if not reasons:
        return ""
    kinds = Counter(in_one_line(" ".join(reason.split()), MAX_REASON_CHARS) for reason in reasons)
    head = f"{name}: {len(reasons):,} of {total:,} {unit} failed"
    if len(kinds) == 1:
        (reason,) = kinds
        return f"{head}, {'all with' if len(reasons) > 1 else 'with'}: {reason}"
    listed = [f"{count:,} with: {reason}" for reason, count in kinds.most_common(MAX_REASONS)]
    others = len(reasons) - sum(count for _, count in kinds.most_common(MAX_REASONS))
    more = f"; {others:,} with other errors" if others else ""
    return f"{head}: {'; '.join(listed)}{more}"
