"""The sub-LM of the policies: rules with the knowledge that a task asks for, applied to the text in a prompt and to nothing else.

It labels lines, knows where landmarks stand, and recognizes the functions of the standard library. It makes no mistake, so that a policy that
hands it every part of the context once gets the true answer.
"""

from __future__ import annotations

import re

from dspy_rlm.tasks.generators import code_files, function_search
from dspy_rlm.tasks.generators.labelled_lines import label_of
from dspy_rlm.tasks.generators.no_overlap import city_of
from dspy_rlm.tasks.generators.words import FIRST_NAMES
from dspy_rlm.testing import Player, rules

_NUMBERED = re.compile(r"^(\d+)\) Date: .+? \|\| User: \d+ \|\| Instance: (.+)$", re.MULTILINE)


def _label(prompt: re.Match[str]) -> str:
    answers = []
    for number, question in _NUMBERED.findall(prompt[1]):
        try:
            answers.append(f"{number}: {label_of(question)}")
        except ValueError:
            answers.append(f"{number}: unclear")  # a line that was cut
    return "\n".join(answers) or "There is no line."


def _label_one(prompt: re.Match[str]) -> str:
    return label_of(prompt[1].strip())


def _visitor(prompt: re.Match[str]) -> str:
    for line in prompt[2].splitlines():
        if city_of(line) == prompt[1]:
            return next(
                (word for word in re.findall(r"\w+", line) if word in FIRST_NAMES), "nobody"
            )
    return "nobody"


def _function(prompt: re.Match[str]) -> str:
    description, code = prompt[1], prompt[2]
    files = {re.sub(r"^vendored_\d+/", "", path) for path in code_files.read(code)}
    for path, name in function_search.index().get(description, ()):
        if path in files and re.search(rf"\bdef {name}\(", code):
            return name
    return "none"


SUB: Player = rules(
    [
        (re.compile(r"^Label each of these lines.*?\n\n(.*)", re.DOTALL), _label),
        (re.compile(r"^Label this question: (.+)$", re.MULTILINE), _label_one),
        (
            re.compile(
                r"^Which person of this text has certainly been to (.+?)\?.*?\n\n(.*)", re.DOTALL
            ),
            _visitor,
        ),
        (
            re.compile(r"^Which function of this code does this\? (.+?)\n\n(.*)", re.DOTALL),
            _function,
        ),
    ],
    default="I have no rule for this prompt.",
)
