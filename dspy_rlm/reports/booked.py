"""The amount that a call counts as, and the rule for calls that nothing bounds: the same for a run and for a job."""

from __future__ import annotations

from collections.abc import Iterable


def booked(cost: float | None, bound: float | None) -> float | None:
    """Returns the US dollars that a call counts as: its cost, else its upper bound; None if there is neither."""
    return bound if cost is None else cost


def has_no_other(is_priced: bool, in_flight: Iterable[bool]) -> bool:
    """Returns whether a call may be sent beside those in flight, as far as their prices go.

    Calls that nothing bounds are sent one at a time: each says what it has cost before the next one is sent.

    Args:
        is_priced: True if there is an upper bound of its cost.
        in_flight: The same of each call in flight.
    """
    return is_priced or all(in_flight)
