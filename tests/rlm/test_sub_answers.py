"""The answers of sub-LMs as code sees them: cut, empty, only reasoning; prompts that cannot be sent; typed replies."""

from __future__ import annotations

import json

import dspy
import pytest

from dspy_rlm import RLM
from dspy_rlm.budget.budget import Budget
from dspy_rlm.lms.model_facts import facts_of
from dspy_rlm.lms.schemas import Schemas
from dspy_rlm.lms.valid_text import with_valid_text
from dspy_rlm.testing import Action, Fault, PolicyServer, fields, rules, scripted
from dspy_rlm.testing.chat import Counted

SHOW = (
    "try:\n    SUBMIT(sub_llm('x'))\nexcept Exception as e:\n    SUBMIT(f'{type(e).__name__}: {e}')"
)


def answers(play, body):
    """The result or exception of `sub_llm` for a reply with this message and finish reason."""
    rlm, server = play("q -> a: str", SHOW, sub=lambda _: "x")
    server.fail("sub", Fault(status=200, body=json.dumps(body)))
    return rlm(q="").a


def reply(message, reason="stop"):
    """A chat completion with this message."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    usage = {"prompt_tokens": 1, "completion_tokens": 9, "total_tokens": 10}
    return {
        "id": "1", "object": "chat.completion", "created": 0, "model": "sub", "choices": [choice], "usage": usage
    }  # fmt: skip


class TestAnswers:
    """Each kind of answer is told apart, so that code never takes one for another."""

    @pytest.mark.parametrize(
        ("message", "reason", "expected"),
        [
            ({"content": "42"}, "stop", "42"),
            ({"content": "42", "reasoning_content": "hm"}, "stop", "42"),
            (
                {"content": "one, two, thr"},
                "length",
                "one, two, thr\n[Note] The answer was cut off here: the sub-LM has reached its max_tokens.",
            ),
            (
                {"content": "", "reasoning_content": "It is 42."},
                "stop",
                "[Note] The sub-LM left its answer empty. This is its reasoning:\nIt is 42.",
            ),
            (
                {"content": None, "reasoning_content": "Let me think"},
                "length",
                "SubCallError: the sub-LM gave no answer: it used all of its tokens (max_tokens) to reason. Ask for "
                "less in one prompt",
            ),
            (
                {"content": ""},
                "length",
                "SubCallError: the sub-LM gave no answer: it used all of its tokens (max_tokens) to reason. Ask for "
                "less in one prompt",
            ),
            ({"content": ""}, "stop", "SubCallError: the sub-LM gave an empty answer"),
            ({"content": " \n"}, "stop", "SubCallError: the sub-LM gave an empty answer"),
            (
                {
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "1",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                        }
                    ],
                },
                "tool_calls",
                "SubCallError: the sub-LM answered with a tool call in place of a text",
            ),
        ],
    )
    def test_kinds(self, play, message, reason, expected):
        """A cut answer has a line at its end; reasoning without an answer is marked; no text is an error."""
        assert answers(play, reply(message, reason)) == expected

    @pytest.mark.parametrize(
        ("message", "reason", "expected"),
        [
            (
                {"content": ""},
                "content_filter",
                "SubCallError: the content filter of the sub-LM's provider withheld the answer (content_filter). Ask in "
                "other words, or leave out the text that it is about",
            ),
            (
                {"content": "The first half"},
                "SAFETY",
                "SubCallError: the content filter of the sub-LM's provider withheld the answer (SAFETY). Ask in other "
                "words, or leave out the text that it is about",
            ),
            (
                {"content": None, "refusal": "I cannot help with that."},
                "stop",
                "SubCallError: the sub-LM refused to answer: I cannot help with that.",
            ),
            ({"content": "I cannot"}, "refusal", "SubCallError: the sub-LM refused to answer"),
        ],
    )
    def test_no_answers(self, play, message, reason, expected):
        """A reply that was withheld or refused is an error, also where a part of a text came with it."""
        assert answers(play, reply(message, reason)) == expected

    def test_an_answer_is_a_text_that_knows_how_it_ended(self, play):
        """`cut`, `finish_reason`, `text`, `ok` and `error` of an answer, which is a `str` in every other respect."""

        def sub(request):
            if request.prompt == "bad":
                raise ValueError("no")
            return Counted("lon", 1, 9, "length") if request.prompt == "long" else "short"

        code = (
            "import copy, json, pickle\n"
            "whole, cut, bad = answers = sub_llm_batched(['x', 'long', 'bad'])\n"
            "alone = llm_query('long')\n"
            "assert alone == cut and alone.cut and sub_llm.batched(['long'])[0].cut\n"
            "assert whole == 'short' == whole.text and isinstance(whole, str) and {whole: 1}['short']\n"
            "assert json.loads(json.dumps(answers)) == answers and repr(whole) == repr('short')\n"
            "assert type(whole[:2]) is str and pickle.loads(pickle.dumps(cut)) == cut and copy.deepcopy(cut).cut\n"
            "later = [(a.ok, a.cut, a.finish_reason, a.text, bool(a.error)) for a in answers]"
        )
        rlm, _ = play(
            "q -> a: list, b: str, c: bool",
            code,
            "assert cut.cut and type(cut).__name__ == 'Answer'\nprint(sub_llm.__doc__)",
            "SUBMIT(later, whole, predict('t -> r: bool', t=cut).r)",
            sub=lambda request: (
                sub(request)
                if request.prompt in ("x", "long", "bad")
                else fields(lambda _: {"r": True})(request)
            ),
        )
        result = rlm(q="")

        assert result.a == [
            (True, False, "stop", "short", False),
            (False, True, "length", "lon", False),
            (False, False, "", "", True),
        ]
        assert (result.b, type(result.b), result.c) == ("short", str, True)
        output = result.run.steps[0].output
        assert "sub_llm_batched: 1 of 3 answers were cut off at max_tokens" in output
        assert "sub_llm: the answer was cut off at max_tokens" in output

    @pytest.mark.parametrize(
        ("message", "reason", "words"),
        [
            ({"content": ""}, "content_filter", "withheld the answer"),
            ({"content": None, "refusal": "No."}, "stop", "refused to answer: No."),
        ],
    )
    def test_a_typed_call_that_was_refused_is_not_repeated(self, play, message, reason, words):
        """A refusal is told apart from a reply that does not fit: it is one request, and its reason is the row's."""
        code = "r = predict_batched('t -> n: int', ['x'])\nSUBMIT(str(r[0]))"
        rlm, server = play("q -> a: str", code, sub=lambda _: "x")
        server.fail("sub", Fault(status=200, body=json.dumps(reply(message, reason)), times=None))

        assert words in rlm(q="").a
        assert len(server.requests_to("sub")) == 1

    def test_an_answer_to_an_image_is_told_apart_too(self, play):
        """Prompts with media pass through an adapter of DSPy's, which has no place for a reasoning alone."""
        image = dspy.Image("data:image/png;base64,iVBORw0KGgo=")
        code = SHOW.replace("'x'", "'x', q")
        rlm, server = play("q: dspy.Image -> a: str", code, sub=lambda _: "x")
        body = reply({"content": None, "reasoning_content": "A cat."})
        server.fail("sub", Fault(status=200, body=json.dumps(body)))

        assert rlm(q=image).a.endswith("This is its reasoning:\nA cat.")

    def test_cut_answers_of_a_batch_are_marked_one_by_one(self, play):
        """The calls of a batch run at once; only the answer that was cut has the line."""

        def sub(request):
            return Counted("long", 1, 9, "length") if "2" in request.prompt else "short"

        rlm, _ = play("q -> a: list", "SUBMIT(sub_llm_batched(list('123456')))", sub=sub)
        cut = ["cut off" in answer for answer in rlm(q="").a]

        assert cut == [False, True, False, False, False, False]


