"""The arguments of `dspy-rlm ask`, parsed. Imports no DSPy: mistakes that need none are found at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dspy_rlm.cli.configuration.sources import settled
from dspy_rlm.cli.exit_codes import CONFIGURATION, USAGE, CommandError
from dspy_rlm.errors import InputError

MODEL_VARIABLE, SUB_MODEL_VARIABLE = "DSPY_RLM_MODEL", "DSPY_RLM_SUB_MODEL"

# The value of --events that means stderr.
STDERR = "-"

# The settings that a recorded run takes from the configuration. All others are those of its record, or of flags.
OF_RESUMED = frozenset({"api_base", "quiet", "plain", "allow_partial"})


@dataclass(frozen=True)
class Budgets:
    """The limits of the run as flags set them; None is the default, or that of the recorded run."""

    max_iterations: int | None = None
    max_llm_calls: int | None = None
    max_depth: int | None = None
    max_cost: float | None = None
    max_tokens: int | None = None
    max_seconds: float | None = None
    max_errors: int | None = None
    max_output_chars: int | None = None
    max_concurrency: int | None = None
    prices: Mapping[str, tuple[float, float]] | None = None

    @property
    def set(self) -> dict[str, Any]:
        """The limits that a flag sets, as arguments of an RLM."""
        named = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Request:
    """The parsed arguments of the command."""

    paths: Sequence[str | Path] = ()
    """Paths, patterns, addresses, and `-` for stdin; each may have the name of its variable in front of `=`."""

    question: str | None = None
    signature: str | None = None
    model: str | None = None
    sub_models: Mapping[str, str] = field(default_factory=dict)
    """By name; a single one has the empty name."""

    api_base: str | None = None
    budgets: Budgets = field(default_factory=Budgets)
    tools: Sequence[str] = ()
    mcp: Sequence[Path] = ()
    """Files that list MCP servers."""

    on_exhausted: str | None = None
    journal: str | bool | None = None
    resume: str | None = None
    as_json: bool = False
    events: str | None = None
    """The file of the events, or `-` for stderr; None for no events."""

    gitignore: bool = True
    dry_run: bool = False
    quiet: bool = False
    plain: bool = False
    output: Path | None = None
    allow_partial: bool = False

    @property
    def shows_steps(self) -> bool:
        """True if steps are printed: for a person who watches, or who asks for them with `--plain`."""
        if self.quiet or self.events == STDERR:
            return False
        return self.plain or sys.stderr.isatty()


def request_of(options: argparse.Namespace) -> Request:
    """Returns the request of parsed arguments.

    Raises:
        CommandError: Two arguments exclude each other, or a value cannot be used.
        InputError: The question is missing or empty.
    """
    if options.resume is None:
        if not options.paths:
            raise CommandError(
                "There is nothing to ask about. Name a file, a folder or an address, or - for stdin.",
                USAGE,
            )
        if options.question is None:
            raise CommandError("There is no question. Write it after -q.", USAGE)
    elif options.signature or options.dry_run:
        raise CommandError(
            "--resume goes on with a recorded run, whose signature is in its journal. Leave out --sig and --dry-run.",
            USAGE,
        )
    if options.question is not None and not options.question.strip():
        raise InputError("The question is empty. Write it after -q.")
    return shared_request(
        options,
        paths=options.paths,
        question=options.question,
        signature=options.signature,
        gitignore=not options.no_ignore,
    )


def shared_request(options: argparse.Namespace, **own: Any) -> Request:
    """Returns the request of a command that runs an RLM: the shared arguments, and its `own` ones.

    Raises:
        CommandError: A value, or a setting, cannot be used.
    """
    options = settled(options, None if options.resume is None else OF_RESUMED)
    names = {one.name for one in fields(Budgets)} - {"prices"}
    budgets = {name: getattr(options, name) for name in names}
    return Request(
        **own,
        model=options.model,
        sub_models=named_models(options.sub_models),
        api_base=options.api_base,
        budgets=Budgets(**budgets, prices=prices(options.prices) or None),
        tools=options.tools,
        mcp=options.mcp,
        on_exhausted=options.on_exhausted,
        journal=options.journal,
        resume=options.resume,
        as_json=options.json,
        events=options.events,
        dry_run=options.dry_run,
        quiet=options.quiet,
        plain=options.plain,
        output=checked_output(options.output),
        allow_partial=options.allow_partial,
    )


def named_models(texts: Sequence[str]) -> dict[str, str]:
    """Returns models by name, of texts such as `openai/gpt-5-mini` and `cheap=openai/gpt-5-nano`.

    A single one without a name has the empty name; of several, one without a name is called as the model itself.

    Raises:
        CommandError: Two have the same name, or a text has no model.
    """
    named: dict[str, str] = {}
    for text in texts:
        name, is_named, model = text.partition("=")
        if not is_named or "/" in name:
            model, name = text, "" if len(texts) == 1 else text.rpartition("/")[2]
        if not model.strip() or (is_named and not name.strip() and model != text):
            raise CommandError(f"--sub-model {text!r} must be MODEL or NAME=MODEL.", USAGE)
        if name in named:
            raise CommandError(
                f"Two sub-models are called {name!r}. Write --sub-model NAME=MODEL with different names.",
                USAGE,
            )
        named[name] = model
    return named


def prices(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Returns prices by model, of texts such as `openai/mine=0.15,0.6`.

    Raises:
        CommandError: A text is not a price.
    """
    found: dict[str, tuple[float, float]] = {}
    for text in texts:
        model, _, numbers = text.rpartition("=")
        try:
            prompt, reply = (float(number) for number in numbers.split(","))
        except ValueError:
            prompt = reply = -1.0
        if not model or not (0 <= prompt < float("inf") and 0 <= reply < float("inf")):
            raise CommandError(
                f"--price {text!r} must be MODEL=PROMPT,REPLY, the US dollars for a million tokens of prompts and of "
                "replies, such as openai/mine=0.15,0.6.",
                USAGE,
            )
        found[model] = prompt, reply
    return found


def checked_output(path: Path | None) -> Path | None:
    """Returns the path of `--output`, after a check that a file can be written there: before the run is paid.

    Raises:
        CommandError: It is a folder, or its folder is missing or not writable.
    """
    if path is None:
        return None
    problem = ""
    if path.is_dir():
        problem = "it is a folder"
    elif not path.absolute().parent.is_dir():
        problem = "its folder does not exist"
    elif not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        problem = "you may not write there"
    if problem:
        raise CommandError(
            f"The answer cannot be written to {path}: {problem}. Name a file in a folder that exists.",
            CONFIGURATION,
        )
    return path
