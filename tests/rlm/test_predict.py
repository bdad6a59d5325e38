"""Typed sub-calls from the REPL: `predict` and `predict_batched`. Scripted policies play the LMs."""

from __future__ import annotations

import datetime
import enum
import threading

import dspy
import pydantic
import pytest

from dspy_rlm.testing import Action, ChatRequest, Fault, Raw, fields, policy, rules


class Kind(enum.Enum):
    BILL = "bill"
    NOTE = "note"


class Page(pydantic.BaseModel):
    kind: Kind
    day: datetime.date
    amounts: list[float] = pydantic.Field(default_factory=list, description="in euros")


PAGE = '{"kind": "bill", "day": "2026-03-04", "amounts": [1.5, 2]}'


def describe(page: Page) -> str:
    """Describes a page. With it, cells know the class."""
    return str(page)


def outputs(prediction):
    return [step["output"] for step in prediction.trajectory]


def answering(**values):
    return fields(lambda _given: values)


class TestPredict:
    def test_outputs_are_typed_attributes(self, play):
        """Outputs have the declared types, and can be read by attribute and by name."""
        rlm, server = play(
            "page: str -> answer: list",
            'r = predict("text, unit -> day: datetime.date, total: float | None, tags: set[str]", '
            'text=page, unit="EUR")\n'
            'SUBMIT([r.day.year, r["total"], sorted(r.tags), type(r.day).__name__, r.total is r["total"]])',
            sub=answering(day="2026-03-04", total=2.5, tags='["b", "a"]'),
        )

        assert rlm(page="4 March").answer == [2026, 2.5, ["a", "b"], "date", True]
        prompt = server.requests_to("sub")[0].prompt
        assert "4 March" in prompt
        assert "EUR" in prompt

    def test_the_runs_own_classes_are_known_by_name(self, play):
        """A model of the RLM's signature comes back as a record of that class."""
        rlm, _ = play(
            dspy.Signature("page: str -> pages: list[Page]", custom_types={"Page": Page}),
            'r = predict("text -> page: Page", text=page)\n'
            "print(isinstance(r.page, Page), r.page.kind.name, r.page.day)\nSUBMIT([r.page])",
            sub=answering(page=PAGE),
        )
        result = rlm(page="")

        assert result.pages == [
            Page(kind=Kind.BILL, day=datetime.date(2026, 3, 4), amounts=[1.5, 2.0])
        ]
        assert outputs(result)[0].startswith("True BILL 2026-03-04")

    def test_a_class_of_the_cell_is_the_signature(self, play):
        """Its fields are the outputs, its documentation the task, and the result an instance of it."""
        rlm, server = play(
            "page: str -> answer: list",
            "import dataclasses, enum, datetime\n"
            "class Colour(enum.Enum):\n    RED = 'red'\n"
            "@dataclasses.dataclass\nclass Line:\n    what: str\n    price: float = 0.0\n"
            "@dataclasses.dataclass\nclass Bill:\n"
            '    """Read the bill."""\n'
            "    day: datetime.date\n    lines: list[Line]\n    colour: Colour = Colour.RED\n"
            "    def total(self): return sum(line.price for line in self.lines)\n",
            "r = predict(Bill, text=page)\n"
            "SUBMIT([type(r) is Bill, type(r.lines[0]) is Line, r.colour is Colour.RED, r.total()])",
            sub=answering(
                day="2026-03-04", lines='[{"what": "tea", "price": 2}, {"what": "x"}]', colour="red"
            ),
        )

        assert rlm(page="").answer == [True, True, True, 2.0]
        assert "Read the bill." in server.requests_to("sub")[0].messages[0].text

    def test_a_class_of_the_cell_can_be_named_in_a_text(self, play):
        """Text signatures can name classes of the cell, nested in other types and self-referring ones."""
        rlm, _ = play(
            "page: str -> answer: list",
            "import dataclasses\n@dataclasses.dataclass\nclass Node:\n    name: str\n"
            "    parts: list['Node'] = dataclasses.field(default_factory=list)\n"
            'r = predict("text -> roots: dict[str, Node]", text=page)\n'
            "root = r.roots['a']\n"
            "SUBMIT([type(root) is Node, type(root.parts[0]) is Node, root.parts[0].name])",
            sub=answering(roots='{"a": {"name": "r", "parts": [{"name": "p"}]}}'),
        )

        assert rlm(page="").answer == [True, True, "p"]

    def test_a_dict_of_outputs_is_a_signature(self, play):
        """Types, types as text, and types with a description; the inputs are those that are given."""
        rlm, server = play(
            "page: str -> answer: list",
            "import datetime\n"
            'r = predict({"day": datetime.date, "n": ("int", "of lines"), "k": "Literal[\'a\', \'b\']"}, '
            'text=page, instructions="Count twice.")\n'
            "SUBMIT([r.day.day, r.n, r.k])",
            sub=answering(day="2026-03-04", n=3, k="b"),
        )

        assert rlm(page="").answer == [4, 3, "b"]
        system = server.requests_to("sub")[0].messages[0].text
        assert "of lines" in system
        assert "Count twice." in system

    def test_a_reply_that_does_not_fit_is_asked_again_with_the_reason(self, play):
        """A reply that does not fit is retried with the reason, and every attempt counts."""

        def wavering(request: ChatRequest) -> str:
            good = "problem_with_last_reply" in request.prompt
            return f"[[ ## n ## ]]\n{'7' if good else 'seven'}\n\n[[ ## completed ## ]]"

        rlm, server = play(
            "q -> answer: int", 'SUBMIT(predict("text -> n: int", text=q).n)', sub=wavering
        )
        result = rlm(q="?")

        assert result.answer == 7
        assert result.run.llm_calls == 2
        again = server.requests_to("sub")[1].prompt
        assert "n: Input should be a valid integer" in again
        assert "It was:\n> \\[[ ## n ## ]]\n> seven\n>" in again
        assert (
            "Do not repeat it. Write a new reply with every field in the requested format" in again
        )

    @pytest.mark.parametrize(
        ("type_", "value", "place"),
        [
            ("list[int]", '[1, "two"]', "n: at 1: Input should be a valid integer"),
            ("dict[str, float]", '{"a": "x"}', "n: at a: Input should be a valid number"),
            ("list[Literal['a', 'b']]", '["c"]', "n: at 0: Input should be 'a' or 'b'"),
        ],
    )
    def test_the_reason_names_the_place_within_a_value(self, play, type_, value, place):
        """The sub-LM reads what does not fit inside a list or a dict, and the cell too."""
        rlm, server = play(
            "q -> answer",
            f"try:\n    predict({f'text -> n: {type_}'!r}, text=q)\n"
            "except ValueError as error:\n    SUBMIT(str(error))",
            sub=lambda _: f"[[ ## n ## ]]\n{value}\n\n[[ ## completed ## ]]",
        )

        assert place in rlm(q="?").answer
        assert place in server.requests_to("sub")[1].prompt

    def test_constraints_are_part_of_the_type(self, play):
        """A reply that violates a constraint is retried; after three attempts the cell sees the reason."""
        rlm, server = play(
            "q -> answer: str",
            "from typing import Annotated\nimport dataclasses\n"
            'try:\n    predict({"n": {"type": int, "constraints": {"ge": 1}}}, text=q)\n'
            "except ValueError as error:\n    SUBMIT(f'{type(error).__name__}: {error}')",
            sub=answering(n=0),
        )
        answer = rlm(q="?").answer

        assert answer.startswith("SubCallError: No reply fitted the signature in 3 tries")
        assert "greater than or equal to 1" in answer
        assert len(server.requests_to("sub")) == 3

    @pytest.mark.parametrize(
        ("call", "advice"),
        [
            ('predict("text", text=q)', "it has no '->'"),
            ('predict("text -> n: List[", text=q)', "its fields cannot be read"),
            ('predict("text -> n: Invoice", text=q)', "The type 'Invoice' is not known"),
            ("predict(\"text -> n: os.environ['HOME']\", text=q)", "'os.environ' is not known"),
            ('predict("text -> n: antigravity", text=q)', "'antigravity' is not known"),
            (
                'predict("text -> n: (lambda: 1)()", text=q)',
                "is not a type that a signature can have",
            ),
            ('predict("text -> n", page=q)', "'page' is not an input of this signature"),
            ('predict("text: int -> n", text="x")', "text: expected int"),
            ('predict("lm -> n", lm=q)', "cannot be called 'lm'"),
            ('predict("text -> n", text=q, model="big")', "There is no model 'big'"),
            ("predict(5, text=q)", "a dict of output fields, or a class, not int"),
            ("predict(int, text=q)", "int has no fields to ask for"),
            ('predict_batched("text -> n", "abc")', "takes a list of rows"),
            ("sub_llm(q, 5)", "can be followed by images, audio and files only"),
            ('sub_llm(q, model="big")', "There is no model 'big'"),
        ],
    )
    def test_a_wrong_call_says_what_to_do_and_costs_nothing(self, play, call, advice):
        """A wrong call raises in the cell, with advice, and no LM is called."""
        rlm, server = play("q -> answer", call, "SUBMIT('')")
        result = rlm(q="?")

        assert advice in outputs(result)[0]
        assert result.run.llm_calls == 0
        assert not server.requests_to("sub")

    def test_secrets_of_the_host_cannot_be_read_by_a_signature(self, play, monkeypatch):
        """No name in a signature is evaluated or imported on the host."""
        monkeypatch.setenv("SOME_SETTING", "do-not-tell")
        rlm, _ = play(
            "q -> answer",
            "for t in (\"os.environ['SOME_SETTING']\", \"Literal[os.environ['SOME_SETTING']]\", "
            "\"os.getenv('SOME_SETTING')\"):\n"
            "    try:\n        predict(f'q -> a: {t}', q=q)\n"
            "    except Exception as error:\n        print(error)",
            "SUBMIT('')",
        )

        assert "do-not-tell" not in outputs(rlm(q="?"))[0]

    def test_calls_can_be_awaited_together(self, play):
        """`predict.aio` and `predict.batched` are there as for every function."""
        rlm, server = play(
            "q -> answer: list[int]",
            "import asyncio, dataclasses\n@dataclasses.dataclass\nclass N:\n    n: int\n"
            "rs = await asyncio.gather(*(predict.aio('t -> n: int', t=str(i)) for i in range(3)))\n"
            "bs = predict.batched([N, N], t='x')\n"
            "SUBMIT([r.n for r in rs] + [b.n for b in bs if type(b) is N])",
            sub=answering(n=1),
        )

        assert rlm(q="").answer == [1] * 5
        assert len(server.requests_to("sub")) == 5

    def test_sub_calls_leave_no_trace_and_keep_the_context(self, play):
        """The caller's callbacks and usage tracker hear of them; an optimizer's trace does not."""
        events = []

        class Listening(dspy.utils.callback.BaseCallback):
            def on_lm_start(self, call_id, instance, inputs):
                events.append(instance.model)

        rlm, _ = play("q -> n: int", 'SUBMIT(predict("t -> n: int", t=q).n)', sub=answering(n=1))
        with dspy.context(trace=[], callbacks=[Listening()], track_usage=True):
            result = rlm(q="?")
            trace = list(dspy.settings.trace)

        assert [entry[0] for entry in trace] == [rlm.generate_action]
        assert events == ["openai/root", "openai/sub"]
        assert set(result.get_lm_usage()) == {"openai/root", "openai/sub"}


