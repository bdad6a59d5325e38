"""No error that a cell, a prompt or a report can see has a secret of an LM, a tool or the environment."""

from __future__ import annotations

import base64
import pickle
import traceback
import urllib.parse
from collections.abc import Iterator
from typing import Annotated, Any

import dspy
import pydantic
import pytest

from dspy_rlm import HandleType
from dspy_rlm.lms.secrets import secrets_of_lm
from dspy_rlm.redaction import cleaned
from dspy_rlm.testing import PolicyServer, asks_for, fields, route, scripted
from dspy_rlm.testing.history import Action
from dspy_rlm.values.previews import staying

KEY = "hidden-key-0123456789"
PASSWORD = "PASSWORD-12345"
HEADER = "header-value-98765"
TOKEN = "query-token-24680"
ENVIRONMENT = "from-the-environment-1"
ALL = (KEY, PASSWORD, HEADER, TOKEN, ENVIRONMENT)


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", f"postgres://bob:{ENVIRONMENT}@db.example/x")


def everything() -> str:
    """A text with every secret in it, plain and encoded."""
    forms = [
        f"{secret} {base64.b64encode(secret.encode()).decode()} {secret.encode().hex()} "
        f"{urllib.parse.quote(secret, safe='')} {base64.b64encode(b'u:' + secret.encode()).decode()}"
        for secret in ALL
    ]
    return (
        f"it failed with {' '.join(forms)} at http://bob:{PASSWORD}@127.0.0.1:9/v1?api-key={TOKEN}"
    )


def shown_in(text: str) -> list[str]:
    """The secrets that a text has, in any form."""
    found = []
    for secret in ALL:
        encoded = [base64.b64encode(bytes(n) + secret.encode()).decode()[4:-4] for n in range(3)]
        if any(form in text for form in (secret, secret.encode().hex(), *encoded)):
            found.append(secret)
    return found


