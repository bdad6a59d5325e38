"""The functions that cells can call besides the user's tools, by name, with their sandbox side."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from importlib.resources import files
from typing import Any

import dspy

from dspy_rlm.protocols.middleware import HostFunction, wrap_all
from dspy_rlm.repl.dspy_module import make_facade
from dspy_rlm.repl.past import HISTORY, Past
from dspy_rlm.repl.predict import FailedRow, listed, make_predictions
from dspy_rlm.repl.sub_llm import make_queries
from dspy_rlm.repl.sub_rlm import SubRun, make_sub_runs
from dspy_rlm.run_context import RunContext
from dspy_rlm.values.conversion import to_plain
from sandbox_runtime import WrappedTool

# In import order. The last one has the functions that cells see.
_CELL_MODULES = ("answers", "signatures", "dspy_module", "names")


def make_namespace(
    context: RunContext,
    tools: Mapping[str, dspy.Tool],
    start: Callable[[SubRun], dspy.Prediction],
    budget_left: Callable[[], dict[str, Any]],
    reserved: Collection[str] = (),
    past: Past | None = None,
    *,
    records: bool = True,
) -> dict[str, Callable[..., Any]]:
    """Returns the REPL's functions by name.

    Args:
        context: The run that their calls belong to.
        tools: The user's tools, which sub-runs and modules can use.
        start: Starts a sub-run.
        budget_left: Returns the remaining budget.
        reserved: Names of the user's inputs and tools, which take precedence.
        past: The steps of the run, which `HISTORY` returns.
        records: True for our own REPL, which has records and cell-side code. Otherwise results are dicts,
            and functions that need such code are left out.
    """

    def BUDGET() -> dict[str, Any]:  # noqa: N802 - the name of the REPL's vocabulary
        """Returns the remaining budget: turns, LM calls, and tokens, cost or seconds if these are limited."""
        return budget_left()

    queries = make_queries(context)
    typed = make_predictions(context)
    sub_runs = make_sub_runs(context, tools, start)
    typed.update(sub_runs)
    if sub_runs:
        query = _rlm_query(sub_runs["sub_rlm"])
        typed |= {"rlm_query": query, "recursive_llm": query}
        typed["rlm_query_batched"] = _rlm_query_batched(sub_runs["sub_rlm_batched"])
    names = wrap_all(typed, [_with_cell_side if records else _plain])
    if records:
        facade = make_facade(context, tools, sub_runs.get("sub_rlm"))
        names |= {
            name: _with_cell_side(name, _only_in_cells)
            for name in ("FINAL", "FINAL_VAR", "SHOW_VARS")
        }
        if past is not None:
            names[HISTORY] = _with_cell_side(HISTORY, past.some)
        names["dspy"] = WrappedTool(facade, _cell_modules(), kind="module")
    elif past is not None:
        names[HISTORY] = past.all
    llm_query = _llm_query(queries["sub_llm"])
    if "recursive_llm" not in names:
        names["recursive_llm"] = _as_text(llm_query)
    queries |= {"llm_query": llm_query, "llm_query_batched": queries["sub_llm_batched"]}
    if records:
        queries = {name: _with_cell_side(name, query) for name, query in queries.items()}
    own = {**queries, **names, "BUDGET": BUDGET}
    return {name: function for name, function in own.items() if name not in reserved}


def _as_text(query: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the query with plain text as its result: this name has another cell side."""

    @functools.wraps(query)
    def recursive_llm(*args: Any, **kwargs: Any) -> Any:
        return str.__str__(query(*args, **kwargs))

    return recursive_llm


def _llm_query(sub_llm: Callable[..., Any]) -> Callable[..., Any]:
    def llm_query(prompt: str, *more: Any, model: str | None = None) -> Any:
        """Like sub_llm(prompt). A second text is the context that the prompt is about."""
        texts = [item for item in more if isinstance(item, str)]
        media = [item for item in more if not isinstance(item, str)]
        return sub_llm("\n\n".join([prompt, *texts]) if texts else prompt, *media, model=model)

    return llm_query


def _rlm_query(sub_rlm: Callable[..., Any]) -> Callable[..., Any]:
    def rlm_query(prompt: Any, context: Any = None, /, **options: Any) -> Any:
        """Like sub_rlm(signature, ...). With a prompt, and a context if any, returns the answer of a sub-run."""
        if options.keys() - {"model", "tools", "setup", "max_iterations", "max_llm_calls"}:
            return sub_rlm(prompt, **options)
        if context is not None:
            options["context"] = context
        inputs = ", ".join(["prompt", *(["context"] if context is not None else [])])
        return sub_rlm(f"{inputs} -> answer: str", prompt=prompt, **options).answer

    return rlm_query


def _rlm_query_batched(sub_rlm_batched: Callable[..., Any]) -> Callable[..., Any]:
    def rlm_query_batched(prompts: Any, contexts: Any = None, /, **options: Any) -> list[Any]:
        """Like rlm_query() for many prompts, with a context for each if there are any: the answers, in order."""
        prompts = listed("rlm_query_batched", "rlm_query", prompts)
        if contexts is None:
            rows = [{"prompt": prompt} for prompt in prompts]
        else:
            contexts = listed("rlm_query_batched", "rlm_query", contexts)
            pairs = zip(prompts, contexts, strict=True)
            rows = [{"prompt": prompt, "context": context} for prompt, context in pairs]
        inputs = "prompt" if contexts is None else "prompt, context"
        results = sub_rlm_batched(f"{inputs} -> answer: str", rows, **options)
        return [one if isinstance(one, FailedRow) else one.answer for one in results]

    return rlm_query_batched


def _only_in_cells(*args: Any, **kwargs: Any) -> Any:
    """Ends the run with the outputs, like SUBMIT."""
    raise RuntimeError("This name works in a cell only. Call SUBMIT(...).")


def _plain(_name: str, function: HostFunction) -> HostFunction:
    """Returns the function with dicts in place of records; `signature=` and `rows=` are taken by keyword too."""
    parameters = inspect.signature(function).parameters.values()
    first = [one.name for one in parameters if one.kind is one.POSITIONAL_ONLY]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for name in first[len(args) :]:
            if name not in kwargs:
                break
            args = (*args, kwargs.pop(name))
        return to_plain(function(*args, **kwargs))

    return call


def _with_cell_side(_name: str, function: HostFunction) -> WrappedTool:
    return WrappedTool(function, _cell_modules())


@functools.cache
def _cell_modules() -> Mapping[str, str]:
    folder = files("dspy_rlm.repl.guest")
    return {
        f"dspy_rlm.repl.guest.{n}": (folder / f"{n}.py").read_text("utf-8") for n in _CELL_MODULES
    }
