"""`dspy-rlm demo`: runs the engine on the standard library of the Python that executes it.

Needs no key and no network: a scripted policy plays the LM. This module runs the questions and prints the
results; `questions.py` has the questions with their answers, `policies.py` plays the LMs.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import sys
import sysconfig
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import dspy
from dspy import lm15

from dspy_rlm.cli.demo.policies import play_root, play_sub
from dspy_rlm.cli.demo.questions import QUESTIONS, Answer, Question
from dspy_rlm.cli.files import load_python
from dspy_rlm.cli.journals import journal_of
from dspy_rlm.errors import RunFailedError
from dspy_rlm.inputs.loading import Texts
from dspy_rlm.live.choosing import LiveOption
from dspy_rlm.reports.report import RunReport
from dspy_rlm.reports.text import count
from dspy_rlm.rlm import RLM
from dspy_rlm.terminal.escaping import printable, show
from dspy_rlm.terminal.progress import terminal_width
from dspy_rlm.testing import ChatRequest, Message, Player, PolicyServer

ROOT_MODEL, SUB_MODEL = "scripted-root", "rule-based-sub"

DISCLAIMER = """\
No language model takes part. A scripted policy plays the root LM and a rule-based reader the sub-LM. \
They know how to search, not the answers. So this shows the engine at work, not what a model \
can do. To use a model: dspy-rlm ask."""

NO_LOOPBACK = """\
Nothing can be reached at 127.0.0.1 here (is the loopback interface down? "ip link set lo up" brings \
it up). So the policies are called in this process instead of over HTTP; everything else is the same."""

# Long enough for a loaded machine, and short enough to wait for.
CONNECT_SECONDS = 5.0


# ---- The scripted LMs ----


@dataclass(frozen=True)
class DemoLMs:
    """The two LMs of the demo."""

    root: dspy.LM
    sub: dspy.LM
    over_http: bool


@contextlib.contextmanager
def cast() -> Iterator[DemoLMs]:
    """Starts the LMs behind a local policy server; in this process if there is no loopback interface."""
    # A proxy cannot reach this machine's 127.0.0.1. urllib reads the lower-case name first.
    bypass = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    os.environ["no_proxy"] = f"{bypass},127.0.0.1".lstrip(",")
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(PolicyServer({ROOT_MODEL: play_root, SUB_MODEL: play_sub}))
            address = urlsplit(server.base_url)
            socket.create_connection((address.hostname, address.port), CONNECT_SECONDS).close()
            lms = DemoLMs(server.lm(ROOT_MODEL), server.lm(SUB_MODEL), over_http=True)
        except OSError:
            root, sub = _in_process(ROOT_MODEL, play_root), _in_process(SUB_MODEL, play_sub)
            lms = DemoLMs(root, sub, over_http=False)
        yield lms


def _in_process(model: str, player: Player) -> dspy.LM:
    return dspy.LM(f"policy/{model}", engine=PlayerEngine(player), cache=False, num_retries=0)


class PlayerEngine:
    """An engine of `dspy.LM` that calls a player directly."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Returns the player's reply to a request."""
        system = [Message("system", request.system)] if isinstance(request.system, str) else []
        messages = [
            Message(message.role, "".join(part.text for part in message.parts))
            for message in request.messages
        ]
        reply = self._player(ChatRequest(request.model, (*system, *messages), None, {}))
        message = lm15.Message.assistant(reply)
        return lm15.Response(None, request.model, message, "stop", lm15.Usage())


# ---- Running the questions ----


@dataclass(frozen=True)
class Result:
    """The result of a question."""

    question: Question
    run: RunReport
    right: bool


