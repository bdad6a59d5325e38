"""Large submissions: JavaScript makes JSON of their marshalled form, and what it cannot is encoded in Python as ever."""

from __future__ import annotations

import math

import pytest

from sandbox_runtime import Completed, Limits, open_session
from sandbox_runtime.guest.driver import LEAST_HELD_BYTES
from sandbox_runtime.limits import MEBIBYTE

ROWS = "[{'id': i, 'name': f'näme {i}\\n', 'score': i / 7, 'ok': i % 2 == 0} for i in range(5_000)]"


@pytest.fixture(scope="module")
def session():
    """A session with one output, of which a value may have a mebibyte."""
    with open_session(outputs={"value": "list"}, limits=Limits(frame_bytes=MEBIBYTE)) as session:
        yield session


def submit(session, code):
    """Returns what a cell submits."""
    return session.run_cell(code).outputs["value"]


class TestValues:
    """A submitted value arrives unchanged by each of the ways that it can take."""

    def test_records(self, session):
        """Texts, numbers, truth values and None, in lists and dicts."""
        expected = eval(ROWS)
        assert len(repr(expected)) > LEAST_HELD_BYTES

        assert submit(session, f"SUBMIT({ROWS})") == expected

    @pytest.mark.parametrize(
        "item",
        [
            "(1, 2)",
            "{1, 2}",
            "b'bytes'",
            "{1: 2}",
            "{'$': 1}",
            "'x' * 70_000",
            "2**5_000",
            "-(2**40)",
            "'\\ud800'",
            "'$'",
            "[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]",
            "__import__('collections').OrderedDict(a=1)",
            "float('inf')",
            "-0.0",
        ],
    )
    def test_something_among_numbers(self, session, item):
        """One value that needs a tag, or a part of its own, changes nothing for the others."""
        numbers = list(range(20_000))

        value = submit(session, f"SUBMIT([*range(20_000), {item}])")

        assert value == [*numbers, eval(item)] or item == "'\\ud800'"
        assert repr(value[-1]) == repr(submit(session, f"SUBMIT([{item}])")[0])

    def test_nan(self, session):
        """A number that JSON does not know stays what it is."""
        assert math.isnan(submit(session, "SUBMIT([float('nan')] * 20_000)")[-1])

    def test_what_cannot_leave(self, session):
        """The message names the place, as for a small value."""
        failed = session.run_cell("SUBMIT([*range(50_000), object()])")

        assert "[50000] is of type object, which cannot leave" in failed.message

    def test_more_than_a_value_may_have(self, session):
        """The message states both sizes."""
        failed = session.run_cell("SUBMIT(['x' * 1_000] * 2_000)")

        assert failed.message.startswith("SUBMIT() values take 2,006,011 bytes, more than the ")


class TestHold:
    """A held value belongs to one end of one cell."""

    def test_the_last_one_counts(self, session):
        """Of two in a cell, whatever their sizes."""
        twice = "try:\n    SUBMIT({})\nexcept BaseException:\n    pass\nSUBMIT({})"
        large, small = "[1] * 50_000", "[2]"

        assert submit(session, twice.format(large, small)) == [2]
        assert submit(session, twice.format(small, large)) == [1] * 50_000
        assert submit(session, twice.format(large, "[3] * 50_000")) == [3] * 50_000

    def test_a_refused_one_replaces_nothing(self, session):
        """As if it had not been called."""
        code = (
            "try:\n    SUBMIT([1] * 50_000)\nexcept BaseException:\n    pass\n"
            "try:\n    SUBMIT(['x' * 1_000] * 2_000)\nexcept ValueError:\n    pass"
        )

        assert submit(session, code) == [1] * 50_000

    def test_it_is_gone_after_its_cell(self, session):
        """The next cell submits its own."""
        assert submit(session, "SUBMIT([1] * 50_000)") == [1] * 50_000
        assert session.run_cell("1") == Completed("1\n")
        assert submit(session, "SUBMIT([])") == []

    def test_a_replaced_marshal(self, session):
        """A cell that replaces the encoder in its module does not replace it here."""
        session.run_cell("import marshal\nmarshal.dumps = lambda *_: b'N' * 200_000")

        assert submit(session, "SUBMIT([1] * 50_000)") == [1] * 50_000
