"""Copies share what is live; pickles and saved states work everywhere and hold no key."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import threading

import cloudpickle
import dspy
import pytest
from thrifty_pool import ThriftyPool

from dspy_rlm import RLM
from dspy_rlm.predictor import ActionPredictor

KEY = "sk-this-opens-everything"


@pytest.fixture
def pool():
    pool = ThriftyPool()
    yield pool
    pool.close()


def closure(lock_free: list[int]):
    def shifted(number: int) -> int:
        """Adds what is in the closure."""
        return number + lock_free[0]

    return shifted


def secret_lm(**options):
    return dspy.LM("openai/none", api_key=KEY, extra_headers={"Authorization": KEY}, **options)


def full(pool, **options):
    """An RLM with everything that is hard to save."""
    rlm = RLM(
        "text -> n: int",
        tools=[closure([5])],
        sub_lm=secret_lm(max_tokens=77, api_base=f"https://user:{KEY}@example.org/v1"),
        pool=pool,
        **options,
    )
    rlm.set_lm(secret_lm(temperature=0.5))
    rlm.generate_action.demos = [
        {"repl_history": "none", "reasoning": "r", "code": "SUBMIT(1)", "output": "SUBMIT: n"}
    ]
    return rlm


def test_the_source_that_optimizers_paste_is_short():
    """SIMBA and MIPROv2 show a module's class to their prompt model."""
    assert len(inspect.getsource(RLM)) < 11_000
    assert len(inspect.getsource(ActionPredictor)) < 1_500


def test_state_of_dspys_own_rlm_is_loaded(tmp_path):
    """State compiled for `dspy.RLM` loads without compiling again."""
    theirs = dspy.RLM("text -> n: int", interpreter_factory=dspy.LocalInterpreter)
    action = theirs.generate_action
    action.signature = action.signature.with_instructions("Work by PLAN-B.")
    action.demos = [dspy.Example(repl_history="-", reasoning="r", code="SUBMIT(1)")]
    theirs.save(tmp_path / "theirs.json")
    ours = RLM("text -> n: int")
    ours.load(tmp_path / "theirs.json")

    assert ours.generate_action.signature.instructions == "Work by PLAN-B."
    assert [demo["code"] for demo in ours.generate_action.demos] == ["SUBMIT(1)"]


class TestCopies:
    @pytest.mark.parametrize(
        "make", [copy.deepcopy, lambda m: m.deepcopy(), lambda m: m.reset_copy()]
    )
    def test_a_deep_copy_shares_what_is_live(self, pool, make):
        """Tools, sub-LM and pool are the same; the predictor is another."""
        rlm = full(pool)
        other = make(rlm)

        assert other.generate_action is not rlm.generate_action
        assert other.generate_action.demos is not rlm.generate_action.demos
        assert other.sub_lm is rlm.sub_lm
        assert other._config.pool is pool
        assert other.tools["shifted"] is rlm.tools["shifted"]

    def test_a_copy_of_a_module_with_locks_in_its_tools_works(self, pool):
        """A tool is not copied, so it may hold what cannot be copied."""
        lock = threading.Lock()

        def locked() -> bool:
            return lock.locked()

        assert copy.copy(copy.deepcopy(RLM("a -> b", tools=[locked]))).tools["locked"]

    def test_a_tool_that_is_part_of_the_program_is_copied_with_it(self):
        """A copied tool uses the predictors of the copy, not those of the original."""
        program = Program()
        other = copy.deepcopy(program)
        other.table["a"] = 2

        assert other.rlm.tools["look_up"](key="a") == 2
        assert program.rlm.tools["look_up"](key="a") == 1
        assert other.rlm.tools["helper"].func is other.helper

    def test_changing_a_copy_leaves_the_original(self, pool):
        """Changing a copy leaves the original unchanged, so an optimizer's candidates do not mix."""
        rlm = full(pool)
        other = copy.deepcopy(rlm)
        other.generate_action.signature = other.generate_action.signature.with_instructions("New.")
        other.generate_action.demos.append({"code": "x", "iteration": "1"})

        assert rlm.generate_action.signature.instructions.startswith("Given the fields")
        assert len(rlm.generate_action.demos) == 1