class TestBatches:
    def test_one_bad_prompt_does_not_lose_the_others(self, play):
        """An invalid prompt is an [ERROR] item of one line; the other prompts are answered."""
        code = "SUBMIT(sub_llm_batched(['a', None, '', 5, b'x', ('b', 'c'), 'd']))"
        rlm, server = play("q -> a: list", code, sub=rules([], default="ok"))
        result = rlm(q="").a

        assert [item == "ok" for item in result] == [True, False, False, False, False, False, True]
        assert result[1] == "[ERROR] TypeError: prompts[1] must be a string, not NoneType"
        assert result[2] == "[ERROR] ValueError: prompts[2] is empty"
        assert all(item.startswith("[ERROR] ") and "\n" not in item for item in result[1:6])
        assert len(server.requests_to("sub")) == 2

    def test_a_batch_without_any_prompt_is_a_mistake(self, play):
        """If nothing can be sent, the batch raises, as it does for a text in place of a list."""
        rlm, _ = play("q -> a", "sub_llm_batched([1, 2])", "SUBMIT('')")

        assert "TypeError: prompts[0] must be a string, not int" in rlm(q="").run.steps[0].output

    @pytest.mark.parametrize(
        "call", ["sub_llm_batched(texts)", "[r.a for r in predict_batched('t -> a', texts)]"]
    )
    def test_lone_surrogates_are_sent_as_valid_text(self, play, call):
        """Half of a character is escaped, two halves are joined; no prompt of the batch is lost."""
        code = f"texts = ['a\\ud83d', '\\ud83d\\ude00', 'c']\nSUBMIT({call})"
        sub = fields(lambda _: {"a": "ok"}) if "predict" in call else rules([], default="ok")
        rlm, server = play("q -> a: list", code, sub=sub)

        assert rlm(q="").a == ["ok"] * 3
        sent = "".join(e.prompt for e in server.requests_to("sub"))
        assert "a\\ud83d" in sent
        assert "\U0001f600" in sent

    def test_errors_of_servers_are_one_line(self, play):
        """An [ERROR] item has no paragraph of advice for programmers."""
        rlm, server = play(
            "q -> a: list", "SUBMIT(sub_llm_batched(['a', 'b']))", sub=rules([], default="ok")
        )
        only_b = Fault(
            status=400, message="bad\n\nrequest", times=None, only=lambda r: r.prompt == "b"
        )
        server.fail("sub", only_b)

        assert rlm(q="").a == ["ok", "[ERROR] LMInvalidRequestError: [openai/sub] bad"]

    def test_a_row_whose_value_is_wrong_keeps_the_others(self, play):
        """Any ValueError of a row stays in its row."""
        code = (
            "rows = predict_batched('n: int -> a', [{'n': 1}, {'n': 'x'}, {'n': 2}])\n"
            "SUBMIT([type(row).__name__ for row in rows])"
        )
        rlm, _ = play("q -> a: list", code, sub=fields(lambda _: {"a": "ok"}))

        assert rlm(q="").a == ["Prediction", "SubCallError", "Prediction"]