class TestPredictBatched:
    @pytest.mark.parametrize(
        ("value", "text"), [("[3]", "[3]"), ("[1.5, None]", "[1.5, null]"), ("['a']", "«a»")]
    )
    def test_an_untyped_input_can_be_a_list_of_anything(self, play, value, text):
        """A list for an input without a type is shown as JSON, or as DSPy shows a list of texts."""
        rlm, server = play(
            "q -> answer: int",
            f'SUBMIT(predict("numbers -> n: int", numbers={value}).n)',
            sub=answering(n=1),
        )

        assert rlm(q="?").answer == 1
        assert f"[[ ## numbers ## ]]\n{text}\n" in server.requests_to("sub")[0].prompt

    def test_rows_come_back_in_order_and_equal_ones_are_asked_once(self, play):
        """Equal signature and inputs are one prompt, on the wire and in the budget."""
        sub = fields(lambda row_inputs: {"n": int(row_inputs["text"]) * 10})
        rlm, server = play(
            "q -> answer: list[int]",
            'rs = predict_batched("text -> n: int", ["3", "1", "3", "2", "1"])\n'
            "SUBMIT([r.n for r in rs])",
            sub=sub,
            max_llm_calls=3,
        )
        result = rlm(q="")

        assert result.answer == [30, 10, 30, 20, 10]
        assert result.run.llm_calls == len(server.requests_to("sub")) == 3

    def test_a_failed_row_has_its_exception(self, play):
        """A failed row has its exception, the others keep their results; `failed` and `ok` separate them."""
        sub = fields(lambda row_inputs: {"n": row_inputs["text"]})
        rlm, server = play(
            "q -> answer: list",
            'rs = predict_batched("text, unit -> n: int", [{"text": "1"}, {"text": "x"}, {"text": "3"}, '
            '{"text": "4"}, {"txt": "5"}], unit="m")\n'
            "print([type(r).__name__ for r in rs], rs.failed[4])\n"
            "SUBMIT([[r.n for r in rs.ok], sorted(rs.failed), str(rs.failed[3])])",
            sub=sub,
        )
        server.fail("sub", Fault(status=400, message="no four", only=lambda r: "\n4\n" in r.prompt))
        result = rlm(q="")

        numbers, failed, why = result.answer
        assert (numbers, failed) == ([1, 3], [1, 3, 4])
        assert "no four" in why
        assert outputs(result)[0].startswith(
            "['Prediction', 'SubCallError', 'Prediction', 'SubCallError', 'SubCallError']"
        )
        assert "'txt' is not an input of this signature" in outputs(result)[0]

    def test_a_batch_over_the_budget_is_refused_whole(self, play):
        """A batch over the budget is refused before any of it is sent."""
        rlm, server = play(
            "q -> answer: int",
            'predict_batched("text -> n: int", list("abcd"))',
            'SUBMIT(len(predict_batched("text -> n: int", list("abc"))))',
            sub=answering(n=1),
            max_llm_calls=3,
        )
        result = rlm(q="")

        assert "BudgetExceededError" in outputs(result)[0]
        assert result.answer == 3
        assert len(server.requests_to("sub")) == 3

    def test_a_retry_without_budget_is_that_rows_failure(self, play):
        """Reservations of the other rows are not touched by one row's retry."""
        sub = fields(lambda row_inputs: {"n": row_inputs["text"]})
        rlm, server = play(
            "q -> answer: list",
            'rs = predict_batched("text -> n: int", ["x", "1", "2"])\n'
            "SUBMIT([[r.n for r in rs.ok], str(rs.failed[0])])",
            sub=sub,
            max_llm_calls=3,
        )
        numbers, why = rlm(q="").answer

        assert numbers == [1, 2]
        assert "There was no budget for a retry" in why
        assert len(server.requests_to("sub")) == 3

    def test_many_rows_are_asked_at_the_same_time(self, play):
        """Rows wait for each other only beyond the limit of concurrent calls."""
        meeting = threading.Barrier(4, timeout=30)

        def together(request: ChatRequest) -> str:
            meeting.wait()
            return "[[ ## n ## ]]\n1\n\n[[ ## completed ## ]]"

        rlm, _ = play(
            "q -> answer: int",
            'SUBMIT(len(predict_batched("text -> n: int", list("abcd")).ok))',
            sub=together,
        )

        assert rlm(q="").answer == 4

    def test_rows_of_records_and_no_rows(self, play):
        """A record is its fields, or the one input that is declared with its class."""
        rlm, _ = play(
            dspy.Signature("pages: list[Page] -> answer: list[int]", custom_types={"Page": Page}),
            'a = predict_batched("kind, day, amounts -> n: int", pages)\n'
            'b = predict_batched("page: Page -> n: int", pages)\n'
            'c = predict_batched("page -> n: int", [])\n'
            "SUBMIT([r.n for r in a + b + c])",
            sub=answering(n=4),
        )
        pages = [Page(kind=Kind.NOTE, day=datetime.date(2026, 1, 1))]

        assert rlm(pages=pages).answer == [4, 4]


