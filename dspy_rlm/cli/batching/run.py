"""`dspy-rlm batch`: builds the RLM of the flags, runs the job, and prints its report."""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import dspy

from dspy_rlm.cli.asking.models import lm_of, no_model, sub_lms_of
from dspy_rlm.cli.asking.request import Budgets, named_models, prices
from dspy_rlm.cli.asking.tool_functions import tools_of
from dspy_rlm.cli.batching.estimate import estimate
from dspy_rlm.cli.batching.rates import numbers_by_model
from dspy_rlm.cli.configuration.sources import settled
from dspy_rlm.cli.exit_codes import (
    BUDGET,
    COMPLETE,
    CONFIGURATION,
    NOT_SUBMITTED,
    USAGE,
    CommandError,
)
from dspy_rlm.cli.programs.command import split_name
from dspy_rlm.cli.programs.loading import load_rlm
from dspy_rlm.cli.programs.run import configured_module, root_lm
from dspy_rlm.errors import JobError, SignatureError
from dspy_rlm.jobs.batch import batch
from dspy_rlm.jobs.binding import lms_of
from dspy_rlm.jobs.identity import FILE as PROGRAM_FILE
from dspy_rlm.jobs.object_folder import ObjectFolder
from dspy_rlm.jobs.results.job_report import NO_MONEY, JobReport
from dspy_rlm.jobs.rows import lines_of, records_of
from dspy_rlm.limiting.quota import Rate
from dspy_rlm.rlm import RLM
from dspy_rlm.terminal.escaping import log_plainly, show, show_exactly


def run_batch(options: argparse.Namespace) -> int:
    """Runs a job; prints its report to stdout and everything else to stderr; returns the exit code.

    Raises:
        CommandError: There is no model, or the folder is that of another job.
        KeyboardInterrupt: Ctrl-C. Everything is kept.
    """
    log_plainly()
    if not options.resume and not options.dry_run and _has_job(options.out):
        raise CommandError(
            f"{options.out} has a job already. Go on with it by --resume, or name another folder.",
            CONFIGURATION,
        )
    module = _module(options)
    rates = _rates(module, options)
    if options.dry_run and options.sample is None:
        return _estimated(options, module, rates)
    rows: Any = lines_of(sys.stdin.buffer) if options.rows == "-" else options.rows
    if options.sample is not None:
        rows = list(itertools.islice(records_of(rows), options.sample))
    try:
        report = batch(
            module,
            rows,
            out=options.out,
            key=options.key,
            engine=options.ray or "local",
            concurrency=options.concurrency,
            max_cost=options.job_cost,
            rates=rates,
            attempts=options.attempts,
            resume=options.resume or options.sample is not None,
            retry_failed=options.retry_failed,
            format=options.format,
            trajectories=not options.no_trajectories,
            progress=not options.quiet and (options.plain or sys.stderr.isatty()),
        )
    except KeyboardInterrupt as interrupt:
        if (ended := getattr(interrupt, "report", None)) is not None:
            show(f"\n{ended.text()}\nGo on with --resume.", sys.stderr)
        raise
    except JobError as error:
        if error.report is not None:
            show(error.report.text(), sys.stderr)
        raise CommandError(str(error), CONFIGURATION) from error
    if options.sample is not None:
        if not report.ok:
            show(report.text(), sys.stderr)
        return _estimated(options, module, rates)
    show_exactly(json.dumps(report.dump(), indent=2) if options.json else report.text(), sys.stdout)
    return _code_of(report)


def _has_job(out: Path | str) -> bool:
    """Returns whether a folder, or an address in object storage, has a job. Raises `CommandError` if that cannot be read."""
    if isinstance(out, Path):
        return (out / PROGRAM_FILE).exists()
    try:
        return ObjectFolder(out).has_job()
    except (JobError, OSError) as error:
        raise CommandError(str(error), CONFIGURATION) from error


def _code_of(report: JobReport) -> int:
    if report.stopped_by == NO_MONEY:
        return BUDGET
    return COMPLETE if report.ok else NOT_SUBMITTED


def _estimated(options: argparse.Namespace, module: RLM, rates: dict[str, Rate]) -> int:
    found = estimate(module, options, rates)
    show_exactly(json.dumps(found.dump(), indent=2) if options.json else found.text(), sys.stdout)
    return COMPLETE


def _module(options: argparse.Namespace) -> RLM:
    """Returns the RLM, with the LM that writes its code."""
    if options.program is not None:
        place, name = split_name(options.program, as_module=False)
        with contextlib.redirect_stdout(sys.stderr):
            program = load_rlm(place, name)
        if options.state is not None:
            program.load(options.state)
        # A row has no journal of the user's, and coverage is for a single answer.
        of_run = argparse.Namespace(**{**vars(options), "json": False, "journal": None})
        module = configured_module(program, of_run)
        module.generate_action = copy.copy(module.generate_action)
        module.generate_action.lm = root_lm(module, of_run)
        return module
    settings = settled(options)
    if not settings.model:
        raise no_model()
    names = set(Budgets.__dataclass_fields__) - {"prices"}
    limits = Budgets(
        **{name: getattr(settings, name) for name in names}, prices=prices(settings.prices) or None
    )
    try:
        module = RLM(
            settings.signature,
            sub_lm=sub_lms_of(named_models(settings.sub_models), settings.api_base),
            tools=tools_of(settings.tools),
            **({"on_exhausted": settings.on_exhausted} if settings.on_exhausted else {}),
            **limits.set,
        )
    except SignatureError as error:
        raise CommandError(str(error), USAGE) from error
    if options.state is not None:
        module.load(str(Path(options.state)))
    lm: dspy.LM = lm_of(settings.model, settings.api_base)
    module.generate_action.lm = lm
    return module


def _rates(module: RLM, options: argparse.Namespace) -> dict[str, Rate]:
    """Returns the rates of the flags, for the models of the RLM that they name, or for all of them."""
    rpm, tpm = (numbers_by_model(getattr(options, name), name) for name in ("rpm", "tpm"))
    models = [str(lm.model) for lm in lms_of(module)]
    if unknown := sorted({*rpm, *tpm} - {"", *models}):
        raise CommandError(
            f"--rpm and --tpm name {', '.join(unknown)}, but the models are {', '.join(models)}.",
            USAGE,
        )
    rates = {
        model: Rate(rpm.get(model, rpm.get("")), tpm.get(model, tpm.get(""))) for model in models
    }
    return {model: rate for model, rate in rates.items() if rate != Rate()}