class TestPickles:
    @pytest.mark.parametrize("pickler", [pickle, cloudpickle])
    def test_every_pickler_saves_the_whole_module(self, pool, pickler):
        """A closure, a signature made of text, LMs and a pool are no obstacle, and no key gets out."""
        data = pickler.dumps(full(pool))
        loaded = pickle.loads(data)

        assert KEY.encode() not in data
        assert loaded.tools["shifted"](number=1) == 6
        assert loaded.sub_lm.kwargs["max_tokens"] == 77
        assert loaded.generate_action.lm.kwargs["temperature"] == 0.5
        assert loaded.generate_action.demos[0]["code"] == "SUBMIT(1)"
        assert loaded._config.pool is None

    def test_a_saved_program_is_loaded(self, pool, tmp_path):
        """A program saved whole by DSPy is loaded."""
        full(pool).save(tmp_path / "program", save_program=True)
        loaded = dspy.load(str(tmp_path / "program"), allow_pickle=True)

        assert KEY.encode() not in (tmp_path / "program" / "program.pkl").read_bytes()
        assert loaded.tools["shifted"](number=1) == 6

    @pytest.mark.parametrize("suffix", ["json", "pkl"])
    def test_a_saved_state_has_no_key(self, pool, tmp_path, suffix):
        """A saved state has no key, nor a header that works as one."""
        path = tmp_path / f"state.{suffix}"
        full(pool).save(path)
        fresh = RLM("text -> n: int")
        fresh.load(path, allow_pickle=True)

        assert KEY.encode() not in path.read_bytes()
        assert fresh.generate_action.lm.kwargs["temperature"] == 0.5
        assert fresh.generate_action.demos[0]["code"] == "SUBMIT(1)"

    def test_a_tool_with_an_lm_in_it_keeps_the_key_to_itself(self):
        """The LM in a closure is saved as any other is: without its key."""
        lm = secret_lm()

        def ask(prompt: str) -> str:
            return lm(prompt)[0]

        assert KEY.encode() not in pickle.dumps(RLM("a -> b", tools=[ask]))

    def test_a_tool_may_be_a_method_of_the_program_it_belongs_to(self):
        """The program is written once, and the method finds it again."""
        loaded = pickle.loads(cloudpickle.dumps(Program()))

        assert loaded.rlm.tools["look_up"](key="a") == 1
        loaded.table["a"] = 2
        assert loaded.rlm.tools["look_up"](key="a") == 2

    @pytest.mark.parametrize("pickler", [pickle, cloudpickle])
    @pytest.mark.parametrize("root", [lambda program: program, lambda program: program.rlm])
    def test_a_closure_that_leads_back_keeps_no_key(self, pickler, root):
        """A closure that refers back to its RLM or program keeps no key, and its references survive loading."""
        lm = secret_lm()
        program = Program()
        program.table["a"] = 5
        holder = {"rlm": None}

        def ask(prompt: str) -> str:
            """Uses everything in its closure."""
            return str((lm, holder["rlm"], program.table))

        program.rlm = holder["rlm"] = RLM(
            "a -> b", tools=[ask, program.look_up], sub_lm=secret_lm()
        )
        data = pickler.dumps(root(program))
        loaded = pickle.loads(data)
        rlm = getattr(loaded, "rlm", loaded)
        cells = inspect.getclosurevars(rlm.tools["ask"].func).nonlocals

        assert KEY.encode() not in data
        assert cells["holder"]["rlm"] is rlm
        assert cells["program"].rlm is rlm
        assert rlm.tools["look_up"].func.__self__ is cells["program"]
        assert cells["lm"].model == "openai/none"
        if loaded is not rlm:
            assert cells["program"] is loaded

    def test_what_cannot_be_saved_is_named(self):
        """The error names the tool that cannot be saved."""
        lock = threading.Lock()

        def locked() -> bool:
            return lock.locked()

        with pytest.raises(pickle.PicklingError, match=r"Cannot save tools of the module: .*lock"):
            pickle.dumps(RLM("a -> b", tools=[locked]))


