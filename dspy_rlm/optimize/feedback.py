"""Feedback for a metric: a score, with a text that shows a proposer what to improve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from dspy_rlm.optimize.diagnosing import diagnosis
from dspy_rlm.optimize.digest import digest, outcome, waste
from dspy_rlm.predictor import ActionPredictor
from dspy_rlm.prompts.untrusted_text import as_value
from dspy_rlm.prompts.variables import described_names
from dspy_rlm.replies.reader import read_code_field
from dspy_rlm.reports.report import Call, RunReport, Step
from dspy_rlm.reports.text import reason_of_extraction
from sandbox_runtime.helpers import in_one_line

# The number of kinds of sub-call errors that are shown, and the length of each.
SHOWN_ERRORS = 3
SHOWN_ERROR_CHARS = 200

Entry = tuple[Any, Mapping[str, Any], Any]
Trace = Sequence[Entry]


class Feedback(dspy.Prediction):
    """A score with its reasons, for GEPA. Its truth value is that of the score, for other optimizers."""

    def __bool__(self) -> bool:
        return float(self) > 0


def feedback(
    score: float,
    prediction: dspy.Prediction | None,
    *,
    example: dspy.Example | None = None,
    trace: Trace | None = None,
    pred_trace: Trace | None = None,
    note: str = "",
    diagnose: bool = False,
) -> Feedback:
    """Returns the result of a metric for GEPA: `score`, `feedback` and `objective_scores`.

    The arguments are those of the metric. With `pred_trace` of an RLM's step, the text covers that step too. For
    another predictor of the program, it covers the run of the RLM only.

    Args:
        score: The quality of the outputs, which is optimized.
        prediction: The program's prediction. If it is not the RLM's own, the trace is used instead.
        example: The example; without a trace, its inputs are searched for in the code.
        trace: The trace of the whole program.
        pred_trace: The one step that the feedback is for.
        note: Anything that only the metric knows, such as the expected answer.
        diagnose: Add what the journal of the run shows of waste; see `diagnosis`. Without a journal, nothing is added.
    """
    report = _report(prediction)
    own = _own_entries(trace or (), pred_trace)
    if report is not None and own and len(own) != report.iterations:
        report = (
            None  # that of another run: the program has several RLMs, or calls one several times
        )
    steps = list(report.steps) if report else _steps(own)
    inputs = _inputs(own) if own else list(example.inputs()) if example else []
    parts = [
        f"Score: {score:g}. {note}".rstrip(),
        _end(report) if report else "",
        _this_step(pred_trace),
        f"All steps of the run:\n{digest(steps)}" if steps else "",
        sub_calls_text(report.sub_calls) if report else "",
        _listed("Waste:", waste(steps, inputs)) if steps else "",
        diagnosis(report) if diagnose and report else "",
    ]
    return Feedback(
        score=score,
        feedback="\n".join(part for part in parts if part),
        objective_scores=objective_scores(score, prediction),
    )


def sub_calls_text(calls: Sequence[Call]) -> str:
    """Summarizes the sub-calls of a run in a few lines; empty if there were none."""
    if not calls:
        return ""
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(call.kind for call in calls).items())
    slowest = max(calls, key=lambda call: call.seconds)
    longest = max(calls, key=lambda call: call.chars_in)
    errors = Counter(_first_line(call.error) for call in calls if call.error)
    cached = sum(call.cached for call in calls)
    costs = [call.cost for call in calls if call.cost is not None]
    lines = [
        f"The slowest took {slowest.seconds:.1f} s ({slowest.kind}, {slowest.chars_in:,} characters in).",
        f"The longest prompt had {longest.chars_in:,} characters.",
        f"{cached} repeated an earlier prompt and were answered from the cache." if cached else "",
        f"Together they cost ${sum(costs):.4g}." if len(costs) == len(calls) else "",
        *(f"{n} failed: {error}" for error, n in errors.most_common(SHOWN_ERRORS)),
    ]
    return _listed(f"Sub-calls: {kinds}.", [line for line in lines if line])


def _first_line(text: str) -> str:
    return in_one_line(as_value(text.strip().partition("\n")[0]), SHOWN_ERROR_CHARS)


def objective_scores(accuracy: float, prediction: dspy.Prediction | None) -> dict[str, float]:
    """Returns the objectives for GEPA's Pareto front. Higher is better for all, so costs are negative.

    `tokens` is included where DSPy tracks usage (`dspy.configure(track_usage=True)`).
    """
    scores = {"accuracy": float(accuracy)}
    if report := _report(prediction):
        scores["steps"] = -float(report.iterations)
        scores["sub_calls"] = -float(report.llm_calls)
    usage = prediction.get_lm_usage() if isinstance(prediction, dspy.Prediction) else None
    if usage:
        scores["tokens"] = -float(sum(use.get("total_tokens") or 0 for use in usage.values()))
    return scores


def _report(prediction: Any) -> RunReport | None:
    # An attribute of an RLM's own prediction; perhaps a field of that of a program around it.
    report = getattr(prediction, "run", None) if isinstance(prediction, dspy.Prediction) else None
    return report if isinstance(report, RunReport) else None


def _own_entries(trace: Trace, pred_trace: Trace | None) -> list[Entry]:
    """Returns the entries of RLMs; only those of one of them if the feedback is for its predictor."""
    own = [entry for entry in trace if isinstance(entry[0], ActionPredictor)]
    if pred_trace and isinstance(pred_trace[0][0], ActionPredictor):
        same = [entry for entry in own if entry[0] is pred_trace[0][0]]
        return same or own
    return own


def _inputs(entries: Sequence[Entry]) -> list[str]:
    """Returns the inputs of the RLM: those of the program around it may be others."""
    return described_names(str(entries[0][1].get("variables_info", "")))


def _steps(entries: Sequence[Entry]) -> list[Step]:
    return [_step(entry[2]) for entry in entries]


def _step(step: Any) -> Step:
    reasoning, code, output = (str(step.get(name) or "") for name in _STEP_FIELDS)
    # The trace has the field as the LM wrote it, which may be a fenced block.
    return Step(reasoning, read_code_field(code, reasoning).code or code, output)


_STEP_FIELDS = ("reasoning", "code", "output")


def _end(report: RunReport) -> str:
    ends = {
        "submitted": "The run ended by SUBMIT",
        "extracted": f"{reason_of_extraction(report)} without SUBMIT; the outputs were extracted from the run's "
        "steps",
        "partial": f"{reason_of_extraction(report)} without SUBMIT; the outputs are those that its variables held"
        + (f", without {', '.join(report.missing)}" if report.missing else ""),
    }
    end = ends.get(report.status, f"The run ended without outputs ({report.stopped_by})")
    return f"{end}, after {report.iterations} steps and {report.llm_calls} sub-LM prompts."


def _this_step(pred_trace: Trace | None) -> str:
    if not pred_trace or not isinstance(pred_trace[0][0], ActionPredictor):
        return ""
    _, inputs, step = pred_trace[0]
    turn = (
        str(inputs.get("iteration", "")).partition(";")[0].partition(",")[0].removeprefix("Turn ")
    )
    return f"The result of this step (turn {turn}): {outcome(str(step.get('output') or ''))}"


def _listed(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(f"- {text}" for text in lines)]) if lines else ""
