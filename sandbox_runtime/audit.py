"""Audit events: what an operator should see of sandboxes, as records of one logger.

The logger is `sandbox_runtime.audit`. Each record has two attributes: `event`, one of `EVENTS`, and
`facts`, a dictionary of plain values. Nothing is printed unless the program configures logging.
The message is the event and its facts as one line of ASCII JSON: text that comes out of a sandbox
cannot forge a second line, and is shortened.
Knows no session and no process: those call `record`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from types import MappingProxyType

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
"""Every event with its level. An honest cell never causes an ERROR. An INFO may be a model's mistake."""

# Long enough for an error message, short enough that a flood of events cannot fill a disk quickly.
MAX_FACT_CHARS = 300

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


def _plain(value: Fact) -> Fact:
    if not isinstance(value, str):
        return value
    if len(value) <= MAX_FACT_CHARS:
        return value
    return f"{value[:MAX_FACT_CHARS]}... ({len(value):,} characters)"
