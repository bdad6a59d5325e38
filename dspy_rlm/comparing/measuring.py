"""One system on one item: the answer, its score, and what it took. A failure is a row, never an exception."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from typing import Any

import dspy
from dspy import LMError
from pydantic_core import to_jsonable_python

from dspy_rlm.budget.budget import Budget
from dspy_rlm.comparing.items import Item, Metric, as_texts
from dspy_rlm.comparing.rows import Row
from dspy_rlm.comparing.systems import System
from dspy_rlm.errors import BudgetExceededError, RunFailedError
from dspy_rlm.lms.call_readings import is_discounted
from dspy_rlm.lms.context_window import is_overflow
from dspy_rlm.reports.report import RunReport, added
from dspy_rlm.rlm import RLM
from sandbox_runtime.helpers import abridged, environment_secrets, redact_secrets

# Characters of a text in a row's outputs, and of an error.
MAX_OUTPUT_CHARS = 2_000
MAX_ERROR_CHARS = 1_000

# Items of a list in a row's outputs.
MAX_OUTPUT_ITEMS = 200

# Settings of DSPy under which each LM call leaves an entry in the histories of the modules around it.
_WITH_HISTORY: Mapping[str, Any] = {"disable_history": False, "max_history_size": 10_000}


@dataclasses.dataclass
class Totals:
    """The LM calls of a system, added up."""

    calls: int = 0
    cached: int = 0
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cost: float | None = 0.0
    uncounted: set[str] = dataclasses.field(default_factory=set)
    """Models with an answer whose tokens the server has not counted."""


class _Entries(list[Any]):
    """A history that adds up its entries and keeps none: prompts may have millions of tokens."""

    def __init__(self, prices: Budget) -> None:
        super().__init__()
        self._prices = prices
        self._lock = threading.Lock()  # guards the totals
        self.totals = Totals()

    def append(self, entry: Any) -> None:
        """Adds an entry up. One whose server has counted no tokens has an unknown cost, unless a cost is stated."""
        usage = entry.get("usage") or {}
        tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
        model, cost = str(entry.get("model")), entry.get("cost")
        with self._lock:
            if _is_cached(entry):
                self.totals.cached += 1
                return
            if not tokens[0] and not is_discounted(usage):
                # LiteLLM states zeros, and a cost of zero, for a reply without usage.
                tokens, cost = (None, None), cost or None
                self.totals.uncounted.add(model)
            cost = _priced(self._prices, model, tokens, cost)
            self.totals.calls += 1
            self.totals.input_tokens = added(self.totals.input_tokens, tokens[0])
            self.totals.output_tokens = added(self.totals.output_tokens, tokens[1])
            self.totals.cost = added(self.totals.cost, cost)


class _Caller:
    """Stands for a module around the system: DSPy appends each LM call below to its history."""

    def __init__(self, prices: Budget) -> None:
        self.history = _Entries(prices)


def measure(system: System, setup: str, item: Item, metric: Metric, prices: Budget) -> Row:
    """Runs a system on an item, and returns the row."""
    caller = _Caller(prices)
    callers = [*(dspy.settings.caller_modules or []), caller]
    row = Row(item.key, item.number, system.name, setup, item.length)
    began = time.monotonic()
    prediction: Any = None
    report: RunReport | None = None
    failure = error = ""
    try:
        # An RLM reads files itself.
        inputs = dict(item.inputs) if isinstance(system.call, RLM) else as_texts(item.inputs)
        began = time.monotonic()  # reading a file as text is not the system's time
        with dspy.context(caller_modules=callers, **_WITH_HISTORY):
            prediction = system.call(**inputs)
    except Exception as caught:  # noqa: BLE001 - any failure of a system is a result
        failure, error = failure_of(caught), _text(caught)
        report = caught.run if isinstance(caught, RunFailedError) else None
    seconds = time.monotonic() - began
    if report is None:
        report = getattr(prediction, "_run", None)
    spent = _spent(caller.history.totals, report if isinstance(system.call, RLM) else None, prices)
    score = 0.0
    if not failure:
        try:
            score = score_of(metric(item.example, prediction))
        except Exception as caught:  # noqa: BLE001 - a metric that fails on an answer scores it with 0
            failure, error = f"metric: {type(caught).__name__}", _text(caught)
    return dataclasses.replace(
        row,
        score=score,
        seconds=round(seconds, 4),
        cost=spent.cost,
        calls=spent.calls,
        cached=spent.cached,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        turns=_turns(prediction, report),
        sub_calls=None if report is None else len(report.sub_calls),
        status="failed" if failure else (report.status if report else "answered"),
        failure=failure,
        error=error,
        outputs=_outputs(prediction),
    )


def failure_of(error: BaseException) -> str:
    """Returns the kind of a failure: the class of the error, and for a run that failed its reason."""
    if isinstance(error, LMError) and is_overflow(error):
        return "ContextWindowExceededError"  # also of servers whose words DSPy does not know
    kind = type(error).__name__
    if isinstance(error, BudgetExceededError):
        return f"{kind} ({error.limit})"
    cause = error.__cause__
    if isinstance(error, RunFailedError) and cause is not None:
        return f"{kind} ({type(cause).__name__})"
    return kind


def _text(error: BaseException) -> str:
    return abridged(redact_secrets(str(error), environment_secrets()), MAX_ERROR_CHARS)


def score_of(result: Any) -> float:
    """Returns the number that a metric has returned, alone or as `score`.

    Raises:
        TypeError: There is none.
        ValueError: It is not a finite number.
    """
    if isinstance(result, Mapping):
        result = result["score"]
    elif hasattr(result, "score"):
        result = result.score
    score = float(result)
    if not -float("inf") < score < float("inf"):
        raise ValueError(f"The metric has returned {score}.")
    return score


def _spent(entries: Totals, report: RunReport | None, prices: Budget) -> Totals:
    """Returns what was spent. The report of an RLM also knows of calls that failed or were given up."""
    if report is None:
        return entries
    total = Totals()
    for usage in report.usage:
        tokens, cost = (usage.input_tokens, usage.output_tokens), usage.cost
        if usage.model in entries.uncounted:
            tokens, cost = (None, None), cost or None
        cost = _priced(prices, usage.model, tokens, cost)
        total.calls += usage.calls
        total.cached += usage.cached
        total.input_tokens = added(total.input_tokens, tokens[0])
        total.output_tokens = added(total.output_tokens, tokens[1])
        total.cost = added(total.cost, cost)
    return total


def _is_cached(entry: Mapping[str, Any]) -> bool:
    """Returns whether DSPy says that its cache has answered.

    It marks the entry or the response, or leaves out the usage that the reply states.
    """
    if entry.get("usage"):
        return False
    response = entry.get("response")
    if entry.get("cache_hit") or getattr(response, "cache_hit", False):
        return True
    replies = response if isinstance(response, (list, tuple)) else (response,)
    usages = [getattr(reply, "usage", None) for reply in replies]
    return any(
        getattr(usage, name, None) is not None
        for usage in usages
        for name in ("input_tokens", "output_tokens", "total_tokens")
    )


def _priced(
    prices: Budget, model: str, tokens: tuple[int | None, int | None], cost: float | None
) -> float | None:
    """Returns the cost by the caller's price, where there is one; else the cost as reported."""
    own, (sent, received) = prices.price(model), tokens
    if own is None:
        return cost
    if own.is_free:
        return 0.0
    return None if sent is None or received is None else own.of(sent, received)


def _turns(prediction: Any, report: RunReport | None) -> int | None:
    if report is not None:
        return report.iterations
    trajectory = prediction.get("trajectory") if isinstance(prediction, dspy.Prediction) else None
    return len(trajectory) if isinstance(trajectory, list) else None


def _outputs(prediction: Any) -> dict[str, Any]:
    if prediction is None:
        return {}
    if not isinstance(prediction, dspy.Prediction):
        return {"answer": _short(to_jsonable_python(prediction, fallback=str))}
    return {
        name: _short(to_jsonable_python(value, fallback=str))
        for name, value in prediction.items()
        if name not in ("trajectory", "final_reasoning")
    }


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return abridged(value, MAX_OUTPUT_CHARS)
    if isinstance(value, list):
        more = (
            [f"... {len(value) - MAX_OUTPUT_ITEMS:,} more"] if len(value) > MAX_OUTPUT_ITEMS else []
        )
        return [_short(part) for part in value[:MAX_OUTPUT_ITEMS]] + more
    if isinstance(value, dict):
        return {name: _short(part) for name, part in [*value.items()][:MAX_OUTPUT_ITEMS]}
    return value
