"""The reference page of the command line, in Markdown: `python -m dspy_rlm.cli.shells.reference > docs/cli-reference.md`.

Its parts are those of a manual page. Everything comes from the parser, the settings and the exit codes.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator

from dspy_rlm.cli.configuration.command import listed_settings
from dspy_rlm.cli.configuration.files import FILE_VARIABLE
from dspy_rlm.cli.configuration.keys import BY_NAME
from dspy_rlm.cli.main import command_parser
from dspy_rlm.cli.options import EXIT_CODES

HEAD = """\
# dspy-rlm(1)

Generated from the code by `python -m dspy_rlm.cli.shells.reference`. [Command line](cli.md) explains with examples.

## Name

dspy-rlm - {description}

## Synopsis

```text
{synopsis}
```
"""

FILES = """\
## Files

- `[tool.dspy-rlm]` in `pyproject.toml`, that of the nearest folder with this table.
- `config.toml` in the user's folder of configurations; `dspy-rlm config` says where it is, and `{variable}` names another.
- The journals of runs, in the user's data folder, or where `--journal` and `DSPY_RLM_JOURNAL` say.
"""

SEE_ALSO = """\
## See also

[Command line](cli.md), [journal](journal.md), [resume](resume.md), [optimizers](optimizers.md), [doctor](doctor.md)
"""


def reference() -> str:
    """Returns the page."""
    parser = command_parser()
    commands = all_commands(parser)
    synopsis = "\n".join(_synopsis(command) for _, command in commands if not _actions_of(command))
    parts = [
        HEAD.format(description=_sentence(parser.description), synopsis=synopsis),
        "## Commands\n",
        *(_command(help_text, command) for help_text, command in commands),
        _settings(),
        FILES.format(variable=FILE_VARIABLE),
        _exit_codes(),
        SEE_ALSO,
    ]
    return "\n".join(parts)


def all_commands(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    """Returns the commands, and the actions of each after it, with their one-line helps."""
    found: list[tuple[str, argparse.ArgumentParser]] = []
    for action in _actions_of(parser):
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, below in action.choices.items():
            found += [(helps.get(name, ""), below), *all_commands(below)]
    return found


def _actions_of(
    parser: argparse.ArgumentParser,
) -> list[argparse._SubParsersAction[argparse.ArgumentParser]]:
    return [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]


def _synopsis(command: argparse.ArgumentParser) -> str:
    words = [command.prog]
    words += ["[FLAG...]"] if any(_flags(command)) else []
    for action in command._actions:
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
            words.append(_positional(action))
        elif action.required and action.option_strings:
            words.append(_flag(action))
    return " ".join(words)


def _positional(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest.upper())
    forms = {
        "*": f"[{name}...]",
        "+": f"{name}...",
        "?": f"[{name}]",
        argparse.REMAINDER: f"[{name}...]",
    }
    return forms.get(str(action.nargs), name)


def _flag(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings)
    if action.nargs == 0:
        return names
    value = str(
        action.metavar
        or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    )
    return f"{names} [{value}]" if action.nargs == "?" else f"{names} {value}"


def _flags(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (
        action for action in command._actions if action.option_strings and action.dest != "help"
    )


def _command(help_text: str, command: argparse.ArgumentParser) -> str:
    level = "####" if len(command.prog.split()) > 2 else "###"
    lines = [f"{level} {command.prog}", "", f"```text\n{_synopsis(command)}\n```", ""]
    lines += [_escaped(_paragraphs(command.description or f"{_sentence(help_text)}.")), ""]
    for group in command._action_groups:
        rows = [
            (f"`{_flag(one) if one.option_strings else _positional(one)}`", one.help or "")
            for one in group._group_actions
            if one.dest != "help" and not isinstance(one, argparse._SubParsersAction)
        ]
        if rows:
            title = group.title or ""
            named = title if title not in ("options", "positional arguments") else ""
            lines += [
                f"| {named or ('flag' if title == 'options' else 'argument')} | |",
                "|---|---|",
            ]
            lines += [f"| {_cell(name)} | {_cell(text)} |" for name, text in rows] + [""]
    return "\n".join(lines)


def _settings() -> str:
    lines = [
        "## Settings",
        "",
        "`dspy-rlm config` shows the effective ones and their sources.",
        "",
    ]
    lines += ["| key | variable | flag | default | |", "|---|---|---|---|---|"]
    for name, default, text in listed_settings():
        key = BY_NAME[name]
        lines.append(f"| `{name}` | `{key.variable}` | `{key.flag}` | {default} | {_cell(text)} |")
    return "\n".join([*lines, ""])


def _exit_codes() -> str:
    lines = ["## Exit codes", "", "| code | |", "|---|---|"]
    for code, text in re.findall(r"^  (\d+) +(.*)$", EXIT_CODES, re.MULTILINE):
        lines.append(f"| {code} | {_cell(text)} |")
    return "\n".join([*lines, ""])


def _sentence(text: str | None) -> str:
    return (text or "").strip().rstrip(".")


def _paragraphs(text: str) -> str:
    """Returns a text whose lines are joined within paragraphs; those that are indented stay."""
    parts = [part for part in text.strip().split("\n\n") if part.strip()]
    return "\n\n".join(
        f"```text\n{part}\n```" if part.startswith("  ") else " ".join(part.split())
        for part in parts
    )


def _escaped(text: str) -> str:
    """Returns a text whose angle and square brackets are no markup."""
    return text if "```" in text else text.replace("<", "\\<")


def _cell(text: str) -> str:
    return " ".join(text.replace("%%", "%").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
