"""`dspy-rlm compare` on items: from the flags to the systems, the bill, the comparison, and its output."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dspy

from dspy_rlm import tasks
from dspy_rlm.budget.budget import Budget, Price
from dspy_rlm.cli.asking.models import lm_of, no_model
from dspy_rlm.cli.asking.request import named_models, prices
from dspy_rlm.cli.comparing.bill import bill_text
from dspy_rlm.cli.configuration.sources import settled
from dspy_rlm.cli.exit_codes import BUDGET, COMPLETE, CONFIGURATION, USAGE, CommandError
from dspy_rlm.cli.notes import Notes
from dspy_rlm.cli.optimizing.metrics import metric_of
from dspy_rlm.cli.optimizing.trainset import examples_in
from dspy_rlm.cli.programs.command import split_name
from dspy_rlm.cli.programs.loading import imported
from dspy_rlm.comparing.compare import compare
from dspy_rlm.comparing.items import length_of
from dspy_rlm.comparing.result import ComparisonResult
from dspy_rlm.comparing.rows import Row
from dspy_rlm.comparing.systems import READY_MADE
from dspy_rlm.lms.model_facts import bounds_of
from dspy_rlm.rlm import RLM
from dspy_rlm.terminal.escaping import log_plainly, show_exactly


@dataclasses.dataclass(frozen=True)
class Models:
    """The LMs of a comparison, and what they cost."""

    lm: dspy.LM
    sub_lm: Any
    prices: Mapping[str, tuple[float, float]] | None

    @property
    def root_price(self) -> Price | None:
        """The price of the LM; None if unknown."""
        return bounds_of(self.lm, Budget(prices=self.prices)).price

    @property
    def sub_price(self) -> Price | None:
        """The price of the first sub-LM; None if unknown."""
        one = next(iter(self.sub_lm.values())) if isinstance(self.sub_lm, dict) else self.sub_lm
        return bounds_of(one or self.lm, Budget(prices=self.prices)).price


def run_compare(options: argparse.Namespace) -> int:
    """Compares systems; prints the result to stdout and everything else to stderr; returns the exit code.

    Raises:
        CommandError: An argument is wrong.
        InputError: A file cannot be used.
    """
    log_plainly()
    notes = Notes(quiet=options.quiet)
    task, metric = _items(options)
    models = models_of(options)
    systems: dict[str, Any] = ready_made(options, models, task.signature, task.tools)
    for text in options.own_systems:
        name, system = _own_system(text)
        systems[name] = system
    if not systems:
        raise CommandError("Name at least one system with --systems or --system.", USAGE)
    lengths = [length_of(example.inputs().toDict()) for example in task.examples]
    if not goes_on_after_bill(options, models, [*systems], lengths, notes):
        return COMPLETE
    with dspy.context(lm=models.lm), kept(notes, str(options.rows)):
        result = compare(
            task,
            systems,
            metric,
            file=options.rows,
            threads=options.threads,
            max_cost=options.max_cost,
            max_seconds=options.max_seconds,
            prices=models.prices,
            seed=options.seed,
            on_row=progress(notes, len(task.examples) * len(systems)),
        )
    for path in options.output:
        result.save(path)
        notes.info(f"Saved to {path}.")
    show_exactly(json.dumps(result.dump(), indent=2) if options.json else str(result), sys.stdout)
    return code_of_result(result)


@dataclasses.dataclass(frozen=True)
class _Items:
    """Examples in the form of a task."""

    name: str
    signature: Any
    examples: tuple[dspy.Example, ...]
    metric: Callable[..., Any] | None = None
    tools: tuple[Callable[..., Any], ...] = ()


def _items(options: argparse.Namespace) -> tuple[Any, Callable[..., Any]]:
    """Returns the items and the metric."""
    if options.task is not None:
        task = loaded_task(options.task, options.tokens, options.items, options.seed)
        own = metric_of(options.metric, task.signature) if options.metric else task.metric
        return task, own
    try:
        signature = dspy.ensure_signature(options.signature)
    except (ValueError, TypeError) as error:
        raise CommandError(f"--sig {options.signature!r}: {error}", USAGE) from error
    examples = tuple(examples_in(options.data, signature))
    return _Items(options.data.stem, signature, examples), metric_of(options.metric, signature)


def loaded_task(name: str, tokens: list[int], items: int, seed: int) -> Any:
    """Returns a generated task with items of all lengths.

    Raises:
        CommandError: There is no such task, or it has no items of a length.
    """
    if name not in tasks.names():
        raise CommandError(
            f"There is no task {name!r}. The tasks are: {', '.join(tasks.names())}.", USAGE
        )
    try:
        parts = [tasks.load(name, tokens=length, n=items, seed=seed) for length in tokens]
    except ValueError as error:
        raise CommandError(f"--task {name}: {error}", USAGE) from error
    first = parts[0]
    examples = tuple(example for part in parts for example in part.examples)
    return _Items(name, first.signature, examples, first.metric, tuple(first.tools))


def models_of(options: argparse.Namespace) -> Models:
    """Returns the LMs that the flags name. DSPy's cache is off: its answers have no cost and no time.

    Raises:
        CommandError: None is named, or one cannot be used.
    """
    settings = settled(options)
    if not settings.model:
        raise no_model()
    no_cache = {"cache": False}
    lm = lm_of(settings.model, settings.api_base, options=no_cache)
    subs = {
        name: lm_of(model, settings.api_base, options=no_cache)
        for name, model in named_models(settings.sub_models).items()
    }
    sub_lm: Any = subs[""] if [*subs] == [""] else subs or None
    return Models(lm, sub_lm, prices(options.prices) or None)


def ready_made(
    options: argparse.Namespace, models: Models, signature: Any, tools: tuple[Any, ...]
) -> dict[str, Any]:
    """Returns the systems of `--systems` by name.

    Raises:
        CommandError: One is unknown.
    """
    names = [name.strip() for name in options.systems.split(",") if name.strip()]
    unknown = [name for name in names if name not in READY_MADE]
    if unknown:
        raise CommandError(
            f"There is no system {unknown[0]!r}. Those by name are: {', '.join(READY_MADE)}.", USAGE
        )
    found: dict[str, Any] = {}
    for name in names:
        if name == "rlm":
            found[name] = RLM(signature, tools=[*tools], sub_lm=models.sub_lm)
        else:
            found[name] = name
    return found


def _own_system(text: str) -> tuple[str, Any]:
    name, _, place = text.partition("=")
    file, attribute = split_name(place, as_module=False)
    if not name or not attribute:
        raise CommandError(f"--system {text!r} must be NAME=FILE.py:OBJECT.", USAGE)
    module = imported(file)
    if not hasattr(module, attribute):
        raise CommandError(f"{file} has no {attribute}.", CONFIGURATION)
    return name, getattr(module, attribute)


@contextlib.contextmanager
def kept(notes: Notes, place: str) -> Iterator[None]:
    """Says after Ctrl-C that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        notes.warning(f"\nAll rows are kept in {place}. The same command continues from there.")
        raise


