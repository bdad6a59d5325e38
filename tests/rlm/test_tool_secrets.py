"""The secrets that tools hold are found, wherever a tool has them, and are shown by no exception."""

from __future__ import annotations

import asyncio
import functools
import threading

import dspy
import pydantic
import pytest

from dspy_rlm.tools.secrets import ToolSecrets, secrets_of_functions

# It has the form of no known key.
KEY = "Zx9qLm44TTabc77v"


class Client:
    """A client with a key, and much data."""

    def __init__(self) -> None:
        self.api_key = KEY
        self.pages = {number: f"page {number}" for number in range(100_000)}
        self.lock = threading.Lock()

    def fetch(self, path: str) -> str:
        raise ConnectionError(f"401 for {path} with {self.api_key}")

    def __call__(self, path: str) -> str:
        return self.fetch(path)


class Settings(pydantic.BaseModel):
    token: pydantic.SecretStr = pydantic.SecretStr(KEY)


CLIENT, SETTINGS = Client(), Settings()


def by_global(path: str) -> str:
    return CLIENT.fetch(path)


def by_helper(path: str) -> str:
    return by_global(path)


def by_settings(path: str) -> str:
    raise ConnectionError(f"401 for {path} with {SETTINGS.token.get_secret_value()}")


def by_default(path: str, token: str = KEY) -> str:
    raise ConnectionError(f"401 for {path} with {token}")


def by_keyword(path: str, *, api_key: str = KEY) -> str:
    return by_default(path, api_key)


def keyed(password: str, path: str) -> str:
    return by_default(path, password)


def by_closure(password: str):
    def fetch(path: str) -> str:
        return by_default(path, password)

    return fetch


async def later(path: str) -> str:
    return by_global(path)


@functools.wraps(by_global)
def decorated(*args, **kwargs):
    return by_global(*args, **kwargs)


class Module(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.client = CLIENT

    def forward(self, path: str) -> str:
        return self.client.fetch(path)


FUNCTIONS = [
    CLIENT.fetch,
    CLIENT,
    by_global,
    by_helper,
    by_settings,
    by_default,
    by_keyword,
    by_closure(KEY),
    functools.partial(keyed, KEY),
    functools.partial(keyed, password=KEY),
    functools.lru_cache(by_global),
    decorated,
    later,
    Module(),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: type(function).__name__)
class TestEveryPlace:
    def test_it_is_found(self, function):
        """In attributes, globals, defaults, bound arguments, closures, and those of functions that are called."""
        assert KEY in secrets_of_functions([function])

    def test_no_exception_shows_it(self, play, function):
        """Neither the cell nor the next prompt nor the report has it."""
        rlm, server = play(
            "q -> a",
            "try: tool(path='p')\nexcept Exception as e: print(e)",
            "SUBMIT('')",
            tools={"tool": function},
        )
        result = rlm(q="")

        assert result.trajectory[0]["output"].endswith("401 for p with [secret]")
        assert KEY not in server.requests[-1].prompt
        assert KEY not in str(result.run.dump())


class TestTheSearch:
    def test_functions_that_call_each_other(self):
        """A circle of functions ends."""

        def one(n):
            return other(n)

        def other(n):
            return one(n)

        assert secrets_of_functions([one, math_like]) == []

    def test_an_unassigned_variable(self):
        """A variable of a closure that has no value yet is left out."""

        def tool():
            return missing

        if KEY == "never":
            missing = 1

        assert secrets_of_functions([tool]) == []

    def test_builtins_and_classes_hold_none(self):
        """Nothing is searched for in C functions and classes."""
        assert secrets_of_functions([len, int, Client]) == []

    def test_a_new_token_is_found_after_a_while(self):
        """The search is repeated, because a client may fetch a new token during a run."""
        client, seconds = Client(), [0.0]
        secrets = ToolSecrets([dspy.Tool(client.fetch)], clock=lambda: seconds[0])
        assert secrets() == [KEY]

        client.api_key = "Another44TTabc77v"
        assert secrets() == [KEY]
        seconds[0] = 2.0
        assert secrets() == ["Another44TTabc77v"]

    def test_no_tools(self):
        """A run without tools searches for nothing."""
        assert ToolSecrets()() == []

    def test_an_asynchronous_run(self, play):
        """Coroutine functions are searched like others."""
        rlm, _ = play(
            "q -> a", "try: later('p')\nexcept Exception as e: SUBMIT(str(e))", tools=[later]
        )

        assert asyncio.run(rlm.acall(q="")).a == "401 for p with [secret]"


def math_like(x: int) -> int:
    return x
