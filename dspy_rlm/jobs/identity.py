"""The identity of a job's program: a folder with rows of another program is refused, for they would be mixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspy_rlm.errors import JobError
from dspy_rlm.jobs.binding import lms_of
from dspy_rlm.recorded.keys import record_of, signature_text
from dspy_rlm.rlm import RLM

FILE = "program.json"
VERSION = 1


def identity_of(rlm: RLM) -> dict[str, Any]:
    """Returns what makes the answers of a program its own: its signature, its state, its LMs, its tools, its style."""
    config = rlm._config
    state = rlm.dump_state()
    for predictor in state.values():
        if isinstance(predictor, dict):
            predictor.pop("lm", None)
            predictor.pop("traces", None)
    data = json.dumps(state, sort_keys=True, default=repr).encode("utf-8", "surrogatepass")
    return {
        "version": VERSION,
        "signature": signature_text(record_of(config.signature)),
        "state": hashlib.sha256(data).hexdigest(),
        "models": [str(lm.model) for lm in lms_of(rlm)],
        "tools": sorted(config.tools),
        "style": config.style,
    }


def check_identity(folder: Path, identity: Mapping[str, Any]) -> None:
    """Writes the identity into a new folder, and compares it in one that has rows.

    Raises:
        JobError: The folder has rows of another program.
    """
    path = folder / FILE
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(identity, indent=2, ensure_ascii=False), "utf-8")
        temporary.replace(path)
        return
    try:
        earlier = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise JobError(f"{path} cannot be read: {error}.") from error
    differing = [name for name in identity if earlier.get(name) != identity[name]]
    if differing:
        lines = (
            f"  {name}: {_short(earlier.get(name))} there, {_short(identity[name])} here"
            for name in differing
        )
        shown = "\n".join(lines)
        raise JobError(
            f"{folder} has rows of another program, so this one cannot go on there. They differ in\n{shown}\n"
            "Name another folder, or resume with the program of that one."
        )


def _short(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= 200 else f"{text[:200]}...")
