"""Agreement of the fast check of a call's arguments with `inspect`."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime.tools.declarations import PlainSignature


def none() -> None: ...
def one(a: Any) -> None: ...
def two(a: Any, b: Any) -> None: ...
def default(a: Any, b: Any = 1) -> None: ...
def all_default(a: Any = 1, b: Any = 2, c: Any = 3) -> None: ...
def some_default(a: Any, b: Any, c: Any = 3, d: Any = 4) -> None: ...


PLAIN = (none, one, two, default, all_default, some_default)


def positional_only(a: Any, /, b: Any) -> None: ...
def keyword_only(a: Any, *, b: Any) -> None: ...
def any_positional(*args: Any) -> None: ...
def any_keyword(**kwargs: Any) -> None: ...


OTHER = (positional_only, keyword_only, any_positional, any_keyword)

ARGUMENTS = st.tuples(
    st.lists(st.integers(), max_size=5),
    st.dictionaries(st.sampled_from(["a", "b", "c", "d", "e", "self", ""]), st.integers()),
)


def binds(signature: inspect.Signature, args: list[int], kwargs: dict[str, int]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("function", PLAIN, ids=lambda one: one.__name__)
@given(arguments=ARGUMENTS)
def test_plain_parameters_fit_exactly_if_they_bind(function: Any, arguments: Any) -> None:
    """The answer is that of `Signature.bind`, for positional and keyword arguments."""
    signature = inspect.signature(function)
    assert PlainSignature.of(signature).fits(*arguments) is binds(signature, *arguments)


@pytest.mark.parametrize("function", OTHER, ids=lambda one: one.__name__)
@given(arguments=ARGUMENTS)
def test_other_parameters_are_left_to_inspect(function: Any, arguments: Any) -> None:
    """Nothing fits for certain where a parameter is not a plain one."""
    assert not PlainSignature.of(inspect.signature(function)).fits(*arguments)


def test_no_signature_is_left_to_the_function() -> None:
    """Nothing fits for certain where there is no signature."""
    assert not PlainSignature.of(None).fits([], {})
