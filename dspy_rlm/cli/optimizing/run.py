"""`dspy-rlm optimize`: measures, optimizes, saves, and measures again.

Every answer of an LM is kept in a folder, so that the same command, after Ctrl-C, a kill or a reached limit, repeats
the work up to that point at no cost.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy

from dspy_rlm.budget.budget import Budget
from dspy_rlm.cli.asking.models import lm_of, sub_lms_of
from dspy_rlm.cli.asking.request import Budgets, named_models, prices
from dspy_rlm.cli.configuration.sources import settled
from dspy_rlm.cli.exit_codes import BUDGET, COMPLETE, CONFIGURATION, CommandError
from dspy_rlm.cli.notes import Notes
from dspy_rlm.cli.optimizing.estimate import Estimate, estimate, estimate_text
from dspy_rlm.cli.optimizing.metrics import Metric, metric_of
from dspy_rlm.cli.optimizing.optimizers import MAX_ERRORS, compiled
from dspy_rlm.cli.optimizing.plan import Parts, Runs, divided, planned
from dspy_rlm.cli.optimizing.progress import watched, without_logs
from dspy_rlm.cli.optimizing.purse import Purse, counted
from dspy_rlm.cli.optimizing.trainset import examples_in, expected
from dspy_rlm.cli.programs.command import split_name
from dspy_rlm.cli.programs.loading import load_rlm
from dspy_rlm.cli.programs.run import configured_module, root_lm
from dspy_rlm.comparing.intervals import Comparison, Interval, compared
from dspy_rlm.errors import InputError
from dspy_rlm.lms.model_facts import bounds_of
from dspy_rlm.reports.text import dollars
from dspy_rlm.rlm import RLM
from dspy_rlm.terminal.escaping import log_plainly, show_exactly

FORMAT, VERSION = "dspy-rlm/optimization", 1

# The second measurement is kept free of the limit: what the first one took, and some more, as prompts may get longer.
_KEPT_FOR_MEASURING = 1.5


@dataclasses.dataclass(frozen=True)
class _Work:
    """An optimization that can start."""

    module: RLM
    lm: dspy.LM
    reflection: dspy.LM
    parts: Parts[dspy.Example]
    runs: Runs
    metric: Metric
    folder: Path


def run_optimize(options: argparse.Namespace) -> int:
    """Optimizes; prints the result to stdout and everything else to stderr; returns the exit code.

    Raises:
        KeyboardInterrupt: Ctrl-C. All answers are kept.
        Exception: The measurement failed. `exit_codes.code_of` has its exit code.
    """
    log_plainly()
    notes = Notes(quiet=options.quiet or not (options.plain or sys.stderr.isatty()))
    work = _prepared(options)
    examples = [*work.parts.train, *work.parts.validation, *work.parts.held_out]
    bill = estimate(
        work.module, work.lm, work.reflection, examples, work.runs, options.max_total_cost
    )
    if options.dry_run:
        text = _dry_json(bill, work) if options.json else estimate_text(bill, work.parts, work.runs)
        show_exactly(text, sys.stdout)
        return COMPLETE
    # The upper bound of the cost is always printed before anything is spent.
    notes.warning(estimate_text(bill, work.parts, work.runs))
    try:
        with _answers_kept(work.folder):
            result = _optimized(work, options, notes)
    except KeyboardInterrupt:
        notes.warning(
            f"\nAll answers are kept in {work.folder}. The same command continues from there."
        )
        raise
    show_exactly(json.dumps(result, indent=2) if options.json else _text(result), sys.stdout)
    return COMPLETE


def _prepared(options: argparse.Namespace) -> _Work:
    module, lm = _module_and_lm(options)
    signature = module.signature
    metric = metric_of(options.metric, signature)
    examples = examples_in(options.trainset, signature)
    held_out = None if options.holdout is None else examples_in(options.holdout, signature)
    if options.metric is None:
        _check_expected([*examples, *(held_out or ())], signature)
    parts = divided(examples, held_out, options.seed)
    runs = planned(options.optimizer, parts, options.max_runs)
    settings = settled(options, {"api_base"})
    reflection = (
        lm_of(options.reflection_model, settings.api_base)
        if options.reflection_model
        else lm.copy()
    )
    if options.max_total_cost is not None:
        _check_prices(module, [lm, reflection])
    folder = options.folder or options.output.with_suffix(".work")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be created: {error.strerror}. Name another --folder."
        ) from error
    return _Work(module, lm, reflection, parts, runs, metric, folder)


def _module_and_lm(options: argparse.Namespace) -> tuple[RLM, dspy.LM]:
    # Coverage is tracked for the object of an answer only.
    of_run = argparse.Namespace(**{**vars(options), "json": False})
    if options.program is not None:
        place, name = split_name(options.program, as_module=False)
        with contextlib.redirect_stdout(sys.stderr):
            program = load_rlm(place, name)
        module = configured_module(program, of_run)
    else:
        whole = settled(of_run)
        names = {one.name for one in dataclasses.fields(Budgets)} - {"prices"}
        limits = Budgets(
            **{name: getattr(whole, name) for name in names}, prices=prices(whole.prices) or None
        ).set
        subs = sub_lms_of(named_models(whole.sub_models), whole.api_base)
        module = configured_module(RLM(options.signature, sub_lm=subs, **limits), of_run)
    lm = root_lm(module, options)
    module.generate_action = copy.copy(module.generate_action)
    module.generate_action.lm = None
    # Ctrl-C ends everything, not one run after the other.
    module.stop_seconds = 0.0
    return module, lm


def _check_prices(module: RLM, lms: list[dspy.LM]) -> None:
    """Raises `CommandError` for a limit in dollars that cannot be kept: a call of unknown cost needs a bound."""
    models = module._config.models
    for lm in [*lms, *(models.by_name.values() if models else ())]:
        facts = bounds_of(lm, module.budget)
        if facts.price is None:
            raise CommandError(
                f"The price of {facts.model} is unknown, so --max-total-cost cannot be kept. Say it with --price "
                f"{facts.model}=PROMPT,REPLY.",
                CONFIGURATION,
            )


def _check_expected(examples: Sequence[dspy.Example], signature: type[dspy.Signature]) -> None:
    if not any(expected(example, signature) for example in examples):
        raise InputError(
            f"No example has an expected output ({', '.join(signature.output_fields)}). Add them, or name a --metric."
        )


@contextlib.contextmanager
def _answers_kept(folder: Path) -> Iterator[None]:
    """Keeps the answers of LMs in the folder instead of DSPy's own cache."""
    before = dspy.cache
    dspy.configure_cache(enable_disk_cache=True, disk_cache_dir=str(folder / "answers"))
    try:
        yield
    finally:
        dspy.cache = before


