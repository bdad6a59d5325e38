"""Functions that the cell driver gives to cells: SUBMIT and tools."""

from __future__ import annotations

import collections
import json
import signal

import pytest

from sandbox_runtime.guest.namespace.submit import bind_submit, submit_usage

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGALRM"), reason="the driver is made for POSIX"
)


FIELDS = {"answer": "str", "score": "float"}


class TestSubmit:
    """SUBMIT takes the declared fields: by position, by name, or as one dict of all."""

    @pytest.mark.parametrize(
        "call",
        [
            "SUBMIT('a', 1.5)",
            "SUBMIT('a', score=1.5)",
            "SUBMIT(score=1.5, answer='a')",
            "SUBMIT({'score': 1.5, 'answer': 'a'})",
            "SUBMIT(**{'answer': 'a', 'score': 1.5})",
        ],
    )
    def test_ways_to_call_it(self, open_cells, call):
        """Every way to call SUBMIT with these values has the same outcome."""
        assert open_cells(outputs=FIELDS).submitted(call) == {"answer": "a", "score": 1.5}

    @pytest.mark.parametrize(
        ("call", "problem"),
        [
            ("SUBMIT()", "is missing 'answer', is missing 'score'"),
            ("SUBMIT('a')", "is missing 'score'"),
            ("SUBMIT({'answer': 'a'})", "is missing 'score'"),
            ("SUBMIT('a', 1, 2)", "takes 2 values, got 3"),
            ("SUBMIT('a', 1, extra=2)", "has no field 'extra'"),
            ("SUBMIT('a', 1, answer='b')", "got 'answer' twice"),
            ("SUBMIT(answer='a', scores=1)", "has no field 'scores', is missing 'score'"),
        ],
    )
    def test_wrong_calls(self, open_cells, call, problem):
        """The message says everything that is wrong, and the right call with its types."""
        cells = open_cells(outputs=FIELDS)

        assert cells.error(call) == (
            f"TypeError: SUBMIT() {problem}. Call SUBMIT(answer: str, score: float)."
        )

    @pytest.mark.parametrize(
        ("call", "outputs"),
        [
            ("SUBMIT(3)", {"output": 3}),
            ("SUBMIT({'a': 1})", {"output": {"a": 1}}),
            ("SUBMIT(a=1, b=2)", {"a": 1, "b": 2}),
            ("SUBMIT()", {}),
        ],
    )
    def test_without_declared_fields(self, cells, call, outputs):
        """Any one value, or values by name."""
        assert cells.submitted(call) == outputs

    @pytest.mark.parametrize("call", ["SUBMIT(1, 2)", "SUBMIT(1, a=2)"])
    def test_without_declared_fields_only_one_is_by_position(self, cells, call):
        """Others would have no name."""
        assert cells.error(call) == "TypeError: SUBMIT() takes one value, or the outputs by name"

    def test_a_single_field_that_is_a_dict(self):
        """A dict whose only key is the field's name holds its value, unless only the dict itself fits the field."""
        outputs = [{"name": "answer", "type": "dict"}]

        assert bind_submit(outputs, ({"a": 1},), {}) == {"answer": {"a": 1}}
        assert bind_submit(outputs, ({"answer": {"a": 1}},), {}) == {"answer": {"a": 1}}
        assert bind_submit(outputs, ({"answer": 1},), {}) == {"answer": {"answer": 1}}

    @pytest.mark.parametrize("keyword", ["answer", "result"])
    def test_one_dict_of_all_fields(self, keyword):
        """A dict with exactly the fields' names is read as their values, by position and by any keyword."""
        outputs = [{"name": "answer", "type": "str"}, {"name": "n", "type": "int"}]
        whole = collections.OrderedDict(n=3, answer="x")

        assert bind_submit(outputs, (whole,), {}) == {"answer": "x", "n": 3}
        assert bind_submit(outputs, (), {keyword: whole}) == {"answer": "x", "n": 3}

    def test_a_dict_that_lacks_a_field_is_not_taken_apart(self):
        """It would be a guess which field it is meant for."""
        outputs = [{"name": "answer", "type": "str"}, {"name": "n", "type": "int"}]

        with pytest.raises(TypeError, match="is missing 'n'"):
            bind_submit(outputs, ({"answer": "x"},), {})

    @pytest.mark.parametrize(
        ("args", "kwargs", "outputs"),
        [
            (("x",), {}, {"answer": "x"}),
            (("x", 3), {}, {"answer": "x", "n": 3}),
            ((), {"answer": "x"}, {"answer": "x"}),
            (({"answer": "x"},), {}, {"answer": "x"}),
            (({"answer": "x", "n": 3},), {}, {"answer": "x", "n": 3}),
            (({"n": 3},), {}, {"answer": {"n": 3}}),
        ],
    )
    def test_an_optional_field(self, args, kwargs, outputs):
        """A field whose type ends in ` = ...` may be left out, also of a dict of the outputs."""
        fields = [{"name": "answer", "type": "Any"}, {"name": "n", "type": "int = ..."}]

        assert bind_submit(fields, args, kwargs) == outputs
        assert submit_usage(fields) == "SUBMIT(answer: Any, n: int = ...)"

    def test_only_optional_fields(self):
        """If all fields are optional, SUBMIT takes nothing as well; an empty dict is a value."""
        fields = [{"name": "n", "type": "dict | None = ..."}]

        assert bind_submit(fields, (), {}) == {}
        assert bind_submit(fields, ({},), {}) == {"n": {}}

    def test_its_documentation(self, open_cells):
        """The documentation of SUBMIT shows the fields, for `help`."""
        doc = "SUBMIT(answer: str, score: float)\n\nEnds the run with these outputs."

        assert open_cells(outputs=FIELDS).output("print(SUBMIT.__doc__)") == doc + "\n"
        assert submit_usage(None) == "SUBMIT(output)"

    def test_nothing_runs_after_it(self, cells):
        """It ends the cell at once, also from inside a function."""
        cells.submitted("x = 1\ndef f(): SUBMIT(1)\nf()\nx = 2")

        assert cells.output("x") == "1\n"

    def test_output_comes_along(self, cells):
        """The output that the cell printed before."""
        assert cells.run("print('a')\nSUBMIT(1)")["output"] == "a\n"

    def test_finally_still_runs(self, cells):
        """The cell is unwound as by any exception."""
        cells.submitted("try:\n    SUBMIT(1)\nfinally:\n    x = 'cleaned'")

        assert cells.output("x") == "'cleaned'\n"

    @pytest.mark.parametrize("after", ["", "raise ValueError", "1 / 0", "import sys; sys.exit()"])
    def test_a_swallowed_submit_counts(self, cells, after):
        """`except BaseException` around it does not undo it, nor does what fails later."""
        code = f"try:\n    SUBMIT('yes')\nexcept BaseException:\n    pass\n{after}"

        assert cells.submitted(code) == {"output": "yes"}

    def test_except_exception_does_not_catch_it(self, cells):
        """LMs wrap code in `try`; that must not keep a run from ending."""
        code = "try:\n    SUBMIT(1)\nexcept Exception:\n    x = 'caught'"

        assert cells.submitted(code) == {"output": 1}

    def test_the_last_of_two_counts(self, cells):
        """A cell that caught the first may correct itself."""
        code = "try:\n    SUBMIT(1)\nexcept BaseException:\n    SUBMIT(2)"

        assert cells.submitted(code) == {"output": 2}

    def test_an_exception_of_the_same_name_is_no_submit(self, cells):
        """It is recognised by identity."""
        assert cells.error("class _SubmitSignal(BaseException): pass\nraise _SubmitSignal") == (
            "_SubmitSignal: "
        )

    def test_a_stolen_signal_is_no_submit(self, cells):
        """Raised in a later cell it submits nothing."""
        cells.submitted(
            "try:\n    SUBMIT(1)\nexcept BaseException as e:\n    stolen = e\n    raise"
        )

        assert cells.run("raise stolen")["outcome"] == "failed"
        assert cells.run("raise type(stolen)()")["outcome"] == "failed"

    def test_a_failed_submit_submits_nothing(self, cells):
        """The cell can catch the error, and goes on."""
        assert cells.output("try:\n    SUBMIT(object())\nexcept TypeError:\n    print('no')") == (
            "no\n"
        )

    def test_a_submit_kept_for_later_is_refused_between_cells(self, cells):
        """It belongs to a running cell."""
        cells.run("kept = SUBMIT")

        with pytest.raises(RuntimeError, match=r"SUBMIT\(\) was called after its cell had ended"):
            cells.driver._namespace["kept"](1)

    def test_large_values_go_beside_the_json(self, cells):
        """Bytes and long texts are parts of their own."""
        code = "SUBMIT([b'raw', 'x' * 100_000])"
        cells.driver.prepare(1, code)
        text, tree, *extras = cells.driver.run(1, code)

        assert json.loads(text)["outcome"] == "submitted"
        assert sorted(bytes(part) for part in extras) == [b"raw", b"x" * 100_000]
        assert len(tree) < 100