class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.table = {"a": 1}
        self.helper = RLM("part -> n: int")
        tools = {"look_up": self.look_up, "helper": dspy.Tool(self.helper, name="helper", args={})}
        self.rlm = RLM("text -> n: int", tools=tools)

    def look_up(self, key: str) -> int:
        """Looks the key up."""
        return self.table[key]


PLACES = {
    "api_base with a key": {"api_base": f"https://example.org/v1?api-key={KEY}"},
    "api_base with a user": {"api_base": f"https://user:{KEY}@example.org/v1"},
    "base_url": {"base_url": f"https://{KEY}@example.org/v1?x=1&sig={KEY}"},
    "headers": {"headers": {"X-Any": KEY}},
    "extra_headers": {"extra_headers": {"Authorization": f"Bearer {KEY}"}},
    "default_headers": {"default_headers": {"a": KEY}},
    "extra_body": {"extra_body": {"auth": KEY, "deep": {"list": [{"x": KEY}]}}},
    "extra_query": {"extra_query": {"k": KEY}},
    "bearer": {"bearer": KEY},
    "pwd": {"pwd": KEY},
    "sas": {"sas": KEY},
    "cert": {"cert": KEY},
    "connection_string": {"connection_string": f"Endpoint=x;AccountKey={KEY}"},
    "access_tokens": {"access_tokens": [KEY]},
    "azure_ad_token": {"azure_ad_token": KEY},
    "aws": {"aws_access_key_id": KEY, "aws_secret_access_key": KEY, "aws_session_token": KEY},
    "vertex": {"vertex_credentials": {"private_key": KEY, "client_email": KEY}},
    "user": {"user": KEY},
    "metadata": {"metadata": {"a": KEY, "b": (KEY,)}},
    "an unknown setting": {"something": KEY},
    "bytes": {"something": KEY.encode()},
    "an object": {"client": type("Client", (), {"key": KEY})},
    "fallbacks": {"fallbacks": [{"model": "x", "api_key": KEY}]},
    "model_list": {"model_list": [{"litellm_params": {"api_key": KEY}}]},
    "stop": {"stop": [KEY], "api_key": KEY},
    "launch": {"launch_kwargs": {"env": {"A": KEY}}, "train_kwargs": {"a": KEY}},
}


@pytest.mark.sampled(30)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("role", ["root", "sub", "extract", "named"])
def test_no_place_in_an_lm_keeps_a_secret(tmp_path, place, role):
    """Unknown settings are left out, and secrets are removed from addresses."""
    lm = dspy.LM("openai/none", max_tokens=77, **place)
    rlm = RLM("text -> n: int", sub_lm={"a": lm, "b": (lm, "B")} if role == "named" else lm)
    if role == "root":
        rlm.set_lm(lm)
    if role == "extract":
        rlm.extract = dspy.Predict("text -> n: int")
        rlm.extract.lm = lm
    rlm.save(tmp_path / "state.json")
    data = pickle.dumps(rlm)
    loaded = pickle.loads(data)
    sub = loaded.sub_lm["a"] if role == "named" else loaded.sub_lm

    assert KEY not in (tmp_path / "state.json").read_text()
    assert KEY.encode() not in data
    assert KEY.encode() not in cloudpickle.dumps(rlm)
    assert (sub.model, sub.kwargs["max_tokens"]) == ("openai/none", 77)


