"""The commands of `dspy-rlm`, one a line. A command is imported when it runs, so that `--help` does not wait for DSPy."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Targets are written as `module:function`, with the module's name below this package.
_PACKAGE = "dspy_rlm.cli"


@dataclass(frozen=True)
class Command:
    """A command."""

    name: str
    help: str
    """One line in the help of all commands."""

    describe: str
    """The function that adds the flags to its parser. Its module imports nothing that takes time."""

    run: str = ""
    """The function that runs it and returns the exit code; empty if its parser sets one for each action."""


COMMANDS = (
    Command("ask", "ask a model about files", "options:describe_ask", "ask_command:ask"),
    Command("demo", "see it work, without a key and without network", "options:describe_demo", "demo.command:demo"),
    Command("run", "run an RLM of a program, or a program that uses dspy.RLM", "programs.options:describe_run", "programs.command:run"),
    Command("batch", "run an RLM over many rows, with a journal and limits of the whole job", "batching.options:describe_batch", "batching.command:batch"),
    Command("runs", "list, show, count, diagnose or delete recorded runs", "recorded.options:describe_runs"),
    Command("view", "show a recorded run in the browser", "recorded.view_options:describe_view", "recorded.view:view_run"),
    Command("replay", "repeat a recorded run with its recorded answers", "recorded.options:describe_replay", "recorded.again:replay_run"),
    Command("compare", "compare systems on the same items, or two recorded runs", "comparing.options:describe_compare", "comparing.command:compare"),
    Command("bench", "run a suite of tasks, with the published figures beside yours", "comparing.options:describe_bench", "comparing.command:bench"),
    Command("fork", "continue from a step of a recorded run with new answers", "recorded.options:describe_fork", "recorded.again:fork_run"),
    Command("open", "open the REPL of a step of a recorded run", "recorded.options:describe_open", "recorded.console:open_step"),
    Command("optimize", "optimize an RLM on examples, and measure the gain", "optimizing.options:describe_optimize", "optimizing.command:optimize"),
    Command("mcp", "serve `ask` and recorded runs to MCP clients", "mcp_server.options:describe_mcp", "mcp_server.serve:serve"),
    Command("skill", "print or install a skill file for coding agents", "skill.options:describe_skill", "skill.install:run_skill"),
    Command("serve-policy", "serve scripted policies as models, to try commands without a key", "options:describe_serve", "demo.serve:serve_policies"),
    Command("models", "show the configured models and the known facts about them", "models.options:describe_models_command", "models.command:show_models"),
    Command("config", "show the effective settings and their sources", "configuration.command:describe", "configuration.command:show_config"),
    Command("completion", "print the completion script of a shell", "shells.completion:describe_completion", "shells.completion:print_completion"),
    Command("doctor", "check this machine, start a sandbox, and try a model", "models.options:describe_doctor", "doctor:doctor"),
)  # fmt: skip


def target(name: str) -> Callable[..., Any]:
    """Returns the function that `module:function` names."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), function)
    return found


def later(name: str) -> Callable[[argparse.Namespace], int]:
    """Returns a function that imports a command and runs it."""

    def run(options: argparse.Namespace) -> int:
        code: int = target(name)(options)
        return code

    return run


def add_commands(commands: Any) -> None:
    """Adds the parsers of all commands."""
    for command in COMMANDS:
        parser = commands.add_parser(command.name, help=command.help)
        if command.run:
            parser.set_defaults(command=later(command.run))
        target(command.describe)(parser)
