"""Middleware around host functions."""

from __future__ import annotations

import functools

import pytest

from dspy_rlm.dspy_bridge.streaming import announce_sub_calls
from dspy_rlm.protocols.middleware import wrap_all
from dspy_rlm.redaction import clean_errors
from sandbox_runtime import WrappedTool


def marking(mark):
    """Wraps the results of functions in a mark."""

    def wrap(name, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            return f"{mark}[{name}: {function(*args, **kwargs)}]"

        return call

    return wrap


def test_the_last_wrapper_is_the_outermost():
    """Each function passes through all wrappers, in order, under its own name."""
    wrapped = wrap_all({"f": lambda x: x, "g": lambda: "y"}, [marking("a"), marking("b")])

    assert wrapped["f"]("x") == "b[f: a[f: x]]"
    assert wrapped["g"]() == "b[g: a[g: y]]"


def test_the_sandbox_side_of_a_function_stays():
    """Only the host function is wrapped: cells still call it through their own Python."""
    fronted = WrappedTool(lambda: "x", {"module": "source"}, kind="module")
    wrapped = wrap_all({"dspy": fronted}, [marking("a")])["dspy"]

    assert (wrapped.modules, wrapped.kind) == (fronted.modules, "module")
    assert wrapped.function() == "a[dspy: x]"


def test_sub_calls_are_announced_with_how_many_they_are():
    """Sub-calls are announced before the call, for the REPL's own functions only: a tool may have an alias's name."""
    events = []
    functions = {
        "sub_llm_batched": lambda prompts: len(prompts),
        "predict_batched": lambda signature, rows: len(rows),
        "dspy": lambda kind: kind,
        "llm_query": lambda prompt: prompt,
        "BUDGET": lambda: {},
    }
    announce = announce_sub_calls(
        lambda *event: events.append(event), functions.keys() - {"llm_query"}
    )
    wrapped = wrap_all(functions, [announce])
    wrapped["sub_llm_batched"](["a", "b"])
    wrapped["predict_batched"]("q -> a", rows=[{}, {}, {}])
    wrapped["dspy"]("Predict")
    wrapped["llm_query"]("a tool of the user's")
    wrapped["BUDGET"]()

    assert events == [("sub_llm_batched", 2), ("predict_batched", 3), ("dspy.Predict", 1)]


def test_errors_are_cleaned_of_known_secrets():
    """Every exception that a cell sees passes one filter for secrets."""

    def fail():
        raise KeyError("the key is correct-horse-battery")

    call = wrap_all({"f": fail}, [clean_errors(lambda: ["correct-horse-battery"])])["f"]
    with pytest.raises(KeyError) as caught:
        call()

    assert "correct-horse" not in str(caught.value)
