"""Renders the state of a run as a fragment of HTML, for notebooks: no script, no network, every text escaped.

It has only inline styles, which survive where a notebook drops `<style>`. It takes the colours of the page around it, and
half-transparent greys, so it is readable in light and dark themes.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from dspy_rlm.live.state import CallSite, RunView, StepView, state_of_report, texts_of
from dspy_rlm.live.words import (
    Gauge,
    duration,
    figures,
    gauges,
    heading,
    inputs,
    phase,
    site_text,
    sub_runs_text,
    times,
    title,
)
from dspy_rlm.reports.report import RunReport
from dspy_rlm.reports.text import count
from dspy_rlm.terminal.escaping import printable

GREY, FAINT = "rgba(127,127,127,.45)", "rgba(127,127,127,.10)"
GOOD, BAD, WARN, RUNS = "#2f9e5b", "#d9534f", "#b8860b", "#3b82c4"

_MONO = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12px;line-height:1.45"
_BOX = f"border:1px solid {GREY};border-radius:6px;padding:8px 12px;margin:4px 0;max-width:960px;text-align:left"
_CODE = (
    f"{_MONO};white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0;padding:6px 8px;border-radius:4px;"
    f"background:{FAINT};color:inherit;max-height:22em;overflow:auto"
)
_SMALL = "opacity:.75;font-size:12px"

# The steps that a page shows whole during a run, and the most at its end. The others have a line each.
LIVE_STEPS, MAX_STEPS = 3, 200
MAX_SITES, MAX_SUB_RUNS = 12, 8


def live_page(run: RunView, now: float) -> str:
    """Returns the fragment of a run in progress, or the result of a finished one."""
    return _box(_head(run), _steps(run, now), _values(run.outputs or {}), _foot(run, now))


def page_of_prediction(outputs: Mapping[str, Any], report: RunReport | None) -> str:
    """Returns the fragment of a prediction: its outputs, and the steps of the run, folded."""
    values = _values(texts_of(outputs))
    if report is None:
        return _box(values)
    run = state_of_report(report, outputs)
    steps = _steps(run, 0.0, is_open=False)
    folded = f'<details><summary style="cursor:pointer;{_SMALL}">{_text(phase(run))}</summary>{steps}</details>'
    return _box(values, folded)


def _box(*parts: str) -> str:
    return f'<div class="dspy-rlm" style="{_BOX}">{"".join(parts)}</div>'


def _text(text: str) -> str:
    """Returns text for HTML. Invisible characters and those that change the direction of text are spelled out."""
    return html.escape(printable(text))


def _head(run: RunView) -> str:
    variables = "".join(
        f' <span style="{_SMALL}">{_text(name)} {_text(text)}</span>' for name, text in inputs(run)
    )
    return f"<div><b>{_text(title(run))}</b>{variables}</div>"


def _steps(run: RunView, now: float, *, is_open: bool = True) -> str:
    most = MAX_STEPS if run.is_over else LIVE_STEPS
    left_out = max(len(run.steps) - MAX_STEPS, 0)
    rows = [f'<div style="{_SMALL}">{count(left_out, "earlier iteration")}</div>'] * bool(left_out)
    shown = run.steps[left_out:]
    for at, step in enumerate(shown):
        is_last = at >= len(shown) - (1 if run.is_over else most)
        rows.append(_step(step, now, is_open=is_open and is_last, is_short=at < len(shown) - most))
    return "".join(rows)


def _step(step: StepView, now: float, *, is_open: bool, is_short: bool) -> str:
    colour = RUNS if step.ended is None else BAD if step.failed else GOOD
    mark = "▶" if step.ended is None else "✗" if step.failed else "✓"
    first = (
        f'<span style="color:{colour}">{mark}</span> <b>[{step.number}]</b> {_text(heading(step)[:300])} '
        f'<span style="{_SMALL}">{_text(figures(step, now))}</span>'
    )
    if is_short:
        return f"<div>{first}</div>"
    body = _code(step) + _below(step, now) + _output(step)
    return (
        f'<details{" open" if is_open else ""} style="margin:2px 0"><summary style="cursor:pointer">{first}</summary>'
        f"{body}</details>"
    )


def _code(step: StepView) -> str:
    if not step.code:
        return ""
    rows = []
    for at, line in enumerate(printable(step.code.strip("\n")).split("\n"), 1):
        text = html.escape(line)
        if at == step.line:
            mark, colour = ("✗", BAD) if step.failed else ("▶", RUNS)
            rows.append(f'<b style="color:{colour}">{mark} {text}</b>')
        else:
            rows.append(f"  {text}")
    if (more := step.code_chars - len(step.code)) > 0:
        rows.append(f"({more:,} more characters)")
    return f'<pre style="{_CODE}">{chr(10).join(rows)}</pre>'


def _output(step: StepView) -> str:
    if not step.output:
        return ""
    colour = f";border-left:3px solid {BAD}" if step.failed else ""
    return f'<pre style="{_CODE}{colour}">{_text(step.output)}</pre>'


def _below(step: StepView, now: float) -> str:
    rows = [_site(site, now) for site in step.sites[-MAX_SITES:]]
    if step.sub_runs or step.runs_done:
        rows.append(f'<div style="{_MONO}">{_text(sub_runs_text(step))}</div>')
        for run in [one for one in step.sub_runs if not one.is_over][:MAX_SUB_RUNS]:
            where = f"{title(run)[:200]}: turn {len(run.steps)}, {phase(run)}, {duration(run.seconds(now))}"
            rows.append(f'<div style="{_MONO};opacity:.75;margin-left:1.5em">{_text(where)}</div>')
    if step.note and step.ended is None:
        rows.append(f'<div style="color:{WARN}">{_text(step.note)}</div>')
    return "".join(rows)


def _site(site: CallSite, now: float) -> str:
    error = ""
    if site.failed and site.error:
        error = f' <span style="color:{BAD}">{_text(site.error[:300])}</span>'
    bar = ""
    if site.is_batch:
        colour = RUNS if not site.is_over else BAD if site.failed else GOOD
        bar = _bar(site.done / site.count if site.count else 1.0, colour)
    return f'<div style="{_MONO}">{_text(site.name[:60])} {bar} {_text(site_text(site, now))}{error}</div>'


def _bar(share: float, colour: str) -> str:
    percent = round(100 * min(max(share, 0.0), 1.0))
    return (
        f'<span role="progressbar" aria-valuenow="{percent}" aria-valuemin="0" aria-valuemax="100" '
        f'style="display:inline-block;width:120px;height:8px;border-radius:4px;background:{GREY};vertical-align:middle">'
        f'<span style="display:block;width:{percent}%;height:8px;border-radius:4px;background:{colour}"></span></span>'
    )


def _values(outputs: Mapping[str, str]) -> str:
    rows = []
    for name, value in outputs.items():
        rows.append(
            f'<div style="margin:2px 0"><b>{_text(name)}</b>'
            f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{_text(value)}</div></div>'
        )
    return "".join(rows)


def _foot(run: RunView, now: float) -> str:
    colour = (BAD if run.failed else GOOD) if run.is_over else WARN if run.stopping else RUNS
    where = f'<div><b style="color:{colour}">{_text(phase(run))}</b></div>'
    parts = " · ".join(f"{name} {_text(duration(seconds))}" for name, seconds in times(run, now))
    return f'{where}{_gauges(run, now)}<div style="{_SMALL}">time by part: {parts}</div>'


def _gauges(run: RunView, now: float) -> str:
    return f'<div style="{_SMALL}">{" · ".join(map(_gauge, gauges(run, now)))}</div>'


def _gauge(gauge: Gauge) -> str:
    bar = ""
    if gauge.share is not None:
        colour = GOOD if gauge.share < 0.7 else WARN if gauge.share < 0.9 else BAD
        bar = f" {_bar(gauge.share, colour)}"
    return f"{_text(gauge.name)}{bar} {_text(gauge.text)}"