class Failing(dspy.LM):
    """An LM whose own code fails with all its secrets in the message."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        try:
            raise KeyError(everything())
        except KeyError as error:
            failure = RuntimeError(everything())
            failure.add_note(everything())
            raise failure from error

    async def aforward(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward()


def failing() -> dspy.LM:
    return Failing(
        "openai/none",
        api_key=KEY,
        api_base=f"http://bob:{PASSWORD}@127.0.0.1:9/v1?api-key={TOKEN}",
        extra_headers={"Authorization": f"Bearer {HEADER}"},
        cache=False,
        num_retries=0,
    )


def unreachable() -> dspy.LM:
    """A real LM, at an address without a listener."""
    return dspy.LM(
        "openai/none",
        api_key=KEY,
        api_base=f"http://bob:{PASSWORD}@127.0.0.1:9/v1?api-key={TOKEN}",
        extra_headers={"Authorization": f"Bearer {HEADER}"},
        cache=False,
        num_retries=0,
    )


def tool(x: int = 0) -> int:
    """Fails with a secret in the message."""
    try:
        raise PermissionError(everything())
    except PermissionError as error:
        raise ValueError(everything()) from error


async def later(x: int = 0) -> int:
    """Fails asynchronously, with a secret in the message."""
    raise ConnectionError(everything())


def group() -> None:
    """Raises a group of exceptions."""
    raise ExceptionGroup(everything(), [ValueError(everything()), KeyError(everything())])


class Opaque:
    """An object whose methods fail with a secret."""

    def __str__(self) -> str:
        raise RuntimeError(everything())

    __repr__ = __str__


class OpaqueError(Exception):
    """An exception whose own attributes fail with a secret."""

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise RuntimeError(everything())


def noted(kind: str) -> None:
    """Raises an exception with odd notes."""
    if kind == "property":
        raise OpaqueError(everything())
    error = ValueError("it failed")
    error.__notes__ = {"text": everything(), "number": 5, "object": [Opaque()]}[kind]  # type: ignore[assignment]
    raise error from KeyError(everything())


def _never(_value: Any) -> Any:
    raise ValueError(everything())


class NeverValid(pydantic.BaseModel):
    """A model whose validator fails with a secret."""

    n: Annotated[int, pydantic.AfterValidator(_never)] = 0


def checked(n: Annotated[int, pydantic.AfterValidator(_never)], model: NeverValid) -> int:
    """A tool whose arguments never fit."""
    return n


def lazily() -> Iterator[int]:
    """A tool whose result fails while it is read."""
    yield 1
    raise ValueError(everything())


# Every way from a cell to something that fails on the host.
ROADS = {
    "sub_llm": "sub_llm('hello')",
    "sub_llm_batched": "print(sub_llm_batched(['a', 'b']))",
    "predict": "predict('q -> a', q='x')",
    "predict_batched": "print([repr(r) for r in predict_batched('q -> a', ['x', 'y'])])",
    "dspy.Predict": "import dspy\ndspy.Predict('q -> a')(q='x')",
    "dspy.ChainOfThought": "import dspy\ndspy.ChainOfThought('q -> a')(q='x')",
    "dspy.ReAct": "import dspy\ndspy.ReAct('q -> a', tools=[tool])(q='x')",
    "dspy.CodeAct": "import dspy\ndspy.CodeAct('q -> a', tools=[tool])(q='x')",
    "dspy.ProgramOfThought": "import dspy\ndspy.ProgramOfThought('q -> a')(q='x')",
    "dspy.RLM": "import dspy\ndspy.RLM('q -> a')(q='x')",
    "sub_rlm": "sub_rlm('q -> a', q='x')",
    "rlm_query": "rlm_query('hello')",
    "sub_rlm_batched": "print([repr(r) for r in sub_rlm_batched('q -> a', ['x', 'y'])])",
    "rlm_query_batched": "print([repr(r) for r in rlm_query_batched(['x', 'y'])])",
    "unseen rows": "rows = predict_batched('q -> a', ['x', 'y'])",
    "tool": "tool()",
    "awaited tool": "await tool.aio()",
    "batched tool": "print([repr(r) for r in tool.batched([()])])",
    "coroutine": "later()",
    "group": "group()",
    "a note that is a text": "noted('text')",
    "a note that is a number": "noted('number')",
    "a note whose text fails": "noted('object')",
    "notes that fail": "noted('property')",
    "an argument's validator": "checked(1, {'n': 1})",
    "an argument's validator, awaited": "await checked.aio(1, model={'n': 1})",
    "a result that fails as it is read": "lazily()",
    "caught": "try:\n    tool()\nexcept Exception as e:\n    print(repr(e), e.__cause__, vars(e))",
}


@pytest.mark.sampled(9)
@pytest.mark.filterwarnings("ignore:(CodeAct|ProgramOfThought) is deprecated")
@pytest.mark.parametrize("sub_lm", [failing, unreachable])
@pytest.mark.parametrize("code", ROADS.values(), ids=ROADS.keys())
def test_no_road_shows_a_secret(play, code, sub_lm):
    """No secret appears in the next prompt, the trajectory or the report."""
    rlm, server = play(
        "q -> answer",
        code,
        "SUBMIT('done')",
        tools=[tool, later, group, noted, checked, lazily],
    )
    rlm.sub_lm = sub_lm()
    result = rlm(q="?")
    seen = [exchange.prompt for exchange in server.requests_to("root")]
    seen += [str(result.run.dump()), str(result.trajectory), str(result.run)]
    # On disk, where a run is saved with its prediction.
    seen += [pickle.dumps(result.run.dump()).decode("latin-1"), repr(pickle.dumps(result.toDict()))]

    assert shown_in("".join(seen)) == []
    assert result.run.iterations == 2
    assert "printed" not in result.trajectory[0]["output"]
    assert result.trajectory[0]["output"]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (NeverValid, "{'n': 1}"),
        (list[NeverValid], "[{'n': 1}]"),
        (Annotated[str, pydantic.AfterValidator(_never)], "'x'"),
    ],
    ids=["model", "list", "text"],
)
def test_no_refusal_shows_a_secret_of_an_lm(play, annotation, value):
    """The validator of an output may quote anything: not even the start of a long message has a key."""
    signature = {"q": (str, dspy.InputField()), "answer": (annotation, dspy.OutputField())}
    rlm, server = play(dspy.Signature(signature), f"SUBMIT({value})", "print(1)", max_iterations=2)
    rlm.sub_lm = failing()
    with pytest.raises(Exception, match="No reply had all outputs") as caught:
        rlm(q="?")
    prompts = "".join(m.text for e in server.requests_to("root") for m in e.messages)

    assert "it failed with" in prompts
    assert shown_in(prompts + str(caught.value) + str(caught.value.run.dump())) == []


@pytest.mark.parametrize("names", ["plain", "aio"])
def test_no_error_of_a_tool_reaches_a_sub_lm(play, names):
    """The traceback of a failed tool, which ReAct shows to its LM with all causes, has no secret."""
    used = {"plain": tool, "aio": later}[names]
    called = []

    def acts(request: Any) -> str:
        if called:
            return fields(
                lambda _: {"next_thought": "t", "next_tool_name": "finish", "next_tool_args": {}}
            )(request)
        called.append(1)
        return fields(
            lambda _: {
                "next_thought": "t",
                "next_tool_name": used.__name__,
                "next_tool_args": {"x": 1},
            }
        )(request)

    rlm, server = play(
        "q -> answer",
        f"import dspy\nSUBMIT(dspy.ReAct('q -> a', tools=[{used.__name__}])(q='x').a)",
        sub=route(
            (asks_for("next_tool_name"), acts),
            otherwise=fields(lambda _: {"reasoning": "r", "a": "done"}),
        ),
        tools=[used],
    )
    rlm.sub_lm = server.lm("sub", extra_headers={"X-Own": HEADER, "X-Key": KEY})
    with dspy.context(
        lm=server.lm("root", extra_headers={"X-Password": PASSWORD, "X-Token": TOKEN})
    ):
        assert rlm(q="?").answer == "done"

    prompts = "".join(m.text for e in server.requests_to("sub") for m in e.messages)
    assert "it failed with" in prompts
    assert shown_in(prompts) == []


@pytest.mark.parametrize("lm", [failing, unreachable])
def test_a_run_that_fails_shows_no_secret(lm, kept):
    """The caller's error is redacted too, since an outer run may get it and a trace its text."""
    from dspy_rlm import RLM

    with dspy.context(lm=lm()), pytest.raises(Exception, match="The run failed") as caught:
        RLM("q -> answer", pool=kept)(q="?")

    visible = "".join(traceback.format_exception(caught.value))
    assert shown_in(str(caught.value) + str(caught.value.run.dump())) == []
    assert shown_in(visible.replace(everything(), "")) == []