class TestTools:
    """Host tools are functions of the namespace."""

    def test_arguments_and_results(self, open_cells):
        """By position and by name; values keep their types."""
        cells = open_cells({"f": lambda *args, **kwargs: (args, kwargs)})

        assert cells.output("f(1, {2}, x=b'3')") == "((1, {2}), {'x': b'3'})\n"

    def test_they_can_be_called_from_anywhere(self, open_cells):
        """From callbacks, comprehensions, generators and other functions."""
        cells = open_cells({"key": lambda x: -x, "up": str.upper})

        assert cells.output("sorted([1, 3, 2], key=key)") == "[3, 2, 1]\n"
        assert cells.output("[up(c) for c in 'ab']") == "['A', 'B']\n"
        assert cells.output("import re; re.sub('b', lambda m: up(m[0]), 'abc')") == "'aBc'\n"
        assert cells.output("list(map(up, (c for c in 'ab')))") == "['A', 'B']\n"

    def test_their_name_and_documentation(self, open_cells):
        """As `help` shows them, with the ways to call many at once."""
        cells = open_cells({"search": lambda: 1})

        printed_text = cells.output("print(search.__name__, search.__doc__)")

        assert printed_text == (
            "search search()\n"
            "\n"
            "Does it.\n"
            "\n"
            "Also: `await search.aio(...)`, so that asyncio.gather makes calls at once, and\n"
            "`search.batched(items)`, which calls search(item) for all of them at once and returns "
            "the results in\n"
            "order; an item that failed has its exception in place of a result. With several lists "
            "it takes one\n"
            "argument from each, as map() does; keyword arguments are the same for all.\n"
        )

    @pytest.mark.parametrize(
        ("error", "error_text", "caught_as"),
        [
            (ValueError("no"), "ValueError: no", "ValueError"),
            (type("RateLimitError", (OSError,), {})("wait"), "RateLimitError: wait", "OSError"),
            (type("Odd", (Exception,), {})("x"), "Odd: x", "RuntimeError"),
            (Exception("plain"), "Exception: plain", "RuntimeError"),
            (TimeoutError("late"), "TimeoutError: late", "OSError"),
            (
                UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
                "HostToolError: UnicodeDecodeError: 'utf-8' codec can't decode byte 0x78 in "
                "position 0: bad",
                "RuntimeError",
            ),
        ],
        ids=lambda value: "",
    )
    def test_errors_come_under_their_own_names(self, open_cells, error, error_text, caught_as):
        """And can be caught as the builtin that they derive from."""

        def fail():
            raise error

        cells = open_cells({"fail": fail})

        assert cells.error("fail()") == error_text
        assert cells.output(f"try: fail()\nexcept {caught_as}: print('caught')") == "caught\n"

    def test_arguments_that_cannot_leave(self, open_cells):
        """The message names the place."""
        cells = open_cells({"f": lambda *args, **kwargs: None})

        assert cells.error("f(1, x=[object()])").startswith(
            "CannotSend: f() arguments[1]['x'][0] is of type object,"
        )

    def test_a_tool_kept_for_later_is_refused_between_cells(self, open_cells):
        """A call belongs to a running cell."""
        cells = open_cells({"f": lambda: 1})
        cells.run("kept = f")

        with pytest.raises(RuntimeError, match=r"f\(\) was called after its cell had ended"):
            cells.driver._namespace["kept"]()

    def test_registering_again_replaces_all_of_them(self, open_cells):
        """Old tools are gone, unless they were declared again."""
        cells = open_cells({"old": lambda: 1, "both": lambda: 1})

        cells.register({"both": lambda: 2, "new": lambda: 3}, None)

        assert cells.output("both(), new()") == "(2, 3)\n"
        assert cells.error("old()") == "NameError: name 'old' is not defined"
