"""Audit events: the security-relevant events of sandboxes, as records of one logger.

The logger is `sandbox_runtime.audit`. Each record has two attributes: `event`, one of `EVENTS`, and
`facts`, a dictionary of plain values. Nothing is printed unless the program configures logging.
The message is the event and its facts as one line of ASCII JSON: text from a sandbox cannot forge a
second line, and is shortened; secrets of the environment are redacted.
Knows no session and no process: they call `record`, or `Thinned` for events that a cell can cause at will.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType

from sandbox_runtime.redaction.redact import redact_secrets

LOGGER_NAME = "sandbox_runtime.audit"

EVENTS: Mapping[str, int] = MappingProxyType(
    {
        "session.opened": logging.INFO,
        "session.replaced": logging.WARNING,
        "session.closed": logging.INFO,
        "process.ended": logging.WARNING,
        "protocol.violated": logging.ERROR,
        "cell.timed_out": logging.WARNING,
        "tool.refused": logging.INFO,
        "value.refused": logging.INFO,
        "wall.missing": logging.WARNING,
        "packages.resolved": logging.INFO,
    }
)
"""Every event with its level. An ERROR is an attack: no honest cell causes one. An INFO may be a model's mistake."""

# Long enough for an error message.
MAX_FACT_CHARS = 300

# A cell can be refused two thousand times a second. A session writes this many records of one event; after
# that, one each time the count has doubled.
ALL_RECORDED = 100

Fact = str | int | float | bool | None

_logger = logging.getLogger(LOGGER_NAME)
_logger.addHandler(logging.NullHandler())


def record(event: str, **facts: Fact) -> None:
    """Writes one event to the audit logger.

    Args:
        event: A key of `EVENTS`.
        **facts: Plain values. Text is cut to `MAX_FACT_CHARS` characters.
    """
    level = EVENTS[event]
    if not _logger.isEnabledFor(level):
        return
    plain = {name: _plain(value) for name, value in facts.items()}
    _logger.log(level, "%s %s", event, json.dumps(plain), extra={"event": event, "facts": plain})


class Thinned:
    """Rate-limited events of one session, which a cell can cause at will. Thread-safe."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, itertools.count[int]] = defaultdict(
            lambda: itertools.count(1)
        )

    def record(self, event: str, **facts: Fact) -> None:
        """Writes an event with its number in the session as the fact `count`; thins out frequent ones."""
        count = next(self._counts[event])
        if count <= ALL_RECORDED or count.bit_count() == 1:
            record(event, **facts, count=count)


def _plain(value: Fact) -> Fact:
    if not isinstance(value, str):
        return value
    # Redact several times as much before truncating: otherwise half of a split secret could be shown.
    shown = redact_secrets(value[: 64 * MAX_FACT_CHARS])[:MAX_FACT_CHARS]
    return shown if len(value) <= MAX_FACT_CHARS else f"{shown}... ({len(value):,} characters)"
