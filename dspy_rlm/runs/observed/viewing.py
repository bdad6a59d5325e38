"""Joins a run with the live view: its state and its display, the event sink, the wrapper of its functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection

import dspy

from dspy_rlm.budget.bill import Bill, worst_case
from dspy_rlm.events import Event, Sink
from dspy_rlm.live.choosing import checked_live, display_for
from dspy_rlm.live.live_run import LiveRun, calling_run
from dspy_rlm.live.part_times import PartTimes
from dspy_rlm.live.plain import PlainDisplay
from dspy_rlm.live.state import RunView
from dspy_rlm.live.tree import Tree
from dspy_rlm.lms.model_facts import bounds_of
from dspy_rlm.process_settings import process_settings
from dspy_rlm.protocols.middleware import Wrapper
from dspy_rlm.run_context import RunContext
from dspy_rlm.runs.blueprint import Blueprint
from dspy_rlm.settings.config import RLMConfig

# The characters of a signature's fields in the name of a run.
MAX_TITLE_CHARS = 100


def with_live(blueprint: Blueprint, context: RunContext, lm: dspy.BaseLM | None) -> RunContext:
    """Returns the context with the live view of this run, if it is shown.

    A sub-run is a part of the tree of the run above; so is a run that a tool of a shown run starts.
    """
    above, config = context.live, blueprint.config
    if above is None and is_shown(config) and context.depth == 0:
        above = calling_run()
        if above is None:
            return dataclasses.replace(context, live=_root(config, context, lm))
    if above is None:
        return context
    tree = above.tree
    if tree.is_off:
        return dataclasses.replace(context, live=None)
    view = _view(config, tree.next_number(), above.view.depth + 1, tree.clock())
    return dataclasses.replace(context, live=LiveRun(tree, view, above))


def is_shown(config: RLMConfig) -> bool:
    """Returns whether the runs of an RLM have a live view."""
    return bool(config.live if config.live is not None else process_settings().live)


def live_sinks(context: RunContext) -> list[Sink]:
    """Returns the sinks for the events of a run."""
    live = context.live
    if live is None:
        return []
    display = live.tree.display
    if not isinstance(display, PlainDisplay):
        return [live.take]
    lines = display.sink(live.view)

    def take(event: Event) -> None:
        live.take(event)
        if not live.tree.is_off:
            try:
                lines(event)
            except Exception as error:  # noqa: BLE001 - a view must not end a run
                live.tree.fail(error)

    return [take]


def live_wrappers(context: RunContext, tools: Collection[str]) -> list[Wrapper]:
    """Returns the wrappers for the functions of a run. `tools` are the names of the user's."""
    return [context.live.wrapper(tools)] if context.live is not None else []


def _root(config: RLMConfig, context: RunContext, lm: dspy.BaseLM | None) -> LiveRun:
    live = config.live if config.live is not None else process_settings().live
    display = display_for(checked_live(live))
    view = _view(config, 1, 0, 0.0)
    tree = Tree(view, display)
    view.began = tree.clock()
    view.times = PartTimes(view.began)
    return LiveRun(tree, view, bill=_bill(config, context, lm))


def _view(config: RLMConfig, number: int, depth: int, now: float) -> RunView:
    fields = config.signature.input_fields, config.signature.output_fields
    title = " -> ".join(", ".join(side) for side in fields)
    return RunView(number, depth, title[:MAX_TITLE_CHARS], config.budget, now, times=PartTimes(now))


def _bill(
    config: RLMConfig, context: RunContext, lm: dspy.BaseLM | None
) -> Callable[[int], Bill] | None:
    """Returns what computes the most that a run can take, by the tokens of its first prompt."""
    if lm is None:
        return None
    budget, models = config.budget, list(context.models.by_name.values())

    def bill(first_prompt: int) -> Bill:
        return worst_case(
            budget,
            bounds_of(lm, budget),
            [bounds_of(one, budget) for one in models],
            first_prompt,
            config.limits.output_chars,
        )

    return bill