def goes_on_after_bill(
    options: argparse.Namespace,
    models: Models,
    systems: Sequence[str],
    lengths: Sequence[int],
    notes: Notes,
) -> bool:
    """Shows the expected bill; returns False if it was all that was wanted.

    Raises:
        CommandError: There is a limit in dollars, and a price is unknown.
    """
    bill = bill_text(systems, lengths, models.root_price, models.sub_price, options.max_cost)
    if options.dry_run:
        show_exactly(bill, sys.stdout)
        return False
    notes.warning(bill)
    if options.max_cost is not None and (models.root_price is None or models.sub_price is None):
        raise CommandError(
            "--max-cost needs the prices of all models, and one is unknown. Say it with --price MODEL=PROMPT,REPLY.",
            CONFIGURATION,
        )
    return True


def progress(notes: Notes, total: int) -> Callable[[Row], None]:
    """Returns the function that shows each row."""
    done = 0

    def show(row: Row) -> None:
        nonlocal done
        done += 1
        end = row.failure or f"score {row.score:g}"
        notes.info(
            f"{done} of at most {total}: {row.system} on item {row.number}, {end}, {row.seconds:.1f} s"
        )

    return show


def code_of_result(result: ComparisonResult) -> int:
    """Returns the exit code: a limit that left something out is not success."""
    return BUDGET if result.stopped_by else COMPLETE