def _optimized(work: _Work, options: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    started = time.monotonic()
    purse = Purse(options.max_total_cost, work.folder / "spent.jsonl")
    module = counted(work.module, purse)
    proposing = _Proposing(work.reflection, purse, module.budget)
    with dspy.context(lm=work.lm, max_errors=MAX_ERRORS, num_threads=options.threads, trace=[]):
        notes.info(f"Measuring on {len(work.parts.held_out)} examples.")
        before = _measured(module, work, options.threads)
        if purse.refused:
            raise CommandError(
                "--max-total-cost does not hold the first measurement. Raise it, or hold out fewer examples.",
                BUDGET,
            )
        if purse.failed == len(work.parts.held_out) and purse.error is not None:
            raise purse.error
        if (spent := purse.spent) is not None:  # else no run fits any more
            purse.hold(spent * _KEPT_FOR_MEASURING)
        purse.max_runs = purse.runs + work.runs.most
        notes.info(
            f"Before: {sum(before) / len(before):.2f}. Optimizing with at most {work.runs.most} runs."
        )
        metric = work.metric
        if not notes.quiet:
            metric = watched(metric, purse, work.runs.most)
        with without_logs():
            better = compiled(
                options.optimizer,
                module,
                work.parts,
                work.runs,
                metric,
                work.reflection,
                proposing.is_over,
                threads=options.threads,
                seed=options.seed,
            )
        proposing.book()
        better.save(str(options.output))
        notes.info(f"Saved to {options.output}. Measuring again.")
        stopped = purse.refused > 0
        purse.hold(0.0)
        purse.max_runs = None
        refused = purse.refused
        after = _measured(better, work, options.threads)
        if purse.refused > refused:
            raise CommandError(
                f"--max-total-cost does not hold the second measurement. The state is saved to {options.output}; with a higher "
                "limit the same command continues from there.",
                BUDGET,
            )
    comparison = compared(before, after, options.seed)
    return {
        "format": FORMAT,
        "version": VERSION,
        "optimizer": options.optimizer,
        "examples": {
            "train": len(work.parts.train),
            "validation": len(work.parts.validation),
            "held_out": len(work.parts.held_out),
        },
        **_dumped(comparison),
        "scores": [list(pair) for pair in zip(before, after, strict=True)],
        "state": str(options.output),
        "instructions": better.generate_action.signature.instructions,
        "demos": len(better.generate_action.demos),
        "runs": purse.runs,
        "failed_runs": purse.failed,
        "limit_reached": stopped,
        "cost": purse.spent,
        "cost_before": purse.before,
        "seconds": round(time.monotonic() - started, 3),
    }


class _Proposing:
    """Books the requests of the LM that writes instructions."""

    def __init__(self, lm: dspy.LM, purse: Purse, budget: Budget) -> None:
        self._lm, self._purse = lm, purse
        self._price = budget.price(str(lm.model))
        self._booked = len(lm.history)

    def is_over(self) -> bool:
        """Books the requests so far, and returns whether the limit is reached."""
        self.book()
        return self._purse.is_empty

    def book(self) -> None:
        """Books the requests since the last call."""
        new = self._lm.history[self._booked :]
        self._booked += len(new)
        for entry in new:
            self._purse.pay("proposals", self._cost(entry))

    def _cost(self, entry: Mapping[str, Any]) -> float | None:
        usage = entry.get("usage")
        if not usage:
            return 0.0  # DSPy's cache replied
        cost: float | None = entry.get("cost")
        if cost is None and self._price is not None:
            return self._price.of(usage["prompt_tokens"], usage["completion_tokens"])
        return cost


def _measured(module: RLM, work: _Work, threads: int) -> list[float]:
    """Returns the score of each example that is held out."""
    evaluate = dspy.Evaluate(
        devset=[*work.parts.held_out],
        metric=work.metric,
        num_threads=threads,
        max_errors=MAX_ERRORS,
        failure_score=0.0,
    )
    with without_logs():
        return [float(score) for _, _, score in evaluate(module).results]


def _dumped(comparison: Comparison) -> dict[str, Any]:
    return {
        "before": dataclasses.asdict(comparison.before),
        "after": dataclasses.asdict(comparison.after),
        "difference": dataclasses.asdict(comparison.difference),
        "clear": comparison.difference.excludes_zero,
    }


def _dry_json(bill: Estimate, work: _Work) -> str:
    return json.dumps(
        {
            "format": f"{FORMAT}-plan",
            "version": VERSION,
            "examples": {
                "train": len(work.parts.train),
                "validation": len(work.parts.validation),
                "held_out": len(work.parts.held_out),
            },
            "runs": bill.runs,
            "proposals": bill.proposals,
            "a_run": bill.a_run.dump(),
            "cost": bill.cost,
            "unknown": list(bill.unknown),
        },
        indent=2,
    )


def _text(result: dict[str, Any]) -> str:
    count = result["examples"]["held_out"]
    lines = [f"on {count} examples that were held out, with 95 % intervals (paired bootstrap):"]
    for name in ("before", "after", "difference"):
        one = Interval(**result[name])
        sign = "+" if name == "difference" else ""
        lines.append(
            f"  {name:<11}{one.mean:{sign}.2f}  [{one.low:{sign}.2f}, {one.high:{sign}.2f}]"
        )
    if not result["clear"]:
        lines.append(
            "The interval of the difference includes 0: these examples do not show that it is better."
        )
    if result["limit_reached"]:
        lines.append("A limit was reached, so the optimizer did not do all of its runs.")
    cost = "unknown" if result["cost"] is None else dollars(result["cost"])
    earlier = f", and {dollars(result['cost_before'])} before" if result["cost_before"] else ""
    lines.append(f"{result['runs']} runs, cost {cost}{earlier}. The state is in {result['state']}.")
    return "\n".join(lines)
