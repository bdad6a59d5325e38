"""Predictions of an RLM are plain data for everything in DSPy that takes predictions, as `dspy.Predict`'s are."""

from __future__ import annotations

import asyncio
import copy
import csv
import json
import pickle

import dspy
import orjson
import pytest
from dspy.streaming import StatusMessage, streaming_response
from dspy.utils.callback import BaseCallback

from dspy_rlm import SignatureError
from dspy_rlm.reports.report import RunReport
from dspy_rlm.testing import Action, asks_for, fields, route, rules, scripted


@pytest.fixture
def rlm(play):
    """Returns an RLM that answers with its input."""
    rlm, server = play("q -> a", "SUBMIT(q)")
    rlm.set_lm(server.lm("root"))
    return rlm


@pytest.fixture
def scored(play):
    """Returns an RLM whose output is called `score`."""
    return play("q -> score: float", "SUBMIT(q)")[0]


@pytest.fixture
def plain(play):
    """Returns a `dspy.Predict` of the same signature, whose LM answers with the input."""
    _, server = play("q -> a", "", sub=fields(lambda inputs: {"a": inputs["q"]}))
    predict = dspy.Predict("q -> a")
    predict.set_lm(server.lm("sub"))
    return predict


class TestFields:
    def test_they_are_those_of_dspys_rlm(self, rlm):
        """The outputs, the trajectory and the final reasoning are fields; the report is an attribute."""
        prediction = rlm(q="1")

        assert prediction.keys() == ["trajectory", "final_reasoning", "a"]
        assert prediction.items() == list(dict(prediction).items())
        assert "run" not in prediction
        assert prediction.get("run") is None
        assert prediction.run.status == "submitted"

    def test_they_are_json(self, rlm, plain):
        """A service answers with `json.dumps(prediction.toDict())`, by either encoder."""
        for program in (rlm, plain):
            dumped = program(q="1").toDict()

            assert json.loads(json.dumps(dumped)) == json.loads(orjson.dumps(dumped)) == dumped
            assert dumped["a"] == "1"

    def test_they_make_an_example(self, rlm, plain):
        """Data for a later program comes from predictions."""
        for program in (rlm, plain):
            prediction = program(q="1")

            for example in (dspy.Example(**prediction), dspy.Example(prediction)):
                assert example.with_inputs("a").inputs().toDict() == {"a": "1"}

    def test_equal_fields_make_equal_predictions(self, rlm, plain):
        """Two runs with the same steps are equal, though they took different times."""
        for program in (rlm, plain):
            one, same, other = program(q="1"), program(q="1"), program(q="2")

            assert one == same != other
            assert len({one, same, other}) == 2

    def test_one_with_another_s_fields_has_no_report(self, rlm):
        """A prediction that a program builds from a run's fields did not run itself."""
        assert not hasattr(dspy.Prediction(**rlm(q="1")), "run")
        assert not hasattr(type(rlm(q="1"))(a="1"), "run")


class TestCopies:
    @pytest.mark.parametrize(
        "copied",
        [
            copy.copy,
            copy.deepcopy,
            lambda prediction: prediction.copy(),
            lambda prediction: pickle.loads(pickle.dumps(prediction)),
        ],
    )
    def test_they_keep_fields_and_report(self, rlm, copied):
        """A prediction that goes to another process or a cache is whole there."""
        prediction = rlm(q="1")
        other = copied(prediction)

        assert other == prediction
        assert other.run == prediction.run
        assert type(other) is type(prediction)

    def test_a_changed_copy_leaves_the_original(self, rlm, plain):
        """`copy(a=...)` and `without(...)` work as on any prediction."""
        for program in (rlm, plain):
            prediction = program(q="1")

            assert prediction.copy(a="2").a == "2"
            assert "a" not in prediction.without("a")
            assert prediction.a == "1"


class TestNumbers:
    def test_a_score_adds_and_compares(self, scored):
        """A judge whose output is `score` is a metric; `dspy.Evaluate` adds its predictions up."""
        one, two = scored(q="1"), scored(q="2")

        assert (float(one), one + two, 1 + one, sum([one, two]), two / 2) == (1, 3, 2, 3, 1)
        assert one < two <= 2
        assert max(one, two) is two

    def test_a_prediction_without_a_score_is_no_number(self, rlm, plain):
        """As with `dspy.Predict`."""
        for program in (rlm, plain):
            with pytest.raises(ValueError, match="score"):
                float(program(q="1"))


