"""Values that enter a session by assignment and leave it by SUBMIT."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from session_cells import (
    failure,
    output,
)

from sandbox_runtime import (
    Submitted,
    ValueCrossingError,
)


class TestSubmit:
    """SUBMIT ends the run with the declared outputs."""

    def test_the_declared_fields(self, reregister):
        """Fields can be passed by position or name; values keep their types."""
        session = reregister(outputs={"answer": "str", "when": "datetime.date"})

        result = session.run_cell("import datetime\nSUBMIT('a', when=datetime.date(2024, 1, 2))")

        import datetime

        assert result == Submitted({"answer": "a", "when": datetime.date(2024, 1, 2)})

    def test_a_wrong_call(self, reregister):
        """The error shows the right call; the cell may try again."""
        session = reregister(outputs={"answer": "str"})

        assert failure(session, "SUBMIT(result='a')").message == (
            "SUBMIT() has no field 'result', is missing 'answer'. Call SUBMIT(answer: str)."
        )
        assert session.run_cell("SUBMIT('a')") == Submitted({"answer": "a"})

    def test_no_fields(self, reregister):
        """Without declared outputs, SUBMIT ends the run with none."""
        session = reregister(outputs={})

        assert session.run_cell("SUBMIT()") == Submitted({})
        assert failure(session, "SUBMIT(1)").error_type == "TypeError"

    @pytest.mark.parametrize(
        ("code", "value"),
        [
            ("'x' * 50_000_000", "x" * 50_000_000),
            ("[b'', b'', b'x', b'']", [b"", b"", b"x", b""]),
            ("10**4000", 10**4000),
            (r"'\ud800' * 100_000", "\ud800" * 100_000),
            ("[float('inf'), None, True, -0.0]", [float("inf"), None, True, -0.0]),
            ("{n: {'n': n} for n in range(10_000)}", {n: {"n": n} for n in range(10_000)}),
        ],
        ids=["large", "empty parts", "long number", "surrogates", "odd numbers", "many"],
    )
    def test_values_arrive(self, session, code, value):
        """Values of any size arrive unchanged."""
        assert session.run_cell(f"SUBMIT({code})") == Submitted({"output": value})

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            ("object()", "SUBMIT['output'] is of type object, which cannot leave the sandbox; "),
            ("[1, {'when': len}]", "SUBMIT['output'][1]['when'] is of type builtin_function_"),
            ("10**5000", "SUBMIT['output'] is an integer of more than 4,200 digits, "),
        ],
        ids=["object", "place", "number"],
    )
    def test_values_that_cannot_leave(self, session, code, message):
        """The error names the place of the value and the remedy."""
        result = failure(session, f"SUBMIT({code})")

        assert result.error_type == "CannotSend"
        assert result.message.startswith(message)
        assert "codec.py" not in result.traceback

    def test_a_swallowed_submit(self, session):
        """A SUBMIT counts even if the cell catches its exception."""
        code = "try:\n    SUBMIT(1)\nexcept BaseException:\n    pass\nraise ValueError"

        assert session.run_cell(code) == Submitted({"output": 1})

    def test_submit_in_a_task(self, session):
        """SUBMIT works anywhere in the cell, also in a task."""
        code = "import asyncio\nasync def f(): SUBMIT(1)\nawait asyncio.gather(f())"

        assert session.run_cell(code) == Submitted({"output": 1})


class TestAssign:
    """Variables are assigned once; changes by cells persist."""

    def test_by_name_or_all_at_once(self, session):
        """Variables can be assigned one by one, or as a mapping."""
        session.assign("one", 1)
        session.assign({"two": 2, "three": 3})

        assert output(session, "one, two, three") == "(1, 2, 3)\n"

    def test_changes_stay(self, session):
        """An assigned value is not sent again, so changes persist."""
        session.assign("rows", [1])
        session.run_cell("rows.append(2)")

        assert output(session, "rows") == "[1, 2]\n"

    @pytest.mark.nightly
    def test_a_hundred_megabytes_of_text(self, session):
        """Text is sent as raw bytes, once."""
        session.assign("text", "naïve 🙂 " * 10_000_000)

        assert output(session, "len(text), text[-8:], text.count('🙂')") == (
            "(80000000, 'naïve 🙂 ', 10000000)\n"
        )
        session.run_cell("del text")

    def test_buffers(self, session):
        """Binary parts of a value are sent as attachments."""
        import pickle

        session.assign("parts", [pickle.PickleBuffer(b"x" * 1_000_000), pickle.PickleBuffer(b"")])

        assert output(session, "[len(part) for part in parts]") == "[1000000, 0]\n"

    def test_a_record(self, session):
        """A host's dataclass is a record in cells, and the original class on the way back."""

        @dataclasses.dataclass
        class Row:
            name: str
            size: int

        session.assign("row", Row("a", 3))

        assert output(session, "row, row.name, row['size']") == "(Row(name='a', size=3), 'a', 3)\n"
        assert session.run_cell("SUBMIT(row)") == Submitted({"output": Row("a", 3)})

    def test_what_cannot_enter(self, session):
        """The error names the value's place, and the session continues."""
        with pytest.raises(
            ValueCrossingError, match=r"^rows\[1\]\['lock'\] is of type _thread.lock"
        ):
            session.assign("rows", [1, {"lock": threading.Lock()}])
        assert output(session, "1") == "1\n"

    def test_what_the_sandbox_does_not_have(self, session):
        """A standard library class that the sandbox lacks is refused."""
        import grp

        with pytest.raises(ValueCrossingError, match="ModuleNotFoundError: No module named 'grp'"):
            session.assign("kind", grp.struct_group)

    @pytest.mark.parametrize("name", ["a b", "import", "", "SUBMIT"])
    def test_names_that_are_none(self, session, name):
        """An invalid name is refused before anything is sent."""
        with pytest.raises(ValueError, match="name"):
            session.assign(name, 1)

    def test_no_variable_is_assigned_if_one_name_is_wrong(self, session):
        """All names are checked first."""
        session.run_cell("fine = 0")
        with pytest.raises(ValueError, match="name"):
            session.assign({"fine": 1, "not fine": 2})

        assert output(session, "fine") == "0\n"
