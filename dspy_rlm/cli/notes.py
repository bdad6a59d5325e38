"""Messages to stderr: as text for people, or as JSON lines where stderr has the events of a run."""

from __future__ import annotations

import json
import sys

from dspy_rlm.terminal.escaping import show


class Notes:
    """Writes messages to stderr."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        """With `quiet`, only warnings and errors are written; with `as_json`, each is a line of JSON."""
        self.quiet = quiet
        self._as_json = as_json

    def info(self, text: str) -> None:
        """Writes a message, unless `quiet` is set."""
        if not self.quiet:
            self._write("info", text)

    def warning(self, text: str) -> None:
        """Writes a warning."""
        self._write("warning", text)

    def error(self, text: str) -> None:
        """Writes an error."""
        self._write("error", text)

    def _write(self, level: str, text: str) -> None:
        if self._as_json:
            line = {"event": "message", "level": level, "text": text}
            sys.stderr.write(f"{json.dumps(line)}\n")
            sys.stderr.flush()
        else:
            show(text, sys.stderr)
