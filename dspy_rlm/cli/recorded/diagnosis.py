"""`dspy-rlm runs diagnose`: the waste in recorded runs as text, as JSON, and as feedback for an optimizer."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from dspy_rlm.cli.journals import find_run, folder_of_runs, journals_in
from dspy_rlm.diagnosis import diagnose, findings_text, proposer_text, totals
from dspy_rlm.errors import InputError
from dspy_rlm.journal import JournalError, load
from dspy_rlm.journal.records import RunRecord
from dspy_rlm.terminal.escaping import show, show_exactly

__all__ = ["diagnose", "diagnose_runs", "findings_text"]

FORMAT, VERSION = "dspy-rlm/diagnosis", 1


def diagnose_runs(options: argparse.Namespace) -> int:
    """Prints the waste of the named runs, or of the newest of the folder."""
    records = _named(options) if options.runs else _newest(options)
    findings = diagnose(records)
    facts = totals(records, findings)
    if options.json:
        listed = [dataclasses.asdict(finding) for finding in findings]
        whole = {"format": FORMAT, "version": VERSION, **facts, "findings": listed}
        show_exactly(json.dumps(whole, indent=2), sys.stdout)
    elif options.feedback:
        show(proposer_text(findings, len(records)) or "Nothing was wasted.", sys.stdout)
    else:
        show(findings_text(findings, len(records), facts), sys.stdout)
    return 0


def _named(options: argparse.Namespace) -> list[RunRecord]:
    return [load(find_run(run, options.journals)) for run in options.runs]


def _newest(options: argparse.Namespace) -> list[RunRecord]:
    folder = folder_of_runs(options.journals)
    found: list[RunRecord] = []
    for path in journals_in(folder):
        if len(found) == options.number:
            break
        try:
            found.append(load(path))
        except (JournalError, OSError) as error:
            show(f"{path} is left out: {error}", sys.stderr)
    if not found:
        raise InputError(f"No run was recorded in {folder}. Record one with --journal.")
    return found
