"""The flags of the commands, as argparse has them."""

from __future__ import annotations

import argparse
from pathlib import Path

EXIT_CODES = """\
exit codes:
  0    complete, or with --allow-partial any answer
  2    an invalid argument
  3    an answer, but a partial or an extracted one
  4    a limit was reached without an answer
  10   an input cannot be read or used
  11   the configuration: no model, an unknown one, a tool that cannot be imported
  20   the server of a model failed
  21   a key is missing or wrong
  30   the sandbox could not be started, or died
  130  interrupted"""


def describe_ask(ask: argparse.ArgumentParser) -> None:
    """Adds the flags of `ask`."""
    ask.formatter_class = argparse.RawDescriptionHelpFormatter
    ask.description = (
        "Answers a question about files, folders, patterns, archives, web addresses, and - (stdin).\n"
        "One file is the variable `text`; several, or a folder, are `files`, a dict of texts by path.\n"
        "PDF, Office, EPUB, HTML and mail become text; CSV, Parquet, SQLite and DuckDB tables; JSON\n"
        "lines records. Hidden, ignored (.gitignore) and binary files in a folder are left out."
    )
    ask.epilog = (
        "The answer goes to stdout, everything else to stderr. If stderr is not a terminal, steps are not shown.\n\n"
        f"{EXIT_CODES}"
    )
    ask.add_argument(
        "paths",
        metavar="INPUT",
        nargs="*",
        help="a path, a pattern, an http(s) address, or -; NAME=INPUT fills the input NAME of --sig",
    )
    ask.add_argument("-q", "--question", help="the question")
    ask.add_argument(
        "--sig",
        dest="signature",
        metavar="SIGNATURE",
        help='for typed outputs, such as "files, question -> answer: str, lines: list[int]"',
    )
    ask.add_argument(
        "--no-ignore",
        action="store_true",
        help="also read files of a folder that .gitignore files exclude",
    )
    ask.add_argument(
        "--tools",
        metavar="MODULE:FUNCTION",
        action="append",
        default=[],
        help="a Python function that the code can call; may be repeated. Also FILE.py:FUNCTION",
    )
    ask.add_argument(
        "--mcp",
        metavar="CONFIG",
        action="append",
        type=Path,
        default=[],
        help='MCP servers whose tools the code can call: a JSON file with "mcpServers"; may be repeated',
    )
    describe_models(ask)
    describe_budgets(ask)
    describe_output(ask)
    ask.add_argument(
        "--dry-run",
        action="store_true",
        help="print sizes, the most that the run could cost, and the first prompt; no model is called",
    )
    add_journal(ask)
    ask.add_argument(
        "--resume", metavar="RUN", help="resume a recorded run: its journal, or its id"
    )


def describe_models(ask: argparse.ArgumentParser) -> None:
    """Adds the flags for the models of a run."""
    models = ask.add_argument_group("models")
    models.add_argument("--model", help="the LM that writes code (default: DSPY_RLM_MODEL)")
    models.add_argument(
        "--sub-model",
        dest="sub_models",
        metavar="[NAME=]MODEL",
        action="append",
        default=[],
        help="the LM that its code calls (default: DSPY_RLM_SUB_MODEL, or the same LM). Repeat it for several that "
        "the code selects by name",
    )
    models.add_argument("--api-base", metavar="URL", help="address of an OpenAI-compatible server")


def describe_budgets(
    ask: argparse.ArgumentParser, max_cost: str = "--max-cost", title: str = "budgets"
) -> None:
    """Adds the flags for the limits of a run. `max_cost` is the name of that for dollars."""
    budgets = ask.add_argument_group(title)
    whole = {"type": int, "metavar": "N"}
    amount = {"type": float, "metavar": "N"}
    budgets.add_argument("--max-iterations", help="turns of the LM that writes code (20)", **whole)  # type: ignore[arg-type]
    budgets.add_argument("--max-llm-calls", help="LM calls of the code (50)", **whole)  # type: ignore[arg-type]
    budgets.add_argument("--max-depth", help="levels of sub-runs (1)", **whole)  # type: ignore[arg-type]
    budgets.add_argument(max_cost, dest="max_cost", help="US dollars of all LMs together", **amount)  # type: ignore[arg-type]
    budgets.add_argument("--max-tokens", help="tokens of all LMs together", **whole)  # type: ignore[arg-type]
    budgets.add_argument("--max-seconds", help="wall time", **amount)  # type: ignore[arg-type]
    budgets.add_argument("--max-errors", help="failed turns in a row", **whole)  # type: ignore[arg-type]
    budgets.add_argument(
        "--max-output-chars",
        help="characters of a cell's output that the LM sees (10,000)",
        **whole,  # type: ignore[arg-type]
    )
    budgets.add_argument("--max-concurrency", help="LM calls of the code at once (16)", **whole)  # type: ignore[arg-type]
    budgets.add_argument(
        "--price",
        dest="prices",
        metavar="MODEL=PROMPT,REPLY",
        action="append",
        default=[],
        help="US dollars for a million tokens, for --max-cost with a model whose price is unknown",
    )
    budgets.add_argument(
        "--on-exhausted",
        choices=("extract", "partial", "raise"),
        help="when a limit is reached: extract the outputs with one more call (default), take those that variables "
        "hold, or fail",
    )


def describe_output(ask: argparse.ArgumentParser) -> None:
    """Adds the flags for the output of a run."""
    output = ask.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print one JSON object")
    output.add_argument(
        "--events",
        metavar="FILE",
        nargs="?",
        const="-",
        help="write the events of the run as JSON lines while it runs, to a file or (without FILE) to stderr",
    )
    add_view(output)
    output.add_argument("--output", metavar="FILE", type=Path, help="write the answer to a file")
    output.add_argument(
        "--allow-partial",
        action="store_true",
        help="exit with 0 for a partial or an extracted answer too",
    )


def add_view(group: argparse._ActionsContainer) -> None:
    """Adds the flags for the progress of runs."""
    group.add_argument("--quiet", action="store_true", help="do not show the steps")
    group.add_argument(
        "--plain",
        action="store_true",
        help="show the steps as lines without colour, also if stderr is not a terminal",
    )


def add_journal(command: argparse.ArgumentParser) -> None:
    """Adds `--journal` to a command that runs something."""
    command.add_argument(
        "--journal",
        metavar="PATH",
        nargs="?",
        const=True,
        help="record the run in a .jsonl file or in a folder; without PATH, in the user's data folder",
    )


def describe_demo(demo: argparse.ArgumentParser) -> None:
    """Adds the flags of `demo`."""
    demo.description = (
        "Answers three questions about the source of the Python standard library. A scripted policy plays the language "
        "model. The exit code is 0 only if every answer was right."
    )
    add_view(demo)
    add_journal(demo)


def describe_serve(serve: argparse.ArgumentParser) -> None:
    """Adds the flags of `serve-policy`."""
    serve.description = (
        "Serves the models openai/root and openai/sub, which are scripted policies, at an OpenAI-compatible address. "
        "The address is the first line on stdout."
    )
    serve.add_argument(
        "--port", type=int, default=0, metavar="N", help="the port (default: a free one)"
    )
