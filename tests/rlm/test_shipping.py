"""Programs on their way to another process: without keys, wherever an LM is; and a word about it where they arrive."""

from __future__ import annotations

import pickle

import cloudpickle
import dspy
import pytest

import dspy_rlm
from dspy_rlm.dspy_bridge import arriving_lms

KEY = "sk-proj-0123456789abcdefABCDEF"


class Program(dspy.Module):
    """A user's own module: an RLM, a `dspy.Predict` beside it, and an LM in an attribute."""

    def __init__(self, lm):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.rlm = dspy_rlm.RLM("text -> answer")
        self.judge = lm
        self.set_lm(lm)

    def forward(self, **inputs):
        return self.rlm(**inputs)


@pytest.fixture
def lm():
    return dspy.LM("openai/gpt-4o-mini", api_key=KEY, temperature=0.5)


@pytest.fixture
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(arriving_lms, "_warned", set())


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_a_module_beside_an_rlm_ships_no_key(lm, pickler):
    """DSPy's own pickle of the module has the key: that of its `dspy.Predict`. Plain pickle cannot even write it."""
    program = Program(lm)
    assert KEY.encode() in cloudpickle.dumps(program)

    data = pickler.dumps(dspy_rlm.without_keys(program))

    assert KEY.encode() not in data


def test_the_module_itself_arrives(lm):
    """The worker sees no wrapper: the module, with the settings of its LMs, which its parts share."""
    arrived = pickle.loads(pickle.dumps(dspy_rlm.without_keys(Program(lm))))

    assert type(arrived) is Program
    assert arrived.judge.model == "openai/gpt-4o-mini"
    assert arrived.judge.kwargs["temperature"] == 0.5
    assert arrived.ask.lm is arrived.judge
    assert "api_key" not in arrived.rlm.generate_action.lm.kwargs


def test_a_key_outside_of_an_lm_is_hidden(lm, caplog):
    """A closure or an attribute may repeat the key of an LM."""
    program = Program(lm)
    program.note = f"the key is {KEY}"

    arrived = pickle.loads(pickle.dumps(dspy_rlm.without_keys(program)))

    assert arrived.note == "the key is [secret]"
    assert "A secret outside of the LMs" in caplog.text


def test_the_key_of_a_local_server_changes_nothing_else():
    """A key such as `none` is no secret, and the word is in many texts and in much bytecode."""

    def tool(text: str) -> str:
        return {"none": "none of them", b"\xffnone": "bytes"}.get(text, "nonesuch")

    rlm = dspy_rlm.RLM("text -> answer", tools=[tool])
    rlm.set_lm(dspy.LM("openai/local", api_key="none", api_base="http://127.0.0.1:1/v1"))

    for arrived in (
        pickle.loads(pickle.dumps(rlm)),
        pickle.loads(pickle.dumps(dspy_rlm.without_keys(rlm))),
    ):
        function = arrived.tools["tool"].func
        assert [function("none"), function(b"\xffnone"), function("")] == [
            *("none of them", "bytes", "nonesuch"),
        ]


def test_a_secret_in_bytes_leaves_their_rest(lm):
    """Bytes that are no text lose the secret, and nothing else."""
    program = Program(lm)
    program.note = b"\xff\xfe" + KEY.encode() + b"\x80"

    arrived = pickle.loads(pickle.dumps(dspy_rlm.without_keys(program)))

    assert arrived.note == b"\xff\xfe[secret]\x80"


@pytest.mark.usefixtures("_no_key")
def test_a_missing_key_is_said_once_when_the_lm_is_loaded(lm, caplog):
    """Not run by run: the message says what to do, once for a model."""
    rlm = dspy_rlm.RLM("text -> answer")
    rlm.set_lm(lm)
    data = pickle.dumps(rlm)

    for _ in range(3):
        pickle.loads(data)

    assert caplog.text.count("has arrived in this process without a key") == 1
    assert "openai/gpt-4o-mini" in caplog.text
    assert "OPENAI_API_KEY" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.usefixtures("_no_key")
def test_a_key_in_the_environment_is_enough(lm, caplog, monkeypatch):
    """Nothing is said where calls can succeed."""
    rlm = dspy_rlm.RLM("text -> answer")
    rlm.set_lm(lm)
    monkeypatch.setenv("OPENAI_API_KEY", "another")

    pickle.loads(pickle.dumps(rlm))

    assert "without a key" not in caplog.text


@pytest.mark.usefixtures("_no_key")
def test_a_run_without_a_key_fails_before_it_has_a_sandbox(lm):
    """The first use says it too, before anything is opened or sent."""
    rlm = dspy_rlm.RLM("text -> answer", pool=dspy_rlm.Pool(max_sessions=1))
    rlm.set_lm(lm)
    arrived = pickle.loads(pickle.dumps(rlm))
    queue = arrived._config.lending_pool.queue
    before = queue.held

    with pytest.raises(dspy.LMNotConfiguredError, match="no API key"):
        arrived(text="x")

    assert queue.held == before