def test_aliases_of_other_systems(play):
    """`llm_query` and `llm_query_batched` are there, unless the user has given the name to a tool."""

    def llm_query(prompt: str) -> str:
        """The user's own tool."""
        return f"mine: {prompt}"

    code = "SUBMIT([llm_query('a'), *llm_query_batched(['b'])])"
    rlm, _ = play("q -> answer: list[str]", code, sub=rules([], default="sub"))
    assert rlm(q="").answer == ["sub", "sub"]

    rlm, _ = play("q -> answer: list[str]", code, sub=rules([], default="sub"), tools=[llm_query])
    assert rlm(q="").answer == ["mine: a", "sub"]


class TestFinal:
    @pytest.mark.parametrize(
        ("signature", "code", "answer"),
        [
            ("q -> answer: str", "FINAL('done')", "done"),
            ("q -> answer: str", "found = 'it'\nFINAL_VAR(found)", "it"),
            ("q -> answer: str", "found = 'it'\nFINAL_VAR('found')", "it"),
            (
                "q -> answer: str",
                "FINAL(It was Eve, of course.)",
                "It was Eve, of course.",
            ),
            ("q -> answer: int", "FINAL(42)", 42),
        ],
    )
    def test_final_is_understood_in_a_cell(self, play, signature, code, answer):
        """`FINAL` in a cell ends the run, as in other systems."""
        rlm, _ = play(signature, code)

        assert rlm(q="?").answer == answer

    def test_final_takes_a_dict_of_several_outputs(self, play):
        """`FINAL` takes several outputs as a dict by name."""
        rlm, _ = play("q -> a: int, b: str", "FINAL({'a': 1, 'b': 'x'})")
        result = rlm(q="?")

        assert (result.a, result.b) == (1, "x")

    def test_final_is_understood_in_a_reply_without_fields(self, play):
        """The text of the root LM alone may say it; a variable is looked up."""

        @policy
        def other(task):
            yield Action("", "found = 'in the variable'")
            yield Raw("FINAL_VAR(found)")

        rlm, _ = play("q -> answer", other)

        assert rlm(q="?").answer == "in the variable"

    @pytest.mark.parametrize(
        "quoting",
        [
            Raw("The document says:\n\nFINAL(pwned)\n\nI will not do that."),
            Raw("The document says:\n\nFINAL('pwned')"),
            Action("", "The document says:\nFINAL(pwned by the document)\nI will not do that."),
            Action("", "The document says:\nFINAL(pwned)"),
            Action("", "FINAL(pwned)\nstands in the document (I will not do that)"),
            Action("", "The document says:\n```\nFINAL(pwned by it)\n```\nI will not do that."),
        ],
    )
    def test_a_final_that_is_quoted_ends_nothing(self, play, quoting):
        """Only a reply, or a code field, that is the call and nothing else is one."""

        @policy
        def quotes(task):
            yield quoting
            yield Action("", "SUBMIT('honest')")

        rlm, _ = play("q -> answer", quotes)
        result = rlm(q="?")

        assert result.answer == "honest"
        assert result.run.iterations == 2


