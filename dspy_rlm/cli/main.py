"""`dspy-rlm`: the command line. Parses the arguments and turns errors into messages and exit codes.

Each command is imported when it is run, so that `--help` does not wait for DSPy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dspy_rlm.cli.files import check_paths
from dspy_rlm.errors import InputError, RLMError, SignatureError
from dspy_rlm.terminal.escaping import printable, show, show_exactly, show_exception
from sandbox_runtime import SandboxError

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code: 0 for success, 2 for invalid arguments."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(
            stream, "reconfigure"
        ):  # a character that the terminal cannot encode must not end a run
            stream.reconfigure(errors="backslashreplace")
    # Otherwise DSPy downloads a list of prices before the first call.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        code: int = options.command(options)
        sys.stdout.flush()
    except (InputError, SignatureError) as error:
        return _complain(error, USAGE, as_json=options.command is _ask and options.json)
    except (RLMError, SandboxError) as error:
        return _complain(error, FAILED, as_json=options.command is _ask and options.json)
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt)
    except BrokenPipeError:
        return _unread()
    return code


class _Parser(argparse.ArgumentParser):
    """Reports invalid arguments. They may be untrusted: a shell expands patterns to file names."""

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(printable(message), file)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dspy-rlm",
        description="Recursive Language Models for DSPy: a model answers questions about inputs of "
        "any size by working on them in a sandboxed Python REPL.",
    )
    parser.add_argument("--version", action="version", version=f"dspy-rlm {_own_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="see it work, without a key and without network",
        description="Answers three questions about the source of the Python standard library. A "
        "scripted policy plays the language model. The exit code is 0 only if every answer was right.",
    )
    demo.set_defaults(command=_demo)
    _describe_ask(commands.add_parser("ask", help="ask a model about files"))
    doctor = commands.add_parser(
        "doctor",
        help="check this machine, and start a sandbox",
        description="Starts a real sandbox and says which parts work on this machine, as "
        "`python -m sandbox_runtime doctor` does.",
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object instead of text")
    doctor.set_defaults(command=_doctor)
    run = commands.add_parser(
        "run",
        help="run a Python program that uses dspy.RLM with this package instead",
        description="Runs an unchanged Python program with dspy.RLM replaced by this package's RLM.",
    )
    run.add_argument("-m", dest="as_module", action="store_true", help="PROGRAM is a module's name")
    run.add_argument("program", metavar="PROGRAM", help="a file, or with -m a module")
    run.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER)
    run.set_defaults(command=_run)
    return parser


def _describe_ask(ask: argparse.ArgumentParser) -> None:
    ask.description = (
        "Answers a question about files. One file is the variable `text`; several, or a folder, are "
        "`files`, a dict of texts by path. Hidden and binary files in a folder are left out."
    )
    ask.epilog = "The answer goes to stdout, everything else to stderr."
    ask.add_argument("paths", metavar="FILE_OR_DIR", nargs="+", type=Path)
    ask.add_argument("-q", "--question", required=True, help="what to ask")
    ask.add_argument(
        "--sig",
        metavar="SIGNATURE",
        help='for typed outputs, such as "files, question -> answer: str, lines: list[int]"',
    )
    ask.add_argument("--model", help="the LM that writes code (default: DSPY_RLM_MODEL)")
    ask.add_argument(
        "--sub-model",
        help="the LM that its code calls (default: DSPY_RLM_SUB_MODEL, or the same LM)",
    )
    ask.add_argument("--api-base", metavar="URL", help="address of an OpenAI-compatible server")
    ask.add_argument("--max-iterations", type=int, default=20, metavar="N", help="turns (20)")
    ask.add_argument("--max-llm-calls", type=int, default=50, metavar="N", help="sub-LM calls (50)")
    ask.add_argument("--json", action="store_true", help="print one JSON object")
    ask.add_argument("--quiet", action="store_true", help="do not show the steps")
    ask.set_defaults(command=_ask)


def _demo(options: argparse.Namespace) -> int:
    # Without network, whatever the environment variables say.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    from dspy_rlm.cli.demo.run import run_demo

    return run_demo()


def _doctor(options: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "sandbox_runtime", "doctor"]
    return subprocess.call([*command, "--json"] if options.json else command)


def _ask(options: argparse.Namespace) -> int:
    # Mistakes that need no DSPy to be found: importing it takes a second.
    if not options.question.strip():
        raise InputError("The question is empty. Write it after -q.")
    check_paths(options.paths)
    from dspy_rlm.cli.ask import Request, run_ask

    return run_ask(
        Request(
            paths=options.paths,
            question=options.question,
            signature=options.sig,
            model=options.model,
            sub_model=options.sub_model,
            api_base=options.api_base,
            max_iterations=options.max_iterations,
            max_llm_calls=options.max_llm_calls,
            as_json=options.json,
            quiet=options.quiet,
        )
    )


def _run(options: argparse.Namespace) -> int:
    if not options.as_module and not Path(options.program).exists():
        raise InputError(f"There is no file {options.program!r} to run.")
    from dspy_rlm.drop_in import program_frames, run_program

    try:
        run_program(options.program, options.arguments, as_module=options.as_module)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the program may raise anything
        show_exception(error.with_traceback(program_frames(error)), sys.stderr)
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
    return 0


def _complain(error: Exception, code: int, *, as_json: bool = False) -> int:
    show(f"dspy-rlm: {error}", sys.stderr)
    if as_json:
        show_exactly(
            json.dumps({"error": f"{type(error).__name__}: {error}"}, indent=2), sys.stdout
        )
    return code


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    run = getattr(interrupt, "run", None)
    spent = (
        "" if run is None else f" after {run.iterations} step{'' if run.iterations == 1 else 's'}"
    )
    print(f"\ndspy-rlm: interrupted{spent}.", file=sys.stderr)
    return INTERRUPTED


def _unread() -> int:
    """Handles a reader, such as `head`, that has closed the pipe: the last flush must not raise."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def _own_version() -> str:
    try:
        return version("dspy-rlm")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
