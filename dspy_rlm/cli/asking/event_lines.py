"""The events of a run as lines of JSON, written while it runs."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from pydantic_core import to_jsonable_python

from dspy_rlm.cli.asking.request import STDERR
from dspy_rlm.cli.exit_codes import CONFIGURATION, CommandError
from dspy_rlm.events import Event
from dspy_rlm.reports.report import RunReport

# Incremented when a program that reads the lines has to be changed.
FORMAT, VERSION = "dspy-rlm/events", 1

# Names of events that are clearer than those of their classes.
_NAMES = {"ActionChosen": "action", "StepTaken": "step"}


class EventLines:
    """Writes events to a stream, a line for each. Thread-safe: sub-runs write at the same time."""

    def __init__(self, place: str) -> None:
        """Opens the file; `-` is stderr.

        Raises:
            CommandError: The file cannot be written.
        """
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._stream: TextIO | None = None
        if place != STDERR:
            _check_replaceable(Path(place))
            try:
                self._stream = Path(place).open("w", encoding="utf-8")  # noqa: SIM115 - closed by `close`
            except OSError as error:
                raise CommandError(
                    f"The events cannot be written to {place}: {error.strerror}. Name another file after --events.",
                    CONFIGURATION,
                ) from error
        self.write("start", {"format": FORMAT, "version": VERSION})

    def watcher(self, depth: int) -> Callable[[Event], None]:
        """Returns an observer of one run at a depth."""
        number = next(self._numbers)
        return lambda event: self.write(*_name_and_fields(event), {"run": number, "depth": depth})

    def write(
        self, name: str, fields: dict[str, Any], of_run: dict[str, Any] | None = None
    ) -> None:
        """Writes a line, at once."""
        line = {"event": name, "time": round(time.time(), 3), **(of_run or {}), **fields}
        text = json.dumps(to_jsonable_python(line, fallback=str))
        with self._lock:
            print(text, file=self._stream or sys.stderr, flush=True)

    def close(self, exit_code: int | None) -> None:
        """Writes the last line, with the exit code, and closes the file."""
        self.write("exit", {"exit_code": exit_code})
        if self._stream is not None:
            self._stream.close()


def _check_replaceable(path: Path) -> None:
    """Raises `CommandError` for an existing file without events: an input may follow `--events` by mistake."""
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        if FORMAT.encode() in file.read(200):
            return
    raise CommandError(
        f"{path} has something else than events, so it is not replaced. Name another file after --events; for stderr, "
        "write --events last.",
        CONFIGURATION,
    )


def _name_and_fields(event: Event) -> tuple[str, dict[str, Any]]:
    cls = type(event).__name__
    name = _NAMES.get(cls) or re.sub(r"(?<!^)(?=[A-Z])", "_", cls).lower()
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(event):
        value = getattr(event, field.name)
        if isinstance(value, RunReport):
            value = value.dump()
            for part in ("trajectory", "sub_calls", "lineage", "coverage"):
                del value[part]  # the trajectory was in the events before; the rest is in --json
        fields[field.name] = value
    if name == "run_started":
        fields["variables"] = [
            {"name": one.name, "type": one.type_name, "size": one.size}
            for one in fields["variables"]
        ]
    if name == "step":
        step = fields.pop("step")
        fields |= {"reasoning": step.reasoning, "code": step.code, "output": step.output}
    return name, fields
