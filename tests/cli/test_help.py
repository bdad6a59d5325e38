"""`--help` of every command: at once, without the imports that take time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from command_line import COMMAND, LOG, environment

from dspy_rlm.cli.main import command_parser, main
from dspy_rlm.cli.shells.reference import all_commands

# DSPy takes a second to import; the others up to a few tenths, which are too much for a help text.
HEAVY = ("dspy", "litellm", "sandbox_runtime", "pydantic", "pydantic_core", "asyncio", "numpy")

# Each command and each action of one, as the parser has them.
COMMANDS = [[], *(command.prog.split()[1:] for _, command in all_commands(command_parser()))]

CODE = """
import sys
from dspy_rlm.cli.main import main

for command in {commands!r}:
    try:
        main([*command, "--help"])
    except SystemExit as ended:
        assert ended.code == 0
print("imported:", *(name for name in {heavy!r} if name in sys.modules))
"""


def test_no_help_imports_what_takes_time(folder):
    """The help of every command is printed without DSPy, the sandbox, pydantic and asyncio."""
    code = CODE.format(commands=COMMANDS, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**environment(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"
    assert done.stdout.count("usage: dspy-rlm") == len(COMMANDS)


def test_the_list_has_commands_and_actions():
    """The list above has what the parser has, actions included."""
    assert {("ask",), ("runs", "show"), ("doctor",)} <= {tuple(command) for command in COMMANDS}


def test_runs_import_no_dspy(folder):
    """`runs list` reads journals, and waits for no LM library."""
    code = (
        "import sys; from dspy_rlm.cli.main import main; main(['runs', 'list', '--journals', '.']); "
        "sys.exit('dspy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**environment(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a child")
def test_policies_are_served_until_ctrl_c(folder, run_here):
    """The first line of `serve-policy` is an address that `ask` can use; Ctrl-C ends it with 0."""
    (folder / "log.txt").write_text(LOG)
    child = subprocess.Popen(
        [*COMMAND, "serve-policy"],
        env={**environment(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        models = ["--model", "openai/root", "--sub-model", "openai/sub", "--api-base", address]
        done = run_here("ask", "log.txt", "-q", "How many ERROR lines?", *models)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)

    assert (done.returncode, done.stdout) == (0, "There are 2 lines with ERROR.\n"), done.stderr
    assert child.returncode == 0


def test_a_port_that_is_taken(capsys):
    """A port that another server has is an error of the configuration."""
    import socket

    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        code = main(["serve-policy", "--port", str(used.getsockname()[1])])

    assert code == 11
    assert "Name another one" in capsys.readouterr().err
