"""The catalogue of all programs, by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import (
    c_functions,
    corruption,
    environment,
    exhaustion,
    forgery,
    harness,
    host_files,
    javascript,
    long_texts,
    mistakes,
    network,
    outliving,
    preparation,
    processes,
    serialisation,
    threads,
    tool_abuse,
    underneath,
)
from .escapes import PAIRS as ESCAPED_PAIRS
from .escapes import SINGLE
from .persistence import PAIRS
from .program import Program

BY_CLASS: Mapping[str, Sequence[Program]] = {
    "host files": host_files.PROGRAMS,
    "environment": environment.PROGRAMS,
    "network": network.PROGRAMS,
    "processes": processes.PROGRAMS,
    "escape to JavaScript": javascript.PROGRAMS,
    "forged messages": forgery.PROGRAMS,
    "abuse of tools": tool_abuse.PROGRAMS,
    "exhaustion": exhaustion.PROGRAMS,
    "corrupted state": corruption.PROGRAMS,
    "changed harness": harness.PROGRAMS,
    "changed preparation": preparation.PROGRAMS,
    "what outlives its cell": outliving.PROGRAMS,
    "threads": threads.PROGRAMS,
    "changed foundations": underneath.PROGRAMS,
    "functions of C": c_functions.PROGRAMS,
    "values": serialisation.PROGRAMS,
    "long texts": long_texts.PROGRAMS,
    "mistakes of models": mistakes.PROGRAMS,
}


def counts() -> dict[str, int]:
    """Counts the programs by class, a pair as one, and the escapes."""
    numbers = {group: len(programs) for group, programs in BY_CLASS.items()}
    numbers["left for the next session"] = len(PAIRS)
    return numbers | {
        "all programs": sum(numbers.values()),
        "escapes": sum(map(len, SINGLE.values())) + len(ESCAPED_PAIRS),
    }