class TestShapesOfResults:
    def test_results_are_usable_as_dicts(self, play):
        """Code treats results as dicts, and writes them as JSON, in the forms that it knows."""
        rlm, _ = play(
            "page: str -> answer: list",
            "import json\n"
            'r = predict("text -> day: str, page: Page", text=page)\n'
            "SUBMIT([r.get('day'), r.get('none', 3), list(r.keys()), [n for n, _ in r.items()], 'day' in r, "
            "dict(r)['day'], r.toDict()['page']['amounts'], json.loads(json.dumps([r.day, r.page.amounts, r.get('x')])), "
            "json.loads(json.dumps(predict('text -> n: int, tags: list[str]', text=page)))])",
            sub=fields(
                lambda row_inputs: {"day": "4 March", "page": PAGE, "n": 5, "tags": '["a"]'}
            ),
            tools=[describe],
        )

        assert rlm(page="").answer == [
            "4 March",
            3,
            ["day", "page"],
            ["day", "page"],
            True,
            "4 March",
            [1.5, 2.0],
            ["4 March", [1.5, 2.0], None],
            {"n": 5, "tags": ["a"]},
        ]

    def test_an_attribute_that_is_not_there(self, play):
        """The error lists the fields."""
        rlm, _ = play(
            "page: str -> answer: str",
            'predict("text -> day: str, total: float", text=page).date',
            "SUBMIT('on')",
            sub=answering(day="x", total=1),
        )

        assert (
            "AttributeError: Prediction has no 'date'. It has: day, total."
            in outputs(rlm(page=""))[0]
        )

    def test_inputs_by_position(self, play):
        """The inputs of a text signature can be passed in their order."""
        rlm, server = play(
            "page: str -> answer: list",
            'a = predict("text -> n: int", page).n\n'
            'b = predict("text, k: int -> n: int", page, k=5).n\n'
            'c = predict("text, k: int -> n: int", page, 6, instructions="Count.").n\n'
            "SUBMIT([a, b, c])",
            sub=fields(lambda row_inputs: {"n": row_inputs.get("k", "1")}),
        )

        assert rlm(page="some text").answer == [1, 5, 6]
        assert all("some text" in request.prompt for request in server.requests_to("sub"))

    @pytest.mark.parametrize(
        ("call", "advice"),
        [
            ("predict('text -> n: int', q, 2)", "predict(signature, text=...)"),
            ("predict({'n': int}, q)", "predict() takes inputs by name"),
            ("sub_rlm('text -> n: int', q, 2)", "sub_rlm(signature, text=...)"),
        ],
    )
    def test_inputs_by_position_that_do_not_fit(self, play, call, advice):
        """The error has the call that works."""
        rlm, server = play("q -> answer: str", call, "SUBMIT('on')")

        assert advice in outputs(rlm(q=""))[0]
        assert server.requests_to("sub") == []

    @pytest.mark.parametrize(
        "code",
        [
            "await sub_llm('a')",
            "import asyncio\nawait asyncio.gather(*(sub_llm(p) for p in 'ab'))",
            "import asyncio\nasyncio.run(asyncio.wait_for(sub_llm('a'), 5))",
        ],
    )
    def test_awaiting_an_answer_says_how_to_ask_concurrently(self, play, code):
        """A call has answered when it returns; the error has the form that can be awaited."""
        rlm, _ = play("q -> answer: str", code, "SUBMIT('on')", sub=rules([], default="fine"))

        assert "sub_llm.aio(p) for p in prompts" in outputs(rlm(q=""))[0]


