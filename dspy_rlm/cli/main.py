"""`dspy-rlm`: the command line. Parses the arguments and turns errors into messages and exit codes.

Each command is imported when it is run, so that `--help` does not wait for DSPy.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dspy_rlm.cli.exit_codes import FAILED, INTERRUPTED, code_of
from dspy_rlm.cli.mcp_server.options import describe_mcp
from dspy_rlm.cli.options import add_journal, describe_ask
from dspy_rlm.cli.recorded.options import add_commands
from dspy_rlm.cli.skill.options import describe_skill
from dspy_rlm.errors import InputError
from dspy_rlm.terminal.escaping import printable, show, show_exception


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code; `exit_codes` has all of them."""
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
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt)
    except BrokenPipeError:
        return _unread()
    except Exception as error:
        found = code_of(error)
        if found is None:
            raise
        from dspy_rlm.cli.failures import explain

        show(f"dspy-rlm: {explain(error)}", sys.stderr)
        return found
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
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="see it work, without a key and without network",
        description="Answers three questions about the source of the Python standard library. A "
        "scripted policy plays the language model. The exit code is 0 only if every answer was right.",
    )
    add_journal(demo)
    demo.set_defaults(command=_demo)
    ask = commands.add_parser("ask", help="ask a model about files")
    describe_ask(ask)
    ask.set_defaults(command=_ask)
    add_commands(commands)
    mcp = commands.add_parser("mcp", help="serve `ask` and recorded runs to MCP clients")
    describe_mcp(mcp)
    mcp.set_defaults(command=_mcp)
    skill = commands.add_parser("skill", help="a skill file for coding agents")
    describe_skill(skill)
    skill.set_defaults(command=_skill)
    serve = commands.add_parser(
        "serve-policy",
        help="serve scripted policies as models, to try commands without a key",
        description="Serves the models openai/root and openai/sub, which are scripted policies, at an "
        "OpenAI-compatible address. The address is the first line on stdout.",
    )
    serve.add_argument(
        "--port", type=int, default=0, metavar="N", help="the port (default: a free one)"
    )
    serve.set_defaults(command=_serve)
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


def _demo(options: argparse.Namespace) -> int:
    # Without network, whatever the environment variables say.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    from dspy_rlm.cli.demo.run import run_demo

    return run_demo(journal=options.journal)


def _serve(options: argparse.Namespace) -> int:
    from dspy_rlm.cli.demo.serve import serve

    return serve(options.port)


def _doctor(options: argparse.Namespace) -> int:
    import subprocess

    command = [sys.executable, "-m", "sandbox_runtime", "doctor"]
    return subprocess.call([*command, "--json"] if options.json else command)


def _ask(options: argparse.Namespace) -> int:
    from dspy_rlm.cli.ask_command import ask

    return ask(options)


def _mcp(options: argparse.Namespace) -> int:
    from dspy_rlm.cli.mcp_server.serve import serve

    return serve(options)


def _skill(options: argparse.Namespace) -> int:
    from dspy_rlm.cli.skill.install import run_skill

    return run_skill(options)


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


class _Version(argparse.Action):
    """Prints the version, which takes time to find out."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            own = version("dspy-rlm")
        except PackageNotFoundError:
            own = "(not installed)"
        print(f"dspy-rlm {own}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