class TestValidText:
    def test_what_is_valid_is_the_same_object(self):
        """Nothing is copied without need."""
        messages = [{"role": "user", "content": [{"type": "text", "text": "ä\U0001f600"}]}]

        assert with_valid_text(messages) is messages

    def test_every_text_of_a_request_is_made_valid(self):
        """Keys and values of any depth are changed, and nothing else."""
        value = {"a\ud800": [{"b": ("x\udfff", 1, None)}]}

        assert with_valid_text(value) == {"a\\ud800": [{"b": ("x\\udfff", 1, None)}]}
        assert with_valid_text("\ud83d\ude00") == "\U0001f600"


class TestWindows:
    def test_a_prompt_that_no_window_holds_is_not_sent(self, play):
        """A prompt beyond the window is refused with its size before anything is sent or charged."""
        with (
            PolicyServer(
                {
                    "root": scripted(
                        Action(
                            "",
                            "try: sub_llm(q)\nexcept Exception as e: SUBMIT([str(e), BUDGET()['llm_calls']])",
                        )
                    ),
                    "gpt-4o-mini": lambda _: "x",
                }
            ) as server,
            dspy.context(lm=server.lm("root")),
        ):
            rlm = RLM("q -> a: list", sub_lm=server.lm("gpt-4o-mini"), max_llm_calls=9)
            message, left = rlm(q="word " * 600_000).a
            requests = server.requests_to("gpt-4o-mini")

        assert "the prompt has 3,000,000 characters, and this model reads about 512,000" in message
        assert (left, requests) == (9, [])

    def test_the_contract_says_what_a_prompt_may_have_and_costs(self):
        """The facts of the table are in the contract, for one sub-LM or several; nothing is said of others."""
        mini, own = dspy.LM("openai/gpt-4o-mini"), dspy.LM("openai/unheard-of")
        with dspy.context(lm=own):
            one = RLM("q -> a", sub_lm=mini).action_signature().instructions
            many = (
                RLM("q -> a", sub_lm={"mini": (mini, "cheap"), "own": own})
                .action_signature()
                .instructions
            )
            none = RLM("q -> a").action_signature().instructions

        assert "A prompt holds about 512,000 characters (100,000 is best; $0.037 a million)." in one
        assert "    - 'mini': cheap; a prompt holds about 512,000 characters" in many
        assert "    - 'own'\n" in many
        assert "prompt holds" not in none

    def test_prices_of_the_user_count(self):
        """`prices=` states the cost of a model that DSPy does not know."""
        budget = Budget(prices={"openai/mine": (4.0, 8.0)})

        assert (
            facts_of(dspy.LM("openai/mine"), budget).text() == "a million characters cost about $1"
        )


