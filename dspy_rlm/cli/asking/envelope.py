"""The answer of `ask` as text and as JSON."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from dspy_rlm.reports.report import RunReport

# Incremented when a program that reads the object has to be changed. New fields do not count.
FORMAT, VERSION = "dspy-rlm/answer", 1

# The longest JSON value that is printed on the same line as its name.
SHORT_JSON_CHARS = 80


def envelope(
    *,
    exit_code: int,
    outputs: Mapping[str, Any] | None = None,
    run: RunReport | None = None,
    error: str | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the JSON object of an answer, or of its absence. Its fields are the same in both cases."""
    facts: dict[str, Any] = {
        "status": "failed",
        "stopped_by": None,
        "usage": [],
        "cost": 0.0 if run is None else None,
        "coverage": {},
        "journal": None,
    }
    if run is not None:
        facts |= run.dump()
        del facts["trajectory"]
    return facts | {
        "format": FORMAT,
        "version": VERSION,
        "exit_code": exit_code,
        "outputs": None if outputs is None else plain(dict(outputs)),
        "error": error,
        "warnings": list(warnings),
    }


def plain(value: Any) -> Any:
    """Returns a value as JSON; values that JSON cannot represent become text."""
    return to_jsonable_python(value, fallback=str)


def answer_text(outputs: Mapping[str, Any]) -> str:
    """Renders the outputs: a single one alone, several with their names; other values than text as JSON."""
    texts = {name: _value_text(value) for name, value in outputs.items()}
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "\n".join(
        f"{name}:\n{text}" if "\n" in text else f"{name}: {text}" for name, text in texts.items()
    )


def _value_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    short = json.dumps(plain(value), ensure_ascii=False)
    if len(short) <= SHORT_JSON_CHARS:
        return short
    return json.dumps(plain(value), ensure_ascii=False, indent=2)


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that it has the whole text or is not changed."""
    if path.exists() and not path.is_file():  # such as /dev/stdout
        path.write_text(text, "utf-8", newline="")
        return
    handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        if path.exists():
            Path(name).chmod(path.stat().st_mode & 0o7777)
        else:
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