def run_demo(
    root: Path | None = None, journal: str | bool | None = None, live: LiveOption = True
) -> int:
    """Runs the questions and prints everything; returns 0 only if every answer was correct.

    Args:
        root: The folder of source code to ask about. None: the standard library.
        journal: The place of the journals, as `journal=` of an RLM.
        live: How the runs are shown, as `live=` of an RLM.

    Raises:
        CommandError: No journal can be written there.
    """
    journal = journal_of(journal)
    start = time.perf_counter()
    root = root or Path(sysconfig.get_path("stdlib"))
    _say(
        f"dspy-rlm demo: the source of Python {platform.python_version()} answers questions about itself."
    )
    _say(DISCLAIMER)
    texts = load_python(root)
    _say(f"\nLoaded {texts.summary} from {root}.{_left_out(texts)}")
    with cast() as lms:
        if not lms.over_http:
            _say(NO_LOOPBACK)
        results = [
            _ask(number, question, texts, lms, journal, live)
            for number, question in enumerate(QUESTIONS, 1)
        ]
    show(f"\n{table(results, texts)}\n", sys.stdout)
    show(summary(results, texts, time.perf_counter() - start), sys.stdout)
    return 0 if all(result.right for result in results) else 1


def _ask(
    number: int,
    question: Question,
    texts: Texts,
    lms: DemoLMs,
    journal: str | bool | None,
    live: LiveOption,
) -> Result:
    _say(f"\n=== Question {number} of {len(QUESTIONS)}: {question.text} ===")
    _say(f"RLM({question.signature!r})")
    signature = dspy.Signature(question.signature, question.instructions)
    rlm = RLM(signature, sub_lm=lms.sub, live=live, journal=journal)
    try:
        with dspy.context(lm=lms.root):
            prediction = rlm(sources=texts.by_path, **question.inputs)
    except RunFailedError as error:
        _say(f"\nNo answer: {error}")
        return Result(question, error.run, right=False)
    answer = {name: prediction[name] for name in rlm.signature.output_fields}
    truths = question.right_answers(texts.by_path)
    right = answer in truths
    _say(f"\nAnswer: {answer_text(answer)}")
    if prediction.run.journal:
        _say(f"Journal: {prediction.run.journal}")
    if not right:
        _say(f"Truth: {' or '.join(map(answer_text, truths))}")
    _say(f"{'Right' if right else 'WRONG'}. The truth, computed on the host: {question.truth}.")
    return Result(question, prediction.run, right)


def answer_text(answer: Answer) -> str:
    """Renders the outputs by name, a list as its length and its items."""
    return ", ".join(
        f"{len(value)} {name}: {', '.join(value)}"
        if isinstance(value, list)
        else f"{name} = {value}"
        for name, value in answer.items()
    )


def _left_out(texts: Texts) -> str:
    return f" Skipped: {texts.skipped_summary}." if texts.skipped else ""


def table(results: list[Result], texts: Texts) -> str:
    """Returns one line for each question, and one for all of them."""
    rows = [("question", "answer", "iterations", "sub-calls", "bytes loaded", "seconds")]
    rows += [
        (
            result.question.text,
            "right" if result.right else "WRONG",
            str(result.run.iterations),
            str(result.run.llm_calls),
            f"{texts.size_bytes:,}",
            f"{result.run.seconds:.1f}",
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def summary(results: list[Result], texts: Texts, seconds: float) -> str:
    """Returns the last line, the totals."""
    right = sum(result.right for result in results)
    iterations = sum(result.run.iterations for result in results)
    calls = sum(result.run.llm_calls for result in results)
    return (
        f"demo {'passed' if right == len(results) else 'FAILED'}: {right} of {len(results)} answers "
        f"right, {texts.summary}, {count(iterations, 'iteration')}, {count(calls, 'sub-call')}, "
        f"{seconds:.1f} s (scripted policy, no language model)"
    )


def _say(text: str) -> None:
    """Prints lines, long ones wrapped, and flushes: the steps go to stderr in between."""
    width = terminal_width(sys.stdout)
    for line in printable(text).split("\n"):
        print(textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False))
    sys.stdout.flush()
