"""The entry point of `dspy-rlm run`: chooses between its two forms, and finds mistakes that need no DSPy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dspy_rlm.cli.ask_command import answered
from dspy_rlm.cli.asking.request import Request, shared_request
from dspy_rlm.cli.configuration.sources import configured
from dspy_rlm.cli.exit_codes import FAILED, INTERRUPTED, USAGE, CommandError
from dspy_rlm.cli.notes import Notes
from dspy_rlm.cli.programs.options import describe_own
from dspy_rlm.cli.watching import show_all_runs
from dspy_rlm.errors import InputError
from dspy_rlm.terminal.escaping import printable, show_exception

# The flags that apply to all RLMs of a whole program.
_OF_ALL_RUNS = ("journal", "plain", "quiet")


def run(options: argparse.Namespace) -> int:
    """Runs an RLM of a program, or a whole program; returns the exit code."""
    place, name = split_name(options.program, as_module=options.as_module)
    if not name:
        return _run_whole(options)
    whole, inputs = with_own_flags(options)

    def run_rlm(request: Request, notes: Notes) -> int:
        _check(place, options.as_module)
        from dspy_rlm.cli.programs.run import run_rlm

        return run_rlm(request, notes, place, name, inputs, whole, as_module=options.as_module)

    return answered(whole, shared_request, run_rlm)


def split_name(program: str, *, as_module: bool) -> tuple[str, str]:
    """Returns a program and the name of its RLM; an empty name for a whole program."""
    place, separator, name = program.rpartition(":")
    named = all(part.isidentifier() for part in name.split("."))
    if not separator or not named or not (as_module or place.endswith(".py")):
        return program, ""
    return place, name


def check_names_one(options: argparse.Namespace, otherwise: str) -> None:
    """Checks that either the text FILE.py:RLM or a signature names one RLM, not a whole program.

    Raises:
        CommandError: Neither does, or both, which `otherwise` says; or the text names no RLM.
        InputError: The file does not exist.
    """
    if (options.program is None) == (options.signature is None):
        raise CommandError(otherwise, USAGE)
    if options.program is None:
        return
    place, name = split_name(options.program, as_module=False)
    if not name:
        raise CommandError(f"Name the RLM after the file: {options.program}:rlm.", USAGE)
    if not Path(place).is_file():
        raise InputError(f"There is no file {place!r}.")


def with_own_flags(options: argparse.Namespace) -> tuple[argparse.Namespace, list[str]]:
    """Returns the arguments with the flags after the program, and the remaining ones: the inputs."""
    parser = _Parser(prog=f"dspy-rlm run {options.program}", allow_abbrev=False)
    describe_own(parser)
    whole = argparse.Namespace(**vars(options))
    rest: list[str]
    whole, rest = parser.parse_known_args(options.arguments, whole)
    return whole, rest


class _Parser(argparse.ArgumentParser):
    """Reports invalid arguments, which may be untrusted."""

    def _print_message(self, message: str, file: object = None) -> None:
        super()._print_message(printable(message), file)  # type: ignore[arg-type]


def _check(place: str, as_module: bool) -> None:
    if not as_module and not Path(place).is_file():
        raise InputError(f"There is no file {place!r} to run.")


def _run_whole(options: argparse.Namespace) -> int:
    if not options.as_module and not Path(options.program).exists():
        raise InputError(f"There is no file {options.program!r} to run.")
    if used := _flags_of_rlms(options):
        raise CommandError(
            f"{', '.join(used)} applies to one RLM: name it after the file, as in {options.program}:rlm. The arguments of "
            "a program follow it.",
            USAGE,
        )
    from dspy_rlm.cli.journals import journal_of
    from dspy_rlm.configuring import configure
    from dspy_rlm.drop_in import program_frames, run_program

    journal = options.journal if options.journal is not None else configured("journal")
    if journal is not None:
        configure(journal=journal_of(journal))
    show_all_runs(
        plain=options.plain or bool(configured("plain")),
        quiet=options.quiet or bool(configured("quiet")),
    )
    try:
        run_program(options.program, options.arguments, as_module=options.as_module)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the program may raise anything
        show_exception(error.with_traceback(program_frames(error)), sys.stderr)
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
    return 0


def _flags_of_rlms(options: argparse.Namespace) -> list[str]:
    """Returns the flags that were set and do not apply to a whole program."""
    parser = argparse.ArgumentParser(add_help=False)
    describe_own(parser)
    unset = vars(parser.parse_args([]))
    return sorted(
        f"--{name.replace('_', '-')}"
        for name, value in unset.items()
        if name not in _OF_ALL_RUNS and getattr(options, name) != value
    )
