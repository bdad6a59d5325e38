"""The flags of V8: those that a sandbox relies on, and those that only save time or memory.

V8 ends at once when it meets a flag that it does not know, and a later Deno may drop one. So a Deno other than the tested
one is asked for its flags, and what only tunes is left out if it is gone.
"""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from sandbox_runtime.engine.trial import run
from sandbox_runtime.isolation.os_isolation import NO_WALL

# JavaScript's own heap in the worker: Pyodide's code and the objects in flight.
_HEAP_MEGABYTES = 1024

# Four times V8's default, for recursion in C, where an overflow ends the interpreter: JSON may be nested
# 16,000 deep. The largest stack that V8 keeps for the next cell; larger ones cost a tenth of a warm cell's time.
_STACK_KILOBYTES = 3_900

# Without one of these a sandbox does not start.
REQUIRED_FLAGS = (
    "--disallow-code-generation-from-strings",
    f"--max-old-space-size={_HEAP_MEGABYTES}",
)

# Half a megabyte of new objects instead of up to 16: few are created while Python runs, and every session of a machine
# would keep the pages that they have touched. The minimum is above this maximum unless it is set too.
TUNING_FLAGS = (
    f"--stack-size={_STACK_KILOBYTES}",
    f"--wasm-stack-switching-stack-size={_STACK_KILOBYTES}",
    "--max-semi-space-size=1",
    "--min-semi-space-size=1",
)

# Compiled code is valid only for the flags that it was compiled with.
FLAGS = (*REQUIRED_FLAGS, *TUNING_FLAGS)

# Printing the flags takes a few milliseconds.
_HELP_SECONDS = 30.0


def known(flags: Iterable[str], printed: str) -> tuple[str, ...]:
    """Returns the flags that `--v8-flags=--help` has printed; all of them if it has printed no flags."""
    names = set(re.findall(r"^  --([a-z0-9-]+) \(", printed, re.MULTILINE))
    return tuple(
        flag for flag in flags if not names or flag.removeprefix("--").partition("=")[0] in names
    )


@functools.cache
def _printed_by(path: Path, environment: tuple[tuple[str, str], ...]) -> str:
    try:
        arguments = ["eval", "--no-config", "--no-lock", "--v8-flags=--help", "0"]
        return run(path, arguments, NO_WALL, dict(environment), _HELP_SECONDS).stdout
    except (OSError, RuntimeError, subprocess.TimeoutExpired):
        return ""  # its start will show what is wrong


def usable_flags(
    path: Path, environment: Mapping[str, str], *, tested: bool = False
) -> tuple[str, ...]:
    """Returns the flags to start a Deno with. `tested`: it is the tested version, which knows them all."""
    if tested:
        return FLAGS
    return (*REQUIRED_FLAGS, *known(TUNING_FLAGS, _printed_by(path, tuple(environment.items()))))