class TestPrograms:
    def test_majority_counts_the_output(self, rlm, plain):
        """The last output is compared, wherever the winner is in the list."""
        for program in (rlm, plain):
            votes = [program(q=text) for text in ("2", "1", "1")]

            assert dspy.majority(votes).a == "1"
            assert dspy.majority(votes[0]).a == "2"
            assert dspy.majority(votes, field="a").a == "1"

    def test_an_ensemble_takes_the_majority(self, rlm, plain):
        """`dspy.Ensemble` passes its programs' predictions to `dspy.majority`."""
        for program in (rlm, plain):
            ensemble = dspy.Ensemble(reduce_fn=dspy.majority).compile([program, program])

            assert ensemble(q="1").a == "1"

    def test_best_of_n_returns_a_prediction_with_its_report(self, rlm, plain):
        """The reward function sees a usual prediction."""
        for program in (rlm, plain):
            best = dspy.BestOfN(program, N=2, reward_fn=lambda _q, p: float(p.a), threshold=1.0)

            assert best(q="1").a == "1"
        assert dspy.BestOfN(rlm, 1, lambda _q, _p: 1.0, 1.0)(q="1").run.status == "submitted"

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter(), None])
    def test_refine_gives_its_advice_to_the_root_lm(self, play, adapter):
        """The second attempt has the advice in each turn; sub-calls and sub-runs, which it is not for, have none."""
        sub = route(
            (asks_for("code"), scripted(Action("", "SUBMIT('z')"))),
            (asks_for("n"), fields(lambda _: {"n": 4})),
        )
        moves = ("predict('q -> n: int', q='?'); sub_rlm('q -> b', q='?')", "SUBMIT(q)")
        rlm, server = play(
            "q -> a",
            *moves,
            sub=sub,
            extracted={"discussion": "d", "advice": {"generate_action": "count twice"}},
        )
        with dspy.context(adapter=adapter):
            best = dspy.Refine(rlm, N=2, reward_fn=lambda _q, _p: 0.5, threshold=1.0)(q="1")

        hints = [
            request.prompt.count("[[ ## hint_ ## ]]\ncount twice") for request in server.requests
        ]
        assert best.a == "1"
        #                 turn sub sub turn advice turn sub sub turn
        assert hints == [0, 0, 0, 0, 0, 1, 0, 0, 1]
        assert "hint_" not in "".join(request.prompt for request in server.requests_to("sub"))

    def test_refine_finds_an_rlm_inside_a_program(self, play):
        """The advice is by the predictor's name in the program, and only for a predictor that is to blame."""

        class Program(dspy.Module):
            def __init__(self, rlm: dspy.Module) -> None:
                super().__init__()
                self.inner = rlm

            def forward(self, q: str) -> dspy.Prediction:
                return self.inner(q=q)

        for advice, expected in (("count twice", 1), ("N/A", 0)):
            extracted = {"discussion": "d", "advice": {"inner.generate_action": advice}}
            rlm, server = play("q -> a", "SUBMIT(q)", extracted=extracted)
            dspy.Refine(Program(rlm), N=2, reward_fn=lambda _q, _p: 0.5, threshold=1.0)(q="1")

            assert server.requests[-1].prompt.count("[[ ## hint_ ## ]]") == expected

    @pytest.mark.parametrize("kind", ["json", "csv"])
    def test_an_evaluation_is_saved(self, rlm, plain, tmp_path, kind):
        """`dspy.Evaluate` writes what the program predicted."""
        data = [dspy.Example(q=text, a=text).with_inputs("q") for text in "12"]
        for program in (rlm, plain):
            path = tmp_path / f"results.{kind}"
            dspy.Evaluate(
                devset=data,
                metric=lambda example, prediction, _trace=None: example.a == prediction.a,
                num_threads=1,
                **{f"save_as_{kind}": str(path)},
            )(program)

            text = path.read_text()
            rows = json.loads(text) if kind == "json" else list(csv.DictReader(text.splitlines()))
            assert [row["pred_a"] for row in rows] == ["1", "2"]


class TestServers:
    @pytest.mark.parametrize("is_async_program", [False, True])
    def test_a_streaming_response_has_statuses_and_the_prediction(self, play, is_async_program):
        """DSPy's form for servers knows no status messages; those of runs and of tools are served as events."""

        def lookup(key: str) -> str:
            """Looks up."""
            return key

        rlm, _ = play("q -> a", "print(lookup('k'))", "SUBMIT(q)", tools=[lookup])
        program = dspy.streamify(rlm, is_async_program=is_async_program)

        async def chunks() -> list[str]:
            return [chunk.encode().decode() async for chunk in streaming_response(program(q="1"))]

        *events, done = asyncio.run(chunks())
        assert done == "data: [DONE]\n\n"
        assert all(event.startswith("data: ") and event.endswith("\n\n") for event in events)
        data = [json.loads(event.removeprefix("data: ")) for event in events]
        statuses = [item["status"] for item in data if "status" in item]
        assert "Iteration 1: running 1 line of code" in statuses
        assert "Calling tool lookup..." in statuses
        assert data[-1]["prediction"]["a"] == "1"

    def test_a_servable_status_is_dspys_message(self, rlm):
        """Readers of the stream match on DSPy's class, and compare and print it."""
        first = next(iter(dspy.streamify(rlm, async_streaming=False)(q="1")))
        expected = StatusMessage("Iteration 1/20: asking the LM what to do")

        assert isinstance(first, StatusMessage)
        assert first == expected
        assert expected == first
        assert first != StatusMessage("other")
        assert str(first) == repr(first) == repr(expected)