class CanSchema(dspy.LM):
    """An LM whose server takes JSON schemas, as its owner says."""

    supports_response_schema = True
    supported_params = frozenset({"response_format"})


def schema_lm(server):
    """Returns such an LM of the server's sub-LM."""
    return CanSchema(
        "openai/sub", api_base=server.base_url, api_key="none", cache=False, num_retries=0
    )


class TestSchemas:
    CODE = "SUBMIT(predict('text -> label: bool, n: int', text=q).n)"

    def play(self, sub, kept, **faults):
        """Runs the code with the sub-LM, without an adapter of the program."""
        with PolicyServer({"root": scripted(Action("", self.CODE)), "sub": sub}) as server:
            if faults:
                server.fail("sub", Fault(**faults))
            with dspy.context(lm=server.lm("root")):
                result = RLM("q -> a: int", sub_lm=schema_lm(server), pool=kept)(q="?")
            return result, server.requests_to("sub")

    def test_the_server_constrains_typed_replies(self, kept):
        """An LM whose server can is asked for a reply in a JSON schema of the outputs."""
        result, (request,) = self.play(lambda _: '{"label": true, "n": 7}', kept)

        assert result.a == 7
        sent = request.request.response_format
        assert sent["type"] == "json_schema"
        assert set(sent["json_schema"]["schema"]["properties"]) == {"label", "n"}

    def test_a_server_that_refuses_the_schema_is_asked_without(self, kept):
        """A refusal of the schema costs one request, not the call."""

        def sub(request):
            return "[[ ## label ## ]]\nTrue\n\n[[ ## n ## ]]\n7\n\n[[ ## completed ## ]]"

        result, requests = self.play(
            sub, kept, status=400, message="response_format is not supported"
        )

        assert result.a == 7
        assert [request.request.response_format is None for request in requests] == [False, True]

    def test_text_is_not_asked_for_in_json(self):
        """A signature with texts alone keeps DSPy's format, in which long texts are written better."""
        lm = CanSchema("openai/sub", api_key="none")

        assert Schemas().fit(lm, dspy.Signature("q -> a: int"))
        assert not Schemas().fit(lm, dspy.Signature("q -> a, b"))
        assert not Schemas().fit(dspy.LM("openai/unheard-of"), dspy.Signature("q -> a: int"))

    def test_an_adapter_of_the_program_is_respected(self):
        """If the program has chosen the format, it stays."""
        lm = CanSchema("openai/sub", api_key="none")

        assert not Schemas(allowed=False).fit(lm, dspy.Signature("q -> a: int"))


