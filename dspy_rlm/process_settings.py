"""The settings that all RLMs of the process share, unless they have their own. Checked by `dspy_rlm.configure`."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ProcessSettings:
    """Settings for all RLMs of the process. None: there is none."""

    journal: Any = None
    """The `journal=` of each RLM that has none."""

    live: Any = None
    """The `live=` of each RLM that has none."""

    tracing: Any = None
    """The object that `dspy_rlm.tracing.instrument` has set up."""

    limits_per_model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The limits of models, by name; see `dspy_rlm.limiting.rate_window.ModelLimits`."""


_lock = threading.Lock()  # guards the change of the value below
_current = ProcessSettings()


def process_settings() -> ProcessSettings:
    """Returns the settings. A value: it does not change."""
    return _current


def replace_process_settings(**changes: Any) -> ProcessSettings:
    """Changes settings by name, and returns those before."""
    global _current
    with _lock:
        before = _current
        _current = dataclasses.replace(before, **changes)
    return before
