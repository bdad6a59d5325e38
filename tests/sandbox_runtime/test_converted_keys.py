"""Keys that type conversion creates from lists and texts are checked before a dict or set is built."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import fractions
import json
import time
import uuid
from collections import Counter
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, NamedTuple

import dspy
import pydantic
import pytest

from dspy_rlm.signatures.inputs import check_inputs
from dspy_rlm.signatures.outputs import typed_outputs
from dspy_rlm.tools.user_tools import host_function
from sandbox_runtime.values.bounds.converted_keys import check_making

# Python's hash modulus (`sys.hash_info.modulus`): all its multiples have the hash 0.
P = 2**61 - 1

MANY = [k * P for k in range(1, 4_000)]


class Point(pydantic.BaseModel, frozen=True):
    """A record that can be a key."""

    n: int


@dataclasses.dataclass(frozen=True)
class Place:
    """A dataclass that can be a key."""

    n: int


class Pair(NamedTuple):
    """A named tuple that can be a key."""

    n: int
    s: str = ""


class Holder(pydantic.BaseModel):
    """A record with a set in a field."""

    items: dict[str, set[int]]


class Texts(pydantic.BaseModel):
    """A record with a text that Pydantic parses."""

    items: pydantic.Json[set[int]]


@dataclasses.dataclass
class Noted:
    """A dataclass with such a text."""

    items: pydantic.Json[dict[int, int]]


NAMES_AS_TEXT = json.dumps({str(n): 1 for n in MANY})

HOSTILE: dict[str, tuple[Any, Any]] = {
    "numbers": (set[int], MANY),
    "texts with a sign": (set[int], [f"+{n}" for n in MANY]),
    "texts with a line": (set[int], [f"{n // 10}_{n % 10}" for n in MANY]),
    "texts with spaces": (frozenset[int], [f" {n} " for n in MANY]),
    "texts with a fraction": (set[int], [f"{n}.0" for n in MANY]),
    "a set of texts": (set[int], {f"+{n}" for n in MANY}),
    "decimals": (set[decimal.Decimal], [f"{n}.00" for n in MANY]),
    "fractions": (set[fractions.Fraction], [f"{n}/1" for n in MANY]),
    "identifiers": (set[uuid.UUID], [str(uuid.UUID(int=n)) for n in MANY]),
    "names that become identifiers": (
        dict[uuid.UUID, int],
        {str(uuid.UUID(int=n)): 1 for n in MANY},
    ),
    "names that become numbers": (dict[int, int], {f"+{n}": 1 for n in MANY}),
    "records": (set[Point], [{"n": n} for n in MANY]),
    "dataclasses": (set[Place], [{"n": n} for n in MANY]),
    "named tuples": (set[Pair], [[n, "x"] for n in MANY]),
    "tuples": (set[tuple[int, int]], [[f"+{n}", 1] for n in MANY]),
    "sets in a set": (set[frozenset[int]], [[f"+{n}" for n in MANY]]),
    "sets as keys": (dict[frozenset[int], int], {tuple(f"+{n}" for n in MANY): 1}),
    "any kind of set": (AbstractSet[int], MANY),
    "counters": (Counter[int], {str(n): 1 for n in MANY}),
    "one of two types": (set[int | str], MANY),
    "noted types": (list[Annotated[set[int], "noted"]], [MANY]),
    "JSON": (pydantic.Json[set[int]], json.dumps(MANY)),
    "JSON in bytes": (pydantic.Json[set[int]], json.dumps(MANY).encode()),
    "JSON in a list": (list[pydantic.Json[dict[int, int]]], [NAMES_AS_TEXT]),
    "JSON in a record": (Texts, {"items": json.dumps(MANY)}),
    "JSON in a dataclass": (Noted, {"items": NAMES_AS_TEXT}),
    "JSON in JSON": (
        pydantic.Json[list[pydantic.Json[set[int]]]],
        json.dumps([json.dumps(MANY)]),
    ),
    "in a record": (Holder, {"items": {"a": [f"+{n}" for n in MANY]}}),
}

HONEST: dict[str, tuple[Any, Any]] = {
    "numbers": (set[int], list(range(50_000))),
    "a set of numbers": (set[int], set(range(50_000))),
    "texts of numbers": (set[int], [str(n) for n in range(5_000)]),
    "names": (dict[str, int], {f"k{n}": n for n in range(50_000)}),
    "years": (dict[int, str], {str(n): "" for n in range(3_000)}),
    "dates": (set[datetime.date], ["2020-01-01"] * 5_000),
    "equal values": (set[decimal.Decimal], ["1.50"] * 5_000),
    "records": (set[Point], [{"n": n} for n in range(1_000)]),
    "numbers that collide, in a list": (list[int], MANY),
    "JSON": (list[pydantic.Json[set[int]]], [json.dumps(list(range(5_000)))]),
    "no JSON": (list[pydantic.Json[set[int]]], ["[1"]),
    "a text that is not parsed": (dict[int, str], {1: json.dumps(MANY)}),
}


@pytest.mark.sampled(10)
@pytest.mark.parametrize(("annotation", "value"), HOSTILE.values(), ids=HOSTILE.keys())
def test_keys_that_would_collide_are_refused(annotation, value):
    """Colliding keys are refused, whatever type they are converted from."""
    with pytest.raises(ValueError, match="collide"):
        check_making(annotation, value)


@pytest.mark.parametrize(("annotation", "value"), HONEST.values(), ids=HONEST.keys())
def test_honest_values_pass(annotation, value):
    """Honest values are not refused for their size."""
    check_making(annotation, value)


@pytest.mark.parametrize("written", [lambda value: value, json.dumps], ids=["value", "text"])
def test_a_submission(written):
    """Submitted values are checked, also those parsed from text."""
    fields = dspy.Signature({"q": (str, dspy.InputField()), "a": (set[int], dspy.OutputField())})
    outputs = {"a": written([f"+{n}" for n in MANY * 3])}
    began = time.thread_time()
    done, problems = typed_outputs(fields.output_fields, outputs)

    assert done == {}
    assert "collide" in problems[0]
    assert time.thread_time() - began < 3


def test_an_input_of_a_sub_call():
    """Inputs of `predict` are converted on the host, so they are checked before the LM call."""
    signature = dspy.Signature({"n": (set[int], dspy.InputField()), "a": (str, dspy.OutputField())})
    with pytest.raises(ValueError, match="collide"):
        check_inputs(signature, {"n": [f"+{n}" for n in MANY]})


@pytest.mark.parametrize("count", [900, 4_000])
def test_an_argument_of_a_tool(count):
    """Tool arguments are checked, even in calls so small that DSPy validates them."""

    def tool(n: set[uuid.UUID]) -> int:
        """Counts the items."""
        return len(n)

    call = host_function(dspy.Tool(tool))
    with pytest.raises(ValueError, match="collide"):
        call(n=[str(uuid.UUID(int=k * P)) for k in range(1, count)])