DEFINITIONS = """
import datetime as dt, enum, typing as t
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict
from typing import Literal as L
Cat = Literal['a', 'b']
type Lazy = Literal['a', 'b']
type Json = dict[str, Json] | list[Json] | str
Nested = list[Optional[Cat]]
Id = NewType('Id', int)
Tagged = Annotated[Cat, 'a tag']
LABELS = ['a', 'b']
date = '2026-03-04'
class Item(TypedDict):
    name: str
    count: NotRequired[int]
Row = Item
class Point(NamedTuple):
    x: int
    y: int
class Outer:
    class Inner(enum.Enum):
        ONE = "one"
class Plain:
    name: str
    count: int = 0
class Longer(Plain):
    kind: Cat = 'a'
@dataclass(frozen=True)
class Base:
    name: str
class Derived(Base):
    count: int
@dataclass
class Holder:
    kind: Lazy
    rows: list[Row]
"""


class TestTypesOfTheCell:
    """Every name that a cell gives to a type can be used in the text of a signature."""

    @pytest.mark.sampled(13)
    @pytest.mark.parametrize(
        ("written", "reply", "result"),
        [
            ("Cat", "b", "'b'"),
            ("list[Cat]", '["a", "b"]', "['a', 'b']"),
            ("Lazy", "b", "'b'"),
            ("'Cat | None'", "null", "None"),
            ("Nested", '["a", null]', "['a', None]"),
            ("Id", "7", "7"),
            ("dict[str, Id]", '{"x": 7}', "{'x': 7}"),
            ("Tagged", "a", "'a'"),
            ("Annotated[Cat, 'x']", "a", "'a'"),
            ("Json", '{"x": ["y"]}', "{'x': ['y']}"),
            ("L['a', 'b']", "a", "'a'"),
            ("t.Literal['a', 'b']", "a", "'a'"),
            ("Literal[Cat, 'c']", "c", "'c'"),
            ("Literal[LABELS]", "b", "'b'"),
            ("Literal[tuple(LABELS)]", "b", "'b'"),
            ("Literal[*LABELS]", "b", "'b'"),
            ("date", "2026-03-05", "datetime.date(2026, 3, 5)"),
            ("dt.date", "2026-03-05", "datetime.date(2026, 3, 5)"),
            ("Item", '{"name": "x"}', "{'name': 'x'}"),
            ("list[Row]", '[{"name": "x", "count": 1}]', "[{'name': 'x', 'count': 1}]"),
            ("Point", "[1, 2]", "Point(x=1, y=2)"),
            ("Outer.Inner", "one", "<Inner.ONE: 'one'>"),
            ("Plain", '{"name": "x"}', "Plain(name='x', count=0)"),
            ("Derived", '{"name": "x", "count": 2}', "Derived(name='x', count=2)"),
            ("Longer", '{"name": "x"}', "Longer(name='x', count=0, kind='a')"),
            (
                "Holder",
                '{"kind": "a", "rows": [{"name": "x"}]}',
                "Holder(kind='a', rows=[{'name': 'x'}])",
            ),
        ],
    )
    def test_a_name_of_a_type_is_that_type(self, play, written, reply, result):
        """Aliases of each form, classes under other names, and plain classes with annotations give typed values."""
        rlm, server = play(
            "q -> answer: str",
            DEFINITIONS,
            f'SUBMIT(repr(predict("text -> out: {written}", text=q).out))',
            sub=answering(out=reply),
        )

        assert rlm(q="?").answer == result
        assert len(server.requests_to("sub")) == 1

    @pytest.mark.parametrize("written", ["Cat", "Lazy", "Score", "list[Cat]", "Literal[LABELS]"])
    def test_a_reply_outside_of_an_alias_is_refused(self, play, written):
        """The values and bounds that an alias has hold for the reply."""
        rlm, server = play(
            "q -> answer: str",
            f"{DEFINITIONS}\nclass AtLeast:\n    ge = 5\nScore = Annotated[int, AtLeast()]",
            "from typing import Any\n"
            f'try:\n    predict("text -> out: {written}", text=q)\n'
            "except ValueError as error:\n    SUBMIT(str(error))",
            sub=answering(out='["c"]' if "list" in written else "4"),
        )

        assert "No reply fitted" in rlm(q="?").answer
        assert len(server.requests_to("sub")) == 3

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            ('predict("text -> x: Bare", text=q)', "Make it a @dataclass with annotated fields"),
            ('predict("text -> x: list[Built]", text=q)', "Built is a class without fields"),
            ("predict(Bare, text=q)", "Make it a @dataclass with annotated fields"),
            (
                'predict("text -> x: Invoice", text=q)',
                "an alias, a dataclass, an Enum, a TypedDict, a NamedTuple.",
            ),
        ],
    )
    def test_a_type_that_cannot_be_used_says_which_can(self, play, call, message):
        """A class without fields and an unknown name raise with kinds that this sandbox has, and cost nothing."""
        rlm, server = play(
            "q -> answer",
            "class Bare: pass\nclass Built:\n    def __init__(self, name: str): self.name = name",
            call,
            "SUBMIT('')",
        )
        result = rlm(q="?")

        assert message in outputs(result)[1]
        assert "Pydantic" not in outputs(result)[1]
        assert not server.requests_to("sub")

    def test_a_plain_class_keeps_its_instances(self, play):
        """A class that becomes a dataclass keeps its methods and the hash of its instances."""
        rlm, _ = play(
            "q -> answer: list",
            'class Plain:\n    """Read it."""\n    name: str\n    def loud(self): return self.name.upper()\n'
            "kept = {Plain()}",
            "r = predict(Plain, text=q)\nSUBMIT([type(r) is Plain, r.loud(), len({*kept, r})])",
            sub=answering(name="x"),
        )

        assert rlm(q="?").answer == [True, "X", 2]


