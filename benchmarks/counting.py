"""A task whose score can rise only if an optimizer's text, and the contract, reach the LM.

The root LM is a scripted policy. It counts correctly if its prompt explains SUBMIT and has one of these: the keyword that
the scripted proposers write, or a demo of a successful run. Otherwise it solves only the easy examples, and a wavering one
at the first try: some optimizers learn from the difference. Scores tell what reaches the prompt; they say nothing about
the accuracy of any LM.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import dspy

from dspy_rlm.testing import Action, ChatRequest, Observation, Player, PolicyServer, Task, policy
from dspy_rlm.testing.prompts import read_prompt, write_answer

KEYWORD = "PLAN-B"
LOOKING = "print(log[:8])"
COUNTING = "SUBMIT(log.count('ERROR')"


COUNT = dspy.Signature("log: str -> count: int", "Count the errors in the log.")


def _example(errors: int, kind: str) -> dspy.Example:
    log = f"{kind} log\n" + "ERROR\n" * errors
    return dspy.Example(log=log, count=errors).with_inputs("log")


TRAINSET = [_example(7, "easy"), _example(8, "hard"), _example(6, "easy"), _example(9, "hard")]
WAVERING = [_example(3, "wavering"), _example(4, "wavering")]
DEVSET = [_example(2, "easy"), _example(5, "hard")]


def metric(
    gold: dspy.Example,
    prediction: dspy.Prediction,
    trace: Any = None,
    pred_name: str | None = None,
    pred_trace: Any = None,
) -> float:
    """Returns whether the count is right."""
    return float(prediction.count == gold.count)


def score(program: dspy.Module) -> float:
    """Returns the share of the devset that the scripted policy counts correctly, in percent."""
    return float(dspy.Evaluate(devset=DEVSET, metric=metric, num_threads=1)(program).score)


def _counts(task: Task) -> Generator[Action, Observation, None]:
    yield Action("Look at it.", LOOKING)
    yield Action("Count them.", f"{COUNTING})")


def _guesses(task: Task) -> Generator[Action, Observation, None]:
    yield Action("Look at it.", LOOKING)
    yield Action("Count the easy ones.", f"{COUNTING} if log.startswith('easy') else -1)")


_COUNTS, _GUESSES = policy(_counts), policy(_guesses)


def make_root() -> Player:
    """Creates the root LM, whose behaviour depends on the content of its prompt."""
    tries: defaultdict[int, Iterator[int]] = defaultdict(itertools.count)

    def root(request: ChatRequest) -> str:
        demos = [message.text for message in request.messages if message.role == "assistant"]
        informed = KEYWORD in request.system or any(LOOKING in t or COUNTING in t for t in demos)
        if not informed and "=== Step 1 ===" in request.prompt and "wavering log" in request.prompt:
            informed = next(tries[request.prompt.count("ERROR")]) == 0
        return (_COUNTS if informed and "SUBMIT(" in request.system else _GUESSES)(request)

    return root


def proposer(*, replace: bool) -> Player:
    """Creates an LM that answers all prompts of DSPy's optimizers, with the keyword in each instruction.

    It appends to the current instruction, or replaces all of it.
    """

    def play(request: ChatRequest) -> str:
        prompt = read_prompt(request)
        answers = {name: _proposed(name, prompt.inputs, replace) for name in prompt.outputs}
        return write_answer(answers, in_json=prompt.in_json)

    return play


_CURRENT = ("current_instruction", "current_policy", "basic_instruction")


def _proposed(name: str, inputs: Mapping[str, str], replace: bool) -> object:
    text = f"Work by {KEYWORD}."
    if name == "module_advice":
        return {"generate_action": text}
    if "prefix" in name:
        return "Code:"
    if "instruction" not in name and "policy" not in name:
        return "Nothing of note."
    current = [] if replace else [inputs[field] for field in _CURRENT if field in inputs]
    return "\n\n".join([*current, text])


def make_server() -> PolicyServer:
    """Serves the root LM as `root`, and two proposers, `append` and `replace`, at one address."""
    return PolicyServer(
        {"root": make_root(), "append": proposer(replace=False), "replace": proposer(replace=True)}
    )