class TestRetries:
    def test_a_bad_reply_stands_between_the_reason_and_the_request(self, play):
        """A weak model continues with what it read last, so that is the request for a new reply."""
        rlm, server = play(
            "q -> a: int",
            "SUBMIT(predict('text -> n: int', text=q).n)",
            sub=lambda r: (
                "seven, of course" if "problem_with" not in r.prompt else "[[ ## n ## ]]\n7"
            ),
        )

        assert rlm(q="?").a == 7
        again = server.requests_to("sub")[1].prompt
        problem = again.partition("problem_with_last_reply ## ]]\n")[2].partition("\n\n")[0]
        assert problem == (
            "your reply could not be read: fields are missing. It was:\n> seven, of course\nDo not repeat it. Write a "
            "new reply with every field in the requested format, beginning with n."
        )

    def test_a_cut_reply_is_told_apart(self, play):
        """A typed reply that ended at its limit is asked for again, shorter."""
        cut = Counted('[[ ## words ## ]]\n["a", "b', 1, 9, "length")
        rlm, server = play(
            "q -> a: list",
            "SUBMIT(predict('text -> words: list[str]', text=q).words)",
            sub=lambda r: cut if "problem_with" not in r.prompt else '[[ ## words ## ]]\n["a"]',
        )

        assert rlm(q="?").a == ["a"]
        assert (
            "your reply was cut off at its limit of tokens." in server.requests_to("sub")[1].prompt
        )

    @pytest.mark.parametrize(
        "text",
        [
            "[[ ## n ## ]]\n7\n\n[[ ## completed ## ]]\nAnd now a",
            '{"n": 7}\nAnd now a',
            '```json\n{"n": 7}\n``',
        ],
    )
    def test_a_reply_that_was_cut_after_its_end_is_whole(self, play, text):
        """A weak model writes on after its answer until its tokens are used up; that costs no second request."""
        rlm, server = play(
            "q -> a: int",
            "SUBMIT(predict('text -> n: int', text=q).n)",
            sub=lambda _: Counted(text, 1, 9, "length"),
        )
        with dspy.context(adapter=None if "completed" in text else dspy.JSONAdapter()):
            rlm.set_lm(server.lm("root"))
            assert rlm(q="?").a == 7

        assert len(server.requests_to("sub")) == 1


class TestStatus:
    """The result of `sub_rlm` says how the sub-run ended."""

    def test_an_extracted_guess_says_so(self, play):
        """A sub-run whose turns ran out is told apart from one that has submitted."""
        code = (
            "good = sub_rlm('n: int -> b: int', n=1)\n"
            "SUBMIT([good.status, good.b, sub_rlm('n: int -> b: int', n=2, max_iterations=1).status])"
        )
        submitted = scripted(Action("", "SUBMIT(5)"), Action("", "print(1)"))

        def sub(request):
            if "## code ##" in request.messages[0].text:
                return submitted(request) if "never" not in request.prompt else ""
            return "[[ ## b ## ]]\n6\n\n[[ ## completed ## ]]"

        rlm, _ = play("q -> a: list", code, sub=_by_turn(sub))

        assert rlm(q="").a == ["submitted", 5, "extracted"]

    def test_an_output_of_that_name_takes_precedence(self, play):
        """`status` as an output of the task is the task's."""
        rlm, _ = play(
            "q -> a: str",
            "SUBMIT(sub_rlm('q -> status', q=q).status)",
            sub=scripted(Action("", "SUBMIT('shipped')")),
        )

        assert rlm(q="").a == "shipped"

    def test_a_class_of_the_cell_keeps_its_fields(self, play):
        """An instance of the cell's own class has the status beside its fields."""
        code = (
            "import dataclasses\n@dataclasses.dataclass\nclass Row:\n    n: int\n"
            "row = sub_rlm(Row, q=q)\nSUBMIT([repr(row), row.status])"
        )
        rlm, _ = play("q -> a: list", code, sub=scripted(Action("", "SUBMIT(3)")))

        assert rlm(q="").a == ["Row(n=3)", "submitted"]


def _by_turn(player):
    """Returns a player that answers the second sub-run's only turn without SUBMIT."""

    def play(request):
        if "Turn 1 of 1;" in request.prompt:
            return "[[ ## reasoning ## ]]\nx\n\n[[ ## code ## ]]\n```python\nprint(1)\n```\n\n[[ ## completed ## ]]"
        return player(request)

    return play