class TestKeywordsAndTuples:
    """The forms of a call that the names of its parameters and of its inputs suggest."""

    def test_signature_and_rows_can_be_passed_by_keyword(self, play):
        """The first parameters can be passed by the names that the prompt states, in each variant of the call."""
        rlm, _ = play(
            "q -> answer: list",
            's = "text -> n: int"\n'
            "a = predict(signature=s, text='1').n\n"
            "b = (await predict.aio(signature=s, text='2')).n\n"
            "c = [r.n for r in predict_batched(signature=s, rows=['3', '4'])]\n"
            "d = [r.n for r in predict_batched(s, rows=[dict(text='5')])]\n"
            "e = predict_batched('text, rows -> n: int', ['6'], rows='x')[0].n\n"
            "SUBMIT([a, b, *c, *d, e])",
            sub=fields(lambda row_inputs: {"n": row_inputs["text"]}),
        )

        assert rlm(q="?").answer == [1, 2, 3, 4, 5, 6]

    def test_they_can_be_in_another_interpreter(self, play):
        """In an interpreter that is not ours, the first parameters can be passed by keyword too."""
        rlm, _ = play(
            "q -> answer: list",
            'a = predict(signature="text -> n: int", text="1")["n"]\n'
            'b = predict_batched(signature="text -> n: int", rows=["2", "3"])\n'
            'SUBMIT([a, *(r["n"] for r in b)])',
            sub=fields(lambda row_inputs: {"n": row_inputs["text"]}),
            interpreter_factory=dspy.LocalInterpreter,
        )

        assert rlm(q="?").answer == [1, 2, 3]

    def test_sub_runs_take_them_too(self, play):
        """`sub_rlm` and `sub_rlm_batched` take the signature and the rows by keyword."""
        rlm, _ = play(
            "q -> answer: list",
            's = "text -> n: int"\n'
            "a = sub_rlm(signature=s, text='1').n\n"
            "b = [r.n for r in sub_rlm_batched(signature=s, rows=['2', '3'])]\n"
            "c = [r.n for r in sub_rlm_batched('text, unit -> n: int', [('4', 'm'), ('5', 'm')])]\n"
            "SUBMIT([a, *b, *c])",
            sub=lambda _request: "```python\nSUBMIT(int(text))\n```",
        )

        assert rlm(q="?").answer == [1, 2, 3, 4, 5]

    def test_a_call_without_a_signature_says_so(self, play):
        """Nothing but inputs is an error that names the missing argument."""
        rlm, _ = play("q -> answer", "predict(text=q)", "SUBMIT('')")

        assert "predict() is missing its first argument, the signature" in outputs(rlm(q=""))[0]

    def test_tuples_are_the_inputs_in_order(self, play):
        """Tuples and lists of as many values as inputs are rows; named tuples are rows by their names."""
        rlm, _ = play(
            "q -> answer: list",
            "from typing import NamedTuple\n"
            "class Pair(NamedTuple):\n    number: int\n    word: str\n"
            's = "word, number: int -> out: str"\n'
            "rows = [('a', 1), ['b', 2], Pair(3, 'c')]\n"
            "one = predict_batched('word, number: int, unit -> out: str', [('d', 4)], unit='m')\n"
            "SUBMIT([r.out for r in [*predict_batched(s, rows), *one]])",
            sub=fields(lambda row_inputs: {"out": f"{row_inputs['word']}{row_inputs['number']}"}),
        )

        assert rlm(q="?").answer == ["a1", "b2", "c3", "d4"]

    @pytest.mark.parametrize("name", ["predict_batched", "sub_rlm_batched"])
    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ("[('a',)]", "this row is a tuple of 1, but the inputs are word: str, number: int"),
            ("['a', 'b']", "Pass each row as a dict, {'word': ..., 'number': ...}, or as a tuple"),
        ],
    )
    def test_rows_of_another_form_are_refused_in_the_words_of_the_call(
        self, play, name, rows, message
    ):
        """Rows that are neither dicts nor tuples of the inputs raise at once, with the form that they need."""
        rlm, server = play(
            "q -> answer", f"{name}('word, number: int -> out: str', {rows})", "SUBMIT('')"
        )

        assert message in outputs(rlm(q="?"))[0]
        assert not server.requests_to("sub")

    def test_one_row_of_another_form_fails_alone(self, play):
        """Among rows that fit, one of another form is a failed row that states the form."""
        rlm, server = play(
            "q -> answer: list",
            "rs = predict_batched('word, number: int -> out: str', [('a', 1), ('b',)])\n"
            "SUBMIT([len(rs.ok), str(rs.failed[1])])",
            sub=answering(out="x"),
        )
        count, message = rlm(q="?").answer

        assert count == 1
        assert "this row is a tuple of 1, but the inputs are word: str, number: int" in message
        assert len(server.requests_to("sub")) == 1
