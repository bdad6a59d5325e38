"""The flags of `dspy-rlm batch`."""

from __future__ import annotations

import argparse
from pathlib import Path

from dspy_rlm.cli.options import describe_budgets, describe_models

DESCRIPTION = """\
Runs an RLM over many rows: of a file of JSON lines (also .gz) or Parquet, or - for JSON lines on stdin. The inputs of the
signature are columns of the rows. OUT is a folder with the rows of the result, a journal and a report. A row that fails is a row of
the result. After a crash, Ctrl-C or the end of the money, --resume goes on: finished rows are not run again, and rows that were
under way are not paid twice."""

EPILOG = """\
exit codes:
  0    every row has an answer
  2    an invalid argument
  3    some rows have none
  4    --max-cost is reached
  10   the rows cannot be read
  11   the configuration: no model, another program's folder, a library that is not installed
  20   the server of a model failed
  21   a key is missing or wrong
  130  interrupted"""


def describe_batch(batch: argparse.ArgumentParser) -> None:
    """Adds the flags of `batch`."""
    batch.formatter_class = argparse.RawDescriptionHelpFormatter
    batch.description = DESCRIPTION
    batch.epilog = EPILOG
    batch.add_argument("rows", metavar="ROWS", help="a file of rows, or - for stdin")
    batch.add_argument(
        "--sig",
        dest="signature",
        metavar="SIGNATURE",
        help='the inputs and the outputs, such as "text -> label: str, amount: float"',
    )
    batch.add_argument(
        "--program", metavar="FILE.py:RLM", help="an RLM that a program defines, in place of --sig"
    )
    batch.add_argument(
        "--state", metavar="FILE.json", help="a state that an optimizer has saved, for this RLM"
    )
    batch.add_argument(
        "--key",
        metavar="COLUMN",
        help="the column that names a row (default: a digest of its inputs)",
    )
    batch.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        type=_folder,
        required=True,
        help="the folder of the job, or its address in object storage: s3://bucket/name",
    )
    batch.add_argument(
        "--format",
        choices=("jsonl", "parquet", "lance"),
        default="jsonl",
        help="the form of the result (jsonl)",
    )
    batch.add_argument(
        "--resume", action="store_true", help="go on with the job in OUT, if there is one"
    )
    batch.add_argument(
        "--retry-failed", action="store_true", help="run rows again that failed before"
    )
    batch.add_argument(
        "--no-trajectories",
        action="store_true",
        help="do not keep the steps of the rows",
    )
    batch.add_argument(
        "--dry-run",
        action="store_true",
        help="print the rows, the expected bill with its basis, and the time; no model is called",
    )
    batch.add_argument(
        "--sample",
        metavar="N",
        type=int,
        help="with --dry-run: run the first N rows, and estimate from them; they are kept in OUT",
    )
    batch.add_argument(
        "--ray",
        metavar="ADDRESS",
        nargs="?",
        const="ray",
        help="run on a Ray cluster: at an address, or without one on the cluster of this machine",
    )
    job = batch.add_argument_group("limits of the whole job")
    job.add_argument(
        "--max-cost",
        dest="job_cost",
        type=float,
        metavar="N",
        help="US dollars of all rows together, earlier calls included",
    )
    job.add_argument(
        "--rpm",
        metavar="[MODEL=]N",
        action="append",
        default=[],
        help="requests per minute: of every model, or of the one that is named; may be repeated",
    )
    job.add_argument(
        "--tpm",
        metavar="[MODEL=]N",
        action="append",
        default=[],
        help="tokens per minute, as --rpm",
    )
    job.add_argument(
        "--concurrency", type=int, metavar="N", help="rows at once (as many as there are sandboxes)"
    )
    job.add_argument(
        "--attempts",
        type=int,
        default=2,
        metavar="N",
        help="tries of a row whose model cannot be reached, or whose process dies (2)",
    )
    describe_models(batch)
    describe_budgets(batch, "--max-row-cost", "limits of one row")
    batch.add_argument(
        "--tools",
        metavar="MODULE:FUNCTION",
        action="append",
        default=[],
        help="a Python function that the code can call; may be repeated",
    )
    batch.add_argument("--json", action="store_true", help="print the report as one JSON object")
    batch.add_argument("--quiet", action="store_true", help="do not show the progress")
    batch.add_argument(
        "--plain", action="store_true", help="show the progress also if stderr is not a terminal"
    )


def _folder(text: str) -> Path | str:
    """Returns a path, which would lose a slash of an address."""
    return text if "://" in text else Path(text)
