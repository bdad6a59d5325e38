"""Words and figures of a run for people: durations, gauges, where the run is. No I/O."""

from __future__ import annotations

import dataclasses

from dspy_rlm.live.part_times import PARTS, TOOLS
from dspy_rlm.live.state import CallSite, RunView, StepView
from dspy_rlm.reports.text import count, dollars, summary

# The inputs in the first line of a run, and the longest value that is shown there.
MAX_INPUTS, MAX_INPUT_CHARS = 4, 48


@dataclasses.dataclass(frozen=True)
class Gauge:
    """A limit, and how much of it is used."""

    name: str
    text: str
    share: float | None = None
    """From 0 to 1; None without a limit."""


def duration(seconds: float) -> str:
    """Returns a time: `0.4 s`, `12 s`, `3 min 20 s`, `1 h 02 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def gauges(run: RunView, now: float) -> list[Gauge]:
    """Returns the budget of a root run."""
    budget, totals = run.budget, run.totals
    turns, seconds = len(run.steps), run.seconds(now)
    parts = [
        Gauge("turns", f"{turns} of {budget.max_iterations}", _share(turns, budget.max_iterations)),
        Gauge(
            "sub-LM calls",
            f"{totals.llm_calls:,} of {budget.max_llm_calls:,}",
            _share(totals.llm_calls, budget.max_llm_calls),
        ),
    ]
    if budget.max_tokens is not None or totals.tokens:
        parts.append(_of("tokens", totals.tokens, budget.max_tokens, totals.unknown_tokens))
    parts.append(Gauge("cost", cost_text(run), _share(totals.cost, budget.max_cost)))
    most = budget.max_seconds
    time = duration(seconds) if most is None else f"{duration(seconds)} of {duration(most)}"
    parts.append(Gauge("time", time, _share(seconds, most)))
    return parts


def cost_text(run: RunView) -> str:
    """Returns the cost so far, and the most that it can become."""
    totals, budget = run.totals, run.budget
    known = f"{'at least ' if totals.unknown_cost and totals.cost else ''}{dollars(totals.cost)}"
    if totals.unknown_cost and not totals.cost:
        known = "unknown"
    if run.is_over:
        return known
    if budget.max_cost is not None:
        return f"{known} of {dollars(budget.max_cost)}"
    most = run.bill.cost if run.bill is not None else None
    return known if most is None else f"{known}, at most {dollars(most)}"


def _of(name: str, used: float, most: float | None, is_partial: bool) -> Gauge:
    text = f"{used:,.0f}{'+' if is_partial else ''}"
    return Gauge(name, text if most is None else f"{text} of {most:,.0f}", _share(used, most))


def _share(used: float, most: float | None) -> float | None:
    return None if most is None else min(used / most, 1.0) if most > 0 else 1.0


def times(run: RunView, now: float) -> list[tuple[str, float]]:
    """Returns the parts of the time of a root run; tools only if there are any."""
    seconds = run.times.seconds(now)
    return [(part, seconds[part]) for part in PARTS if part != TOOLS or seconds[part] > 0]


def times_text(run: RunView, now: float) -> str:
    """Returns the parts of the time in words: `root 3.1 s, sandbox 0.2 s, sub-LMs 12 s, waiting 0.0 s`."""
    return ", ".join(f"{part} {duration(seconds)}" for part, seconds in times(run, now))


def phase(run: RunView) -> str:
    """Returns where a run is."""
    if run.error:
        return f"did not start: {run.error}"
    if run.report is not None:
        return summary(run.report)
    if run.stopping:
        return f"stopping: asking for what it has, for up to {run.stopping:g} s (Ctrl-C: at once)"
    step = run.step
    if step is not None and run.phase == "running code":
        calls = ", ".join(site.name for site in step.sites if not site.is_over)
        return f"running code{f', {calls}' if calls else ''}"
    return run.phase


def heading(step: StepView) -> str:
    """Returns the first line of a step: the reasoning."""
    if step.reasoning:
        return " ".join(step.reasoning.split())
    return "(no reasoning)" if step.code or step.ended is not None else "asking the root LM"


def figures(step: StepView, now: float) -> str:
    """Returns what a step has taken: `4.1 s, 12 sub-LM calls, $0.0031`."""
    parts = []
    if step.ended is None or step.ended > step.began:
        parts.append(duration(max((now if step.ended is None else step.ended) - step.began, 0)))
    if step.llm_calls:
        parts.append(count(step.llm_calls, "sub-LM call"))
    if step.cost:
        parts.append(dollars(step.cost))
    return ", ".join(parts)


def site_text(site: CallSite, now: float) -> str:
    """Returns how far the calls of one place are: `240 of 400, 3 failed, 12 s`."""
    if site.is_batch:
        done = f"{site.done:,} of {site.count:,}"
    elif site.count == 1:
        done = "running" if site.running else "done"
    else:
        done = f"{site.done:,} calls{f', {site.running:,} running' if site.running else ''}"
    failed = f", {site.failed:,} failed" if site.failed else ""
    seconds = (now if site.ended is None else site.ended) - site.began
    return f"{done}{failed}, {duration(max(seconds, 0.0))}"


def sub_runs_text(step: StepView) -> str:
    """Returns the folded sub-runs of a step: `12 sub-runs: 3 running, 8 done, 1 failed`."""
    running = sum(not run.is_over for run in step.sub_runs)
    done = step.runs_done - step.runs_failed
    parts = [
        f"{number:,} {word}"
        for number, word in ((running, "running"), (done, "done"), (step.runs_failed, "failed"))
        if number
    ]
    return f"{count(running + step.runs_done, 'sub-run')}: {', '.join(parts)}"


def inputs(run: RunView) -> list[tuple[str, str]]:
    """Returns the names of the first inputs, each with its value if that is short, else with its size."""
    found = []
    for one in list(run.variables)[:MAX_INPUTS]:
        preview = one.preview.strip()
        is_short = 0 < len(preview) <= MAX_INPUT_CHARS and "\n" not in preview
        found.append((one.name, preview if is_short else one.size or one.type_name))
    return found


def title(run: RunView) -> str:
    """Returns the name of a run."""
    return f"RLM {run.title}" if not run.depth else f"sub-run {run.number} {run.title}"