def test_settings_that_shape_answers_are_kept():
    """Settings that shape answers are saved, so a loaded program calls its LM in the same way."""
    settings = {
        "temperature": 0.3, "max_tokens": 100, "top_p": 0.9, "reasoning_effort": "high", "seed": 3,
        "stop": ["END"], "api_base": "https://example.org:8000/v1?version=2", "api_version": "2024-10-01",
        "extra_body": {"chat_template_kwargs": {"enable_thinking": False}, "top_k": 20},
        "thinking": {"type": "enabled", "budget_tokens": 1000},
    }  # fmt: skip
    loaded = pickle.loads(pickle.dumps(RLM("a -> b", sub_lm=dspy.LM("openai/none", **settings))))

    assert {name: loaded.sub_lm.kwargs[name] for name in settings} == settings


def test_what_is_left_out_is_logged_by_name(caplog):
    """A setting that is left out is logged by name, without its value, so that it can be set again."""
    lm = dspy.LM("openai/none", extra_body={"provider": {"order": [KEY]}})
    pickle.dumps(RLM("a -> b", sub_lm=lm))

    assert "extra_body.provider.order" in caplog.text
    assert KEY not in caplog.text


def with_default(x: int, key: str = KEY) -> str:
    """A tool with a key in its arguments."""
    return key


def holding(key: str):
    def call(x: int) -> str:
        """A tool with a key in its closure."""
        return key + "."

    return call


class Holder:
    def __init__(self) -> None:
        self.key = f"Bearer {KEY}"

    def call(self, x: int) -> str:
        """A tool of an object with a key."""
        return self.key


def local(function):
    """The function as one of a module that is pickled by value, as those of scripts are."""
    function.__module__ = "__main__"
    return function


@pytest.mark.parametrize(
    "make",
    [
        lambda: holding(KEY),
        lambda: local(with_default),
        lambda: dspy.Tool(functools.partial(with_default, key=KEY), name="f", args={"x": {}}),
        lambda: Holder().call,
    ],
    ids=["closure", "default", "partial", "object"],
)
def test_a_tool_that_holds_the_key_of_an_lm_is_saved_without(caplog, make):
    """The text of the key is replaced, and a warning names its place."""
    rlm = RLM("a -> b", tools={"f": make()}, sub_lm=secret_lm())
    rlm.holder = [make(), secret_lm()]
    data = pickle.dumps(rlm)

    assert KEY.encode() not in data
    assert "tools of the module hold a secret" in caplog.text
    assert pickle.loads(data).tools["f"]


class OwnLM(dspy.LM):
    def __init__(self, model: str, persona: str = "none", **kwargs) -> None:
        super().__init__(model, **kwargs)
        self.persona, self.token = persona, KEY

    def dump_state(self):
        return {**super().dump_state(), "persona": self.persona, "token": self.token, "x": KEY}


def test_an_lm_of_a_users_own_class_keeps_no_secret():
    """An LM of a user's own class is saved without secrets in its attributes or its `repr`."""
    data = pickle.dumps(RLM("a -> b", sub_lm=OwnLM("openai/none", api_key=KEY)))

    assert KEY.encode() not in data
    assert type(pickle.loads(data).sub_lm) is OwnLM


def test_other_attributes_of_the_module_keep_no_key():
    """Nothing that a user attaches keeps a key: an LM, a predictor, a list of them, callbacks, a history."""
    rlm = RLM("a -> b", interpreter_factory=lambda lm=secret_lm(): None)  # noqa: B008
    predict = dspy.Predict("a -> b")
    predict.lm = secret_lm()
    rlm.own, rlm.others, rlm.generate_action = secret_lm(), [predict, {"a": secret_lm()}], predict
    rlm.callbacks = [secret_lm()]
    rlm.history = [{"kwargs": {"extra_headers": {"Authorization": KEY}}}]
    data = pickle.dumps(rlm)

    assert KEY.encode() not in data
    assert pickle.loads(data).own.model == "openai/none"
