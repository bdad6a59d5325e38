"""The tool `ask`: a question about texts or files, answered by a run within the limits of the server."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import dspy

from dspy_rlm.cli.ask import warnings_of
from dspy_rlm.cli.asking.envelope import answer_text, envelope
from dspy_rlm.cli.asking.models import lm_of, no_model, sub_lms_of
from dspy_rlm.cli.asking.questions import checked_signature, load_inputs
from dspy_rlm.cli.exit_codes import USAGE, CommandError, code_of, code_of_answer
from dspy_rlm.cli.failures import explain
from dspy_rlm.cli.mcp_server.caps import Caps
from dspy_rlm.cli.mcp_server.recorded import Recorded
from dspy_rlm.cli.mcp_server.roots import Roots
from dspy_rlm.errors import InputError
from dspy_rlm.events import Event
from dspy_rlm.evidence.quotes import Quote, Span
from dspy_rlm.reports.report import RunReport
from dspy_rlm.rlm import RLM
from dspy_rlm.signatures.parser import signature_of
from sandbox_runtime.helpers import run_in_thread

# Fields of the report that a client has no use for, and that may be large: `view` has the steps.
_LEFT_OUT = ("sub_calls", "lineage", "under_way", "partial_outputs")

MAX_QUESTION_CHARS = 100_000

# The characters of the answer as text; the structured result has all of it.
MAX_ANSWER_CHARS = 200_000

T = TypeVar("T")

_TEXT_SIGNATURE = checked_signature("text: str, question: str -> answer: str")


@dataclasses.dataclass(frozen=True)
class Question:
    """The arguments of `ask`, as a client sent them."""

    question: str
    paths: Sequence[str] = ()
    text: str | None = None
    outputs: str | None = None
    limits: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Answer:
    """A result for the client: text for its model, data for the program."""

    text: str
    data: dict[str, Any]
    failed: bool = False


class Asking:
    """Answers questions with the models and within the limits of the command line."""

    def __init__(
        self,
        *,
        model: str | None,
        sub_models: Mapping[str, str],
        api_base: str | None,
        caps: Caps,
        settings: Mapping[str, Any],
        roots: Roots,
        recorded: Recorded,
    ) -> None:
        """Prepares the models. `settings` are further arguments of the RLM.

        Raises:
            CommandError: No model is named, or one cannot be used.
        """
        if not model:
            raise no_model()
        self._lm = lm_of(model, api_base)
        self._sub_lm = sub_lms_of(sub_models, api_base)
        self._caps = caps
        self._settings = dict(settings)
        self._roots = roots
        self._recorded = recorded
        # Mistakes in the command line are found before a client is served.
        self._module(_TEXT_SIGNATURE, {})

    async def ask(self, question: Question, watch: Callable[[Event], None]) -> Answer:
        """Returns the answer, or the reason why there is none. Cancelling it cancels the run.

        Args:
            question: The arguments.
            watch: Observes the events of the run, from any thread.
        """
        notes: tuple[str, ...] = ()
        try:
            allowed = self._caps.lowered(question.limits)
            notes = allowed.notes
            values, signature = await _in_thread(lambda: self._read(question))
            signature = _with_outputs(signature, question.outputs)
            with self._caps.run(allowed.limits) as (limits, spent):
                module = self._module(signature, limits)
                watchers = (lambda depth: watch if depth == 0 else _ignore,)
                module._config = dataclasses.replace(module._config, watchers=watchers)
                inputs = {**values, "question": question.question}
                try:
                    with dspy.context(lm=self._lm):
                        prediction = await module.acall(**inputs)
                except BaseException as error:
                    run = getattr(error, "run", None)
                    spent.cost = 0.0 if run is None else run.cost
                    self._recorded.add(getattr(run, "journal", None))
                    raise
                spent.cost = prediction.run.cost
                self._recorded.add(prediction.run.journal)
                return _answer(prediction, module, notes)
        except Exception as error:
            code = code_of(error)
            if code is None:
                raise
            run = getattr(error, "run", None)
            text = explain(error)
            data = envelope(exit_code=code, run=run, error=text, warnings=notes)
            return Answer(text, _small(data), failed=True)

    def _module(self, signature: type[dspy.Signature], limits: Mapping[str, Any]) -> RLM:
        return RLM(signature, sub_lm=self._sub_lm, **{**self._settings, **limits})

    def _read(self, question: Question) -> tuple[dict[str, Any], type[dspy.Signature]]:
        if not question.question.strip() or len(question.question) > MAX_QUESTION_CHARS:
            raise InputError(
                f"The question must have 1 to {MAX_QUESTION_CHARS:,} characters. Long texts are `text`."
            )
        if (question.text is None) == (not question.paths):
            raise CommandError("Pass either `paths` or `text`.", USAGE)
        if question.text is not None:
            return {"text": question.text}, _TEXT_SIGNATURE
        inputs, signature = load_inputs(self._roots.allowed(question.paths), None)
        return inputs.values, signature


def _with_outputs(signature: type[dspy.Signature], outputs: str | None) -> type[dspy.Signature]:
    """Returns the signature of a question with the client's outputs, such as `answer: str, lines: list[int]`.

    They are untrusted text, so the parser is that for cells.

    Raises:
        CommandError: They are no outputs.
    """
    if outputs is None:
        return signature
    try:
        parsed = signature_of(f"question -> {outputs}", {}, {"Quote": Quote, "Span": Span})
    except (ValueError, TypeError) as error:
        raise CommandError(f"outputs: {error}", USAGE) from error
    if list(parsed.input_fields) != ["question"] or not parsed.output_fields:
        raise CommandError(
            "outputs must be names with types, such as `answer: str, lines: list[int]`.", USAGE
        )
    for field in signature.output_fields:
        signature = signature.delete(field)
    for field, info in parsed.output_fields.items():
        signature = signature.append(field, info, type_=info.annotation)
    return signature


def _answer(prediction: dspy.Prediction, module: RLM, notes: Sequence[str]) -> Answer:
    run: RunReport = prediction.run
    outputs = {name: prediction[name] for name in module.signature.output_fields}
    warnings = [*notes, *warnings_of(run)]
    code = code_of_answer(run.status, run.stopped_by, allow_partial=False)
    data = envelope(exit_code=code, outputs=outputs, run=run, warnings=warnings)
    whole = answer_text(outputs)
    text = whole[:MAX_ANSWER_CHARS] + (" ..." if len(whole) > MAX_ANSWER_CHARS else "")
    return Answer("\n\n".join([text, *(f"Warning: {one}" for one in warnings)]), _small(data))


def _small(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in _LEFT_OUT}


def _ignore(_: Event) -> None:
    """Observes a sub-run: its parent's events say enough."""


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.wrap_future(run_in_thread(work, "rlm-mcp-inputs"))