def test_an_error_without_a_secret_is_the_same_object(play):
    """Honest errors are untouched: same class, same text, same attributes."""
    error = LookupError("no such page: 'sky'")

    assert cleaned(error, [KEY]) is error


@pytest.mark.parametrize(
    "error",
    [
        ValueError(KEY),
        KeyError(KEY),
        OSError(5, KEY, KEY),
        UnicodeDecodeError("utf-8", KEY.encode(), 0, 1, KEY),
        SyntaxError(KEY, ("f", 1, 1, KEY)),
        StopIteration(KEY),
        dspy.LMRateLimitError(f"slow down, {KEY}", status=429, retry_after=1.5),
        ExceptionGroup(KEY, [ValueError(KEY), ExceptionGroup(KEY, [TypeError(KEY)])]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_with_one_is_of_the_same_class(error):
    """It is caught as before, and its traceback, text, arguments and attributes are without the secret."""
    error.__cause__ = RuntimeError(KEY)
    error.add_note(KEY)
    new = cleaned(error, [KEY])

    assert new is not error
    assert isinstance(new, type(error))
    assert type(new).__name__ == type(error).__name__
    assert getattr(new, "retry_after", None) == getattr(error, "retry_after", None)
    assert KEY not in "".join([*traceback.format_exception(new), repr(new), str(vars(new))])
    assert KEY in "".join(traceback.format_exception(error))


class Client:
    """A client object that a user's own LM may hold."""

    def __init__(self) -> None:
        self.api_key = "client-key-1234567"


@pytest.mark.parametrize(
    ("settings", "secret"),
    [
        ({"api_key": "a-secret-key"}, "a-secret-key"),
        ({"api_base": "https://me:pass%20word-1@h/v1"}, "pass word-1"),
        ({"api_base": "https://h/v1?sig=abcdefgh1"}, "abcdefgh1"),
        ({"headers": {"X-Whatever": "value-12345"}}, "value-12345"),
        ({"extra_headers": {"Authorization": "Bearer abcdefghi"}}, "abcdefghi"),
        ({"extra_body": {"auth": {"deep": ["value-12345"]}}}, "value-12345"),
        ({"extra_query": {"k": "value-12345"}}, "value-12345"),
        ({"aws_secret_access_key": "awsawsaws"}, "awsawsaws"),
        ({"vertex_credentials": '{"private_key": "-----BEGIN"}'}, "-----BEGIN"),
        ({"connection_string": "Endpoint=x;AccountKey=abcdefgh12"}, "abcdefgh12"),
        ({"client": Client()}, "client-key-1234567"),
        ({"bearer": "some-bearer-1"}, "some-bearer-1"),
    ],
)
def test_the_secrets_of_an_lm_are_found(settings, secret):
    """Secrets in an LM's settings are found at any depth, by name and by form."""
    lm = dspy.LM("openai/none", **settings)

    assert secret in secrets_of_lm(lm)


def test_settings_that_shape_an_answer_are_no_secrets():
    """Settings that shape an answer are not secrets: their values are ordinary words."""
    lm = dspy.LM(
        "openai/gpt-4o-mini", temperature=0.5, max_tokens=1000, reasoning_effort="high",
        extra_body={"chat_template_kwargs": {"enable_thinking": False}}, api_base="http://localhost:8000/v1",
    )  # fmt: skip

    assert [secret for secret in secrets_of_lm(lm) if len(secret) >= 8] == []


# ---- Values that stay on the host ------------------------------------------------------------------


class Connection:
    """A user's value that contains a password."""

    def __repr__(self) -> str:
        return f"Connection(password={PASSWORD!r})"


def use(n: int) -> int:
    """Uses a number."""
    return n


def use_many(ns: list[int]) -> int:
    """Uses numbers."""
    return len(ns)


def back(c: Any) -> Any:
    """Returns a value that cannot cross, inside one that stays on the host."""
    return {c: [object()]}


HANDLES = {
    "str": "print(str(c))",
    "repr in a list": "print([c], {'a': c})",
    "f-string": "print(f'{c} {c!r} {c!s} {c!a}')",
    "format": "print('{} {!r}'.format(c, c), '%s %r' % (c, c), format(c))",
    "attributes": "print(dir(c)); c.password",
    "typed sub-call": "predict('n: int -> b', n=c)",
    "untyped sub-call": "predict('n -> b', n=c)",
    "in a list": "predict('n -> b', n=[1, c])",
    "in a dict": "predict('n: dict -> b', n={'a': {'b': c}})",
    "as a key": "predict('n -> b', n={c: 1})",
    "in a tuple": "predict('n: list -> b', n=[(1, (c,))])",
    "typed list": "predict('n: list[int] -> b', n=[c])",
    "rows": "print([repr(r) for r in predict_batched('n -> b', [c, [c]])])",
    "a prompt": "sub_llm(c)",
    "beside a prompt": "sub_llm('x', c)",
    "dspy.Predict": "import dspy\ndspy.Predict('n -> b')(n=[c])",
    "dspy.ReAct": "import dspy\ndspy.ReAct('n -> b', tools=[])(n=c)",
    "dspy.ProgramOfThought": "import dspy\ndspy.ProgramOfThought('n -> b')(n=[c])",
    "tool": "use(c)",
    "tool by name": "use(n=c)",
    "tool with a list": "use_many([c])",
    "tool with a nested list": "use_many([[c]])",
    "SUBMIT for a number": "SUBMIT(answer='', n=c)",
    "SUBMIT for a text": "SUBMIT(answer=c, n=1)",
    "SUBMIT in a list for a text": "SUBMIT(answer=[c], n=1)",
    "SUBMIT in a list for a number": "SUBMIT(answer='', n=[c])",
    "a signature": "predict(c, n=1)",
    "a type in a signature": "predict({'a': c}, n=1)",
    "instructions": "predict('n -> b', n=1, instructions=c)",
    "instructions in a list": "predict('n -> b', n=1, instructions=[c])",
    "a model": "sub_llm('x', model=c)",
    "a model in a batch": "predict_batched('n -> b', [1], model=[c])",
    "a kind of module": "import dspy\nget = dspy.Predict\n_ = get('n -> b', temperature=c)(n=1)",
    "an option": "import dspy\ndspy.Predict('n -> b', stop=[c])(n=1)",
    "tools of a module": "import dspy\ndspy.ReAct('n -> b', tools=[c])(n=1)",
    "tools of a sub-run": "sub_rlm('n -> a', n=1, tools=[c])",
    "setup of a sub-run": "sub_rlm('n -> a', n=1, setup=c)",
    "turns of a sub-run": "sub_rlm('n -> a', n=1, max_iterations=c)",
    "a name of an argument": "use(**{'c': c})",
    "too many arguments": "use(c, c, c)",
    "a result that cannot cross": "back(c)",
    "a raised one": "raise ValueError(c)",
    "output of a sub-run": "print(sub_rlm('c -> a', c=c).a)",
}  # fmt: skip


@pytest.mark.sampled(8)
@pytest.mark.filterwarnings("ignore:(CodeAct|ProgramOfThought) is deprecated")
@pytest.mark.parametrize("code", HANDLES.values(), ids=HANDLES.keys())
@pytest.mark.parametrize("preview", [None, lambda _: "the database"])
def test_a_value_that_stays_is_never_shown(play, code, preview):
    """No prompt has more of it than its preview: not of errors, not of sub-calls, not of outputs."""
    rlm, server = play(
        "c: Any -> answer: str, n: int",
        code,
        "SUBMIT(answer='done', n=1)",
        tools=[use, use_many, back],
        types=[HandleType(Connection, preview)],
        sub=route(
            (asks_for("code"), scripted(Action("", "SUBMIT(a=c)"), Action("", "SUBMIT(a='x')"))),
            otherwise=fields(
                lambda _: {"reasoning": "r", "generated_code": "SUBMIT(b=1)", "b": "1"}
            ),
        ),
    )
    result = rlm(c=Connection())
    prompts = "".join(m.text for e in server.requests for m in e.messages)

    assert PASSWORD not in prompts
    assert PASSWORD not in str(result.trajectory)
    assert result.answer == "done"


def test_values_with_cycles_are_looked_through():
    """The search of host values with cycles and shared parts ends."""
    loop: list[Any] = []
    loop += [loop, loop, [loop]]

    assert staying(loop) is None
    assert staying([loop, dspy.Prediction]) is None


def test_an_image_may_go_into_a_prompt(play):
    """DSPy's own media stay on the host too, and are made to be shown to an LM."""
    image = dspy.Image(url="https://example.org/x.png")
    rlm, _ = play(
        "image: dspy.Image -> answer",
        "SUBMIT(predict('image: dspy.Image, more -> a', image=image, more=[image]).a)",
        sub=fields(lambda _: {"a": "seen"}),
    )

    assert rlm(image=image).answer == "seen"


def test_a_real_provider_that_quotes_the_key(play):
    """A provider's error message reaches the cell without the key, and otherwise whole."""
    with PolicyServer({"sub": fields(lambda _: {"a": "1"})}) as other:
        from dspy_rlm.testing import Fault

        other.fail("sub", Fault(status=400, message=f"Incorrect API key provided: {KEY}, {HEADER}"))
        rlm, server = play("q -> answer", "sub_llm('x')", "SUBMIT('done')")
        rlm.sub_lm = other.lm("sub", extra_headers={"X-Own": HEADER}, api_key=KEY)
        rlm(q="?")

    visible = server.requests_to("root")[1].prompt
    assert "Incorrect API key provided: [secret], [secret]" in visible


class Checked(pydantic.BaseModel):
    """A user's class whose validator puts a secret into its message."""

    n: int

    @pydantic.field_validator("n")
    @classmethod
    def _connects(cls, _value: int) -> int:
        raise ValueError(f"cannot reach postgres://bob:{ENVIRONMENT}@db.example/x")


def test_no_check_of_a_class_shows_a_secret(play):
    """A class's validation error shows no secret to the root LM or to a retried sub-LM."""
    rlm, server = play(
        dspy.Signature(
            {"q": (str, dspy.InputField()), "answer": (Checked | None, dspy.OutputField())}
        ),
        "SUBMIT(answer={'n': 1})",
        "predict('q -> a: Checked', q='x')",
        "SUBMIT(answer=None)",
        sub=fields(lambda _: {"a": '{"n": 1}'}),
    )
    result = rlm(q="?")
    prompts = [
        m.text for kind in ("root", "sub") for e in server.requests_to(kind) for m in e.messages
    ]

    assert "cannot reach" in result.trajectory[0]["output"]
    assert any("cannot reach" in prompt for prompt in prompts)
    assert shown_in("".join(prompts) + str(result.trajectory)) == []
