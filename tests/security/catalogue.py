"""All programs, by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import (
    corruption,
    environment,
    exhaustion,
    forgery,
    harness,
    host_files,
    javascript,
    mistakes,
    network,
    outliving,
    processes,
    serialisation,
    tool_abuse,
)
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
    "what outlives its cell": outliving.PROGRAMS,
    "values": serialisation.PROGRAMS,
    "mistakes of models": mistakes.PROGRAMS,
}
