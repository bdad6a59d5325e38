"""Writes tasks as files, and checks files of published data sets.

    python -m dspy_rlm.tasks list
    python -m dspy_rlm.tasks make s-niah --tokens 32000 --n 20 --seed 0 --out s-niah.jsonl
    python -m dspy_rlm.tasks read oolong oolong.jsonl

Prints the manifest of the task as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from dspy_rlm import tasks
from dspy_rlm.errors import InputError
from dspy_rlm.tasks.task import as_lines


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 1 if the task cannot be generated or the file cannot be read."""
    options = _parser().parse_args(arguments)
    if options.command == "list":
        sys.stdout.write("\n".join(tasks.names()) + "\n")
        return 0
    try:
        if options.command == "make":
            task = tasks.load(options.name, tokens=options.tokens, n=options.n, seed=options.seed)
        else:
            task = tasks.read(options.format, options.file, limit=options.limit)
        if options.out:
            with options.out.open("w", encoding="utf-8") as file:
                file.writelines(as_lines(task))
    except (InputError, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(task.manifest.as_dict(), indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m dspy_rlm.tasks", description=(__doc__ or "").split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the names of the tasks")
    make = commands.add_parser("make", help="generate a task")
    make.add_argument(
        "name", choices=tasks.names(), metavar="NAME", help="one of those that `list` prints"
    )
    make.add_argument("--tokens", type=int, default=32_000, help="the length of each context")
    make.add_argument("--n", type=int, default=20, help="the number of examples")
    make.add_argument("--seed", type=int, default=0)
    read = commands.add_parser("read", help="import a published data set from a file")
    read.add_argument(
        "format", choices=tasks.formats(), metavar="FORMAT", help=", ".join(tasks.formats())
    )
    read.add_argument("file", type=Path)
    read.add_argument("--limit", type=int, help="the number of rows to read")
    for command in (make, read):
        command.add_argument(
            "--out", type=Path, metavar="FILE", help="write the examples as JSON lines"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