class _Tracer(BaseCallback):
    """Keeps what tracers such as MLflow's and Phoenix's write down: each module's and parser's result as JSON."""

    def __init__(self) -> None:
        self.modules: list[str] = []
        self.parsed: list[str] = []

    def on_module_end(self, call_id, outputs, exception=None):
        """They call `toDict` on a prediction, and serialize the result."""
        self.modules.append(json.dumps(outputs.toDict()))

    def on_adapter_parse_end(self, call_id, outputs, exception=None):
        """The parsed fields are serialized as they are."""
        self.parsed.append(json.dumps(outputs))


class TestTracers:
    def test_all_that_a_tracer_sees_is_plain(self, play):
        """The run's prediction, each action and each sub-call serialize without an encoder of one's own."""
        sub = route((asks_for("n"), fields(lambda _: {"n": 4})), otherwise=rules([], default="y"))
        rlm, _ = play("q -> a", "print(predict('q -> n: int', q='?').n)", "SUBMIT(q)", sub=sub)
        tracer = _Tracer()
        with dspy.context(callbacks=[tracer]):
            rlm(q="1")

        actions = [set(json.loads(text)) for text in tracer.parsed]
        assert actions == [{"reasoning", "code"}, {"n"}, {"reasoning", "code"}]
        assert json.loads(tracer.modules[-1])["a"] == "1"

    def test_usage_is_that_of_all_calls(self, rlm):
        """MLflow reads the tokens from the prediction."""
        with dspy.context(track_usage=True):
            prediction = rlm(q="1")

        assert sum(use["total_tokens"] for use in prediction.get_lm_usage().values()) > 0
        assert isinstance(prediction.run, RunReport)


class Labelled(dspy.Signature):
    """Label the text."""

    text: str = dspy.InputField()
    tags: list[str] = dspy.InputField(default_factory=lambda: ["none"])
    times: int = dspy.InputField(default=2)
    label: str = dspy.OutputField()


class TestNamesAndDefaults:
    def test_defaults_of_fields_are_used(self, play):
        """An input with a default or a factory may be left out of the call."""
        rlm, _ = play(Labelled, "SUBMIT(f'{text} {tags} {times}')")

        assert rlm(text="t").label == "t ['none'] 2"
        assert rlm(text="t", tags=["x"], times=1).label == "t ['x'] 1"

    def test_a_factory_runs_for_each_call(self, play):
        """No call sees the list of another."""
        seen: list[list[str]] = []
        signature = dspy.Signature(
            {
                "rows": (
                    list,
                    dspy.InputField(default_factory=lambda: seen.append([]) or seen[-1]),
                ),
                "a": (str, dspy.OutputField()),
            },
            "",
        )
        rlm, _ = play(signature, "rows.append('x')\nSUBMIT(str(rows))")

        assert [rlm().a, rlm().a] == ["['x']", "['x']"]
        assert seen == [[], []]

    @pytest.mark.parametrize("name", ["items", "keys", "values", "get", "completions"])
    def test_an_output_may_be_called_like_a_method(self, play, name):
        """Its value is at its key, as with `dspy.Predict`; the method stays what it is."""
        rlm, _ = play(f"q -> {name}", "SUBMIT(q)", extracted={name: "1"})
        predict = dspy.Predict(f"q -> {name}")
        for program in (rlm, predict):
            prediction = program(q="1")

            assert prediction[name] == dict(prediction)[name] == prediction.toDict()[name] == "1"

    @pytest.mark.parametrize("name", ["run", "trajectory", "variables_info", "repl_history"])
    def test_an_output_that_would_be_lost_is_refused(self, play, name):
        """Some names are taken: in every result, or in the prompt that extracts outputs."""
        with pytest.raises(SignatureError, match=f"cannot be called '{name}'"):
            play(f"q -> {name}", "SUBMIT(q)")

    @pytest.mark.parametrize("name", ["items", "keys", "run", "trajectory", "repl_history", "lm"])
    def test_an_input_may_have_any_such_name(self, play, name):
        """Inputs are variables of the REPL, and no fields of the result."""
        rlm, _ = play(f"{name} -> a", f"SUBMIT({name})")

        assert rlm(**{name: "1"}).a == "1"
